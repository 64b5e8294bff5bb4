//! Removes what replicas left behind that are gone, this one's earlier life among them, once their clients had time to come back.

use std::sync::Arc;

use tokio::sync::watch;

use super::Api;
use atomix_controller_io::leader::{Leadership, Moment, Replicas};
use atomix_model::limits;
use atomix_model::object::Key;

/// Runs for ever. Costs no request while there is nothing to remove.
pub(super) async fn run(
    api: Arc<Api>,
    replicas: watch::Receiver<Replicas>,
    leading: Leadership,
    mut ready: watch::Receiver<bool>,
) {
    let _ = ready.wait_for(|ready| *ready).await;
    let started = Moment::now();
    loop {
        tokio::time::sleep(limits::GARBAGE_COLLECTION_PAUSE).await;
        if *api.stopping.borrow() {
            return;
        }
        let now = Moment::now();
        if now - started >= limits::REJOIN_GRACE {
            remove_own_leftovers(&api).await;
        }
        if leading.may_write(now) {
            let dead = dead_replicas(&api, &replicas.borrow(), now);
            for replica in dead {
                tracing::info!(replica, "a replica is gone: what it held for clients that did not come back is removed");
                remove_leftovers_of(&api, &replica).await;
            }
        }
    }
}

/// What names this replica although no stream of it is here: from before a restart, or where a removal failed.
async fn remove_own_leftovers(api: &Api) {
    for member in api.members_without_stream() {
        api.remove_member(&member, &api.replica).await;
    }
    for (partition, names) in api.candidates_without_stream() {
        api.remove_candidates(&partition, &names, &api.replica).await;
    }
}

async fn remove_leftovers_of(api: &Api, replica: &str) {
    let members: Vec<Key> = {
        let members = api.view.members.read();
        members.of_replica(replica).map(|((namespace, object), _)| Key::new(namespace, object)).collect()
    };
    for member in members {
        api.remove_member(&member, replica).await;
    }
    let elections = api.view.elections.read().of_replica(replica);
    for ((namespace, partition), names) in elections {
        api.remove_candidates(&Key::new(namespace, partition), &names, replica).await;
    }
}

fn dead_replicas(api: &Api, replicas: &Replicas, now: Moment) -> Vec<String> {
    let (members, elections) = (api.view.members.read(), api.view.elections.read());
    let named = members.replicas().chain(elections.replicas()).filter(|replica| *replica != api.replica);
    replicas.dead(named, limits::REJOIN_GRACE, now).into_iter().map(str::to_owned).collect()
}
