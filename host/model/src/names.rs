//! Names that stand in objects: labels, annotations, and how a database is identified by them. Knows no other module.

use sha2::{Digest, Sha256};

/// Hash of the manifest as last applied.
pub const HASH: &str = "cloud.atomix.io/hash";
/// Hash of the pod template as last applied; it stands beside [`HASH`], never inside the template.
pub const TEMPLATE_HASH: &str = "cloud.atomix.io/template-hash";
/// On a StatefulSet: UID of an earlier one of its name whose pods are still there; see `apply`.
pub const REPLACES: &str = "cloud.atomix.io/succeeds";
/// On a StatefulSet: until when at most its rollout waits for members that are away.
pub const WAITS_UNTIL: &str = "cloud.atomix.io/waits-until";
/// On a Database: the hash of a held plan that an administrator lets through.
pub const ACCEPT: &str = "cloud.atomix.io/accept";
/// On an object of a kind that Kubernetes itself does not have: "true" if nothing is lost with it, so that a plan of a newer revision may
/// change and delete it unasked.
pub const DISPOSABLE: &str = "cloud.atomix.io/disposable";
/// On a Database: which of its prefixed labels its objects carry too; see [`crate::labels`].
pub const COPY_LABELS: &str = "cloud.atomix.io/copy-labels";
/// On a Database: `orphans`, to take over what an earlier Database of its name left behind.
pub const ADOPT: &str = "cloud.atomix.io/adopt";
/// The one value of [`ADOPT`].
pub const ORPHANS: &str = "orphans";
/// On every object: its database. On Partitions the bare name, which clients of Atomix 4 read there; elsewhere `<name>.<namespace>`.
pub const DATABASE: &str = "cloud.atomix.io/database";
/// On Partitions: the controller, as `<namespace>.<name>`.
pub const CONTROLLER: &str = "cloud.atomix.io/controller";
/// On Partitions: `partition`.
pub const TYPE: &str = "cloud.atomix.io/type";
/// On Partitions: the number.
pub const PARTITION: &str = "cloud.atomix.io/partition";
/// On the Lease of each replica: `true`.
pub const REPLICA: &str = "cloud.atomix.io/replica";
/// On what belongs to the controller: its name.
pub const APP_NAME: &str = "app.kubernetes.io/name";
/// Field manager of all our writes.
pub const MANAGER: &str = "atomix-controller";
/// On Members: the replica of the controller that holds the member's streams.
pub const HELD_BY: &str = "cloud.atomix.io/held-by";
/// Field manager of what is written for gRPC clients, so that no reconcile takes it for its own.
pub const API_MANAGER: &str = "atomix-controller-api";
/// On Databases made through the API: hash of the spec that was asked for.
pub const GROUP_SPEC: &str = "cloud.atomix.io/group-spec";
/// On an object: what in it may be since the class asks for it, so that the policy in `deploy/` lets it pass.
pub const ASKED: &str = "cloud.atomix.io/asked-by-class";
/// Label on a ConfigMap that brings a plugin, and annotation of the definitions of its classes; its value is the plugin's name.
pub const PLUGIN_LABEL: &str = "storage.cloud.atomix.io/plugin";
/// Label on a ConfigMap that keeps a revision of a plugin; its value is the plugin's name.
pub const REVISION_LABEL: &str = "storage.cloud.atomix.io/revision-of";
/// On such a ConfigMap: SHA-256 of the plugin's bytes, in hexadecimal. On one that brings a plugin: the only digest that its bytes may have.
pub const DIGEST: &str = "storage.cloud.atomix.io/digest";
/// On such a ConfigMap: the version that the plugin gives itself.
pub const VERSION: &str = "storage.cloud.atomix.io/version";
/// On a StoragePlugin: digest of the revision that serves, whatever newer bytes there are. On a Database: of the one that plans it. Its first
/// [`REVISION_CHARACTERS_MIN`] characters are enough.
pub const REVISION: &str = "storage.cloud.atomix.io/revision";
/// How much of a digest names a revision: what `kubectl get storageplugins` prints of it.
pub const REVISION_CHARACTERS_MIN: usize = 12;
/// How long a digest is: SHA-256 in hexadecimal.
pub const DIGEST_CHARACTERS: usize = 64;
/// Selects what belongs to databases.
pub const SELECTOR: &str = "app=atomix,database";

/// Whether the value of [`REVISION`] names the revision of this digest.
pub fn names_revision(value: &str, digest: &str) -> bool {
    value.len() >= REVISION_CHARACTERS_MIN && digest.starts_with(value)
}

/// Longest value of a label.
const LABEL_MAX: usize = 63;

/// Value of the label `database` on everything made for a database, but its Partitions: `<name>.<namespace>`, cut and ended by a
/// hash where that is over 63 characters.
pub fn database_label(namespace: &str, name: &str) -> String {
    let whole = format!("{name}.{namespace}");
    if whole.len() <= LABEL_MAX {
        return whole;
    }
    let hash = &hash(whole.as_bytes())[..10];
    format!("{}-{hash}", &whole[..whole.floor_char_boundary(LABEL_MAX - 11)])
}

/// Selects the pods of a database, and all else made for it but its Partitions.
pub fn selector(namespace: &str, name: &str) -> String {
    format!("app=atomix,database={}", database_label(namespace, name))
}

/// Name of the object for something that clients named as they like: upper case, slashes, any alphabet, any length. What can be read
/// of `text` comes first, then a hash of all `parts`, which alone makes it unique. The same parts give the same name for ever; the
/// original stands in the object.
pub fn object_name(text: &str, parts: &[&str]) -> String {
    const READABLE_MAX: usize = 40;
    let mut name = String::new();
    for character in text.chars() {
        let character = character.to_ascii_lowercase();
        let legal = character.is_ascii_lowercase() || character.is_ascii_digit();
        match legal {
            true => name.push(character),
            false if name.ends_with('-') || name.is_empty() => {}
            false => name.push('-'),
        }
        if name.len() >= READABLE_MAX {
            break;
        }
    }
    // Lengths first: no two lists of parts are the same bytes.
    let mut whole = Vec::new();
    for part in parts {
        whole.extend_from_slice(&(part.len() as u64).to_le_bytes());
        whole.extend_from_slice(part.as_bytes());
    }
    let hash = &hash(&whole)[..20];
    match name.trim_end_matches('-') {
        "" => format!("x-{hash}"),
        readable => format!("{readable}-{hash}"),
    }
}

/// Whether Kubernetes takes this as the name of a namespace or a Service: RFC 1123, a label.
pub fn is_label(name: &str) -> bool {
    name.len() <= LABEL_MAX && is_subdomain(name) && !name.contains('.')
}

/// Whether Kubernetes takes this as the name of most objects: RFC 1123, a subdomain.
pub fn is_subdomain(name: &str) -> bool {
    let good = |part: &str| {
        let bytes = part.as_bytes();
        let legal = bytes.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-');
        legal && !part.is_empty() && !part.starts_with('-') && !part.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(good)
}

/// What Kubernetes takes as the name of an object of a kind, if `name` is none. A name becomes part of a request's path, where it would
/// lead elsewhere if it held more than this. Kinds that are not known here have the rule of custom resources.
pub fn expected(group: &str, kind: &str, name: &str) -> Option<String> {
    let (good, chars_max, rule) = match (group, kind) {
        ("", "Service") => (
            is_label(name) && name.starts_with(|first: char| first.is_ascii_lowercase()),
            LABEL_MAX,
            "lower case letters, digits and dashes, the first a letter and the last no dash",
        ),
        ("", "Namespace") => {
            (is_label(name), LABEL_MAX, "lower case letters, digits and dashes, the first and last no dash")
        }
        _ => (
            is_subdomain(name),
            match (group, kind) {
                ("batch", "CronJob") => 52, // its Jobs' names end in 11 characters more
                ("apps", "StatefulSet") | ("batch", "Job") => LABEL_MAX, // a label of their pods
                _ => 253,
            },
            "lower case letters, digits, dashes and dots, the first and last of each part a letter or digit",
        ),
    };
    (!good || name.len() > chars_max).then(|| format!("at most {chars_max} characters are expected: {rule}"))
}

/// SHA-256 in hexadecimal, cut to what makes a collision by accident impossible and still fits a label.
pub fn hash(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// Hash of JSON, the same whatever the order of keys.
pub fn hash_json(value: &serde_json::Value) -> String {
    hash(value.to_string().as_bytes()) // serde_json keeps the keys of its maps sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_label_is_cut_and_stays_unique() {
        let (a, b) = (database_label(&"n".repeat(63), "a"), database_label(&"n".repeat(62), "a"));
        assert_eq!(a.len(), 63);
        assert_ne!(a, b);
        assert_eq!(database_label("default", "sample"), "sample.default");
    }

    #[test]
    fn any_name_of_a_client_becomes_a_name_of_kubernetes() {
        let (odd, long) = ("Ä/".repeat(200), "L".repeat(253));
        let names = ["map", "Map", "a/b", "a.b", "", "-", "日本", &odd, "map-", &long]
            .map(|name| object_name(name, &["db", "", name]));
        for (at, name) in names.iter().enumerate() {
            assert!(is_subdomain(name) && name.len() <= 63, "{name}");
            assert!(!names[..at].contains(name), "{name} is there twice");
        }
        assert_eq!(names[0], "map-0afbbde5f323f4e9ad25", "names never change: objects are found by them");
        assert_eq!(names[9], format!("{}-f51f7c7f953c0ef24921", "l".repeat(40)), "nor do long ones");
        assert_ne!(object_name("a", &["ab", "c"]), object_name("a", &["a", "bc"]));
    }

    #[test]
    fn names_that_would_lead_elsewhere_are_none() {
        for bad in ["", "..", "../x", "a/b", "a..b", "A", "-a", "a-", "a%2f", &"a".repeat(254)] {
            assert!(!is_subdomain(bad), "{bad}");
        }
        assert!(is_subdomain("a.b-c") && !is_label("a.b") && is_label("kube-system"));
    }

    #[test]
    fn a_name_is_checked_as_kubernetes_does_for_its_kind() {
        let (long, longer) = ("a".repeat(63), "a".repeat(64));
        for (group, kind, good, bad) in [
            ("", "Service", ["web-1", &long], ["1-web", "web.1"]),
            ("", "ConfigMap", ["1.web", &longer], ["web/status", "../web"]),
            ("apps", "StatefulSet", ["web.1", &long], ["Web", &longer]),
            ("batch", "CronJob", ["web", &"a".repeat(52)], [&"a".repeat(53), "a?dryRun=All"]),
            ("example.com", "Widget", ["a.b", "1"], ["a%2fb", "a#b"]),
        ] {
            for name in good {
                assert_eq!(expected(group, kind, name), None, "{kind} {name}");
            }
            for name in bad.into_iter().chain(["", ".", "..", "a\n", "a b", "a_b", &"a".repeat(254)]) {
                assert!(expected(group, kind, name).is_some(), "{kind} {name}");
            }
        }
    }

    #[test]
    fn the_order_of_keys_does_not_change_a_hash() {
        let (a, b) = (serde_json::json!({"a": 1, "b": 2}), serde_json::json!({"b": 2, "a": 1}));
        assert_eq!(hash_json(&a), hash_json(&b));
    }
}
