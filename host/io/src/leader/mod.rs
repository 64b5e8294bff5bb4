//! Which replica reconciles, and which replicas there are: one Lease for the first, one a replica for the second. Knows nothing
//! of what the leader does.
//!
//! A replica leads from a renewal that succeeded until a while before others may take the Lease, by its own clock; writes
//! are refused by [`Fence`] from then on, whatever state the rest of the process is in. Others measure from when they saw
//! the Lease change, by theirs. So clocks may differ, and two never write at a time.

mod clock;
mod election;
mod fence;
mod leadership;
mod replica_lease;
mod replicas;

use std::pin::pin;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Error, ResourceExt as _};

use self::clock::{Reached, reached};
pub use self::election::{Election, Next};
use crate::metrics::Metrics;
use atomix_model::limits;

pub use self::clock::Moment;
pub use self::fence::{Fence, Fenced, NotLeading, fenced_client};
pub use self::leadership::{Leadership, Loop, RunningPass};
pub use self::replica_lease::keep_replica_lease;
pub use self::replicas::{Held, Replica, Replicas};

/// Which Leases there are, and this replica's identity in them.
#[derive(Clone, Debug)]
pub struct Options {
    /// The controller's namespace: the Leases are there.
    pub namespace: String,
    /// The controller's name, which is the name of the Lease of the leader.
    pub name: String,
    /// This replica; see [`identity`].
    pub identity: String,
}

/// The identity of this replica: the name of the pod, which a restarted container keeps; without a pod, host and process.
pub fn identity(pod_name: Option<&str>) -> String {
    let name = match pod_name.filter(|name| !name.is_empty()) {
        Some(name) => name.to_owned(),
        None => {
            let host = std::fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| std::env::var("HOSTNAME"));
            format!("{}-{}", host.as_deref().unwrap_or("host").trim(), std::process::id())
        }
    };
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c.to_ascii_lowercase() } else { '-' };
    name.chars().map(plain).take(limits::IDENTITY_CHARS_MAX).collect()
}

/// Leads whenever the Lease can be had, until `stop`; then lets running passes end, and hands the Lease over. Errors of the API
/// server are tried again for ever. A replica that loses the Lease stands by again.
///
/// # Errors
/// What was seen up to now is of a future that is gone, see [`StoreRestored`]: the process has to begin anew.
pub async fn lead(
    client: Client,
    options: &Options,
    leading: &Leadership,
    metrics: &Metrics,
    stop: impl Future<Output = ()>,
) -> Result<(), StoreRestored> {
    let leases: Api<Lease> = Api::namespaced(client, &options.namespace);
    let mut election = Election::new(&options.identity, &options.name);
    let mut sights = pin!(watcher::watch_object(leases.clone(), &options.name).backoff(crate::cache::backoff()));
    let mut stop = pin!(stop);
    let mut last = Moment::now();
    let mut away = false;
    loop {
        let now = Moment::now();
        away |= clock::stood_still(last, limits::LOOP_ROUND_MAX, now);
        last = now;
        leading.loop_ran(Loop::Lead, now);
        publish(&election, leading, metrics, now);
        let next = match away {
            true => Next::Look,
            false => election.next(now),
        };
        let again = match next {
            Next::Look => match in_time(leases.get_opt(&options.name)).await {
                Ok(found) => {
                    let now = Moment::now();
                    current(&election, found.as_ref())?;
                    election.away(now);
                    election.see(found, now);
                    away = false;
                    continue;
                }
                Err(error) => {
                    tracing::debug!(%error, "the Lease could not be read; trying again");
                    Some(Moment::now() + limits::LEASE_AGAIN_AFTER)
                }
            },
            Next::Write => {
                write(&leases, &mut election).await?;
                continue;
            }
            Next::Wait(until) => until,
        };
        let round = now + limits::LOOP_ROUND_MAX;
        tokio::select! {
            () = &mut stop => break,
            Some(sight) = sights.next() => match sight {
                Ok(lease) => election.see(lease, Moment::now()),
                Err(error) => tracing::debug!(%error, "the Lease cannot be watched; trying again"),
            },
            waited = reached(again.map_or(round, |again| again.min(round))) => away |= waited == Reached::Late,
        }
    }
    leading.end(limits::LEADER_LEAVES_WITHIN).await;
    metrics.leads(false);
    if let Some(lease) = election.released(Timestamp::now()) {
        match in_time(put(&leases, &lease)).await {
            Ok(_) => tracing::info!(lease = options.name, "leads no more: the Lease is free"),
            Err(error) => tracing::info!(%error, "the Lease could not be freed; it runs out by itself"),
        }
    }
    Ok(())
}

/// The API server's store was brought back from a backup: its revisions count from then. Watches that go on from a later revision stay
/// silent until the store has come as far, and caches hold objects that never were; all has to be read again.
#[derive(Debug, thiserror::Error)]
#[error(
    "the store of the API server was restored from a backup (a Lease is older than it was); this process ends, to read everything anew"
)]
pub struct StoreRestored;

fn current(election: &Election, answer: Option<&Lease>) -> Result<(), StoreRestored> {
    if election.is_of_the_past(answer) { Err(StoreRestored) } else { Ok(()) }
}

/// Publishes whether this replica leads, and until when.
fn publish(election: &Election, leading: &Leadership, metrics: &Metrics, now: Moment) {
    let until = election.leads_until(now);
    if leading.until(until) {
        metrics.leads(until.is_some());
        match until {
            Some(_) => tracing::info!(identity = election.identity(), "leads: databases are reconciled here"),
            None => tracing::warn!(leader = election.holder(), "leads no more: stands by"),
        }
    }
}

/// Takes or renews the Lease. A conflict means that what was seen is old, so that it is read again.
async fn write(leases: &Api<Lease>, election: &mut Election) -> Result<(), StoreRestored> {
    let lease = election.wanted(Timestamp::now());
    let (began, takes_over) = (Moment::now(), election.takes_over());
    match in_time(put(leases, &lease)).await {
        Ok(lease) => {
            current(election, Some(&lease))?;
            if takes_over {
                tokio::time::sleep(limits::TAKE_OVER_PAUSE).await;
            }
            election.written(lease, began, Moment::now());
            return Ok(());
        }
        Err(Error::Api(status)) if matches!(status.code, 404 | 409) => {
            match in_time(leases.get_opt(&lease.name_any())).await {
                Ok(found) => {
                    current(election, found.as_ref())?;
                    election.see(found, Moment::now());
                }
                Err(error) => tracing::debug!(%error, "the Lease could not be read; trying again"),
            }
        }
        Err(error) => tracing::warn!(%error, "the Lease could not be written; trying again"),
    }
    election.failed(Moment::now());
    Ok(())
}

/// Creates a Lease that was never read, or replaces the version that was read and no other.
async fn put(leases: &Api<Lease>, lease: &Lease) -> kube::Result<Lease> {
    match lease.metadata.resource_version {
        Some(_) => leases.replace(&lease.name_any(), &PostParams::default(), lease).await,
        None => leases.create(&PostParams::default(), lease).await,
    }
}

/// The answer, or an error if it takes too long: a Lease is of no use when it comes late.
async fn in_time<T>(request: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    let late = |_| Err(Error::Service(format!("no answer within {:?}", limits::LEASE_REQUEST_WITHIN).into()));
    tokio::time::timeout(limits::LEASE_REQUEST_WITHIN, request).await.unwrap_or_else(late)
}

/// How long the holder of a Lease may keep it without renewing it: the duration in the Lease, within limits.
fn promised(lease: &Lease) -> Duration {
    let stated = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds).and_then(|secs| u64::try_from(secs).ok());
    Duration::from_secs(stated.unwrap_or(0)).clamp(limits::LEASE_LASTS, limits::LEASE_LASTS_MAX)
}

/// [`limits::LEASE_LASTS`], in seconds, as a Lease has it.
fn lasts_secs() -> i32 {
    i32::try_from(limits::LEASE_LASTS.as_secs()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_identity_can_be_part_of_a_name_and_of_a_header() {
        assert_eq!(super::identity(Some("atomix-controller-5f7-x2")), "atomix-controller-5f7-x2");
        assert_eq!(super::identity(Some("My_Laptop é")), "my-laptop--");
        assert!(super::identity(None).ends_with(&std::process::id().to_string()));
        assert_eq!(super::identity(Some("")), super::identity(None), "an empty variable is none");
    }
}
