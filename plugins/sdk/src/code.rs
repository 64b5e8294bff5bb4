//! Codes of reasons that mean the same whichever plugin gives them. Kubernetes and containers bring others, and each plugin has some of its
//! own.

/// A claim is there under the name of a member's, and holds something else.
pub const CLAIM_OF_ANOTHER: &str = "ClaimOfAnother";
/// A claim has lost its volume.
pub const CLAIM_LOST: &str = "ClaimLost";
/// A container has exited, and starts again at once.
pub const CONTAINER_EXITED: &str = "ContainerExited";
/// A container keeps exiting: the kubelet's own word.
pub const CRASH_LOOP_BACK_OFF: &str = "CrashLoopBackOff";
/// Data go with a pod.
pub const DATA_IN_PODS: &str = "DataInPods";
/// An image cannot be pulled: the kubelet's own word.
pub const IMAGE_PULL_BACK_OFF: &str = "ImagePullBackOff";
/// Members are missing and no cause is known: the controller looks for one in conditions of workloads and in Events.
pub const MEMBERS_NOT_READY: &str = "MembersNotReady";
/// A container used more memory than its limit: the kubelet's own word.
pub const OOM_KILLED: &str = "OOMKilled";
/// A pod has failed, and its status has no reason.
pub const POD_FAILED: &str = "PodFailed";

/// The longest code, far above those of Kubernetes.
const CHARS_MAX: usize = 64;

/// Whether a text of another program can stand as a code: one word.
pub fn is_code(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric())
        && text.len() <= CHARS_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_one_word() {
        let long = "a".repeat(64);
        for (text, is_one) in [
            ("OOMKilled", true),
            ("E2BIG", true),
            (&long, true),
            ("", false),
            ("2big", false),
            ("Out of memory", false),
            ("Out_of_memory", false),
            ("é", false),
            (&format!("{long}a"), false),
        ] {
            assert_eq!(is_code(text), is_one, "{text}");
        }
    }
}
