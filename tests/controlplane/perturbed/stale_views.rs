//! Every view can be stale: events of watches come late, twice, only the last of several, or never, so that only a new list shows what
//! happened; kinds come in another order than they happened; who starts is told the lists of a step before. Two replicas see different
//! pasts, and one takes over from the other.

use std::sync::Arc;
use std::time::Duration;

use harness::proxy::{Asked, EventFate, Interference};
use harness::seed::{Dice, seeds};

use super::walk::{Ground, STEPS};

/// Delays, repeats, leaves out and loses events.
struct Stale(Dice);

impl Interference for Stale {
    fn event(&self, asked: &Asked) -> EventFate {
        if asked.plural == "leases" {
            return EventFate::Pass; // who leads is another test's subject
        }
        match self.0.below(14) {
            0..3 => EventFate::Late(Duration::from_millis(self.0.below(1500))),
            3 => EventFate::Twice,
            4 | 5 => EventFate::OnlyLast(Duration::from_millis(500 + self.0.below(1500))),
            6 => EventFate::Expired(Duration::from_millis(self.0.below(1500))),
            _ => EventFate::Pass,
        }
    }
}

async fn walk(ground: &Ground, dice: &Dice) -> anyhow::Result<()> {
    for step in STEPS {
        for replica in &ground.replicas {
            replica.proxy.remember_lists().await?;
        }
        ground.take(step).await?;
        tokio::time::sleep(Duration::from_millis(dice.below(1500))).await; // somewhere within the step
        let replica = &ground.replicas[dice.below(ground.replicas.len() as u64) as usize];
        replica.controller.kill().await?;
        replica.proxy.serve_past_lists();
        ground.release_lease().await;
        replica.controller.start_unready()?;
        ground.ends_as_expected(step).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_view_can_be_stale() {
    let ground = Ground::new("stale-views", 2).await;
    for seed in seeds(&[1]) {
        for (number, replica) in ground.replicas.iter().enumerate() {
            replica.proxy.interfere(Arc::new(Stale(Dice::new(seed.wrapping_mul(31) + number as u64))));
        }
        if let Err(error) = walk(&ground, &Dice::new(seed)).await {
            panic!("seed {seed}: {error:#}");
        }
        println!("seed {seed}: as undisturbed");
    }
    ground.is_silent().await;
}
