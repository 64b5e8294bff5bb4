//! Pods of an earlier revision that keep a StatefulSet from rolling out: members that cannot start, while their set waits for them.
//! Pure: knows no client; time is an argument.
//!
//! A StatefulSet replaces one pod and waits until it is ready; with `Parallel` pods, from Kubernetes 1.35 on, it replaces
//! none while one is unavailable (`stateful_set_control.go`). Members of quorum storage become ready only together. So a set
//! that was made with a setting or an image that cannot run stays broken after that is corrected, until a person deletes its
//! pods. What is deleted here is what that person would delete, and never a member that is up: the set makes the pod again,
//! of its new revision.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use atomix_model::limits;
use atomix_model::object::{Kind, Live, Trim};

/// Fields of pods that decide.
const OF_PODS: [&str; 4] = ["/status/conditions", "/status/containerStatuses", "/status/phase", "/status/startTime"];
/// Fields of StatefulSets that decide, beside the spec.
const OF_SETS: [&str; 2] = ["/status/observedGeneration", "/status/updateRevision"];
/// The label that holds a pod's revision.
const REVISION: &str = "/metadata/labels/controller-revision-hash";

/// What must be kept of StatefulSets and of pods, wherever StatefulSets are watched.
pub fn reads() -> (Trim, Trim) {
    let keep = |fields: &[&str]| Trim { whole: false, reads: fields.iter().map(|field| (*field).to_owned()).collect() };
    (keep(&OF_SETS), keep(&OF_PODS))
}

/// Whether objects of this kind may be stalled.
pub fn is_set(kind: &Kind) -> bool {
    kind.group == "apps" && kind.kind == "StatefulSet"
}

/// What to do about the pods of a set.
#[derive(Debug, Default)]
pub struct Stalled {
    /// Pods to delete, so that their set makes them again.
    pub delete: Vec<Arc<Live>>,
    /// When a pod that may still start has had its time, if one is waited for.
    pub again: Option<Duration>,
}

/// Which of `pods` keep their set from rolling out.
///
/// A pod goes only if it is of another revision than the set's newest, would come back with that one, and is not up:
/// - it was never ready, and none of its containers runs, or what runs has not started within its time. Where its containers run and
///   have started, it goes only if no pod of the set is ready;
/// - or it was ready once, and its container cannot be started again (`CrashLoopBackOff` and the like). While others of the set are
///   ready, one goes at a time, and only if all pods of the newest revision are ready: that revision may be the worse one.
///
/// A set that restarts its pods only when they are deleted (`OnDelete`) keeps what ran once, since data may live in the pod.
pub fn stalled(set: &Live, pods: &[Arc<Live>], now: Timestamp) -> Stalled {
    let text = |pointer: &str| set.body.pointer(pointer).and_then(Value::as_str);
    let observed = set.body.pointer("/status/observedGeneration").and_then(Value::as_i64);
    let Some(newest) = text("/status/updateRevision").filter(|_| observed >= Some(set.generation()) && !set.terminating())
    else {
        return Stalled::default();
    };
    let on_delete = text("/spec/updateStrategy/type") == Some("OnDelete");
    let number = |pointer: &str| set.body.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
    let first_new = number("/spec/ordinals/start") + number("/spec/updateStrategy/rollingUpdate/partition");
    let members: Vec<Member> = pods.iter().filter(|pod| is_of(pod, set)).map(Member::of).collect();
    let is_new = |member: &Member| member.revision == Some(newest);
    let any_ready = members.iter().any(|member| member.ready);
    let new_are_ready = members.iter().filter(|member| is_new(member)).all(|member| member.ready);
    let any_leaving = members.iter().any(|member| member.pod.terminating());
    let mut stalled = Stalled::default();
    for member in &members {
        let comes_back_old = !on_delete && member.ordinal(set).is_none_or(|ordinal| ordinal < first_new);
        if member.revision.is_none() || is_new(member) || member.ready || member.pod.terminating() || comes_back_old {
            continue;
        }
        let goes = match member.running {
            _ if member.was_ready && (on_delete || !member.failing) => false,
            _ if member.was_ready => {
                let alone = stalled.delete.is_empty() && !any_leaving;
                !any_ready || new_are_ready && alone
            }
            None => true,
            Some(_) if on_delete => false,
            Some(running) if running.started && any_ready => false,
            Some(running) => {
                let left = running.left(now);
                stalled.again = left.into_iter().chain(stalled.again).min();
                left.is_none()
            }
        };
        if goes {
            stalled.delete.push(member.pod.clone());
        }
    }
    stalled
}

/// Whether a pod is controlled by a set.
pub(super) fn is_of(pod: &Live, set: &Live) -> bool {
    let owners = pod.body.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    owners.into_iter().flatten().any(|owner| owner["controller"] == json!(true) && owner["uid"] == json!(set.uid))
}

/// A pod, as far as it decides.
pub(super) struct Member<'a> {
    pub pod: &'a Arc<Live>,
    pub revision: Option<&'a str>,
    pub ready: bool,
    /// Since when it has been ready, or not.
    since: Option<Timestamp>,
    /// Whether it was ready at some time, as far as its status shows.
    was_ready: bool,
    /// A container that runs: one that has started, if there is one.
    running: Option<Running>,
    /// Whether the kubelet has reported why a container does not run.
    failing: bool,
}

#[derive(Clone, Copy)]
struct Running {
    started: bool,
    restarted: bool,
    since: Option<Timestamp>,
}

impl Running {
    /// How long it may still take to start.
    fn left(&self, now: Timestamp) -> Option<Duration> {
        let since = self.since.filter(|_| !self.restarted)?;
        let ran = Duration::try_from(now.duration_since(since)).unwrap_or_default();
        limits::MEMBER_START.checked_sub(ran).filter(|left| !left.is_zero())
    }
}

impl<'a> Member<'a> {
    pub fn of(pod: &'a Arc<Live>) -> Member<'a> {
        let list =
            |pointer: &str| pod.body.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let time = |value: Option<&Value>| value.and_then(Value::as_str).and_then(|time| time.parse::<Timestamp>().ok());
        let condition = list("/status/conditions").iter().find(|condition| condition["type"] == "Ready");
        let ready = condition.is_some_and(|condition| condition["status"] == "True");
        // A kubelet sets the condition to False when it takes up the pod; any later transition means that it was True in between.
        let transition = time(condition.and_then(|condition| condition.get("lastTransitionTime")));
        let taken_up = time(pod.body.pointer("/status/startTime"));
        let was_ready = ready
            || match (transition, taken_up) {
                (Some(transition), Some(taken_up)) => transition.duration_since(taken_up).as_secs() > 1,
                (Some(_), None) => true, // nothing is known
                (None, _) => false,
            };
        let containers = list("/status/containerStatuses");
        let running =
            containers.iter().filter(|container| container["state"]["running"].is_object()).map(|container| Running {
                started: container["started"] != json!(false),
                restarted: container["restartCount"].as_u64().unwrap_or(0) > 0,
                since: time(container.pointer("/state/running/startedAt")),
            });
        let on_its_way = ["ContainerCreating", "PodInitializing"];
        let failing = containers.iter().any(|container| {
            container["state"]["waiting"]["reason"].as_str().is_some_and(|reason| !on_its_way.contains(&reason))
        });
        let running = running.max_by_key(|running| running.started);
        let revision = pod.body.pointer(REVISION).and_then(Value::as_str);
        Member { pod, revision, ready, since: transition, was_ready, failing, running }
    }

    /// Whether it is not expected to be ready again by itself: it cannot be scheduled or started, has failed, or has not been ready for long.
    pub fn cannot_come_back(&self, now: Timestamp) -> bool {
        let status = |field: &str| self.pod.body.pointer(&format!("/status/{field}"));
        let conditions = status("conditions").and_then(Value::as_array);
        let mut conditions = conditions.into_iter().flatten();
        let unscheduled = conditions.any(|condition| condition["type"] == "PodScheduled" && condition["status"] == "False");
        let away = self.since.and_then(|since| Duration::try_from(now.duration_since(since)).ok());
        let failed = status("phase").is_some_and(|phase| phase == "Failed");
        self.failing || unscheduled || failed || away.is_some_and(|away| away >= limits::ROLLOUT_WAITS)
    }

    /// Its number in the set.
    fn ordinal(&self, set: &Live) -> Option<u64> {
        self.pod.name.strip_prefix(&set.name)?.strip_prefix('-')?.parse().ok()
    }
}

#[cfg(test)]
#[path = "stalled_rollout_tests.rs"]
mod tests;
