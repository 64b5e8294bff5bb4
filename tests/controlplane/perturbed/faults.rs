//! Every fault: connections that are cut before or after a request was taken, slow ones, refusals of every kind, one at a time and of all
//! writes of a kind for some seconds, an API server and an etcd that start anew. The end is that of an undisturbed walk, and then silence.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use harness::proxy::{Asked, Fate, Interference};
use harness::seed::{Dice, seeds};
use http::StatusCode;

use super::walk::{Ground, STEPS, Step};

/// For how long writes of one kind are refused: longer than the status that tells of it starts passes by its own echo.
const OUTAGE: Duration = Duration::from_secs(4);

/// Lets about one request in seven meet a fault.
struct Faulty {
    dice: Dice,
    /// The kind whose writes are refused, by its plural, and until when.
    outage: Mutex<Option<(String, Instant)>>,
}

impl Faulty {
    fn new(seed: u64) -> Faulty {
        Faulty { dice: Dice::new(seed), outage: Mutex::new(None) }
    }

    /// Whether a write falls into an outage of its kind, or begins one.
    fn is_out(&self, asked: &Asked) -> bool {
        if !asked.writes() || !asked.subresource.is_empty() || ["", "leases", "events"].contains(&asked.plural.as_str()) {
            return false;
        }
        let (mut outage, now) = (self.outage.lock().unwrap(), Instant::now());
        let lasts = outage.as_ref().is_some_and(|(_, until)| now < *until);
        if !lasts && self.dice.below(20) == 0 {
            *outage = Some((asked.plural.clone(), now + OUTAGE));
        }
        outage.as_ref().is_some_and(|(plural, until)| *plural == asked.plural && now < *until)
    }
}

impl Interference for Faulty {
    fn request(&self, asked: &Asked) -> Fate {
        if self.is_out(asked) {
            return Fate::Refuse(StatusCode::SERVICE_UNAVAILABLE);
        }
        match self.dice.below(100) {
            0..3 => Fate::Cut,
            3..5 => Fate::Refuse(StatusCode::TOO_MANY_REQUESTS),
            5 => Fate::Refuse(StatusCode::INTERNAL_SERVER_ERROR),
            6 => Fate::Refuse(StatusCode::SERVICE_UNAVAILABLE),
            7 if asked.watches => Fate::Refuse(StatusCode::GONE),
            7 | 8 if asked.writes() => Fate::Refuse(StatusCode::CONFLICT),
            9 | 10 => Fate::Late(Duration::from_millis(self.dice.below(1500))),
            _ => Fate::Pass,
        }
    }

    fn answer(&self, _: &Asked, _: StatusCode) -> Fate {
        match self.dice.below(100) {
            0..4 => Fate::Cut,
            4 => Fate::Late(Duration::from_millis(self.dice.below(1500))),
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
        ground.replicas[0].proxy.interfere(Arc::new(Faulty::new(seed)));
        if let Err(error) = walk(&ground).await {
            panic!("seed {seed}: {error:#}");
        }
        println!("seed {seed}: as undisturbed");
    }
    ground.is_silent().await;
}
