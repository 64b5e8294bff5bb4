//! Keeps this replica's own Lease, and watches those of the others: one watch on them all. Deletes the Leases of replicas
//! that ended long ago, while it leads. Decides nothing; see `replicas`.

use std::pin::pin;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Preconditions};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Error};
use tokio::sync::watch;

use super::{Leadership, Loop, Moment, Options, Replicas, in_time, put, reached};
use atomix_model::{limits, names};

/// Makes this replica known to the others, and publishes all of them to `replicas`, until `stop`; then deletes its Lease.
/// Errors of the API server are tried again for ever.
pub async fn keep_replica_lease(
    client: Client,
    options: &Options,
    leading: &Leadership,
    replicas: &watch::Sender<Replicas>,
    stop: impl Future<Output = ()>,
) {
    let leases: Api<Lease> = Api::namespaced(client, &options.namespace);
    let selector = format!("{}=true,{}={}", names::REPLICA, names::APP_NAME, options.name);
    let mut events =
        pin!(watcher(leases.clone(), watcher::Config::default().labels(&selector)).backoff(crate::cache::backoff()));
    let (mut stop, mut own, mut listing) = (pin!(stop), None, Vec::new());
    let mut due = Moment::now();
    loop {
        tokio::select! {
            () = &mut stop => break,
            Some(event) = events.next() => match event {
                Ok(event) => {
                    replicas.send_if_modified(|replicas| take(replicas, event, &mut listing, Moment::now()));
                }
                Err(error) => tracing::debug!(%error, "Leases of replicas cannot be watched; trying again"),
            },
            _ = reached(due) => {
                leading.loop_ran(Loop::Replicas, Moment::now());
                due = Moment::now() + renew(&leases, options, &mut own).await;
                replicas.send_if_modified(|replicas| {
                    replicas.forget(Moment::now());
                    false // no receiver needs these
                });
                if let Some(_pass) = leading.begin_pass() {
                    remove_forgotten(&leases, replicas).await;
                }
            }
        }
    }
    if own.is_some() {
        let deleted = in_time(leases.delete(&name(options), &DeleteParams::default())).await;
        deleted.map_or_else(|error| tracing::debug!(%error, "our own Lease stays; it runs out by itself"), drop);
    }
}

/// Records an event; returns whether receivers have to be notified.
fn take(replicas: &mut Replicas, event: Event<Lease>, listing: &mut Vec<Lease>, now: Moment) -> bool {
    match event {
        Event::Init => listing.clear(),
        Event::InitApply(lease) => listing.push(lease),
        Event::InitDone => replicas.list(&std::mem::take(listing), now),
        Event::Apply(lease) => replicas.see(&lease, now),
        Event::Delete(lease) => replicas.lose(&lease, now),
    }
    listing.is_empty()
}

/// Renews our Lease, or makes it. Returns when to come back.
async fn renew(leases: &Api<Lease>, options: &Options, own: &mut Option<Lease>) -> Duration {
    let next = renewed(options, own.as_ref(), Timestamp::now());
    match in_time(put(leases, &next)).await {
        Ok(lease) => {
            *own = Some(lease);
            return limits::LEASE_RENEWED_EVERY;
        }
        // One that was left by a container before us, or that was edited or deleted.
        Err(Error::Api(status)) if matches!(status.code, 404 | 409) => {
            if let Ok(found) = in_time(leases.get_opt(&name(options))).await {
                *own = found;
            }
        }
        Err(error) => tracing::debug!(%error, "our own Lease could not be written; trying again"),
    }
    limits::LEASE_AGAIN_AFTER
}

async fn remove_forgotten(leases: &Api<Lease>, replicas: &watch::Sender<Replicas>) {
    let forgotten = replicas.borrow().forgotten(Moment::now());
    for held in forgotten {
        let preconditions = Preconditions { uid: None, resource_version: held.version.clone() };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match in_time(leases.delete(&held.name, &params)).await {
            Ok(_) => tracing::info!(lease = held.name, "removed the Lease of a replica that is long gone"),
            Err(error) => tracing::debug!(%error, lease = held.name, "the Lease of a dead replica stays; trying again"),
        }
    }
}

fn name(options: &Options) -> String {
    format!("{}-{}", options.name, options.identity)
}

fn renewed(options: &Options, own: Option<&Lease>, clock: Timestamp) -> Lease {
    let mut lease = own.cloned().unwrap_or_default();
    let labels = [(names::REPLICA, "true"), (names::APP_NAME, &options.name)];
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
    lease.metadata.name = Some(name(options));
    lease.metadata.labels.get_or_insert_default().extend(labels);
    let spec = lease.spec.get_or_insert_default();
    spec.holder_identity = Some(options.identity.clone());
    spec.lease_duration_seconds = Some(super::lasts_secs());
    spec.renew_time = Some(MicroTime(clock));
    lease
}
