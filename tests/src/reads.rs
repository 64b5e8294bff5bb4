//! Objects that tests look at again and again until something is true of them. A process of kubectl for each look would take the processors
//! from what is looked at. Kinds that are looked at seldom are not known here.

use anyhow::{Context, Result};
use kube::Client;
use kube::core::ApiResource;
use serde_json::Value;

/// Names on the command line, the path of the API version, the plural there, and the kind.
type Known = (&'static [&'static str], &'static str, &'static str, &'static str);

const OURS: &str = "/apis/cloud.atomix.io/v1beta3";
const CLASSES: &str = "/apis/storage.cloud.atomix.io/v1beta1";

const KNOWN: [Known; 14] = [
    (&["database", "databases"], OURS, "databases", "Database"),
    (&["partition", "partitions"], OURS, "partitions", "Partition"),
    (&["member", "members"], OURS, "members", "Member"),
    (&["primitive", "primitives"], OURS, "primitives", "Primitive"),
    (&["storageplugin", "storageplugins"], CLASSES, "storageplugins", "StoragePlugin"),
    (&["raftstorageclass", "raftstorageclasses"], CLASSES, "raftstorageclasses", "RaftStorageClass"),
    (&["pod", "pods"], "/api/v1", "pods", "Pod"),
    (&["service", "services"], "/api/v1", "services", "Service"),
    (&["configmap", "configmaps"], "/api/v1", "configmaps", "ConfigMap"),
    (&["event", "events"], "/api/v1", "events", "Event"),
    (
        &["persistentvolumeclaim", "persistentvolumeclaims", "pvc"],
        "/api/v1",
        "persistentvolumeclaims",
        "PersistentVolumeClaim",
    ),
    (&["resourcequota", "resourcequotas"], "/api/v1", "resourcequotas", "ResourceQuota"),
    (&["statefulset", "statefulsets"], "/apis/apps/v1", "statefulsets", "StatefulSet"),
    (&["deployment", "deployments"], "/apis/apps/v1", "deployments", "Deployment"),
];

/// What `kubectl get WHAT -o json` finds in a namespace, e.g. `database/raft` or `pods`; nothing if it is not there. None if this is for
/// kubectl itself.
pub async fn find(client: &Client, namespace: &str, what: &str) -> Option<Result<Vec<Value>>> {
    let (word, name) = what.split_once('/').unwrap_or((what, ""));
    let (_, api, plural, kind) = KNOWN.iter().find(|(names, ..)| names.contains(&word))?;
    let path = match name {
        "" => format!("{api}/namespaces/{namespace}/{plural}"),
        name => format!("{api}/namespaces/{namespace}/{plural}/{name}"),
    };
    let version = api.trim_start_matches("/apis/").trim_start_matches("/api/");
    Some(read(client, &path, (version, kind), !name.is_empty()).await)
}

/// The one object, e.g. `database/raft`; null if it is not there.
///
/// # Errors
/// The API server did not answer, or the kind is not known here.
pub async fn one(client: &Client, namespace: &str, what: &str) -> Result<Value> {
    let found = find(client, namespace, what).await.with_context(|| format!("{what}: the kind is not known here"))?;
    Ok(found?.pop().unwrap_or_default())
}

/// All objects of a kind in a namespace.
///
/// # Errors
/// The API server did not answer with them.
pub async fn list(client: &Client, namespace: &str, kind: &ApiResource) -> Result<Vec<Value>> {
    let root = if kind.group.is_empty() { "/api" } else { "/apis" };
    let path = format!("{root}/{}/namespaces/{namespace}/{}", kind.api_version, kind.plural);
    read(client, &path, (&kind.api_version, &kind.kind), false).await
}

/// A list that is not there is an error, and no empty one: the API server may be starting, and serves no such kind yet.
async fn read(client: &Client, path: &str, (version, kind): (&str, &str), is_one_object: bool) -> Result<Vec<Value>> {
    let request = http::Request::get(path).body(Vec::new()).context("a path is a request")?;
    let mut found = match client.request::<Value>(request).await {
        Err(kube::Error::Api(status)) if is_one_object && status.code == 404 => return Ok(Vec::new()),
        found => found.with_context(|| format!("{path} could not be read"))?,
    };
    let mut objects = match found.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) => items,
        _ => vec![found],
    };
    for object in &mut objects {
        object["apiVersion"] = version.into(); // in lists they lack it
        object["kind"] = kind.into();
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("managedFields"); // as kubectl prints it
        }
    }
    Ok(objects)
}
