//! Which labels of a Database its objects carry. Knows no object and no client.
//!
//! Tools that own what they apply put a label on it and later delete what carries the label and is no longer in their
//! manifests. Such a tool would delete a Service or a StatefulSet with such a label. Kubernetes has one rule that separates
//! them: labels without a prefix are private to the user, and automation must use a prefix. So labels without one are
//! copied, and prefixed ones are only where they describe the program or the Database names them.

use std::collections::BTreeMap;

use kube::core::ObjectMeta;

use crate::names;

/// Prefixed labels that are copied: those of Kubernetes' recommended labels that describe a program. `instance` and `managed-by` name
/// an owner instead; tools track by them, and the controller sets its own.
const DESCRIPTIVE: [&str; 4] =
    ["app.kubernetes.io/component", "app.kubernetes.io/name", "app.kubernetes.io/part-of", "app.kubernetes.io/version"];

/// How the labels begin by which the Operator Lifecycle Manager finds what it owns, such as `olm.owner`. They have no prefix.
const OLM: &str = "olm.";

/// The labels of a Database that its objects carry.
pub fn copied(database: &ObjectMeta) -> BTreeMap<String, String> {
    let named = database.annotations.as_ref().and_then(|annotations| annotations.get(names::COPY_LABELS));
    let labels = database.labels.iter().flatten();
    let kept = labels.filter(|(key, _)| is_copied(key, named.map_or("", String::as_str)));
    kept.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// `named` is a list of keys, each as it stands or as `prefix/*`, separated by commas or white space.
fn is_copied(key: &str, named: &str) -> bool {
    let Some((prefix, _)) = key.split_once('/') else { return !key.starts_with(OLM) };
    let names = |entry: &str| entry == key || entry.strip_suffix("/*") == Some(prefix);
    DESCRIPTIVE.contains(&key) || named.split(|c: char| c == ',' || c.is_whitespace()).any(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys that are copied of these, where the annotation is `named`.
    fn copied_of(keys: &[&str], named: Option<&str>) -> Vec<String> {
        let owned = |text: &str| (text.to_owned(), "a".to_owned());
        let annotations = named.map(|named| BTreeMap::from([(names::COPY_LABELS.to_owned(), named.to_owned())]));
        let labels = Some(keys.iter().map(|key| owned(key)).collect());
        copied(&ObjectMeta { labels, annotations, ..ObjectMeta::default() }).into_keys().collect()
    }

    #[test]
    fn what_users_call_their_own_is_copied() {
        let keys = ["app", "app.kubernetes.io/name", "app.kubernetes.io/version", "chart", "team", "tier"];
        assert_eq!(copied_of(&keys, None), keys);
    }

    #[test]
    fn what_tools_own_things_by_is_not_copied() {
        let keys = [
            "addonmanager.kubernetes.io/mode",
            "app.kubernetes.io/instance",
            "app.kubernetes.io/managed-by",
            "app.oam.dev/name",
            "applyset.kubernetes.io/id",
            "applyset.kubernetes.io/part-of",
            "argocd.argoproj.io/instance",
            "cli-utils.sigs.k8s.io/inventory-id",
            "configsync.gke.io/declared-version",
            "fleet.cattle.io/bundle-name",
            "helm.sh/chart",
            "helm.toolkit.fluxcd.io/name",
            "io.cattle.field/appId",
            "k0s.k0sproject.io/stack",
            "kapp.k14s.io/app",
            "kapp.k14s.io/association",
            "kluctl.io/discriminator",
            "kubernetes.io/cluster-service",
            "kustomize.toolkit.fluxcd.io/name",
            "kustomize.toolkit.fluxcd.io/namespace",
            "objectset.rio.cattle.io/hash",
            "olm.managed",
            "olm.owner",
            "olm.owner.kind",
            "olm.owner.kind/of-nobody-listed",
            "olm.owner.namespace",
            "operators.coreos.com/any",
            "skaffold.dev/run-id",
            "tanka.dev/environment",
            "velero.io/restore-name",
            "work.karmada.io/permanent-id",
        ];
        assert_eq!(copied_of(&keys, None), Vec::<String>::new());
    }

    #[test]
    fn a_prefixed_label_is_copied_where_the_database_names_it() {
        let keys = ["example.com/team", "example.com/tier", "mesh.example.com/inject", "team"];
        assert_eq!(copied_of(&keys, Some("example.com/tier")), ["example.com/tier", "team"]);
        let both = Some("example.com/*,\n mesh.example.com/inject");
        assert_eq!(copied_of(&keys, both), keys);
        assert_eq!(copied_of(&keys, Some("*, /*, example.com, example.com/")), ["team"], "no entry stands for all labels");
    }
}
