//! All objects of a namespace as text that two equal ones have in common.

use std::collections::BTreeMap;

use anyhow::Result;
use futures::future::try_join_all;
use harness::reads;
use kube::Client;
use kube::core::ApiResource;
use kube::discovery::{Discovery, Scope, verbs};
use serde_json::Value;

/// What each object is, by `kind/name`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dump(BTreeMap<String, String>);

/// Kinds that others write about ours, or by chance: pods are played, Leases and Events come and go.
const LEFT_OUT: [&str; 6] = ["events", "leases", "endpoints", "endpointslices", "pods", "podtemplates"];
/// Fields that differ between equal objects.
const BY_NATURE: [&str; 14] = [
    "uid",
    "classUid",
    "cloud.atomix.io/hash", // of what is applied, ownerReferences with their uids among it
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "managedFields",
    "lastTransitionTime",
    "lastUpdateTime",
    "lastProbeTime",
    "clusterIP",
    "clusterIPs",
    "volumeName",
    "nodePort",
];

/// The kinds to be dumped: all that lie in namespaces and can be listed.
pub async fn kinds(client: &Client) -> Result<Vec<ApiResource>> {
    let found = Discovery::new(client.clone()).run().await?;
    let all = found.groups().flat_map(|group| group.recommended_resources());
    let listed = all.filter(|(_, of)| of.scope == Scope::Namespaced && of.supports_operation(verbs::LIST));
    Ok(listed.map(|(kind, _)| kind).filter(|kind| !LEFT_OUT.contains(&kind.plural.as_str())).collect())
}

impl Dump {
    /// What stands in a namespace.
    pub async fn take(client: &Client, namespace: &str, kinds: &[ApiResource]) -> Result<Dump> {
        let found = try_join_all(kinds.iter().map(|kind| reads::list(client, namespace, kind))).await?;
        Ok(Dump::of(&mut found.concat()))
    }

    /// These objects.
    pub fn of(objects: &mut [Value]) -> Dump {
        let text = |object: &mut Value| {
            strip(object);
            let name = format!("{}/{}", text(&object["kind"]), text(&object["metadata"]["name"]));
            (name, format!("{object:#}"))
        };
        Dump(objects.iter_mut().map(text).collect())
    }

    /// Those of the kinds that are not among these.
    pub fn without(&self, kinds: &[&str]) -> Dump {
        let is_left = |name: &str| !name.split('/').next().is_some_and(|kind| kinds.contains(&kind));
        Dump(self.0.iter().filter(|(name, _)| is_left(name)).map(|(name, text)| (name.clone(), text.clone())).collect())
    }

    /// These, and those of a kind that stand in another dump alone.
    pub fn with_others_of(mut self, kind: &str, other: &Dump) -> Dump {
        for (name, text) in other.0.iter().filter(|(name, _)| name.split('/').next() == Some(kind)) {
            self.0.entry(name.clone()).or_insert_with(|| text.clone());
        }
        self
    }

    /// Whether a text stands in one of the objects.
    pub fn holds(&self, text: &str) -> bool {
        self.0.values().any(|object| object.contains(text))
    }

    /// The first lines in which another differs from this; empty if none does.
    pub fn difference(&self, other: &Dump) -> String {
        let mut lines = Vec::new();
        for (name, wanted) in &self.0 {
            match other.0.get(name) {
                None => lines.push(format!("{name} is not there")),
                Some(found) if found != wanted => lines.extend(changed(name, wanted, found)),
                Some(_) => {}
            }
        }
        lines.extend(other.0.keys().filter(|name| !self.0.contains_key(*name)).map(|name| format!("{name} is there")));
        lines.truncate(40);
        lines.join("\n")
    }
}

fn changed(name: &str, wanted: &str, found: &str) -> Vec<String> {
    let only = |of: &str, than: &str, sign: char| -> Vec<String> {
        of.lines().filter(|line| !than.lines().any(|it| it == *line)).map(|line| format!("{name} {sign} {line}")).collect()
    };
    let mut lines = only(wanted, found, '-');
    lines.extend(only(found, wanted, '+'));
    if lines.is_empty() {
        lines.push(format!("{name} has the same lines in another order"));
    }
    lines
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Takes out what differs by nature.
fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !BY_NATURE.iter().any(|field| *field == name));
            fields.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}
