//! etcd is brought back from a backup, with its revisions of then: what was seen is of a future that never came. The walk ends and goes on
//! as if it had not been there.

use harness::eventually::{Eventually, eventually};
use harness::fixture::SOON;

use super::walk::{Ground, STEPS, Step};

async fn walk(ground: &Ground) -> anyhow::Result<()> {
    let saved_after = |step: Step| STEPS.iter().position(|it| *it == step).unwrap_or_default();
    for (saved, lost) in [(Step::Create, Step::ScaleUp), (Step::EditClass, Step::Delete)] {
        for step in STEPS.iter().copied().take(saved_after(saved) + 1) {
            ground.take(step).await?;
            ground.ends_as_expected(step).await?;
        }
        ground.plane.save().await?;
        let lease = ground.lease_version().await?;
        for step in STEPS.iter().copied().take(saved_after(lost) + 1).skip(saved_after(saved) + 1) {
            ground.take(step).await?;
            ground.ends_as_expected(step).await?;
        }
        // A backup is older than the last renewal of the Lease, by which a restore is noticed.
        eventually(SOON, "the Lease is renewed after the backup", || async {
            let now = ground.lease_version().await?;
            Ok(Eventually::when(now != lease, || now))
        })
        .await?;
        ground.plane.restore().await?;
        let controller = &ground.replicas[0].controller;
        eventually(SOON, "the controller ends by itself", || async {
            Ok(Eventually::when(controller.ended(), || controller.log_tail(5)))
        })
        .await?;
        anyhow::ensure!(controller.log_tail(5).contains("was restored from a backup"), "{}", controller.log_tail(5));
        controller.start().await?; // as a kubelet does
        ground.ends_as_expected(saved).await?;
        for step in STEPS.iter().copied().skip(saved_after(saved) + 1) {
            ground.take(step).await?;
            ground.ends_as_expected(step).await?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_etcd_may_be_restored_at_any_step() {
    let ground = Ground::new("restored", 1).await;
    if let Err(error) = walk(&ground).await {
        panic!("{error:#}");
    }
    ground.is_silent().await;
}
