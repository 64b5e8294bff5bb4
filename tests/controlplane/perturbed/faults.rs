//! Every fault: connections that are cut before or after a request was taken, slow ones, refusals of every kind, an API server and an
//! etcd that start anew. The end is that of an undisturbed walk, and then silence.

use std::sync::Arc;
use std::time::Duration;

use harness::proxy::{Asked, Fate, Interference};
use harness::seed::{Dice, seeds};
use http::StatusCode;

use super::walk::{Ground, STEPS, Step};

/// Lets about one request in seven meet a fault.
struct Faulty(Dice);

impl Interference for Faulty {
    fn request(&self, asked: &Asked) -> Fate {
        match self.0.below(100) {
            0..3 => Fate::Cut,
            3..5 => Fate::Refuse(StatusCode::TOO_MANY_REQUESTS),
            5 => Fate::Refuse(StatusCode::INTERNAL_SERVER_ERROR),
            6 => Fate::Refuse(StatusCode::SERVICE_UNAVAILABLE),
            7 if asked.watches => Fate::Refuse(StatusCode::GONE),
            7 | 8 if asked.writes() => Fate::Refuse(StatusCode::CONFLICT),
            9 | 10 => Fate::Late(Duration::from_millis(self.0.below(1500))),
            _ => Fate::Pass,
        }
    }

    fn answer(&self, _: &Asked, _: StatusCode) -> Fate {
        match self.0.below(100) {
            0..4 => Fate::Cut,
            4 => Fate::Late(Duration::from_millis(self.0.below(1500))),
            _ => Fate::Pass,
        }
    }
}

async fn walk(ground: &Ground) -> anyhow::Result<()> {
    for step in STEPS {
        ground.take(step).await?;
        match step {
            Step::ScaleUp => ground.plane.restart("kube-apiserver").await?,
            Step::EditClass => ground.plane.restart("etcd").await?,
            _ => {}
        }
        ground.ends_as_expected(step).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_ends_where_none_would() {
    let ground = Ground::new("faults", 1).await;
    for seed in seeds(&[1, 2]) {
        ground.replicas[0].proxy.interfere(Arc::new(Faulty(Dice::new(seed))));
        if let Err(error) = walk(&ground).await {
            panic!("seed {seed}: {error:#}");
        }
        println!("seed {seed}: as undisturbed");
    }
    ground.is_silent().await;
}
