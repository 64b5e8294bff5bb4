//! Names that stand in objects: labels, annotations, and how a database is told by them. Knows no other room.

use sha2::{Digest, Sha256};

/// Hash of the manifest as last applied.
pub const HASH: &str = "cloud.atomix.io/hash";
/// Hash of the pod template as last applied; it stands beside [`HASH`], never inside the template.
pub const TEMPLATE_HASH: &str = "cloud.atomix.io/template-hash";
/// On a Database: the hash of a held plan that an administrator lets through.
pub const ACCEPT: &str = "cloud.atomix.io/accept";
/// On every object: the whole name of its database, `<namespace>.<name>` on Partitions and `<name>.<namespace>` elsewhere.
pub const DATABASE: &str = "cloud.atomix.io/database";
/// On Partitions: the namespace and name of the controller.
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
/// Selects what belongs to databases.
pub const SELECTOR: &str = "app=atomix,database";

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
    format!("{}-{hash}", &whole[..LABEL_MAX - 11])
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
    fn the_order_of_keys_does_not_change_a_hash() {
        let (a, b) = (serde_json::json!({"a": 1, "b": 2}), serde_json::json!({"b": 2, "a": 1}));
        assert_eq!(hash_json(&a), hash_json(&b));
    }
}
