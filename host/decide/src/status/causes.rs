//! Why members are missing where their pods do not show it: what stands in conditions of workloads, and what only Events
//! report. Pure: knows no client and no plugin.

use std::collections::BTreeMap;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use atomix_model::contract::{MEMBERS_NOT_READY, Reason};
use atomix_model::limits;
use atomix_model::message_text;
use atomix_model::object::{Live, Told};

use super::rollout::{Object, is_claim, is_pod, lacks};
use super::{Course, is_cause, later};

/// Part of the scheduler's message about a pod whose claim is to be bound first: the cause is the claim's.
const CLAIM_COMES_FIRST: &str = "unbound immediate PersistentVolumeClaims";
/// Reasons of Events about a pod that is not scheduled yet.
const UNSCHEDULED: [&str; 2] = ["FailedScheduling", "FailedBinding"];
/// Reasons of Events about a pod whose containers have not started yet.
const UNSTARTED: [&str; 6] = [
    "FailedMount",
    "FailedAttachVolume",
    "FailedMapVolume",
    "FailedCreatePodSandBox",
    "FailedCreatePodContainer",
    "NetworkNotReady",
];
/// Reasons of Events that may be of a normal start: they add detail, but that something takes time is no cause.
const DETAILS: [&str; 3] = ["Unhealthy", "ProbeWarning", "ProbeError"];
/// Reasons of Events of type Normal that are a cause: a claim for which no provisioner makes a volume.
const NORMAL_CAUSES: [&str; 1] = ["FailedBinding"];

/// What is missing and why, for each cluster of a database by its label `cluster`; under "" what has no such label.
pub type Causes = BTreeMap<String, Reason>;

/// Causes that the live objects of a database show, and that Events report of those which are not well. `pending` is whether
/// a claim without a volume is a cause by itself by now.
pub fn of<'a>(objects: &'a [Object], events: &[Told], pending: bool, now: Timestamp) -> Causes {
    let mut causes = Causes::new();
    let pods_known = objects.iter().any(|(kind, _)| is_pod(kind));
    let suspect = |(kind, live): &'a Object| Suspect::of(kind, live).filter(|it| !(pods_known && it.has_its_pods));
    let mut suspects: Vec<Suspect> = objects.iter().filter_map(suspect).collect();
    suspects.sort_by(|a, b| (&a.what, &a.live.name).cmp(&(&b.what, &b.live.name)));
    let unbound: Vec<&str> = suspects.iter().filter(|it| it.what == What::Claim).map(|it| it.cluster).collect();
    for suspect in &suspects {
        let of_it: Vec<&Told> = events.iter().filter(|event| suspect.is_concerned(event, pods_known, now)).collect();
        let waits = |event: &&Told| event.message.contains(CLAIM_COMES_FIRST) && unbound.contains(&suspect.cluster);
        let of_it: Vec<&Told> = of_it.into_iter().filter(|event| !waits(event)).collect();
        let Some(cause) = suspect.condition().or_else(|| suspect.cause(&of_it, pending)) else { continue };
        let known = causes.entry(suspect.cluster.to_owned()).or_insert_with(|| cause.clone());
        if !is_cause(known) && is_cause(&cause) {
            *known = cause;
        }
    }
    causes
}

/// A problem to which the plugin gives no cause, with the cause that was found.
pub fn explained(problem: &Reason, cause: &Reason) -> Reason {
    Reason { code: cause.code.clone(), message: format!("{}: {}", problem.message, cause.message) }
}

/// Whether claims that are pending count by now.
pub fn claims_count(course: Course, now: Timestamp) -> Option<Result<(), Timestamp>> {
    let from = later(course.unexplained_since?, limits::CLAIM_PENDING_AFTER);
    Some(if now >= from { Ok(()) } else { Err(from) })
}

/// What kind of object may hold members up, in the order in which they come to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Workload,
    Claim,
    Pod,
}

/// An object that is not well.
struct Suspect<'a> {
    what: What,
    live: &'a Live,
    cluster: &'a str,
    /// Since when, where that is known: earlier Events have another cause.
    since: Option<Timestamp>,
    /// Whether it is a workload whose pods are all there, though not ready.
    has_its_pods: bool,
    scheduled: bool,
    started: bool,
}

impl Suspect<'_> {
    fn of<'a>(kind: &atomix_model::object::Kind, live: &'a Live) -> Option<Suspect<'a>> {
        if live.terminating() {
            return None;
        }
        let cluster = live.body.pointer("/metadata/labels/cluster").and_then(Value::as_str).unwrap_or_default();
        let plain =
            |what| Suspect { what, live, cluster, since: None, has_its_pods: false, scheduled: false, started: false };
        if let Some(lacks) = lacks(kind, live) {
            let has_its_pods = !lacks.pods && failure(live).is_none();
            return (lacks.ready || !has_its_pods).then(|| Suspect { has_its_pods, ..plain(What::Workload) });
        }
        if is_claim(kind) {
            let bound = live.body.pointer("/status/phase").is_some_and(|phase| phase == "Bound");
            return (!bound).then(|| plain(What::Claim));
        }
        if !is_pod(kind) {
            return None;
        }
        let ready = condition(live, "Ready");
        if ready.is_some_and(|ready| ready["status"] == "True") {
            return None;
        }
        let containers = live.body.pointer("/status/containerStatuses").and_then(Value::as_array);
        let has_run = |container: &Value| {
            [&container["state"]["running"], &container["state"]["terminated"], &container["lastState"]["terminated"]]
                .iter()
                .any(|state| !state.is_null())
        };
        Some(Suspect {
            since: ready.and_then(|ready| ready["lastTransitionTime"].as_str()?.parse().ok()),
            scheduled: condition(live, "PodScheduled").is_some_and(|scheduled| scheduled["status"] == "True"),
            started: containers.into_iter().flatten().any(has_run),
            ..plain(What::Pod)
        })
    }

    /// Whether an Event is of what is wrong with it now.
    fn is_concerned(&self, event: &Told, pods_known: bool, now: Timestamp) -> bool {
        let age = now.duration_since(event.last);
        let within = |limit: std::time::Duration| SignedDuration::try_from(limit).is_ok_and(|limit| age <= limit);
        let reason = event.reason.as_str();
        match self.what {
            What::Workload => {
                let its_own = event.uid == self.live.uid;
                let of_its_pods = !pods_known && event.kind == "Pod" || !self.has_its_pods && event.kind == "ReplicaSet";
                (its_own && !self.has_its_pods || of_its_pods && is_named_after(&event.name, &self.live.name))
                    && event.warning
                    && within(limits::EVENT_OF_SET_LASTS)
            }
            What::Claim => event.uid == self.live.uid,
            What::Pod => {
                let late = self.since.is_some_and(|since| later(event.last, limits::EVENTS_AFTER) < since);
                event.uid == self.live.uid
                    && event.warning
                    && !late
                    && !(self.scheduled && UNSCHEDULED.contains(&reason))
                    && !(self.started && UNSTARTED.contains(&reason))
            }
        }
    }

    /// The cause in a condition of a workload.
    fn condition(&self) -> Option<Reason> {
        let failure = failure(self.live).filter(|_| self.what == What::Workload)?;
        let word = failure["reason"].as_str().filter(|reason| !reason.is_empty()).unwrap_or("ReplicaFailure");
        Some(self.reason(word, failure["message"].as_str().unwrap_or_default()))
    }

    /// The cause in its Events. Of several that recur in turn, always the same one.
    fn cause(&self, events: &[&Told], pending: bool) -> Option<Reason> {
        let counts = |event: &&&Told| {
            !DETAILS.contains(&event.reason.as_str()) && (event.warning || NORMAL_CAUSES.contains(&event.reason.as_str()))
        };
        let newest = events.iter().filter(counts).map(|event| event.last).max();
        let together = |event: &&&Told| newest.is_some_and(|newest| later(event.last, limits::EVENTS_TOGETHER) >= newest);
        let cause = events.iter().filter(counts).filter(together).min_by_key(|event| (&event.reason, &event.message));
        if let Some(cause) = cause {
            return Some(self.reason(&cause.reason, &cause.message));
        }
        let more = events.iter().max_by_key(|event| event.last).map(|event| event.message.as_str());
        match (self.what, more) {
            (What::Claim, more) if pending => {
                let phase = format!("claim {} is pending", self.live.name);
                Some(Reason {
                    code: "ClaimPending".to_owned(),
                    message: more.map_or(phase.clone(), |more| format!("{phase}: {more}")),
                })
            }
            (What::Pod, Some(more)) => Some(self.reason(MEMBERS_NOT_READY, more)),
            _ => None,
        }
    }

    fn reason(&self, code: &str, message: &str) -> Reason {
        let message = message_text::line(message, limits::EVENT_MESSAGE_CHARS_MAX);
        Reason { code: code.to_owned(), message: format!("{}: {message}", self.live.name) }
    }
}

/// The condition of a workload whose pods cannot be made.
fn failure(live: &Live) -> Option<&Value> {
    condition(live, "ReplicaFailure").filter(|failure| failure["status"] == "True")
}

fn condition<'a>(live: &'a Live, type_: &str) -> Option<&'a Value> {
    live.body.pointer("/status/conditions")?.as_array()?.iter().find(|condition| condition["type"] == type_)
}

/// Whether a pod, or what makes pods, has the name that a workload gives it.
fn is_named_after(name: &str, workload: &str) -> bool {
    name.strip_prefix(workload).is_some_and(|rest| rest.starts_with('-') && !rest[1..].is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use atomix_model::object::{Kind, Trim};
    use serde_json::json;
    use std::sync::Arc;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    fn object(group: &str, kind: &str, name: &str, mut value: Value) -> Object {
        let kind = Kind { group: group.into(), version: "v1".into(), kind: kind.into(), plural: String::new() };
        let labels = json!({"cluster": "1"});
        value["metadata"] = json!({"name": name, "namespace": "n", "uid": name, "resourceVersion": "1", "labels": labels});
        let trim = Trim::whole(super::super::reads(&kind).iter().map(|pointer| (*pointer).to_owned()));
        let live = trim.live(&kind, value).unwrap();
        (kind, Arc::new(live))
    }

    fn set(replicas: i64) -> Object {
        object("apps", "StatefulSet", "e-1", json!({"spec": {"replicas": 3}, "status": {"replicas": replicas}}))
    }

    fn pod(name: &str, conditions: Value, containers: Value) -> Object {
        object("", "Pod", name, json!({"status": {"conditions": conditions, "containerStatuses": containers}}))
    }

    fn claim(phase: &str) -> Object {
        object("", "PersistentVolumeClaim", "data-e-1-0", json!({"status": {"phase": phase}}))
    }

    fn event(of: &str, reason: &str, message: &str) -> Told {
        let kind = if of.starts_with("data") { "PersistentVolumeClaim" } else { "Pod" };
        let text = str::to_owned;
        Told {
            kind: text(kind),
            name: text(of),
            uid: text(of),
            reason: text(reason),
            message: text(message),
            warning: true,
            last: at(0),
        }
    }

    fn one(objects: &[Object], all: &[Told]) -> Option<(String, String)> {
        of(objects, all, false, at(10)).remove("1").map(|cause| (cause.code, cause.message))
    }

    fn named(code: &str, message: &str) -> Option<(String, String)> {
        Some((code.to_owned(), message.to_owned()))
    }

    #[test]
    fn a_set_that_may_not_make_pods_has_the_cause_in_its_events() {
        let quota = event("e-1", "FailedCreate", "create Pod e-1-0 in set e-1 failed: exceeded quota: team");
        assert_eq!(one(&[set(0)], std::slice::from_ref(&quota)), named("FailedCreate", &format!("e-1: {}", quota.message)));
        assert_eq!(one(&[set(3)], std::slice::from_ref(&quota)), None, "all its pods are there");
        let old = Told { last: at(-5000), ..quota };
        assert_eq!(one(&[set(0)], &[old]), None, "an earlier cause");
        let denied = json!([{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "denied"}]);
        let deployment =
            object("apps", "Deployment", "d", json!({"spec": {}, "status": {"replicas": 1, "conditions": denied}}));
        assert_eq!(one(&[deployment], &[]), named("FailedCreate", "d: denied"));
    }

    #[test]
    fn a_pod_is_held_up_by_what_belongs_to_its_stage() {
        let all = [
            event("e-1-0", "FailedScheduling", "0/3 nodes are available"),
            event("e-1-0", "FailedMount", "secret \"not-there\" not found"),
            event("e-1-0", "Unhealthy", "Readiness probe failed"),
        ];
        let scheduled = json!([{"type": "PodScheduled", "status": "True"}]);
        let mount = named("FailedMount", "e-1-0: secret \"not-there\" not found");
        assert_eq!(one(&[set(3), pod("e-1-0", scheduled.clone(), json!([]))], &all), mount);
        let runs = pod("e-1-0", scheduled.clone(), json!([{"state": {"running": {}}}]));
        assert_eq!(one(&[set(3), runs.clone()], &all), named(MEMBERS_NOT_READY, "e-1-0: Readiness probe failed"));
        let lost = event("e-1-0", "NodeNotReady", "Node is not ready");
        assert_eq!(one(&[runs], &[lost]), named("NodeNotReady", "e-1-0: Node is not ready"));
        let ready = pod("e-1-0", json!([{"type": "Ready", "status": "True"}]), json!([]));
        assert_eq!(one(&[ready], &all), None);
        let since = json!([{"type": "Ready", "status": "False", "lastTransitionTime": at(9).to_string()}]);
        assert_eq!(one(&[pod("e-1-0", since, json!([]))], &all), None, "recorded before it became what it is");
    }

    #[test]
    fn a_claim_comes_before_the_pod_that_waits_for_it() {
        let waits =
            event("e-1-0", "FailedScheduling", "0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims.");
        let fails = event("data-e-1-0", "ProvisioningFailed", "storageclass.storage.k8s.io \"x\" not found");
        let normal = Told { warning: false, ..event("data-e-1-0", "ExternalProvisioning", "waiting for a volume") };
        let without_class = Told { warning: false, ..event("data-e-1-0", "FailedBinding", "no storage class is set") };
        let objects = [set(1), claim("Pending"), pod("e-1-0", json!([]), json!([]))];
        assert_eq!(one(&objects[1..], std::slice::from_ref(&waits)), None, "the claim is on its way");
        let code = |all: &[Told]| one(&objects[1..], all).map(|(code, _)| code);
        assert_eq!(code(&[waits.clone(), fails]).as_deref(), Some("ProvisioningFailed"));
        assert_eq!(code(&[without_class]).as_deref(), Some("FailedBinding"));
        assert_eq!(code(std::slice::from_ref(&normal)), None);
        let late = of(&objects[1..], &[normal], true, at(30)).remove("1").map(|cause| (cause.code, cause.message));
        assert_eq!(late, named("ClaimPending", "claim data-e-1-0 is pending: waiting for a volume"));
        assert_eq!(
            one(&[claim("Bound"), pod("e-1-0", json!([]), json!([]))], &[waits]).map(|it| it.0).as_deref(),
            Some("FailedScheduling")
        );
    }

    #[test]
    fn causes_that_recur_in_turn_are_one() {
        let scheduled = json!([{"type": "PodScheduled", "status": "True"}]);
        let objects = [pod("e-1-0", scheduled.clone(), json!([])), pod("e-1-1", scheduled, json!([]))];
        let at_second = |second, of: &str, reason: &str| Told { last: at(second), ..event(of, reason, reason) };
        let first = [
            at_second(0, "e-1-0", "FailedMount"),
            at_second(9, "e-1-1", "FailedAttachVolume"),
            at_second(5, "e-1-0", "FailedAttachVolume"),
        ];
        let then = [
            at_second(9, "e-1-0", "FailedMount"),
            at_second(5, "e-1-1", "FailedAttachVolume"),
            at_second(1, "e-1-0", "FailedAttachVolume"),
        ];
        assert_eq!(one(&objects, &first), one(&objects, &then));
    }

    #[test]
    fn pods_that_no_plugin_watches_are_known_by_their_names() {
        let pulls = event("e-1-2", "Failed", "failed to pull image");
        assert_eq!(one(&[set(3)], std::slice::from_ref(&pulls)), named("Failed", "e-1: failed to pull image"));
        let other = Told { name: "e-12".into(), uid: "e-12".into(), ..pulls };
        assert_eq!(one(&[set(2)], &[other]), None);
    }
}
