//! EtcdStorageClass: what a user writes, and what can be wrong with it. Knows no database.

use atomix_sdk::{FieldError, ImagePullPolicy, check_image, field_error};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Each partition is an etcd cluster of its own, whatever the database says of partitions that share one. It answers while more than
/// half of its members do.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EtcdClass {
    /// Members of each cluster: 1, 3, 5, 7 or 9. It is fixed once a cluster has started.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 9))]
    pub replicas: u32,

    /// Image of the members.
    #[serde(default = "image")]
    pub image: String,

    /// When the image is pulled: Always, IfNotPresent or Never.
    #[serde(default)]
    pub image_pull_policy: ImagePullPolicy,

    /// How old revisions are dropped: periodic (those older than autoCompactionRetention says) or revision (all but the latest so
    /// many). Without it, periodic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "CompactionMode")]
    pub auto_compaction_mode: Option<CompactionMode>,

    /// How much history is kept: a duration like 1h or 30m, or a number of revisions in mode revision. Without it, all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub auto_compaction_retention: Option<String>,

    /// Bytes that a member's database may have; beyond them it takes no more writes. Without it, etcd's default of 2 GiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1))] // any whole number, in the schema of a definition
    pub quota_backend_bytes: Option<u64>,

    /// Clients connect over TLS. Without it, in plain text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ClientTls")]
    pub client_tls: Option<ClientTls>,

    /// Members connect to each other over TLS, each with the same certificate, which is asked of all. Without it, in plain text.
    /// Whether they do is fixed once a cluster has started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "PeerTls")]
    pub peer_tls: Option<PeerTls>,
}

/// How old revisions are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
#[allow(missing_docs)] // etcd's own words
pub enum CompactionMode {
    Periodic,
    Revision,
}

impl CompactionMode {
    /// As a flag has it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Periodic => "periodic",
            Self::Revision => "revision",
        }
    }
}

/// How clients connect.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct ClientTls {
    /// Secret in the database's namespace with the certificate of the members, tls.crt and tls.key, and, if clients need one too, that
    /// of the authority which signs theirs, ca.crt.
    pub secret_name: String,

    /// Whether clients need a certificate, signed by the authority in the Secret.
    #[serde(default)]
    pub client_cert_auth: bool,
}

/// How members connect to each other.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct PeerTls {
    /// Secret in the database's namespace with the certificate of the members, tls.crt and tls.key, and that of the authority which
    /// signed it, ca.crt.
    pub secret_name: String,
}

/// What the schema cannot say.
pub fn check(class: &EtcdClass) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut wrong = |path: &str, message: String| errors.push(field_error(path, message));
    match class.replicas {
        1 | 3 | 5 | 7 | 9 => {}
        // Refused rather than warned of, as it could not be mended once a cluster has started.
        even @ (2 | 4 | 6 | 8) => {
            let spare = (even - 1) / 2;
            wrong(
                "spec.replicas",
                format!("{even} members can lose {spare}, no more than {} can; 1, 3, 5, 7 or 9 are accepted", even - 1),
            );
        }
        other => wrong("spec.replicas", format!("{other} members; 1, 3, 5, 7 or 9 are accepted")),
    }
    check_image("spec.image", &class.image, &image(), &mut wrong);
    match (&class.auto_compaction_mode, &class.auto_compaction_retention) {
        (Some(_), None) => wrong("spec.autoCompactionRetention", "missing; without it nothing is dropped".to_owned()),
        (Some(CompactionMode::Revision), Some(kept)) if !is_number(kept) => {
            wrong("spec.autoCompactionRetention", format!("{kept:?}; a number of revisions is expected"));
        }
        (None | Some(CompactionMode::Periodic), Some(kept)) if !is_duration(kept) => {
            wrong("spec.autoCompactionRetention", format!("{kept:?}; a duration like 1h or 30m is expected"));
        }
        _ => {}
    }
    if let Some(bytes) = class.quota_backend_bytes.filter(|bytes| !(1..=QUOTA_MAX).contains(bytes)) {
        wrong("spec.quotaBackendBytes", format!("{bytes}; 1 to {QUOTA_MAX} are accepted"));
    }
    let secrets = [
        ("spec.clientTls.secretName", class.client_tls.as_ref().map(|tls| &tls.secret_name)),
        ("spec.peerTls.secretName", class.peer_tls.as_ref().map(|tls| &tls.secret_name)),
    ];
    for (path, name) in secrets {
        if let Some(name) = name.filter(|name| !is_secret(name)) {
            wrong(path, format!("{name:?}; the name of a Secret is expected"));
        }
    }
    errors
}

/// Most that an API server takes as an integer.
const QUOTA_MAX: u64 = i64::MAX as u64;

fn is_number(text: &str) -> bool {
    (1..=18).contains(&text.len()) && text.bytes().all(|digit| digit.is_ascii_digit())
}

/// Whole numbers with units, as Go reads them: 1h, 1h30m, 90s.
fn is_duration(text: &str) -> bool {
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let Some((number, more)) = rest.split_at_checked(digits).filter(|(number, _)| is_number(number)) else {
            return false;
        };
        let Some(more) = ["h", "ms", "m", "s"].iter().find_map(|unit| more.strip_prefix(unit)) else {
            return false;
        };
        if number.len() > 9 {
            return false;
        }
        rest = more;
    }
    !text.is_empty()
}

/// A DNS subdomain, as far as it matters here.
fn is_secret(name: &str) -> bool {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-' || c == b'.';
    (1..=253).contains(&name.len())
        && name.bytes().all(inner)
        && !name.starts_with(['-', '.'])
        && !name.ends_with(['-', '.'])
}

fn three() -> u32 {
    3
}

fn image() -> String {
    "quay.io/coreos/etcd:v3.6.8".to_owned()
}

#[cfg(test)]
mod tests {
    use super::is_duration;

    #[test]
    fn durations_are_those_that_go_reads() {
        for good in ["1h", "30m", "1h30m", "90s", "500ms"] {
            assert!(is_duration(good), "{good}");
        }
        for bad in ["", "1", "h", "1d", "1 h", "-1h", "1h30", "9999999999h", "1hé"] {
            assert!(!is_duration(bad), "{bad}");
        }
    }
}
