//! Writes what a pass found out: the database's status, its partitions', and Events. Only what differs, and not in a rush.

use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::runtime::events::{Event, EventType};
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};

use super::{Context, Memory};
use crate::admit::partition_kind;
use crate::cache::{Kind, Live, api};
use crate::crd::{Database, DatabaseStatus, PartitionStatus};
use crate::fault::Fault;
use crate::limits;
use crate::names;
use crate::status::{self, Outcome};
use crate::wit::Note;

/// The kind Database.
pub(super) fn database_kind() -> Kind {
    Kind {
        group: crate::crd::GROUP.into(),
        version: crate::crd::VERSION.into(),
        kind: "Database".into(),
        plural: "databases".into(),
    }
}

/// Writes the statuses that differ. Answers when to come back, if something has to wait or could not be written.
pub(super) async fn report(database: &Database, ctx: &Context, memory: &mut Memory, outcome: &Outcome) -> Option<Duration> {
    let now = k8s_openapi::jiff::Timestamp::now();
    let mut again = partitions(database, ctx, memory, outcome, now).await;
    let before = database.status.clone().unwrap_or_default();
    let after = status::database(&before, outcome, now);
    if let Some(pause) = status::database_pause(&before, &after) {
        let waited = memory.status_written.map_or(pause, |written| written.elapsed());
        if waited < pause {
            again = sooner(again, pause - waited);
        } else if let Err(error) = write(database, ctx, memory, &before, after.clone(), &outcome.notes).await {
            tracing::debug!(%error, database = database.name_any(), "status not written; trying again");
            again = sooner(again, limits::RETRY_AFTER_MIN);
        }
    }
    let grace = outcome.states.as_deref().and_then(|states| status::grace_left(&after, states, now));
    grace.map_or(again, |grace| sooner(again, grace))
}

/// Writes the status before the first write of a plan, if it holds something that must not be lost.
pub(super) async fn record(
    database: &Database,
    ctx: &Context,
    memory: &mut Memory,
    outcome: &mut Outcome,
) -> Result<(), Fault> {
    let before = database.status.clone().unwrap_or_default();
    let same = before.plan == outcome.plan
        && before.kinds == outcome.kinds
        && before.storage_class == outcome.class
        && before.partitions_per_cluster == outcome.per_cluster
        && before.pod_labels == outcome.pod_labels;
    if same {
        return Ok(());
    }
    outcome.before_writing = true;
    let after = status::database(&before, outcome, Timestamp::now());
    outcome.before_writing = false;
    write(database, ctx, memory, &before, after, &outcome.notes).await.map_err(|error| {
        let message = format!("could not record the plan in the status of Database {}: {error}", database.name_any());
        Fault::Cluster { reason: "ApiUnavailable", message }
    })
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
    let answer =
        patch_status(ctx, &database_kind(), &namespace, &database.name_any(), database.uid(), &json!(after)).await?;
    let version = answer.resource_version().and_then(|version| version.parse().ok()).unwrap_or(0);
    for event in status::events(before, &after, notes) {
        let event = Event {
            type_: if event.warning { EventType::Warning } else { EventType::Normal },
            reason: event.reason,
            note: Some(event.note),
            // Of one generation, events of one reason are a series; of the next they are news.
            action: format!("ReconcileGeneration{}", database.metadata.generation.unwrap_or_default()),
            secondary: None,
        };
        if let Err(error) = ctx.events.publish(&event, &database.object_ref(&())).await {
            tracing::debug!(%error, "an event was not sent");
        }
    }
    (memory.status, memory.status_written) = (Some((version, after)), Some(Instant::now()));
    Ok(())
}

async fn partitions(
    database: &Database,
    ctx: &Context,
    memory: &mut Memory,
    outcome: &Outcome,
    now: Timestamp,
) -> Option<Duration> {
    let (namespace, name, uid) = (database.namespace()?, database.name_any(), database.uid()?);
    let mut again = None;
    for state in outcome.states.as_deref().unwrap_or_default() {
        let partition = crate::observe::partition_name(&name, state.id);
        let live = ctx.caches.find(&partition_kind(), &crate::cache::Key::new(&namespace, &partition));
        let Some(live) = live.filter(|live| live.owner() == Some(&uid) && !live.terminating()) else { continue };
        let before: Option<PartitionStatus> =
            live.body.get("status").cloned().and_then(|status| serde_json::from_value(status).ok());
        // The election belongs to who serves it: neither compared here nor written.
        let before = before.map(|before| PartitionStatus { election: None, ..before });
        let after = status::partition(before.as_ref().unwrap_or(&PartitionStatus::default()), state, live.generation(), now);
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
        match patch_status(ctx, &partition_kind(), &namespace, &partition, Some(live.uid.clone()), &json!(after)).await {
            Ok(answer) => {
                memory.partitions_written.insert(state.id, Instant::now());
                if let Ok(answer) = serde_json::to_value(answer) {
                    ctx.caches.wrote(&partition_kind(), answer);
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

/// How many Partitions of the database exist.
pub(super) fn partitions_there(ctx: &Context, namespace: &str, name: &str, uid: &str) -> i32 {
    let all = ctx.caches.of_database(&partition_kind(), namespace, name);
    let there = all.iter().filter(|live| live.owner() == Some(uid) && !live.terminating()).count();
    i32::try_from(there).unwrap_or(i32::MAX)
}

/// The database as a type. One that does not fit gets a message, and blinds nobody.
pub(super) async fn parsed(object: &DynamicObject, ctx: &Context) -> Option<Database> {
    let value = serde_json::to_value(object).ok()?;
    let spec = value.get("spec").cloned().unwrap_or(Value::Null);
    let error = match serde_json::from_value::<Database>(value.clone()) {
        Ok(database) => return Some(database),
        Err(error) => match serde_json::from_value::<crate::crd::DatabaseSpec>(spec) {
            // the spec is fine, so it is the status that was tampered with: it is made anew
            Ok(_) => {
                let mut value = value;
                value.as_object_mut()?.remove("status");
                return serde_json::from_value(value).ok();
            }
            Err(_) => error,
        },
    };
    let (namespace, name) = (object.namespace()?, object.name_any());
    let message = format!("the object does not fit its schema: {error}");
    let stands = object.data.pointer("/status/conditions/0/message").and_then(Value::as_str) == Some(&message);
    if !stands {
        let mut conditions = status::Conditions::of(&[], object.metadata.generation, Timestamp::now());
        conditions.set("Accepted", false, "Malformed", message);
        let status = json!({"phase": "Malformed", "conditions": conditions.into_vec()});
        if let Err(error) = patch_status(ctx, &database_kind(), &namespace, &name, object.uid(), &status).await {
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
    uid: Option<String>,
    status: &Value,
) -> kube::Result<DynamicObject> {
    let patch = json!({
        "apiVersion": format!("{}/{}", kind.group, kind.version),
        "kind": kind.kind,
        "metadata": {"name": name, "uid": uid}, // the uid: never the status of a later object of the same name
        "status": status,
    });
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
