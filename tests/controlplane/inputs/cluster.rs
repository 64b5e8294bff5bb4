//! What a person does to objects, as strictly as kubectl does it, and what then stands in a namespace. Knows no plugin.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use futures::future::try_join_all;
use http::{Method, Request};
use serde_json::{Value, json};

use crate::dump::Dump;

/// Requests to the API server, as who may do everything.
pub struct Cluster(pub kube::Client);

/// What stands in a namespace at a moment.
#[derive(Clone, Default)]
pub struct State {
    pub database: Value,
    pub class: Value,
    /// All objects, but for what differs between equal ones.
    pub dump: Dump,
    /// UIDs of pods that do not go.
    pub pods: BTreeMap<String, String>,
}

/// Where the objects of a kind are.
pub struct Resource {
    pub kind: &'static str,
    pub api: &'static str,
    pub plural: &'static str,
}

const fn resource(kind: &'static str, api: &'static str, plural: &'static str) -> Resource {
    Resource { kind, api, plural }
}

/// What is looked at beside Database and class: what plugins plan, and what Kubernetes keeps of it.
const KINDS: [Resource; 10] = [
    resource("Partition", "apis/cloud.atomix.io/v1beta3", "partitions"),
    resource("StatefulSet", "apis/apps/v1", "statefulsets"),
    resource("Deployment", "apis/apps/v1", "deployments"),
    resource("Service", "api/v1", "services"),
    resource("ConfigMap", "api/v1", "configmaps"),
    resource("Secret", "api/v1", "secrets"),
    resource("PodDisruptionBudget", "apis/policy/v1", "poddisruptionbudgets"),
    resource("PersistentVolumeClaim", "api/v1", "persistentvolumeclaims"),
    resource("Job", "apis/batch/v1", "jobs"),
    resource("Pod", "api/v1", "pods"),
];

/// Fields in which equal objects differ by what was there before them, beside those that differ by nature.
const BY_HISTORY: [&str; 14] = [
    "generation",
    "observedGeneration",
    "classGeneration",
    "currentRevision",
    "updateRevision",
    "collisionCount",
    "hash", // of a plan, owners with their UIDs among it
    "cloud.atomix.io/template-hash",
    "storage.cloud.atomix.io/config-hash", // of a configuration that names its namespace
    "deployment.kubernetes.io/revision",
    "volume.kubernetes.io/selected-node",
    "volume.kubernetes.io/storage-provisioner",
    "volume.beta.kubernetes.io/storage-provisioner",
    "pv.kubernetes.io/bind-completed",
];

impl Cluster {
    /// Path of an object of a class, or of all.
    pub fn path(api: &str, namespace: &str, plural: &str, name: &str) -> String {
        let path = format!("/{api}/namespaces/{namespace}/{plural}");
        if name.is_empty() { path } else { format!("{path}/{name}") }
    }

    pub async fn get(&self, path: &str) -> Result<Value> {
        self.send(Method::GET, path, "application/json", Vec::new()).await.with_context(|| format!("get {path}"))
    }

    pub async fn create(&self, path: &str, object: &Value) -> Result<Value> {
        let created = self.send(Method::POST, path, "application/json", object.to_string().into_bytes()).await;
        created.with_context(|| format!("create {object} at {path}"))
    }

    pub async fn delete(&self, path: &str) -> Result<()> {
        self.send(Method::DELETE, path, "application/json", Vec::new()).await.with_context(|| format!("delete {path}"))?;
        Ok(())
    }

    /// Puts a value in the place of a part of an object, or only asks whether it would be taken. What the API server says against it is
    /// no error.
    pub async fn replace(&self, path: &str, part: &str, value: &Value, dry_run: bool) -> Result<Result<Value, String>> {
        let patch = json!([{"op": "add", "path": part, "value": value}]).to_string();
        let query = if dry_run { "fieldValidation=Strict&dryRun=All" } else { "fieldValidation=Strict" };
        let asked = format!("{path}?{query}");
        match self.send(Method::PATCH, &asked, "application/json-patch+json", patch.into_bytes()).await {
            Ok(object) => Ok(Ok(object)),
            Err(kube::Error::Api(status)) if [400, 403, 422].contains(&status.code) => Ok(Err(status.message)),
            Err(error) => Err(error).with_context(|| format!("{path}: {part} := {value}")),
        }
    }

    async fn send(&self, method: Method, path: &str, kind: &str, body: Vec<u8>) -> kube::Result<Value> {
        let request = Request::builder().method(method).uri(path).header("content-type", kind).body(body);
        self.0.request(request.map_err(kube::Error::HttpError)?).await
    }

    /// What stands in a namespace, with its Database `db` and its class.
    pub async fn look(&self, namespace: &str, class: &Resource) -> Result<State> {
        let databases = resource("Database", "apis/cloud.atomix.io/v1beta3", "databases");
        let lists = KINDS.iter().chain([class, &databases]).map(|kind| async move {
            let mut list = self.get(&Cluster::path(kind.api, namespace, kind.plural, "")).await?;
            let mut items: Vec<Value> = serde_json::from_value(list["items"].take()).context("a list has items")?;
            items.iter_mut().for_each(|item| item["kind"] = kind.kind.into());
            anyhow::Ok(items)
        });
        let mut state = State::default();
        let mut objects = Vec::new();
        for object in try_join_all(lists).await?.into_iter().flatten() {
            match object["kind"].as_str() {
                Some("Pod") => {
                    if object["metadata"]["deletionTimestamp"].is_null() {
                        state.pods.insert(text(&object["metadata"]["name"]), text(&object["metadata"]["uid"]));
                    }
                    continue;
                }
                Some("ConfigMap") if object["metadata"]["name"] == "kube-root-ca.crt" => continue,
                Some("Database") => state.database = object.clone(),
                Some(kind) if kind == class.kind => state.class = object.clone(),
                _ => {}
            }
            objects.push(object);
        }
        objects.iter_mut().for_each(|object| normalize(object, namespace));
        state.dump = Dump::of(&mut objects);
        if state.database.is_null() || state.class.is_null() {
            bail!("Database or class are not in {namespace}");
        }
        Ok(state)
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Takes out what differs between equal objects of two namespaces.
fn normalize(object: &mut Value, namespace: &str) {
    let kind = text(&object["kind"]);
    if kind == "Database" {
        // Decided once; the status says how.
        object["spec"].as_object_mut().map(|spec| spec.remove("partitionsPerCluster"));
    }
    if let Some(conditions) = object.pointer_mut("/status/conditions").and_then(Value::as_array_mut) {
        // They stand in the order in which they first came; those of a Deployment name its ReplicaSets.
        conditions.sort_by_key(|condition| text(&condition["type"]));
        conditions.retain(|_| kind != "Deployment");
    }
    within(object, namespace);
}

fn within(value: &mut Value, namespace: &str) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(|value| within(value, namespace));
            fields.retain(|name, value| !BY_HISTORY.contains(&name.as_str()) && !is_empty(value));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| within(item, namespace)),
        Value::String(text) => *text = without_uids(&text.replace(namespace, "NAMESPACE")),
        _ => {}
    }
}

/// Whether a value is as if it were absent: a merge leaves it where it took out what was in it.
fn is_empty(value: &Value) -> bool {
    value.as_object().is_some_and(serde_json::Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
}

/// A text with a word in the place of each UID.
fn without_uids(text: &str) -> String {
    const LENGTH: usize = 36;
    let is_uid = |at: usize, bytes: &[u8]| {
        bytes.len() >= at + LENGTH
            && bytes[at..at + LENGTH].iter().enumerate().all(|(at, byte)| match at {
                8 | 13 | 18 | 23 => *byte == b'-',
                _ => byte.is_ascii_hexdigit(),
            })
    };
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = (0..rest.len()).find(|at| is_uid(*at, rest.as_bytes())) {
        out.push_str(&rest[..at]);
        out.push_str("UID");
        rest = &rest[at + LENGTH..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_a_namespace_or_an_object_alone_is_left_out() {
        let uid = "0f3c9f5e-5b7c-4c0e-9a53-0d3b2a1c9e77";
        let mut object = json!({"kind": "ConfigMap", "metadata": {"generation": 3}, "data": {"\u{e4}": format!("\u{e4}{uid},{uid} db.here.svc")}});
        normalize(&mut object, "here");
        assert_eq!(object, json!({"kind": "ConfigMap", "data": {"\u{e4}": "\u{e4}UID,UID db.NAMESPACE.svc"}}));
    }
}
