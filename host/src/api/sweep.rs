//! Removes what replicas left behind that are gone, this one's earlier life among them, once their clients had time to come back.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use super::Api;
use crate::cache::Key;
use crate::leader::{Leading, Replicas};
use crate::limits;

/// Looks for ever. Costs no request while there is nothing to remove.
pub(super) async fn sweep(
    api: Arc<Api>,
    replicas: watch::Receiver<Replicas>,
    leading: Leading,
    mut ready: watch::Receiver<bool>,
) {
    let _ = ready.wait_for(|ready| *ready).await;
    let started = Instant::now();
    loop {
        tokio::time::sleep(limits::SWEEP_PAUSE).await;
        if *api.stopping.borrow() {
            return;
        }
        let now = Instant::now();
        if now - started >= limits::REJOIN_GRACE {
            own(&api).await;
        }
        if leading.may_write(now) {
            let dead = dead(&api, &replicas.borrow(), now);
            for replica in dead {
                tracing::info!(replica, "a replica is gone: what it held for clients that did not come back is removed");
                of(&api, &replica).await;
            }
        }
    }
}

/// What names this replica although no stream of it is here: from before a restart, or where a removal failed.
async fn own(api: &Api) {
    for member in api.streamless() {
        api.vacate(&member, &api.replica).await;
    }
    for (partition, names) in api.streamless_candidates() {
        api.withdraw(&partition, &names, &api.replica).await;
    }
}

async fn of(api: &Api, replica: &str) {
    let members: Vec<Key> = {
        let members = api.view.members.read();
        members.of_replica(replica).map(|((namespace, object), _)| Key::new(namespace, object)).collect()
    };
    for member in members {
        api.vacate(&member, replica).await;
    }
    let races = api.view.elections.read().of_replica(replica);
    for ((namespace, partition), names) in races {
        api.withdraw(&Key::new(namespace, partition), &names, replica).await;
    }
}

fn dead(api: &Api, replicas: &Replicas, now: Instant) -> Vec<String> {
    let (members, elections) = (api.view.members.read(), api.view.elections.read());
    let named = members.replicas().chain(elections.replicas()).filter(|replica| *replica != api.replica);
    replicas.dead(named, limits::REJOIN_GRACE, now).into_iter().map(str::to_owned).collect()
}
