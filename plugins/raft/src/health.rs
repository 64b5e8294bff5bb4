//! How a cluster goes, from its pods and claims, and why a member is missing. Messages hold nothing that changes by itself, such as
//! times: a settled cluster must not be reported anew.

use atomix_sdk::{Live, Reason, Seen, Value, reason};

use crate::class::RaftClass;
use crate::running::Running;

/// Fields of Pods that decide.
pub const POD_FIELDS: [&str; 4] = ["/status/conditions", "/status/containerStatuses", "/status/phase", "/status/reason"];

/// How a cluster goes.
pub struct Health {
    /// Whether a quorum of its members is ready.
    pub ready: bool,
    /// What is missing, if a member is.
    pub problem: Option<Reason>,
}

/// Looks at each member of the cluster `name`.
pub fn of(seen: &Seen<RaftClass>, name: &str, running: &Running) -> Health {
    let members = (0..running.replicas).map(|i| member(seen, &format!("{name}-{i}"), running));
    let missing: Vec<Missing> = members.filter_map(Result::err).collect();
    let (all, ready) = (running.replicas, running.replicas - missing.len() as u32);
    let count = format!("{ready} of {all} members of {name} are ready");
    let known = missing.iter().find_map(|missing| missing.0.as_ref());
    let problem = match (missing.is_empty(), known) {
        (true, _) => None,
        (false, Some((code, why))) => Some(reason(code.clone(), format!("{count}: {why}"))),
        (false, None) => Some(reason("MembersNotReady", count)),
    };
    Health { ready: ready > all / 2, problem }
}

/// A member that is not ready, and the cause if it shows one: a code and half a sentence.
struct Missing(Option<(String, String)>);

fn member(seen: &Seen<RaftClass>, name: &str, running: &Running) -> Result<(), Missing> {
    let because = |code: &str, why: String| Err(Missing(Some((code.to_owned(), format!("{name}: {why}")))));
    let claim = running.claim.as_ref().map(|claim| format!("{}-{name}", claim.name()));
    let pod = seen.object("Pod", name);
    if pod.is_some_and(is_ready) {
        return Ok(());
    }
    if let Some(claim) = claim.and_then(|claim| seen.object("PersistentVolumeClaim", &claim)) {
        match claim.text("/status/phase").as_deref() {
            Some("Bound") => {}
            Some("Lost") => return because("ClaimLost", format!("claim {} has lost its volume", claim.name())),
            _ => return because("ClaimPending", format!("claim {} is pending", claim.name())),
        }
    }
    let Some(pod) = pod.filter(|pod| !pod.terminating()) else {
        return Err(Missing(None));
    };
    if pod.text("/status/phase").as_deref() == Some("Failed") {
        let code = pod.text("/status/reason").filter(|code| is_word(code)).unwrap_or_else(|| "PodFailed".to_owned());
        return because(&code, "its pod has failed".to_owned());
    }
    let conditions: Vec<Value> = pod.field("/status/conditions").unwrap_or_default();
    let scheduled =
        conditions.iter().find(|condition| condition["type"] == "PodScheduled" && condition["status"] == "False");
    if let Some((code, message)) = scheduled.and_then(words) {
        return because(&code, message);
    }
    let containers: Vec<Value> = pod.field("/status/containerStatuses").unwrap_or_default();
    for container in &containers {
        let waiting = &container["state"]["waiting"];
        let Some(code) = waiting["reason"].as_str().filter(|code| is_word(code)) else {
            continue;
        };
        let image = seen.class.image.as_str();
        match code {
            "ContainerCreating" | "PodInitializing" => {} // on its way
            // Two names for one state, which alternate.
            "ErrImagePull" | "ImagePullBackOff" => {
                return because("ImagePullBackOff", format!("image {image} cannot be pulled"));
            }
            "CrashLoopBackOff" => {
                let code = container["lastState"]["terminated"]["exitCode"].as_i64();
                let exit = code.map_or(String::new(), |code| format!(" with exit code {code}"));
                return because("CrashLoopBackOff", format!("its container keeps exiting{exit}"));
            }
            other => {
                return because(
                    other,
                    words(waiting).map_or_else(|| "its container cannot start".to_owned(), |(_, why)| why),
                );
            }
        }
    }
    Err(Missing(None))
}

fn is_ready(pod: &Live) -> bool {
    let conditions: Vec<Value> = pod.field("/status/conditions").unwrap_or_default();
    !pod.terminating() && conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// Reason and message of a condition or a waiting state.
fn words(of: &Value) -> Option<(String, String)> {
    let code = of["reason"].as_str().filter(|code| is_word(code))?;
    Some((code.to_owned(), of["message"].as_str().unwrap_or("no message").chars().take(MESSAGE_CHARS_MAX).collect()))
}

const MESSAGE_CHARS_MAX: usize = 512;

fn is_word(code: &str) -> bool {
    code.starts_with(|c: char| c.is_ascii_alphabetic()) && code.chars().all(|c| c.is_ascii_alphanumeric()) && code.len() < 64
}
