//! EtcdStorageClass: what a user writes, and what can be wrong with it. Knows no database.

use atomix_sdk::{
    Durations, FieldError, INTEGER_MAX, ImagePullPolicy, check_image, check_number, check_secret, field_error,
};
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

/// Names what is wrong with a class beyond what its schema refuses.
pub fn check(class: &EtcdClass) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut wrong = |path: &str, message: String| errors.push(field_error(path, message));
    match class.replicas {
        1 | 3 | 5 | 7 | 9 => {}
        // Refused rather than warned of, as it could not be corrected once a cluster has started.
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
        (None | Some(CompactionMode::Periodic), Some(kept)) => {
            RETENTION.check("spec.autoCompactionRetention", kept, &mut wrong);
        }
        _ => {}
    }
    if let Some(bytes) = class.quota_backend_bytes {
        check_number("spec.quotaBackendBytes", (bytes, ""), 1..=INTEGER_MAX, &mut wrong);
    }
    let secrets = [
        ("spec.clientTls.secretName", class.client_tls.as_ref().map(|tls| &tls.secret_name)),
        ("spec.peerTls.secretName", class.peer_tls.as_ref().map(|tls| &tls.secret_name)),
    ];
    for (path, name) in secrets {
        if let Some(name) = name {
            check_secret(path, name, &mut wrong);
        }
    }
    errors
}

/// How long history is kept in mode periodic.
pub const RETENTION: Durations = Durations::any("1h or 30m");

fn is_number(text: &str) -> bool {
    (1..=18).contains(&text.len()) && text.bytes().all(|digit| digit.is_ascii_digit())
}

fn three() -> u32 {
    3
}

fn image() -> String {
    "quay.io/coreos/etcd:v3.6.8".to_owned()
}
