//! Every write can be the last: the controller dies the moment the API server has taken it, before it hears of that.

use std::future::Future;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::Duration;

use harness::proxy::{Asked, Fate, Interference};
use harness::seed::{Dice, seeds};
use harness::signal::{Signal, send};
use http::StatusCode;

use super::walk::{Ground, STEPS};

/// Kills a controller at its writes.
struct Killer {
    /// The process to kill; 0 while there is none.
    pid: AtomicI32,
    /// How many writes the process may make before the one that is its last.
    spared: AtomicU64,
    /// Whether its last write reaches the API server.
    before: bool,
    killed_at: Mutex<Vec<String>>,
}

impl Killer {
    fn new(before: bool) -> Arc<Killer> {
        Arc::new(Killer { pid: AtomicI32::new(0), spared: AtomicU64::new(0), before, killed_at: Mutex::default() })
    }

    fn write(&self, asked: &Asked) -> Fate {
        let counts = asked.writes() && !asked.plural.is_empty() && !matches!(asked.plural.as_str(), "leases" | "events");
        let is_review = asked.plural.ends_with("reviews");
        if !counts || is_review || self.pid.load(Ordering::Relaxed) == 0 {
            return Fate::Pass;
        }
        if self.spared.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
            return Fate::Pass;
        }
        let pid = self.pid.swap(0, Ordering::Relaxed);
        if pid != 0 {
            send(pid, Signal::Kill).unwrap();
            let Asked { method, plural, name, subresource, .. } = asked;
            self.killed_at.lock().unwrap().push(format!("{method} {plural} {name} {subresource}"));
        }
        Fate::Cut
    }
}

impl Interference for Killer {
    fn request(&self, asked: &Asked) -> Fate {
        if self.before { self.write(asked) } else { Fate::Pass }
    }

    fn answer(&self, asked: &Asked, _: StatusCode) -> Fate {
        if self.before { Fate::Pass } else { self.write(asked) }
    }
}

/// Starts the controller again whenever it was killed; `spared` says how many writes it may make then.
async fn raise(ground: &Ground, killer: &Killer, spared: impl Fn() -> Option<u64>) {
    let controller = &ground.replicas[0].controller;
    loop {
        if controller.ended() {
            ground.release_lease().await;
            controller.start_unready().unwrap();
            if let Some(count) = spared() {
                killer.spared.store(count, Ordering::Relaxed);
                killer.pid.store(controller.pid().unwrap_or_default(), Ordering::Relaxed);
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A walk during which the controller is raised again.
async fn walk(ground: &Ground, raised: impl Future<Output = ()>) -> anyhow::Result<()> {
    let steps = async {
        for step in STEPS {
            ground.take(step).await?;
            ground.ends_as_expected(step).await?;
        }
        anyhow::Ok(())
    };
    tokio::select! {
        done = steps => done,
        () = raised => unreachable!("it raises for ever"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_write_can_be_the_last() {
    let ground = Ground::new("kills", 1).await;
    let replica = &ground.replicas[0];

    // Each process makes one write, and dies of it.
    let killer = Killer::new(false);
    replica.proxy.interfere(killer.clone());
    killer.pid.store(replica.controller.pid().unwrap(), Ordering::Relaxed);
    let walked = walk(&ground, raise(&ground, &killer, || Some(0))).await;
    let killed = killer.killed_at.lock().unwrap().clone();
    if let Err(error) = walked {
        panic!("after {} kills, the last at {:?}: {error:#}", killed.len(), &killed[killed.len().saturating_sub(3)..]);
    }
    println!("killed {} times", killed.len());
    assert!(killed.len() > 30, "a walk has more writes than {}: {killed:?}", killed.len());

    // Each process dies of a later write, which reaches the API server or not.
    for seed in seeds(&[1, 2]) {
        replica.controller.start().await.unwrap();
        let (killer, dice) = (Killer::new(seed % 2 == 0), Dice::new(seed));
        replica.proxy.interfere(killer.clone());
        killer.spared.store(dice.below(12), Ordering::Relaxed);
        killer.pid.store(replica.controller.pid().unwrap(), Ordering::Relaxed);
        let walked = walk(&ground, raise(&ground, &killer, || Some(1 + dice.below(12)))).await;
        let killed = killer.killed_at.lock().unwrap().clone();
        if let Err(error) = walked {
            panic!("seed {seed}: after {} kills, at {killed:?}: {error:#}", killed.len());
        }
        println!("seed {seed}: killed {} times", killed.len());
        assert!(!killed.is_empty());
    }
}
