//! Kinds that no plugin may read or write, whatever its ClusterRole grants. Knows no plan and no role.

use crate::crd::{GROUP, STORAGE_GROUP};

/// Kinds that no plugin writes: they would let it read secrets, take rights, fight the controller, or limit and route what is not its
/// database's. An empty plural stands for the whole group. The policy in `deploy/` has the same lists.
const NEVER_WRITTEN: [(&str, &str); 35] = [
    ("", "bindings"),
    ("", "componentstatuses"),
    ("", "endpoints"), // a Service of any address; those of pods are made from its selector
    ("", "events"),
    ("", "limitranges"), // bind everything in the namespace
    ("", "namespaces"),
    ("", "nodes"),
    ("", "persistentvolumes"),
    ("", "pods"), // they do not come back by themselves; and ephemeral ones escape the checks of templates
    ("", "resourcequotas"), // bind everything in the namespace
    ("", "secrets"),
    ("", "serviceaccounts"),
    ("apps", "controllerrevisions"), // what another's pods would be rolled back to
    ("gateway.networking.k8s.io", "backendtlspolicies"),
    ("gateway.networking.k8s.io", "gatewayclasses"),
    ("gateway.networking.k8s.io", "gateways"),
    ("gateway.networking.k8s.io", "listenersets"),
    ("gateway.networking.k8s.io", "referencegrants"), // lets other namespaces in
    ("admissionregistration.k8s.io", ""),
    ("apiextensions.k8s.io", ""),
    ("apiregistration.k8s.io", ""),
    ("authentication.k8s.io", ""),
    ("authorization.k8s.io", ""),
    ("certificates.k8s.io", ""),
    ("coordination.k8s.io", ""),
    ("discovery.k8s.io", ""), // a Service of any address
    ("events.k8s.io", ""),
    ("flowcontrol.apiserver.k8s.io", ""),
    ("node.k8s.io", ""),
    ("rbac.authorization.k8s.io", ""),
    ("resource.k8s.io", ""),
    ("scheduling.k8s.io", ""),
    ("storage.k8s.io", ""),
    (GROUP, ""),
    (STORAGE_GROUP, ""),
];

/// Kinds of the table above that the controller itself writes, so that the policy in `deploy/` has a rule of its own for them.
#[cfg(test)]
const OWN_WRITES: [(&str, &str); 6] =
    [("", "events"), ("", "pods"), ("coordination.k8s.io", ""), ("events.k8s.io", ""), (GROUP, ""), (STORAGE_GROUP, "")];

/// Kinds that no plugin reads: what is in them is not for it, or has no namespace.
const NEVER_READ: [(&str, &str); 10] = [
    ("", "secrets"),
    ("", "namespaces"),
    ("", "nodes"),
    ("", "persistentvolumes"),
    ("rbac.authorization.k8s.io", ""),
    ("admissionregistration.k8s.io", ""),
    ("apiextensions.k8s.io", ""),
    ("apiregistration.k8s.io", ""),
    ("authentication.k8s.io", ""),
    ("authorization.k8s.io", ""),
];

/// Class kinds, and their plurals, that are the controller's own.
const OWN: [(&str, &str); 5] = [
    ("Database", "databases"),
    ("Member", "members"),
    ("Partition", "partitions"),
    ("Primitive", "primitives"),
    ("StoragePlugin", "storageplugins"),
];

/// Whether a kind may never be written by a plugin.
pub fn is_never_written(group: &str, plural: &str) -> bool {
    stands(&NEVER_WRITTEN, group, plural)
}

/// Whether a kind may never be read by a plugin.
pub fn is_never_read(group: &str, plural: &str) -> bool {
    stands(&NEVER_READ, group, plural)
}

/// Whether a class kind would take the place of a kind of the controller's.
pub fn is_own(kind: &str, plural: &str) -> bool {
    OWN.iter().any(|(own, of_many)| *own == kind || *of_many == plural)
}

fn stands(table: &[(&str, &str)], group: &str, plural: &str) -> bool {
    table.iter().any(|(g, p)| *g == group && (p.is_empty() || *p == plural))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What no plugin may write, the account cannot write either, but for what the controller itself needs.
    #[test]
    fn the_policy_has_the_same_lists() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/atomix-controller.yaml");
        let text = std::fs::read_to_string(path).expect("it is part of the sources");
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let refused = || NEVER_WRITTEN.iter().filter(|entry| !OWN_WRITES.contains(entry));
        let list = |words: Vec<&str>| format!("['{}']", words.join("', '"));
        let groups = refused().filter(|(_, plural)| plural.is_empty()).map(|(group, _)| *group).collect();
        let of = |group: &str| refused().filter(|(g, plural)| *g == group && !plural.is_empty()).map(|(_, p)| *p).collect();
        for list in [list(groups), list(of("")), list(of("apps")), list(of("gateway.networking.k8s.io"))] {
            assert!(text.contains(&list), "deploy/atomix-controller.yaml, in atomix-controller's policy: {list}");
        }
    }
}
