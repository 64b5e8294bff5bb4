//! Writes the difference, then removes orphans. The only module that changes what runs; knows no plugin and no gRPC.

mod dry_run;
pub mod overwrite;

use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::core::Status;
use kube::{Client, Error, ResourceExt};

use atomix_controller_io::cache::{Caches, api};
use atomix_controller_io::metrics::{Metrics, Written};
use atomix_decide::admission::{Admitted, Stamped};
use atomix_decide::diff::with_live_spelling;
use atomix_decide::objects::{
    CompetingWrites, Decision, Memory, Owner, Removal, Standing, Writing, admission_policy, decide, pods, stalled_rollout,
};
use atomix_model::condition::Reason;
use atomix_model::contract::plain;
use atomix_model::fault::Fault;
use atomix_model::grants::Grants;
use atomix_model::limits;
use atomix_model::names;
use atomix_model::object::Objects as _;
use atomix_model::object::{Key, Live};
use serde_json::Value;

pub use dry_run::dry_run;

/// What became of an admitted plan. Only [`apply`] makes one.
#[derive(Debug)]
#[allow(clippy::manual_non_exhaustive, reason = "sealed against the other modules, not against other crates")]
pub struct Applied {
    /// Objects written.
    pub written: usize,
    /// Objects removed.
    pub removed: usize,
    /// What went wrong, object by object; nothing is removed while there is something.
    pub faults: Vec<Fault>,
    /// When to look again although nothing may happen: something was written, or a member that cannot start has had its time then.
    pub again: Option<Duration>,
    _by_apply: (),
}

/// Whose objects are written, and how.
#[allow(missing_docs)] // its fields explain themselves
pub struct Target<'a> {
    pub client: &'a Client,
    /// What is live.
    pub caches: &'a Caches,
    /// The database as the owner of objects.
    pub owner: Owner<'a>,
    /// Who made the plan, and of what, in words: "plugin web 0.1.0 of WebStorageClass ns/name".
    pub planned_by: &'a str,
    /// What the plugin's ClusterRole lets it write and delete.
    pub grants: &'a Grants,
    /// Where writes are counted.
    pub metrics: &'a Metrics,
    /// Whether the admission policy that keeps the controller from overwriting what is foreign is in force. Without it each
    /// first apply is preceded by a read.
    pub guarded: bool,
}

/// Writes what differs, in order, then removes what the plan no longer holds, and pods that keep it from being rolled out.
pub async fn apply(target: &Target<'_>, memory: &mut Memory, admitted: &Admitted, standing: &Standing) -> Applied {
    let mut applied = Applied { written: 0, removed: 0, faults: Vec::new(), again: None, _by_apply: () };
    memory.retain(admitted);
    converge(target, memory, admitted, standing, &mut applied).await;
    applied.faults.extend(memory.competing_writers(Instant::now()));
    applied
}

async fn converge(
    target: &Target<'_>,
    memory: &mut Memory,
    admitted: &Admitted,
    standing: &Standing,
    applied: &mut Applied,
) {
    let mut writing = Writing::of(standing, admitted, &target.owner);
    for (object, live) in standing.pairs(admitted) {
        if writing.has_stopped() {
            break;
        }
        if writing.skips(object) {
            continue;
        }
        match write(target, memory, object, live).await {
            Ok(None) => {}
            Ok(Some(written)) => {
                target.metrics.wrote(&object.kind.kind, written);
                writing.wrote();
            }
            Err(fault) => {
                target.metrics.wrote(&object.kind.kind, word(&fault));
                writing.failed(object, fault);
            }
        }
    }
    if !writing.has_stopped() {
        replace_stalled(target, admitted, standing, &mut writing, applied).await;
    }
    if writing.may_prune() {
        prune(target, standing, &mut writing, applied).await;
    }
    applied.written = writing.written;
    applied.again = standing.waits().into_iter().chain(applied.again).min();
    applied.again = writing.looks_again().then_some(limits::PASS_AFTER_WRITES).into_iter().chain(applied.again).min();
    applied.faults.extend(writing.faults);
}

/// Removes what the plan no longer holds, of the kinds whose caches are whole, and reports what it cannot look for or may
/// not remove.
async fn prune(target: &Target<'_>, standing: &Standing, writing: &mut Writing, applied: &mut Applied) {
    for removal in standing.removals(&target.owner, target.grants, target.planned_by) {
        let removed = match &removal {
            Ok(removal) => remove(target, removal).await,
            Err(fault) => Err(fault.clone()),
        };
        match (removed, removal) {
            (Ok(()), Ok(removal)) => {
                target.metrics.wrote(&removal.kind.kind, Written::Pruned);
                applied.removed += 1;
            }
            (Err(fault), _) | (_, Err(fault)) => writing.faults.push(fault),
        }
    }
}

/// Deletes the pods that keep a StatefulSet from rolling out; see [`stalled_rollout::stalled`].
async fn replace_stalled(
    target: &Target<'_>,
    admitted: &Admitted,
    standing: &Standing,
    writing: &mut Writing,
    applied: &mut Applied,
) {
    for object in admitted.objects.iter().filter(|object| stalled_rollout::is_set(&object.kind)) {
        let set = target.caches.find(&object.kind, &Key::new(target.owner.namespace, &object.name));
        let Some(set) = set.filter(|set| set.owner() == Some(target.owner.uid)) else { continue };
        let stalled = stalled_rollout::stalled(&set, standing.pods(), Timestamp::now());
        applied.again = stalled.again.into_iter().chain(applied.again).min();
        for pod in &stalled.delete {
            // Only as it was seen: a member that came up meanwhile is another version of the pod.
            match remove(target, &Removal { kind: &pods(), live: pod, this_version: true }).await {
                Ok(()) => target.metrics.wrote("Pod", Written::Pruned),
                // It changed: the watch shows the newer version soon, and the next pass decides by that.
                Err(Fault::Cluster { reason: Reason::Conflict, .. }) => {
                    applied.again = Some(limits::PASS_AFTER_WRITES).into_iter().chain(applied.again).min();
                }
                Err(fault) => writing.faults.push(fault),
            }
        }
    }
}

async fn write(
    target: &Target<'_>,
    memory: &mut Memory,
    object: &Stamped,
    live: Option<&Live>,
) -> Result<Option<Written>, Fault> {
    let title = format!("{} {}", object.kind.kind, object.name);
    let decision = decide(object, live, &target.owner, memory.quiet(object));
    let adopted = decision == Decision::Adopt;
    match decision {
        Decision::Leave => return Ok(None),
        Decision::Orphan => return Err(orphan(&title, target)),
        Decision::Taken(whose) => return Err(taken(&title, &format!("it belongs to {whose}"))),
        Decision::Going => {
            return Err(Fault::waiting(
                Reason::Terminating,
                format!("{title} is on its way out; it is made again when it is gone"),
            ));
        }
        Decision::Adopt => {
            tracing::info!(namespace = target.owner.namespace, database = target.owner.name, object = title, "adopt")
        }
        Decision::Write(why) => {
            tracing::info!(namespace = target.owner.namespace, database = target.owner.name, object = title, why, "apply")
        }
    }
    let found = live.map_or(0, |live| live.version);
    let tried = (object.hash.clone(), found);
    if let Some(refused) = memory.refused(object, &tried, Instant::now()) {
        return Err(refused);
    }
    let writes = memory.competing_writes(object, Instant::now());
    if writes.must_wait(Instant::now()) {
        return Ok(None); // reported besides
    }
    let api = api(target.client, &object.kind, Some(target.owner.namespace));
    if live.is_none() && !target.guarded {
        let there = api.get_metadata_opt(&object.name).await.map_err(|error| fault("look up", &title, &error))?;
        if there.is_some() {
            return Err(taken(&title, "it is not labelled as this database's"));
        }
    }
    let manifest = live.map_or_else(|| object.manifest.clone(), |live| with_live_spelling(&live.body, &object.manifest));
    let params = PatchParams::apply(names::MANAGER).force();
    let writes = with_competitor(writes, &api, object, live).await;
    let answer = match live.filter(|_| adopted) {
        Some(live) => overwrite::overwrite(&api, &manifest, live).await, // the client that restored it manages its fields no more
        None => match (api.patch(&object.name, &params, &Patch::Apply(&manifest)).await, live) {
            (Err(Error::Api(status)), Some(live)) if status.code == 422 && object.is_of(live.annotation(names::HASH)) => {
                tracing::info!(
                    namespace = target.owner.namespace,
                    database = target.owner.name,
                    object = title,
                    "overwrite"
                );
                overwrite::overwrite(&api, &manifest, live).await // it was valid once: what was added to it is not
            }
            (answer, _) => answer,
        },
    };
    match answer {
        Ok(answer) => {
            let held = serde_json::to_value(answer).ok().and_then(|answer| target.caches.wrote(&object.kind, answer));
            let changed = memory.written(object, writes, (live, held.as_deref()), Instant::now());
            Ok(Some(if changed { Written::Changed } else { Written::Unchanged }))
        }
        Err(error) => {
            // What is invalid together with another manager's fields is refused for that before the policy is evaluated.
            if live.is_none()
                && foreign(&api, &object.name, target.owner.uid).await.map_err(|error| fault("look up", &title, &error))?
            {
                return Err(taken(&title, "it does not belong to this database"));
            }
            match fault("apply", &title, &error) {
                Fault::Refused { message } => {
                    let message = format!("{message}; {} planned it so", target.planned_by);
                    Err(memory.refuse(object, tried, message, Instant::now()))
                }
                fault => Err(fault),
            }
        }
    }
}

/// Finds out what was changed and by whom, if it has been changed so often that it will be reported: one request.
async fn with_competitor(
    writes: CompetingWrites,
    api: &Api<DynamicObject>,
    object: &Stamped,
    live: Option<&Live>,
) -> CompetingWrites {
    if !writes.is_nearly_reported() {
        return writes;
    }
    let managers = match api.get_metadata_opt(&object.name).await {
        Ok(Some(found)) => serde_json::to_value(found.metadata.managed_fields).unwrap_or_default(),
        _ => Value::Null,
    };
    writes.with_competitor(object, live, &managers)
}

/// Whether an object that no cache shows is there all the same, and not ours.
async fn foreign(api: &Api<DynamicObject>, name: &str, owner: &str) -> kube::Result<bool> {
    let there = api.get_metadata_opt(name).await?;
    Ok(there.is_some_and(|object| object.owner_references().iter().all(|reference| reference.uid != owner)))
}

/// Deletes an object as it was seen.
async fn remove(target: &Target<'_>, removal: &Removal<'_>) -> Result<(), Fault> {
    let Removal { kind, live, .. } = removal;
    let title = format!("{} {}", kind.kind, live.name);
    tracing::info!(namespace = target.owner.namespace, database = target.owner.name, object = title, "remove");
    let resource_version = removal.version().map(|version| version.to_string());
    let preconditions = Preconditions { uid: Some(removal.uid().to_owned()), resource_version };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
    match api(target.client, kind, Some(target.owner.namespace)).delete(&live.name, &params).await {
        Ok(answer) => {
            let leaving = answer.left().filter(|object| object.metadata.deletion_timestamp.is_some());
            if let Some(leaving) = leaving.and_then(|leaving| serde_json::to_value(leaving).ok()) {
                target.caches.wrote(kind, leaving); // held back by a finalizer: the answer shows it on its way out
                return Ok(());
            }
        }
        Err(Error::Api(status)) if status.code == 404 => {}
        Err(error) => return Err(fault("remove", &title, &error)),
    }
    target.caches.deleted(kind, &live.key(), &live.uid);
    Ok(())
}

fn word(fault: &Fault) -> Written {
    match fault {
        Fault::Cluster { reason: Reason::NameTaken, .. } => Written::NameTaken,
        Fault::Refused { .. } => Written::Refused,
        _ => Written::Failed,
    }
}

fn taken(title: &str, why: &str) -> Fault {
    let message = format!("{title} is there already and is left alone: {why}; delete or rename it");
    Fault::Cluster { reason: Reason::NameTaken, message }
}

/// What an earlier database of the name left behind, and how it is taken over.
fn orphan(title: &str, target: &Target<'_>) -> Fault {
    let (namespace, name, annotation) = (target.owner.namespace, target.owner.name, names::ADOPT);
    let now = match target.owner.adopts {
        Some(other) => format!(" (it is {other:?} now)"),
        None => String::new(),
    };
    let message = format!(
        "{title} is there already and is left alone: it was made for an earlier Database {name}, which is gone; to take over all that \
         was, as it is: kubectl annotate --overwrite --namespace {namespace} database {name} {annotation}={}{now}",
        names::ORPHANS
    );
    Fault::Cluster { reason: Reason::NameTaken, message }
}

/// How the API server's admission plugin OwnerReferencesPermissionEnforcement refuses an owner whose definition it does not know yet; no
/// role mends that.
const NO_MAPPING: &str = "cannot find RESTMapping";

/// Sorts an API's refusal by who must act.
fn fault(action: &str, title: &str, error: &Error) -> Fault {
    let Error::Api(status) = error else {
        return Fault::Cluster { reason: Reason::ApiUnavailable, message: format!("could not {action} {title}: {error}") };
    };
    let message = plain(&format!("could not {action} {title}: {}", status.message)); // it quotes what a plugin wrote
    match status.code {
        403 if is_taken(status) => taken(title, "it does not belong to this database"),
        403 if status.message.contains(NO_MAPPING) => {
            let message = format!("{message} (it looks for definitions every few seconds; trying again)");
            Fault::Cluster { reason: Reason::ApiUnavailable, message }
        }
        403 => Fault::Cluster { reason: Reason::Forbidden, message },
        404 => Fault::Cluster { reason: Reason::NotFound, message },
        409 => Fault::Cluster { reason: Reason::Conflict, message },
        400 | 415 | 422 => Fault::Refused { message },
        500 if does_not_fit(&status.message) => Fault::Refused { message },
        _ => Fault::Cluster { reason: Reason::ApiUnavailable, message },
    }
}

/// Whether the admission policy refused a request since the object belongs to another owner.
fn is_taken(status: &Status) -> bool {
    let mut causes = status.details.iter().flat_map(|details| &details.causes);
    causes.any(|cause| admission_policy::refusal(&cause.message) == Some(Reason::NameTaken))
}

/// Whether an answer 500 means that the manifest does not fit the kind's schema, as API servers answer a server-side apply
/// of such.
fn does_not_fit(message: &str) -> bool {
    // Of another type, of an unknown field; an amount that is none.
    let refusals = ["failed to create typed patch object", "field not declared in schema", "failed to convert new object"];
    refusals.iter().any(|refusal| message.contains(refusal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_500_about_the_manifest_is_no_failure_of_the_api() {
        let sorted = |message: &str| {
            let status = serde_json::json!({"status": "Failure", "code": 500, "message": message});
            fault("apply", "Deployment a", &Error::Api(Box::new(serde_json::from_value(status).expect("a Status"))))
        };
        for message in [
            "failed to create typed patch object (n/a; apps/v1, Kind=StatefulSet): .spec.replicas: expected numeric, got string",
            "failed to convert new object (n/a; apps/v1, Kind=Deployment) to proper version: unable to convert unstructured object \
             to apps/v1, Kind=Deployment: quantities must match the regular expression '^([+-]?[0-9.]+)$'",
        ] {
            assert!(matches!(sorted(message), Fault::Refused { .. }), "{message}");
        }
        assert_eq!(sorted("the server is currently unable to handle the request").reason(), Reason::ApiUnavailable);
    }

    #[test]
    fn a_name_is_taken_by_the_policys_word_and_not_by_what_a_message_quotes() {
        let refused = |message: &str, cause: &str| {
            let message = format!("configmaps \"a\" is forbidden: {message}");
            let details = serde_json::json!({"name": "a", "causes": [{"message": cause}]});
            let status = serde_json::json!({"status": "Failure", "reason": "Forbidden", "code": 403, "message": message, "details": details});
            let error = Error::Api(Box::new(serde_json::from_value(status).expect("a Status")));
            fault("apply", "ConfigMap a", &error).reason()
        };
        let own = "ValidatingAdmissionPolicy 'atomix-controller' with binding 'atomix-controller' denied request: ";
        let (taken, kind) = (format!("{own}NameTaken: ConfigMap n/a"), format!("{own}KindRefused: NameTaken n/a"));
        assert_eq!(refused(&taken, &taken), Reason::NameTaken);
        assert_eq!(refused(&kind, &kind), Reason::Forbidden);
        assert_eq!(refused("a webhook of theirs says NameTaken", ""), Reason::Forbidden);
        let early = "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion cloud.atomix.io/v1beta3";
        assert_eq!(refused(early, ""), Reason::ApiUnavailable, "no role mends that");
    }
}
