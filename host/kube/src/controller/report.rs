//! Writes what a pass found out: the database's status, its partitions', and Events. Only what differs, and not in a rush.

use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::runtime::events::{Event, EventType};
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};

use super::{Context, Memory};
use atomix_controller_io::api_client::said;
use atomix_controller_io::cache::{RawObject, api};
use atomix_decide::pass::{Pass, Planned};
use atomix_decide::status::{self, LastWritten};
use atomix_decide::{intent, misfit};
use atomix_model::condition::Reason;
use atomix_model::contract::{Note, Unsupported};
use atomix_model::crd::{Database, DatabaseStatus, Partition, PartitionStatus, UNOBSERVED};
use atomix_model::fault::Fault;
use atomix_model::limits;
use atomix_model::names;
use atomix_model::object::Objects as _;
use atomix_model::object::{Kind, Live};

/// Writes the statuses that differ. Returns when to come back, if something has to wait or could not be written.
pub(super) async fn report(database: &Database, ctx: &Context, memory: &mut Memory, pass: &Pass) -> Option<Duration> {
    let now = k8s_openapi::jiff::Timestamp::now();
    let before = database.status.clone().unwrap_or_default();
    let after = status::database(&before, pass, now);
    let planned = pass.stage.planned();
    let mut again = match planned {
        Some(planned) => partitions(database, ctx, memory, (&after, planned), now).await,
        None => None,
    };
    if let Some(pause) = status::database_pause(&before, &after) {
        let waited = memory.status_written.map_or(pause, |written| written.elapsed());
        if waited < pause {
            again = sooner(again, pause - waited);
        } else if let Err(error) = write(database, ctx, memory, &before, after.clone(), notes(pass)).await {
            tracing::debug!(%error, database = database.name_any(), "status not written; trying again");
            again = sooner(again, limits::RETRY_AFTER_MIN);
        }
    }
    let applied = pass.stage.applied().and_then(|applied| applied.look_again);
    let health = planned.and_then(|planned| planned.health.look_again);
    status::look_again(&after, pass, now).into_iter().chain(health).chain(applied).fold(again, sooner)
}

/// Writes the status of a pass that is about to write a plan, if it holds something that must not be lost. Returns whether
/// it did.
///
/// # Errors
/// It could not be written, or the database is another by now than the one that was seen.
pub(super) async fn record(database: &Database, ctx: &Context, memory: &mut Memory, pass: &Pass) -> Result<bool, Fault> {
    let before = database.status.clone().unwrap_or_default();
    let after = status::database(&before, pass, Timestamp::now());
    if intent::is_recorded(&before, &after) {
        return Ok(false);
    }
    match write(database, ctx, memory, &before, after, notes(pass)).await {
        Ok(()) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => {
            Err(Fault::Unseen { message: "the Database is another by now than the one that is seen".to_owned() })
        }
        Err(error) => {
            let name = database.name_any();
            let message = format!("could not record the plan in the status of Database {name}: {}", said(&error));
            Err(Fault::Cluster { reason: Reason::ApiUnavailable, message })
        }
    }
}

/// Notes of the plugin for a person.
fn notes(pass: &Pass) -> &[Note] {
    pass.stage.planned().map(|planned| planned.notes.as_slice()).unwrap_or_default()
}

async fn write(
    database: &Database,
    ctx: &Context,
    memory: &mut Memory,
    before: &DatabaseStatus,
    after: DatabaseStatus,
    notes: &[Note],
) -> kube::Result<()> {
    if let Some(early) = memory.status_written.and_then(|written| limits::STATUS_PAUSE.checked_sub(written.elapsed())) {
        tokio::time::sleep(early).await; // an edit right after another: its record may not be skipped, but may wait
    }
    let namespace = database.namespace().unwrap_or_default();
    let seen = memory.newest(database);
    let answer = patch_status(
        ctx,
        &Kind::of::<Database>(),
        &namespace,
        &database.name_any(),
        (database.uid(), Some(seen)),
        &json!(after),
    )
    .await?;
    let version = answer.resource_version().and_then(|version| version.parse().ok()).unwrap_or(0);
    for event in status::events(before, &after, notes) {
        let event = Event {
            type_: if event.warning { EventType::Warning } else { EventType::Normal },
            reason: event.reason,
            note: Some(event.note),
            // Of one generation, events of one reason are a series; of the next they are new.
            action: format!("ReconcileGeneration{}", database.metadata.generation.unwrap_or_default()),
            secondary: None,
        };
        if let Err(error) = ctx.events.publish(&event, &database.object_ref(&())).await {
            tracing::debug!(%error, "an event was not sent");
        }
    }
    (memory.status, memory.status_written) = (Some(LastWritten { version, status: after }), Some(Instant::now()));
    Ok(())
}

async fn partitions(
    database: &Database,
    ctx: &Context,
    memory: &mut Memory,
    (after, planned): (&DatabaseStatus, &Planned),
    now: Timestamp,
) -> Option<Duration> {
    let (namespace, name, uid) = (database.namespace()?, database.name_any(), database.uid()?);
    let mut again = None;
    for state in &planned.states {
        let partition = atomix_decide::observe::partition_name(&name, state.id);
        let live = ctx.caches.find(&Kind::of::<Partition>(), &atomix_model::object::Key::new(&namespace, &partition));
        let Some(live) = live.filter(|live| live.owner() == Some(&uid) && !live.terminating()) else { continue };
        let before: Option<PartitionStatus> =
            live.body.get("status").cloned().and_then(|status| serde_json::from_value(status).ok());
        let before = before.filter(|before| before.observed_generation != Some(UNOBSERVED)); // none but the default
        // The election belongs to the gRPC API: it is neither compared here nor written.
        let before = before.map(|before| PartitionStatus { election: None, ..before });
        let standing = before.clone().unwrap_or_default();
        let (after, changes) = status::partition(&standing, (state, live.generation()), (after, &planned.health), now);
        if let Some(changes) = changes {
            again = sooner(again, status::until(changes, now));
        }
        let Some(pause) = status::partition_pause(before.as_ref(), &after, age(&live, now)) else { continue };
        let waited = if before.is_none() {
            Duration::ZERO
        } else {
            memory.partitions_written.get(&state.id).map_or(pause, Instant::elapsed)
        };
        if waited < pause {
            again = sooner(again, pause - waited);
            continue;
        }
        match patch_status(
            ctx,
            &Kind::of::<Partition>(),
            &namespace,
            &partition,
            (Some(live.uid.clone()), None),
            &json!(after),
        )
        .await
        {
            Ok(answer) => {
                memory.partitions_written.insert(state.id, Instant::now());
                if let Ok(answer) = serde_json::to_value(answer) {
                    ctx.caches.wrote(&Kind::of::<Partition>(), answer);
                }
            }
            Err(error) => {
                tracing::debug!(%error, partition, "status not written; trying again");
                again = sooner(again, limits::RETRY_AFTER_MIN);
            }
        }
    }
    again
}

/// The database as a type, with the fields that are not taken. One that does not fit gets a message, and hides no other. What its
/// status recorded is kept in any case.
pub(super) async fn parsed(object: &RawObject, ctx: &Context) -> Option<(Database, Vec<Unsupported>)> {
    let malformed = match misfit::read(object.value()) {
        Ok(read) => return Some(read),
        Err(malformed) => malformed,
    };
    let (namespace, name) = (object.namespace()?, object.name_any());
    let before = *malformed.status;
    let after = status::malformed(&before, object.meta().generation, malformed.message, Timestamp::now());
    if after != before {
        let id = (object.uid(), object.resource_version());
        if let Err(error) = patch_status(ctx, &Kind::of::<Database>(), &namespace, &name, id, &json!(after)).await {
            tracing::warn!(%error, namespace, name, "a malformed database could not be told so");
        }
    }
    None
}

async fn patch_status(
    ctx: &Context,
    kind: &Kind,
    namespace: &str,
    name: &str,
    (uid, version): (Option<String>, Option<String>),
    status: &Value,
) -> kube::Result<DynamicObject> {
    let mut patch = json!({
        "apiVersion": format!("{}/{}", kind.group, kind.version),
        "kind": kind.kind,
        "metadata": {"name": name, "uid": uid}, // the uid: never the status of a later object of the same name
        "status": status,
    });
    if let Some(version) = version {
        patch["metadata"]["resourceVersion"] = version.into(); // nor of another version than was seen
    }
    let params = PatchParams::apply(names::MANAGER).force();
    api(&ctx.client, kind, Some(namespace)).patch_status(name, &params, &Patch::Apply(&patch)).await
}

fn age(live: &Live, now: Timestamp) -> Duration {
    let created = live.body.pointer("/metadata/creationTimestamp").and_then(Value::as_str);
    let created: Option<Timestamp> = created.and_then(|created| created.parse().ok());
    created.and_then(|created| Duration::try_from(now.duration_since(created)).ok()).unwrap_or(Duration::MAX)
}

fn sooner(a: Option<Duration>, b: Duration) -> Option<Duration> {
    Some(a.map_or(b, |a| a.min(b)))
}
