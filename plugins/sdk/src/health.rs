//! How members go, from their pods and claims, and why one is missing. Messages hold nothing that changes by itself, such as times:
//! what is settled must not be reported anew.

use serde_json::Value;

use crate::members::Members;
use crate::{Live, Reason, reason};

/// Fields of Pods that decide; a plugin that asks for [`Members::health`] watches Pods with these.
pub const POD_FIELDS: [&str; 4] = ["/status/conditions", "/status/containerStatuses", "/status/phase", "/status/reason"];
/// Field of PersistentVolumeClaims that decides; a plugin whose members have volumes watches these too.
pub const CLAIM_FIELD: &str = "/status/phase";

/// What stands before the random end of a pod's name; names longer than this are cut.
const POD_NAME_BEGIN_CHARS: usize = 58;

/// How members go.
#[derive(Clone, Debug)]
pub struct Health {
    /// How many there should be.
    pub all: u32,
    /// How many of them are ready.
    pub ready: u32,
    /// What is missing, if a member is.
    pub problem: Option<Reason>,
}

impl Health {
    /// Whether more than half of the members are ready.
    pub fn quorum(&self) -> bool {
        self.ready > self.all / 2
    }
}

impl<C> Members<'_, C> {
    /// Looks at each of `replicas` members of a StatefulSet, which run `image`.
    pub fn health(&self, replicas: u32, image: &str) -> Health {
        let claim_of = |member: &str| {
            let name = format!("{}-{member}", self.claim?.name());
            self.seen.object("PersistentVolumeClaim", &name)
        };
        let (mut ready, mut known) = (0, None);
        for member in self.names(replicas) {
            match look(self.seen.object("Pod", &member), claim_of(&member), image) {
                Ok(()) => ready += 1,
                Err(cause) => known = known.or(named(&member, cause)),
            }
        }
        self.told(replicas, ready, known)
    }

    /// Looks at the pods of a Deployment, one of which is needed, whatever the end of its name.
    pub fn health_of_any(&self, image: &str) -> Health {
        let (mut ready, mut known) = (0, None);
        let begin = &self.name[..self.name.len().min(POD_NAME_BEGIN_CHARS)];
        let pods = self.seen.objects("Pod");
        let first = pods.partition_point(|pod| pod.name() < begin);
        for pod in pods[first..].iter().take_while(|pod| pod.name().starts_with(begin)) {
            match look(Some(pod), None, image) {
                Ok(()) => ready = 1,
                Err(cause) => known = known.or(named(pod.name(), cause)),
            }
        }
        self.told(1, ready, known)
    }

    fn told(&self, all: u32, ready: u32, known: Option<(String, String)>) -> Health {
        let count = format!("{ready} of {all} members of {} are ready", self.name);
        let problem = match known {
            _ if ready == all => None,
            Some((code, why)) => Some(reason(code, format!("{count}: {why}"))),
            None => Some(reason("MembersNotReady", count)),
        };
        Health { all, ready, problem }
    }
}

/// A cause with the name of the member.
fn named(member: &str, Missing(cause): Missing) -> Option<(String, String)> {
    cause.map(|(code, why)| (code, format!("{member}: {why}")))
}

fn look(pod: Option<&Live>, claim: Option<&Live>, image: &str) -> Result<(), Missing> {
    let because = |code: &str, why: String| Err(Missing(Some((code.to_owned(), why))));
    if pod.is_some_and(is_ready) {
        return Ok(());
    }
    if let Some(claim) = claim {
        match claim.text(CLAIM_FIELD).as_deref() {
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

/// A member that is not ready, and the cause if it shows one: a code and half a sentence.
struct Missing(Option<(String, String)>);

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
