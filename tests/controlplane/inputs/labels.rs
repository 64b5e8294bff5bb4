//! Which labels of a Database its objects carry, by the rule of docs/gitops.md. Knows no plugin.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::Value;

use super::cluster::Cluster;

/// Labels of objects by kind and name.
pub type Labels = BTreeMap<String, BTreeMap<String, String>>;

/// Kinds that carry them; pods and claims keep those that they were made with.
const CARRIERS: [(&str, &str); 6] = [
    ("apis/cloud.atomix.io/v1beta3", "partitions"),
    ("apis/apps/v1", "statefulsets"),
    ("apis/apps/v1", "deployments"),
    ("api/v1", "services"),
    ("api/v1", "configmaps"),
    ("apis/policy/v1", "poddisruptionbudgets"),
];

/// Labels of what is made for the Database of a namespace.
pub async fn of_children(cluster: &Cluster, namespace: &str) -> Result<Labels> {
    let mut found = Labels::new();
    for (api, plural) in CARRIERS {
        let list = cluster.get(&Cluster::path(api, namespace, plural, "")).await?;
        for object in list["items"].as_array().into_iter().flatten() {
            let labels = text_by_key(&object["metadata"]["labels"]);
            if labels.contains_key("database") {
                found.insert(format!("{plural}/{}", object["metadata"]["name"]), labels);
            }
        }
    }
    Ok(found)
}

/// Labels of the same objects after an edit of the Database's metadata: those that were copied give way to those that are now.
pub fn wanted(before: &Labels, from: &Value, to: &Value) -> Labels {
    let (old, new) = (copied(from), copied(to));
    let of_one = |labels: &BTreeMap<String, String>| {
        let own = labels.iter().filter(|(key, value)| old.get(*key) != Some(value));
        let mut all = new.clone();
        all.extend(own.map(|(key, value)| (key.clone(), value.clone()))); // the plan's own count
        all
    };
    before.iter().map(|(name, labels)| (name.clone(), of_one(labels))).collect()
}

/// The labels of a Database that its objects carry.
fn copied(database: &Value) -> BTreeMap<String, String> {
    let metadata = &database["metadata"];
    let named = metadata["annotations"]["cloud.atomix.io/copy-labels"].as_str().unwrap_or_default();
    let named: Vec<&str> = named.split(|c: char| c == ',' || c.is_whitespace()).collect();
    let is_copied = |key: &str| match key.split_once('/') {
        None | Some(("app.kubernetes.io", "name" | "component" | "version" | "part-of")) => true,
        Some((prefix, _)) => named.contains(&key) || named.contains(&format!("{prefix}/*").as_str()),
    };
    let mut labels = text_by_key(&metadata["labels"]);
    labels.retain(|key, _| is_copied(key));
    labels
}

fn text_by_key(map: &Value) -> BTreeMap<String, String> {
    let pairs = map.as_object().into_iter().flatten();
    pairs.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
}
