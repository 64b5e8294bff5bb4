//! How far workloads have come with the revision of their pods that they should run, as their live objects show. Pure: knows
//! no client and no plugin.

use std::sync::Arc;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use atomix_model::limits;
use atomix_model::names;
use atomix_model::object::{Kind, Live};

use super::later;

/// Fields of every workload's status that show how far it has come.
const OF_WORKLOADS: [&str; 11] = [
    "/status/conditions",
    "/status/currentNumberScheduled",
    "/status/currentRevision",
    "/status/desiredNumberScheduled",
    "/status/numberReady",
    "/status/observedGeneration",
    "/status/readyReplicas",
    "/status/replicas",
    "/status/updateRevision",
    "/status/updatedNumberScheduled",
    "/status/updatedReplicas",
];
const OF_PODS: [&str; 2] = ["/status/conditions", "/status/containerStatuses"];
const OF_CLAIMS: [&str; 1] = ["/status/phase"];

/// Fields of live objects of a kind that are kept whatever a plugin reads.
pub fn reads(kind: &Kind) -> &'static [&'static str] {
    match (kind.group.as_str(), kind.kind.as_str()) {
        ("apps", "StatefulSet" | "Deployment" | "DaemonSet") => &OF_WORKLOADS,
        ("", "Pod") => &OF_PODS,
        ("", "PersistentVolumeClaim") => &OF_CLAIMS,
        _ => &[],
    }
}

/// A live object with its kind.
pub type Object = (Kind, Arc<Live>);

/// How far the workloads of a database have come, together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rollout {
    /// How many members there should be.
    pub members: i32,
    /// How many run the newest revision.
    pub updated: i32,
    /// How many are ready.
    pub ready: i32,
    /// Whether a workload replaces its pods.
    pub rolling: bool,
    /// Whether the controller of a workload has yet to see what was written last: whether that replaces pods is not known then.
    pub stale: bool,
    /// What waits for a person: names of workloads, with what they wait for.
    pub waits: Vec<String>,
}

/// How far these workloads have come, the pods being among `objects` where they are known.
pub fn of(objects: &[Object]) -> Rollout {
    let mut all = Rollout::default();
    let pods: Vec<&Arc<Live>> = objects.iter().filter(|(kind, _)| is_pod(kind)).map(|(_, live)| live).collect();
    for (kind, live) in objects.iter().filter(|(kind, live)| kind.group == "apps" && !live.terminating()) {
        let workload = Workload(live);
        let one = match kind.kind.as_str() {
            "StatefulSet" => workload.set(&pods),
            "Deployment" => workload.deployment(),
            "DaemonSet" => workload.on_every_node(),
            _ => continue,
        };
        all.members += one.members;
        all.updated += one.updated.min(one.members);
        all.ready += one.ready.min(one.members);
        all.rolling |= one.rolling;
        all.stale |= one.stale;
        all.waits.extend(one.waits);
    }
    all
}

/// Whether a kind is that of pods.
pub fn is_pod(kind: &Kind) -> bool {
    kind.group.is_empty() && kind.kind == "Pod"
}

/// Whether a kind is that of claims.
pub fn is_claim(kind: &Kind) -> bool {
    kind.group.is_empty() && kind.kind == "PersistentVolumeClaim"
}

/// What a workload lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lacks {
    /// Some of its pods are not there.
    pub pods: bool,
    /// Some are not ready, or not there.
    pub ready: bool,
}

/// What a workload lacks; None for what is no workload.
pub fn lacks(kind: &Kind, live: &Live) -> Option<Lacks> {
    let workload = Workload(live);
    let (there, ready, wanted) = match (kind.group.as_str(), kind.kind.as_str()) {
        ("apps", "StatefulSet" | "Deployment") => ("/status/replicas", "/status/readyReplicas", workload.wanted()),
        ("apps", "DaemonSet") => {
            ("/status/currentNumberScheduled", "/status/numberReady", workload.number("/status/desiredNumberScheduled"))
        }
        _ => return None,
    };
    Some(Lacks { pods: workload.number(there) < wanted, ready: workload.number(ready) < wanted })
}

struct Workload<'a>(&'a Live);

impl Workload<'_> {
    /// Its controller replaces the pods of an old revision, unless its strategy is to wait until somebody deletes them.
    fn set(&self, pods: &[&Arc<Live>]) -> Rollout {
        let members = self.wanted();
        let newest = self.text("/status/updateRevision");
        let mine: Vec<_> = pods.iter().filter(|pod| controlled_by(pod, &self.0.uid)).collect();
        // Pods of a new set may be seen before its status, and are of its first revision then.
        let behind = mine.iter().filter(|pod| !newest.is_empty() && revision(pod) != Some(newest)).count();
        let updated = match mine.is_empty() {
            true => self.number("/status/updatedReplicas"),
            false => count(mine.iter().filter(|pod| !pod.terminating() && revision(pod) == Some(newest)).count()),
        };
        let unfinished = self.text("/status/currentRevision") != newest;
        let on_delete = self.text("/spec/updateStrategy/type") == "OnDelete";
        let held = self.number("/spec/updateStrategy/rollingUpdate/partition");
        let (name, mut waits) = (&self.0.name, Vec::new());
        if on_delete && behind > 0 {
            waits.push(format!("{name} replaces pods only when they are deleted (updateStrategy OnDelete)"));
        } else if let Some(until) = self.0.annotation(names::WAITS_UNTIL).filter(|_| unfinished) {
            waits.push(format!("{name} waits for members that are coming back, until {until} at the latest"));
        } else if unfinished && held > 0 {
            waits.push(format!("{name} waits its turn (partition {held})"));
        }
        let stale = self.is_stale();
        Rollout {
            members,
            updated: if stale { 0 } else { updated },
            ready: self.number("/status/readyReplicas"),
            rolling: !on_delete && (unfinished || behind > 0),
            stale,
            waits,
        }
    }

    fn deployment(&self) -> Rollout {
        let conditions = self.0.body.pointer("/status/conditions").and_then(Value::as_array);
        let progressing = conditions.into_iter().flatten().find(|condition| condition["type"] == "Progressing");
        let on_its_way = progressing.is_some_and(|condition| condition["reason"] != "NewReplicaSetAvailable");
        let (stale, updated) = (self.is_stale(), self.number("/status/updatedReplicas"));
        let is_first = self.0.generation() <= 1;
        Rollout {
            members: self.wanted(),
            updated: if stale { 0 } else { updated },
            ready: self.number("/status/readyReplicas"),
            rolling: self.number("/status/replicas") > updated || on_its_way && !is_first,
            stale,
            waits: Vec::new(),
        }
    }

    fn on_every_node(&self) -> Rollout {
        let (members, updated) =
            (self.number("/status/desiredNumberScheduled"), self.number("/status/updatedNumberScheduled"));
        let on_delete = self.text("/spec/updateStrategy/type") == "OnDelete";
        let stale = self.is_stale();
        let is_first = self.0.generation() <= 1;
        let name = &self.0.name;
        let waits = (on_delete && updated < members)
            .then(|| format!("{name} replaces pods only when they are deleted (updateStrategy OnDelete)"));
        Rollout {
            members,
            updated: if stale { 0 } else { updated },
            ready: self.number("/status/numberReady"),
            rolling: !on_delete && !is_first && updated < members,
            stale,
            waits: waits.into_iter().collect(),
        }
    }

    /// Whether its controller has yet to see its newest generation. One that it has never seen is new, and rolls nothing out.
    fn is_stale(&self) -> bool {
        let observed = self.0.body.pointer("/status/observedGeneration").and_then(Value::as_i64);
        observed.is_some_and(|observed| observed < self.0.generation())
    }

    fn wanted(&self) -> i32 {
        let replicas = self.0.body.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1);
        i32::try_from(replicas).unwrap_or(0)
    }

    fn number(&self, pointer: &str) -> i32 {
        let number = self.0.body.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
        i32::try_from(number).unwrap_or(0)
    }

    fn text(&self, pointer: &str) -> &str {
        self.0.body.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }
}

/// The revision of its set that a pod runs.
fn revision(pod: &Live) -> Option<&str> {
    pod.body.pointer("/metadata/labels/controller-revision-hash")?.as_str()
}

fn controlled_by(pod: &Live, uid: &str) -> bool {
    let owners = pod.body.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    owners.into_iter().flatten().any(|owner| owner["controller"] == true && owner["uid"] == uid)
}

/// Until when containers that kept exiting may do so again: a run counts as better only when it has outlasted the one before.
pub fn unsteady_until(objects: &[Object]) -> Option<Timestamp> {
    let pods = objects.iter().filter(|(kind, live)| is_pod(kind) && !live.terminating());
    let containers = pods.filter_map(|(_, pod)| pod.body.pointer("/status/containerStatuses")?.as_array()).flatten();
    containers.filter_map(outlasts).max()
}

fn outlasts(container: &Value) -> Option<Timestamp> {
    let time = |pointer: &str| container.pointer(pointer)?.as_str()?.parse::<Timestamp>().ok();
    if container["restartCount"].as_i64().unwrap_or(0) < 2 {
        return None; // one exit is not yet a series
    }
    let last = time("/lastState/terminated/finishedAt")?.duration_since(time("/lastState/terminated/startedAt")?);
    let longest = SignedDuration::try_from(limits::STEADY_AFTER_MAX).ok()?;
    let last = std::time::Duration::try_from(last).ok().filter(|_| last < longest)?;
    Some(later(time("/state/running/startedAt")?, last + limits::STEADY_AFTER))
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use atomix_model::object::Trim;
    use serde_json::json;

    fn object(kind: &str, mut value: Value) -> Object {
        let group = if kind == "Pod" { "" } else { "apps" };
        let kind = Kind { group: group.into(), version: "v1".into(), kind: kind.into(), plural: String::new() };
        let trim = Trim::whole(reads(&kind).iter().map(|pointer| (*pointer).to_owned()));
        for (field, text) in [("namespace", "n"), ("uid", "u"), ("resourceVersion", "1")] {
            if value["metadata"][field].is_null() {
                value["metadata"][field] = text.into();
            }
        }
        let live = trim.live(&kind, value).unwrap();
        (kind, Arc::new(live))
    }

    /// A set of three: generation and what of it was observed, revisions current and newest, how many are updated and ready.
    fn set(generations: [i64; 2], revisions: [&str; 2], numbers: [i32; 2], strategy: Value) -> Object {
        object(
            "StatefulSet",
            json!({"metadata": {"name": "s", "generation": generations[0]}, "spec": {"replicas": 3, "updateStrategy": strategy},
                "status": {"observedGeneration": generations[1], "replicas": 3, "currentRevision": revisions[0],
                    "updateRevision": revisions[1], "updatedReplicas": numbers[0], "readyReplicas": numbers[1]}}),
        )
    }

    fn pod(name: &str, revision: &str) -> Object {
        object(
            "Pod",
            json!({"metadata": {"name": name, "labels": {"controller-revision-hash": revision},
                "ownerReferences": [{"controller": true, "uid": "u"}]}}),
        )
    }

    #[test]
    fn a_set_rolls_from_the_write_of_its_template_until_its_last_pod_is_back() {
        let rolling = json!({"type": "RollingUpdate"});
        for (set, expected) in [
            (set([1, 1], ["a", "a"], [3, 3], rolling.clone()), (3, false)),
            (set([2, 1], ["a", "a"], [3, 3], rolling.clone()), (0, true)),
            (set([2, 2], ["a", "b"], [1, 2], rolling.clone()), (1, true)),
            (set([2, 2], ["a", "b"], [3, 2], rolling.clone()), (3, true)),
            (set([2, 2], ["b", "b"], [3, 3], rolling.clone()), (3, false)),
            (set([2, 2], ["b", "b"], [2, 2], rolling.clone()), (2, false)),
        ] {
            let all = of(std::slice::from_ref(&set));
            assert_eq!((all.updated, all.rolling || all.stale), expected, "{set:?}");
        }
        let fresh = object("StatefulSet", json!({"metadata": {"name": "s", "generation": 1}, "spec": {"replicas": 3}}));
        let fresh = of(&[fresh]);
        assert!(!fresh.rolling && !fresh.stale, "what is new rolls nothing out");
        let unseen = object("StatefulSet", json!({"metadata": {"name": "s", "generation": 1}, "spec": {"replicas": 3}}));
        let early = of(&[unseen, pod("s-0", "a")]);
        assert!(!early.rolling && !early.stale, "nor does it when a pod is seen before its status");
    }

    #[test]
    fn pods_show_what_a_set_alone_does_not() {
        let rolling = json!({"type": "RollingUpdate"});
        let back = [set([3, 3], ["a", "a"], [2, 3], rolling), pod("s-0", "a"), pod("s-1", "a"), pod("s-2", "b")];
        let all = of(&back);
        assert_eq!((all.updated, all.rolling), (2, true), "an edit that was taken back");
        let on_delete = json!({"type": "OnDelete"});
        let waits = [set([2, 2], ["a", "b"], [1, 3], on_delete.clone()), pod("s-0", "a"), pod("s-1", "a"), pod("s-2", "b")];
        let all = of(&waits);
        assert_eq!((all.updated, all.rolling, all.waits.len()), (1, false, 1));
        assert!(all.waits[0].contains("s replaces pods only when they are deleted"), "{all:?}");
        let done = [set([2, 2], ["a", "b"], [3, 3], on_delete), pod("s-0", "b"), pod("s-1", "b"), pod("s-2", "b")];
        assert_eq!(of(&done).waits.len(), 0, "a set of this kind never reports that it is done");
    }

    #[test]
    fn a_set_that_is_held_still_rolls_and_reports_it() {
        let held = set([2, 2], ["a", "b"], [0, 3], json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 3}}));
        let all = of(&[held]);
        assert_eq!((all.rolling, all.waits), (true, vec!["s waits its turn (partition 3)".to_owned()]));
    }

    #[test]
    fn deployments_and_daemon_sets_report_it_in_fields_of_their_own() {
        let deployment = |generation: i64, reason: &str, [replicas, updated, ready]: [i32; 3]| {
            let status = json!({"observedGeneration": generation, "replicas": replicas, "updatedReplicas": updated, "readyReplicas": ready,
                "conditions": [{"type": "Progressing", "status": "True", "reason": reason}]});
            let it = json!({"metadata": {"name": "d", "generation": generation}, "spec": {"replicas": 2}, "status": status});
            of(&[object("Deployment", it)])
        };
        assert!(!deployment(1, "ReplicaSetUpdated", [2, 2, 0]).rolling, "the first");
        assert!(deployment(2, "ReplicaSetUpdated", [0, 0, 0]).rolling, "its pods are gone before the next come");
        assert!(deployment(2, "ReplicaSetUpdated", [3, 1, 2]).rolling);
        assert!(!deployment(2, "NewReplicaSetAvailable", [2, 2, 1]).rolling, "one is lost, long after");
        let daemons = |updated: i32| {
            let status = json!({"observedGeneration": 2, "desiredNumberScheduled": 3, "updatedNumberScheduled": updated, "numberReady": 3});
            of(&[object("DaemonSet", json!({"metadata": {"name": "d", "generation": 2}, "spec": {}, "status": status}))])
        };
        assert_eq!((daemons(1).rolling, daemons(1).members, daemons(3).rolling), (true, 3, false));
    }

    #[test]
    fn a_container_that_kept_exiting_must_outlast_its_last_run() {
        let pod = |restarts: i64, ended: &str| {
            let container = json!({"restartCount": restarts, "state": {"running": {"startedAt": "2026-01-01T01:00:00Z"}},
                "lastState": {"terminated": {"startedAt": "2026-01-01T00:00:00Z", "finishedAt": ended}}});
            object("Pod", json!({"metadata": {"name": "p"}, "status": {"containerStatuses": [container]}}))
        };
        let until = |restarts, ended| unsteady_until(&[pod(restarts, ended)]);
        assert_eq!(until(1, "2026-01-01T00:00:40Z"), None);
        assert_eq!(until(5, "2026-01-01T00:00:40Z"), Some("2026-01-01T01:00:45Z".parse().unwrap()));
        assert_eq!(until(5, "2026-01-01T00:50:00Z"), None, "it had run for long");
    }
}
