//! How many members are ready, and why one is missing, from their pods and claims. Messages hold nothing that changes by itself, such as times:
//! what is settled must not be reported anew.
//!
//! A cause is what Kubernetes does not get over by itself within moments. A member without one is on its way, as far as its pod and its
//! claim show: the controller then looks for a cause where only it can, in Events.

use serde_json::Value;

use crate::claim::CLAIM_FIELD;
use crate::code::{self, is_code};
use crate::members::Members;
use crate::{Live, Reason, reason};

/// Fields of Pods that decide; a plugin that asks for [`Members::health`] watches Pods with these.
pub const POD_FIELDS: [&str; 6] = [
    "/status/conditions",
    "/status/containerStatuses",
    "/status/initContainerStatuses",
    "/status/message",
    "/status/phase",
    "/status/reason",
];

/// What stands before the random end of a pod's name; names longer than this are cut.
const POD_NAME_BEGIN_CHARS: usize = 58;
/// The longest text of Kubernetes or of a container in a message; a condition's message holds those of several members.
const MESSAGE_CHARS_MAX: usize = 512;
/// Part of the scheduler's message about a pod whose claim is not bound yet: the cause is the claim's, if there is one.
const CLAIM_COMES_FIRST: &str = "unbound immediate PersistentVolumeClaims";
/// Restarts from which a container counts as one that keeps exiting, as the kubelet, which starts it at once after the first exit only.
const RESTARTS_OF_A_LOOP: u64 = 2;

/// How many members are ready, and why others are not.
#[derive(Clone, Debug)]
pub struct Health {
    /// The number of members that there should be.
    pub all: u32,
    /// The number of members that are ready.
    pub ready: u32,
    /// Why members are missing, if some are.
    pub problem: Option<Reason>,
}

impl Health {
    /// Whether more than half of the members are ready.
    pub fn quorum(&self) -> bool {
        self.ready > self.all / 2
    }
}

impl<C> Members<'_, C> {
    /// Looks at each of `replicas` members of a StatefulSet.
    pub fn health(&self, replicas: u32) -> Health {
        let claim_of = |member: &str| {
            let name = format!("{}-{member}", self.claim?.name());
            self.seen.object("PersistentVolumeClaim", &name)
        };
        let (mut ready, mut missing) = (0, Missing::default());
        for member in self.names(replicas) {
            match missing_member(self.seen.object("Pod", &member), claim_of(&member)) {
                None => ready += 1,
                Some(other) => missing.or(other.of(&member)),
            }
        }
        self.health_with(replicas, ready, missing)
    }

    /// Looks at the pods of a Deployment, one of which is needed, whatever the end of its name.
    pub fn health_of_any(&self) -> Health {
        let (mut ready, mut missing) = (0, Missing::default());
        let begin = &self.name[..self.name.len().min(POD_NAME_BEGIN_CHARS)];
        let pods = self.seen.objects("Pod");
        let first = pods.partition_point(|pod| pod.name() < begin);
        for pod in pods[first..].iter().take_while(|pod| pod.name().starts_with(begin)) {
            match missing_member(Some(pod), None) {
                None => ready = 1,
                Some(other) => missing.or(other.of(pod.name())),
            }
        }
        self.health_with(1, ready, missing)
    }

    fn health_with(&self, all: u32, ready: u32, missing: Missing) -> Health {
        let count = format!("{ready} of {all} members of {} are ready", self.name);
        let problem = match missing {
            _ if ready == all => None,
            Missing::Explained(code, why) => Some(reason(code, format!("{count}: {why}"))),
            Missing::Unexplained(None) => Some(reason(code::MEMBERS_NOT_READY, count)),
            Missing::Unexplained(Some(why)) => Some(reason(code::MEMBERS_NOT_READY, format!("{count}: {why}"))),
        };
        Health { all, ready, problem }
    }
}

/// Why a member is missing.
enum Missing {
    /// It may become ready by itself; what it waits for, if that is known.
    Unexplained(Option<String>),
    /// The code and the message of a cause.
    Explained(String, String),
}

impl Default for Missing {
    fn default() -> Self {
        Missing::Unexplained(None)
    }
}

impl Missing {
    fn explained(code: &str, why: String) -> Option<Missing> {
        Some(Missing::Explained(code.to_owned(), why))
    }

    /// The same with the name of the member before it.
    fn of(self, member: &str) -> Missing {
        match self {
            Missing::Unexplained(why) => Missing::Unexplained(why.map(|why| format!("{member}: {why}"))),
            Missing::Explained(code, why) => Missing::Explained(code, format!("{member}: {why}")),
        }
    }

    /// Replaces it by another that explains more; of two that explain as much the first stays.
    fn or(&mut self, other: Missing) {
        if matches!((&*self, &other), (Missing::Unexplained(_), Missing::Explained(..)) | (Missing::Unexplained(None), _)) {
            *self = other;
        }
    }
}

/// Why a member is missing; None if it is ready.
fn missing_member(pod: Option<&Live>, claim: Option<&Live>) -> Option<Missing> {
    let conditions: Vec<Value> = pod.and_then(|pod| pod.field("/status/conditions")).unwrap_or_default();
    let condition = |type_: &str, status: &str| conditions.iter().find(|it| it["type"] == type_ && it["status"] == status);
    let pod = pod.filter(|pod| !pod.terminating());
    if pod.is_some() && condition("Ready", "True").is_some() {
        return None;
    }
    let mut waits_for = None;
    if let Some(claim) = claim {
        match claim.text(CLAIM_FIELD).as_deref() {
            Some("Bound") => {}
            Some("Lost") => {
                return Missing::explained(code::CLAIM_LOST, format!("claim {} has lost its volume", claim.name()));
            }
            _ => waits_for = Some(format!("claim {} is pending", claim.name())),
        }
    }
    let Some(pod) = pod else { return Some(Missing::Unexplained(waits_for)) };
    let containers = |field: &str| -> Vec<Value> { pod.field(field).unwrap_or_default() };
    let (first, rest) = (containers("/status/initContainerStatuses"), containers("/status/containerStatuses"));
    if pod.text("/status/phase").as_deref() == Some("Failed") {
        let exit_of_any = first.iter().chain(&rest).find_map(|container| exit(container, &container["state"]["terminated"]));
        let code = pod.text("/status/reason").filter(|code| is_code(code)).unwrap_or_else(|| code::POD_FAILED.to_owned());
        let why = match (pod.text("/status/message"), exit_of_any) {
            (Some(message), _) => clean(&message),
            (None, Some((_, why))) => why,
            (None, None) => String::new(),
        };
        let colon = if why.is_empty() { "" } else { ": " };
        return Missing::explained(&code, format!("its pod has failed{colon}{why}"));
    }
    if let Some((code, message)) = condition("PodScheduled", "False").and_then(reason_of)
        && !(waits_for.is_some() && message.contains(CLAIM_COMES_FIRST))
    {
        return Missing::explained(&code, message);
    }
    // When the pod became what it is, not ready: times of Kubernetes compare as text.
    let since = condition("Ready", "False").and_then(|ready| ready["lastTransitionTime"].as_str()).unwrap_or_default();
    let first = first.iter().filter(|it| it["ready"] != true && it["state"]["terminated"]["exitCode"] != 0);
    if let Some((code, why)) = first.chain(&rest).find_map(|container| why_not_ready(container, since)) {
        return Missing::explained(&code, why);
    }
    // A gate that another program opens: all else of this condition shows in the containers.
    let gate = condition("Ready", "False").filter(|ready| ready["reason"] == "ReadinessGatesNotReady");
    if let Some((code, message)) = gate.and_then(reason_of) {
        return Missing::explained(&code, message);
    }
    Some(Missing::Unexplained(waits_for))
}

/// Why a container does not run, or does not become ready; None if that may come by itself. `since` is when its pod became not ready.
fn why_not_ready(container: &Value, since: &str) -> Option<(String, String)> {
    let (state, last) = (&container["state"], &container["lastState"]["terminated"]);
    let waiting = &state["waiting"];
    match waiting["reason"].as_str().filter(|code| is_code(code)) {
        Some("ContainerCreating" | "PodInitializing") | None => {}
        // Two names for one state, which alternate.
        Some("ErrImagePull" | code::IMAGE_PULL_BACK_OFF) => {
            let image = container["image"].as_str().map(clean).unwrap_or_default();
            return Some((code::IMAGE_PULL_BACK_OFF.to_owned(), format!("image {image} cannot be pulled")));
        }
        Some(code::CRASH_LOOP_BACK_OFF) => return exit(container, last).or_else(|| reason_of(waiting)),
        Some(other) => {
            return reason_of(waiting).or_else(|| Some((other.to_owned(), "its container cannot start".to_owned())));
        }
    }
    if !state["terminated"].is_null() {
        return exit(container, &state["terminated"]);
    }
    // It runs after an exit. One that has been ready since then has lost that for another reason.
    let started = state["running"]["startedAt"].as_str().unwrap_or_default();
    let again = container["ready"] != true && !last.is_null() && (since <= started || started.is_empty());
    if again { exit(container, last) } else { None }
}

/// Code and message of a container's exit, which stay the same through all restarts.
fn exit(container: &Value, terminated: &Value) -> Option<(String, String)> {
    if terminated.is_null() {
        return None;
    }
    let backs_off = container["state"]["waiting"]["reason"] == code::CRASH_LOOP_BACK_OFF;
    let again = backs_off || container["restartCount"].as_u64() >= Some(RESTARTS_OF_A_LOOP);
    let (mut code, verb) =
        if again { (code::CRASH_LOOP_BACK_OFF, "keeps exiting") } else { (code::CONTAINER_EXITED, "has exited") };
    let mut why = format!("its container {verb}");
    if let Some(exit) = terminated["exitCode"].as_i64() {
        why.push_str(&format!(" with exit code {exit}"));
    }
    match terminated["reason"].as_str() {
        Some(code::OOM_KILLED) => {
            (code, why) = (code::OOM_KILLED, format!("its container {verb}: it used more memory than its limit"))
        }
        None | Some("Error" | "Completed") => {}
        Some(other) => why.push_str(&format!(" ({})", clean(other))),
    }
    if let Some(message) = terminated["message"].as_str().map(clean).filter(|message| !message.is_empty()) {
        why.push_str(": ");
        why.push_str(&message);
    }
    Some((code.to_owned(), why))
}

/// Reason and message of a condition or of a waiting state.
fn reason_of(of: &Value) -> Option<(String, String)> {
    let code = of["reason"].as_str().filter(|code| is_code(code))?;
    let message = of["message"].as_str().map(clean).filter(|message| !message.is_empty());
    Some((code.to_owned(), message.unwrap_or_else(|| "no message".to_owned())))
}

fn clean(text: &str) -> String {
    one_line(text, MESSAGE_CHARS_MAX)
}

/// A text of another program, as part of one line: without control characters, and cut after so many characters.
pub fn one_line(text: &str, chars_max: usize) -> String {
    let mut out = String::new();
    for word in text.split(|c: char| c.is_control() || c.is_whitespace()).filter(|word| !word.is_empty()) {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
        if out.len() > chars_max {
            return out.chars().take(chars_max).chain("...".chars()).collect();
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{pod, ready, request};
    use crate::{ClaimTemplate, Pods, Seen, json, types};

    fn problem(observed: Vec<types::ObservedObject>) -> (String, String) {
        let mut request = request("C", "db", [1, 1], &json!({}));
        request.observed = observed;
        let claim =
            ClaimTemplate::of(&json!({"volumeClaimTemplate": {"spec": {"resources": {"requests": {"storage": "1Gi"}}}}}));
        let seen = Seen::new(request, ((), Pods::default()));
        let members =
            Members { seen: &seen, cluster: 1, name: "db-1".into(), role: None, memory: None, claim: claim.as_ref() };
        let problem = members.health(1).problem.map(|problem| (problem.code, problem.message));
        problem.unwrap_or_default()
    }

    fn of(status: Value) -> (String, String) {
        problem(vec![pod("db-1-0", &status)])
    }

    /// A container with this status of its own.
    fn container(status: Value) -> (String, String) {
        of(json!({"phase": "Running", "containerStatuses": [status]}))
    }

    fn claim(phase: &str) -> types::ObservedObject {
        types::ObservedObject { kind: "PersistentVolumeClaim".into(), ..pod("data-db-1-0", &json!({"phase": phase})) }
    }

    #[test]
    fn every_cause_that_a_pod_shows_is_named_with_the_message_of_kubernetes() {
        let shown = |status| container(json!({"image": "i:1", "state": {"waiting": status}}));
        let missing = "secret \"s\" not found";
        for (given, code, words) in [
            (
                shown(json!({"reason": "ErrImagePull", "message": "changes"})),
                "ImagePullBackOff",
                "image i:1 cannot be pulled",
            ),
            (
                shown(json!({"reason": "CreateContainerConfigError", "message": missing})),
                "CreateContainerConfigError",
                missing,
            ),
            (shown(json!({"reason": "InvalidImageName"})), "InvalidImageName", "no message"),
            (shown(json!({"reason": "ContainerCreating"})), "MembersNotReady", "0 of 1 members of db-1 are ready"),
            (
                of(json!({"initContainerStatuses": [
                    {"ready": true, "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}},
                    {"ready": false, "image": "init:1", "state": {"waiting": {"reason": "ImagePullBackOff"}}},
                ], "containerStatuses": [{"state": {"waiting": {"reason": "PodInitializing"}}}]})),
                "ImagePullBackOff",
                "image init:1 cannot be pulled",
            ),
            (
                of(json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."})),
                "Evicted",
                "its pod has failed: The node was low on resource: memory.",
            ),
            (
                of(json!({"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": 3}}}]})),
                "PodFailed",
                "its pod has failed: its container has exited with exit code 3",
            ),
            (
                of(json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
                    "message": "Scheduling is blocked due to non-empty scheduling gates"}]})),
                "SchedulingGated",
                "gates",
            ),
            (
                of(json!({"conditions": [{"type": "Ready", "status": "False", "reason": "ReadinessGatesNotReady",
                    "message": "the status of pod readiness gate \"g\" is not \"True\""}]})),
                "ReadinessGatesNotReady",
                "readiness gate \"g\"",
            ),
        ] {
            assert!(given.0 == code && given.1.contains(words), "{given:?} is not {code}: {words}");
        }
    }

    #[test]
    fn a_container_that_keeps_exiting_has_the_same_message_from_one_exit_to_the_next() {
        let exit = json!({"terminated": {"exitCode": 1, "reason": "Error", "message": "no\tsuch\n\u{1b}[1mdirective"}});
        let cycle = [
            json!({"restartCount": 3, "state": exit, "lastState": exit}),
            json!({"restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}}, "lastState": exit}),
            json!({"restartCount": 4, "state": {"running": {"startedAt": "2026-01-01T00:00:40Z"}}, "lastState": exit}),
        ];
        let shown = cycle.map(container);
        assert_eq!(shown[0].0, "CrashLoopBackOff");
        assert!(
            shown[0].1.ends_with("db-1-0: its container keeps exiting with exit code 1: no such [1mdirective"),
            "{shown:?}"
        );
        assert!(shown.iter().all(|it| *it == shown[0]), "{shown:?}");
        let once = container(json!({"restartCount": 1, "state": {"running": {}}, "lastState": exit}));
        assert_eq!(once.0, "ContainerExited");
        let killed = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
        assert_eq!(container(json!({"restartCount": 9, "state": {"running": {}}, "lastState": killed})).0, "OOMKilled");
    }

    #[test]
    fn an_old_exit_is_no_cause_of_what_has_been_ready_since() {
        let shown = |since: &str| {
            let ready = json!([{"type": "Ready", "status": "False", "lastTransitionTime": since}]);
            let container = json!({"restartCount": 3, "state": {"running": {"startedAt": "2026-01-01T00:01:00Z"}},
                "lastState": {"terminated": {"exitCode": 1}}});
            of(json!({"conditions": ready, "containerStatuses": [container]})).0
        };
        assert_eq!(shown("2026-01-01T00:00:59Z"), "CrashLoopBackOff");
        assert_eq!(shown("2026-01-01T09:00:00Z"), "MembersNotReady");
    }

    #[test]
    fn a_claim_that_is_pending_explains_nothing_unless_the_scheduler_has_another_reason() {
        let unscheduled = |message: &str| {
            let condition =
                json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message});
            problem(vec![claim("Pending"), pod("db-1-0", &json!({"conditions": [condition]}))])
        };
        let waits = unscheduled("0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims.");
        assert_eq!(waits.0, "MembersNotReady");
        assert!(waits.1.ends_with("db-1-0: claim data-db-1-0 is pending"), "{waits:?}");
        assert_eq!(unscheduled("0/3 nodes are available: 3 Insufficient cpu.").0, "Unschedulable");
        assert_eq!(problem(vec![claim("Lost"), pod("db-1-0", &json!({}))]).0, "ClaimLost");
        assert_eq!(problem(vec![claim("Lost"), ready("db-1-0")]).0, "");
    }

    #[test]
    fn texts_of_other_programs_are_cut() {
        let long = container(json!({"state": {"waiting": {"reason": "Other", "message": "word ".repeat(1000)}}})).1;
        assert!(long.len() < 700 && long.ends_with("..."), "{long}");
    }
}
