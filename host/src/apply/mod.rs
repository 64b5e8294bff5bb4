//! Writes the difference, then removes orphans. The only room that changes what runs; knows no plugin and no gRPC.

mod decide;
pub mod guard;
pub mod overwrite;
mod succeed;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::{Client, Error, ResourceExt};

use crate::admit::{self, Admitted, Stamped, partition_kind};
use crate::cache::{Caches, Key, Kind, Live, State, api};
use crate::crd::database::PlanInUse;
use crate::fault::Fault;
use crate::names;
use crate::observe;
use crate::telemetry::{Metrics, Written};

pub use decide::{Decision, Quiet, decide, held, orphans};

/// What became of an admitted plan. Only [`apply`] makes one.
#[derive(Debug)]
#[allow(clippy::manual_non_exhaustive, reason = "sealed against the other rooms, not against other crates")]
pub struct Applied {
    /// Objects written.
    pub written: usize,
    /// Objects removed.
    pub removed: usize,
    /// What went wrong, object by object; nothing is removed while there is something.
    pub faults: Vec<Fault>,
    _by_apply: (),
}

/// What is remembered between passes over one database; losing it costs at most one apply per object.
#[derive(Debug, Default)]
pub struct Memory {
    quiet: BTreeMap<(Kind, String), Quiet>,
    /// Manifests that the API called invalid, by hash and by the version of what they met, with its words: not sent again.
    invalid: BTreeMap<(Kind, String), ((String, u64), String)>,
}

/// Whose objects are written, and how.
pub struct Target<'a> {
    /// Client of the controller.
    pub client: &'a Client,
    /// What is live.
    pub caches: &'a Caches,
    /// Namespace of the database.
    pub namespace: &'a str,
    /// Name of the database.
    pub database: &'a str,
    /// UID of the database.
    pub owner: &'a str,
    /// Where writes are counted.
    pub metrics: &'a Metrics,
    /// Whether the admission policy that keeps us from overwriting what is foreign is in force. Without it each first apply is
    /// preceded by a look.
    pub guarded: bool,
}

/// What the caches hold of a plan, and what they hold besides.
pub struct Standing {
    live: Vec<Option<Arc<Live>>>,
    /// The database's pods, if its plugin watches them.
    pods: Vec<Arc<Live>>,
    orphans: Vec<(Kind, Arc<Live>)>,
    /// Kinds whose caches are not whole: nothing is removed while there are some.
    unsynced: Vec<Kind>,
}

impl Target<'_> {
    /// Looks up what is live of a plan and of every kind ever written for the database.
    ///
    /// A kind of the plan whose cache is being filled anew is a fault: everything of it would look missing.
    pub fn standing(&self, admitted: &Admitted, kinds: &BTreeSet<Kind>) -> Result<Standing, Fault> {
        for kind in admit::kinds(admitted) {
            observe::synced(self.caches, &kind)?;
        }
        let find = |object: &Stamped| self.caches.find(&object.kind, &Key::new(self.namespace, &object.name));
        let label = names::database_label(self.namespace, self.database);
        let (mut all, mut unsynced) = (Vec::new(), Vec::new());
        for kind in kinds {
            match self.caches.state(kind) {
                State::Synced => {}
                State::Absent => continue, // the kind is gone, and its objects with it
                State::Starting | State::Failing(_) => unsynced.push(kind.clone()),
            }
            let label = if *kind == partition_kind() { self.database } else { &label };
            all.extend(self.caches.of_database(kind, self.namespace, label).into_iter().map(|live| (kind.clone(), live)));
        }
        Ok(Standing {
            live: admitted.objects.iter().map(find).collect(),
            pods: self.caches.of_database(&succeed::pods(), self.namespace, &label),
            orphans: decide::orphans(admitted, all, self.owner),
            unsynced,
        })
    }
}

impl Standing {
    /// Whether the plan is held, and what it would do; see [`held`].
    pub fn held(
        &self,
        admitted: &Admitted,
        running: Option<&PlanInUse>,
        now: &PlanInUse,
        accepted: Option<&str>,
    ) -> Option<String> {
        decide::held(admitted, running, now, accepted, &self.live, &self.orphans)
    }
}

/// Writes what differs, in order, then removes what the plan no longer holds.
pub async fn apply(target: &Target<'_>, memory: &mut Memory, admitted: &Admitted, standing: &Standing) -> Applied {
    let mut applied = Applied { written: 0, removed: 0, faults: Vec::new(), _by_apply: () };
    for (object, live) in admitted.objects.iter().zip(&standing.live) {
        let marked = succeed::succeeding(object, live.as_deref(), &standing.pods);
        let object = marked.as_ref().unwrap_or(object);
        match write(target, memory, object, live.as_deref()).await {
            Ok(None) => {}
            Ok(Some(written)) => {
                target.metrics.wrote(&object.kind.kind, written);
                applied.written += 1;
            }
            Err(fault) => {
                target.metrics.wrote(&object.kind.kind, word(&fault));
                let stop = matches!(fault, Fault::Cluster { reason: "ApiUnavailable", .. });
                applied.faults.push(fault);
                if stop {
                    return applied;
                }
            }
        }
    }
    if !applied.faults.is_empty() || !standing.unsynced.is_empty() {
        return applied;
    }
    for (kind, live) in &standing.orphans {
        match remove(target, kind, live).await {
            Ok(()) => {
                target.metrics.wrote(&kind.kind, Written::Pruned);
                applied.removed += 1;
            }
            Err(fault) => applied.faults.push(fault),
        }
    }
    applied
}

async fn write(
    target: &Target<'_>,
    memory: &mut Memory,
    object: &Stamped,
    live: Option<&Live>,
) -> Result<Option<Written>, Fault> {
    let place = (object.kind.clone(), object.name.clone());
    let title = format!("{} {}", object.kind.kind, object.name);
    match decide(object, live, target.owner, memory.quiet.get(&place)) {
        Decision::Leave => return Ok(None),
        Decision::Taken(whose) => return Err(taken(&title, &format!("it belongs to {whose}"))),
        Decision::Going => {
            return Err(Fault::waiting(
                "Terminating",
                format!("{title} is on its way out; it is made again when it is gone"),
            ));
        }
        Decision::Write(why) => {
            tracing::info!(namespace = target.namespace, database = target.database, object = title, why, "apply")
        }
    }
    let found = live.map_or(0, |live| live.version);
    if let Some((_, words)) = memory.invalid.get(&place).filter(|(tried, _)| *tried == (object.hash.clone(), found)) {
        return Err(Fault::user("Invalid", words.clone()));
    }
    let api = api(target.client, &object.kind, Some(target.namespace));
    if live.is_none() && !target.guarded {
        let there = api.get_metadata_opt(&object.name).await.map_err(|error| fault("look up", &title, &error))?;
        if there.is_some() {
            return Err(taken(&title, "it is not labelled as this database's"));
        }
    }
    let params = PatchParams::apply(names::MANAGER).force();
    let mut answer = api.patch(&object.name, &params, &Patch::Apply(&object.manifest)).await;
    if let (Err(Error::Api(status)), Some(live)) = (&answer, live)
        && status.code == 422
        && live.annotation(names::HASH) == Some(&object.hash)
    {
        tracing::info!(namespace = target.namespace, database = target.database, object = title, "overwrite");
        answer = overwrite::overwrite(&api, &object.manifest, live).await; // it was valid once: what was added to it is not
    }
    match answer {
        Ok(answer) => {
            let held = serde_json::to_value(answer).ok().and_then(|answer| target.caches.wrote(&object.kind, answer));
            if let (Some(before), Some(after)) = (live, held)
                && before.version == after.version
            {
                memory.quiet.insert(place, Quiet::of(&object.hash, &after));
                return Ok(Some(Written::Unchanged));
            }
            Ok(Some(Written::Changed))
        }
        // What is invalid together with somebody else's fields is refused for that before the policy has its say.
        Err(_) if live.is_none() && foreign(&api, &object.name, target.owner).await => {
            Err(taken(&title, "it does not belong to this database"))
        }
        Err(error) => {
            let fault = fault("apply", &title, &error);
            if let Fault::User { message, .. } = &fault {
                memory.invalid.insert(place, ((object.hash.clone(), found), message.clone()));
            }
            Err(fault)
        }
    }
}

/// Whether an object that no cache shows is there all the same, and not ours.
async fn foreign(api: &Api<DynamicObject>, name: &str, owner: &str) -> bool {
    let there = api.get_metadata_opt(name).await.ok().flatten();
    there.is_some_and(|object| object.owner_references().iter().all(|reference| reference.uid != owner))
}

async fn remove(target: &Target<'_>, kind: &Kind, live: &Live) -> Result<(), Fault> {
    let title = format!("{} {}", kind.kind, live.name);
    tracing::info!(namespace = target.namespace, database = target.database, object = title, "remove");
    let preconditions = Preconditions { uid: Some(live.uid.clone()), resource_version: None };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
    match api(target.client, kind, Some(target.namespace)).delete(&live.name, &params).await {
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
        Fault::Cluster { reason: "NameTaken", .. } => Written::NameTaken,
        Fault::User { .. } => Written::Refused,
        _ => Written::Failed,
    }
}

fn taken(title: &str, why: &str) -> Fault {
    let message = format!("{title} is there already and is left alone: {why}; delete or rename it");
    Fault::Cluster { reason: "NameTaken", message }
}

/// Sorts an API's refusal by who must act.
fn fault(deed: &str, title: &str, error: &Error) -> Fault {
    let Error::Api(status) = error else {
        return Fault::Cluster { reason: "ApiUnavailable", message: format!("could not {deed} {title}: {error}") };
    };
    let message = format!("could not {deed} {title}: {}", status.message);
    match status.code {
        403 if status.message.contains("NameTaken") => taken(title, "it does not belong to this database"),
        403 => Fault::Cluster { reason: "Forbidden", message },
        404 => Fault::Cluster { reason: "NotFound", message },
        409 => Fault::Cluster { reason: "Conflict", message },
        400 | 415 | 422 => Fault::user("Invalid", message),
        _ => Fault::Cluster { reason: "ApiUnavailable", message },
    }
}
