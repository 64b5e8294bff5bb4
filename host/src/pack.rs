//! What installs a plugin in a cluster: its class definitions, its role, and the ConfigMap that holds its bytes. Pure: the same plugin
//! gives the same bytes. Knows no client.

use std::collections::BTreeMap;
use std::io::Write;

use flate2::{Compression, GzBuilder};
use k8s_openapi::ByteString;
use serde_json::{Value, json};

use atomix_decide::admission;
use atomix_model::contract::{ClassKind, Descriptor};
use atomix_model::crd::STORAGE_GROUP;
use atomix_model::limits;
use atomix_model::names::PLUGIN_LABEL;

/// Label by which the rules of plugins' roles become the controller's.
pub const AGGREGATE_LABEL: &str = "storage.cloud.atomix.io/aggregate-to-controller";

/// Annotation of a plugin's role: kinds that it grants and whose objects admission does not check.
pub const UNCHECKED: &str = "storage.cloud.atomix.io/unchecked";

/// All manifests of a plugin, in the order in which to apply them; `groups` is whether it serves groups of the first gRPC
/// API, for which classes are created. The error is why the plugin fits into no ConfigMap.
pub fn manifests(descriptor: &Descriptor, groups: bool, bytes: &[u8], namespace: &str) -> Result<Vec<Value>, String> {
    let mut manifests: Vec<Value> = descriptor.class_kinds.iter().map(|kind| definition(descriptor, kind)).collect();
    manifests.push(role(descriptor, groups));
    manifests.push(config_map(descriptor, bytes, namespace)?);
    Ok(manifests)
}

/// The definition of a class kind. Its annotation names the plugin; by it the API server refuses that another plugin
/// overwrites the definition (`deploy/`, policy atomix-controller-definitions). It is no label, since a plugin is uninstalled by its label, and
/// definitions must stay then.
pub fn definition(descriptor: &Descriptor, class: &ClassKind) -> Value {
    let about =
        class.spec_schema.get("description").cloned().unwrap_or_else(|| {
            Value::from(format!("A {} describes storage that plugin {} runs.", class.kind, descriptor.name))
        });
    let schema = json!({
        "type": "object",
        "description": about,
        "properties": {"spec": class.spec_schema},
    });
    let columns = class
        .columns
        .iter()
        .map(|column| json!({"name": column.name, "type": column.data_type, "jsonPath": column.json_path}));
    let age = json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"});
    let columns: Vec<Value> = columns.chain([age]).collect();
    let versions = class.versions.iter().enumerate().map(|(at, version)| {
        json!({
            "name": version,
            "served": true,
            "storage": at == 0,
            "schema": {"openAPIV3Schema": schema},
            "additionalPrinterColumns": columns,
        })
    });
    let mut names = json!({
        "kind": class.kind,
        "listKind": format!("{}List", class.kind),
        "plural": class.plural,
        "singular": class.kind.to_lowercase(),
        "categories": ["atomix"],
    });
    if !class.short_names.is_empty() {
        names["shortNames"] = json!(class.short_names);
    }
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{}.{STORAGE_GROUP}", class.plural), "annotations": {PLUGIN_LABEL: descriptor.name}},
        "spec": {
            "group": STORAGE_GROUP,
            "names": names,
            "scope": "Namespaced",
            "versions": versions.collect::<Vec<_>>(),
        },
    })
}

/// The role that grants a plugin what its descriptor lists. Only an administrator may create it: it is the grant, not the
/// request.
pub fn role(descriptor: &Descriptor, groups: bool) -> Value {
    let mut rules: BTreeMap<(&str, &[&str]), Vec<&str>> = BTreeMap::new();
    for kind in &descriptor.emits {
        let verbs: &[&str] = match (kind.group.as_str(), kind.plural.as_str()) {
            ("", "persistentvolumeclaims") => &["create", "get", "list", "patch", "watch"], // data are never deleted
            _ => &["create", "delete", "get", "list", "patch", "watch"],
        };
        rules.entry((&kind.group, verbs)).or_default().push(&kind.plural);
    }
    for kind in &descriptor.watches {
        rules.entry((&kind.group, READ)).or_default().push(&kind.plural);
    }
    for class in &descriptor.class_kinds {
        let verbs = if groups { READ_AND_CREATE } else { READ };
        rules.entry((STORAGE_GROUP, verbs)).or_default().push(&class.plural);
    }
    let rules: Vec<Value> = (rules.into_iter())
        .map(|((group, verbs), plurals)| json!({"apiGroups": [group], "resources": plurals, "verbs": verbs}))
        .collect();
    let mut role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {
            "name": format!("atomix-plugin-{}", descriptor.name),
            "labels": {PLUGIN_LABEL: descriptor.name, AGGREGATE_LABEL: "true"},
        },
        "rules": rules,
    });
    let unchecked = unchecked(descriptor);
    if !unchecked.is_empty() {
        role["metadata"]["annotations"] = json!({UNCHECKED: unchecked.join(", ")});
    }
    role
}

/// Kinds that a plugin emits and in which admission cannot restrict its plans to their own database, since the kind is
/// unknown here. To grant one is to trust the plugin with all that such objects do in the namespaces of its databases.
pub fn unchecked(descriptor: &Descriptor) -> Vec<String> {
    let unknown = descriptor.emits.iter().filter(|kind| !admission::is_known(&kind.group, &kind.kind));
    unknown
        .map(|kind| if kind.group.is_empty() { kind.plural.clone() } else { format!("{}.{}", kind.plural, kind.group) })
        .collect()
}

const READ: &[&str] = &["get", "list", "watch"];
const READ_AND_CREATE: &[&str] = &["create", "get", "list", "watch"];

fn config_map(descriptor: &Descriptor, bytes: &[u8], namespace: &str) -> Result<Value, String> {
    let packed = gzip(bytes);
    if packed.len() > limits::PLUGIN_PACKED_BYTES_MAX {
        return Err(format!(
            "plugin {} has {} bytes once compressed; a ConfigMap holds at most {}",
            descriptor.name,
            packed.len(),
            limits::PLUGIN_PACKED_BYTES_MAX
        ));
    }
    Ok(json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": format!("atomix-plugin-{}", descriptor.name),
            "namespace": namespace,
            "labels": {PLUGIN_LABEL: descriptor.name},
        },
        "binaryData": {"plugin.wasm.gz": ByteString(packed)},
    }))
}

/// Compresses without name and time, so that the same bytes give the same bytes.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    let written = packed.write_all(bytes).and_then(|()| packed.finish());
    written.expect("writing to memory does not fail")
}

#[cfg(test)]
mod tests {
    use super::*;
    use atomix_model::contract::{Column, ObjectKind};

    fn kind(group: &str, kind: &str, plural: &str) -> ObjectKind {
        let text = str::to_owned;
        ObjectKind { group: text(group), version: text("v1"), kind: text(kind), plural: text(plural), reads: Vec::new() }
    }

    fn descriptor() -> Descriptor {
        Descriptor {
            name: "web".to_owned(),
            version: "0.1.0".to_owned(),
            class_kinds: vec![ClassKind {
                kind: "WebStorageClass".to_owned(),
                plural: "webstorageclasses".to_owned(),
                short_names: Vec::new(),
                versions: vec!["v1beta1".to_owned(), "v1beta3".to_owned()],
                spec_schema: json!({"type": "object", "description": "A web server."}),
                columns: vec![Column { name: "Image".into(), data_type: "string".into(), json_path: ".spec.image".into() }],
            }],
            emits: vec![
                kind("apps", "Deployment", "deployments"),
                kind("", "Service", "services"),
                kind("", "PersistentVolumeClaim", "persistentvolumeclaims"),
            ],
            watches: vec![kind("", "Pod", "pods")],
        }
    }

    #[test]
    fn the_role_grants_what_is_emitted_and_watched_and_never_the_deletion_of_volumes() {
        let write = json!(["create", "delete", "get", "list", "patch", "watch"]);
        let keep = json!(["create", "get", "list", "patch", "watch"]);
        let read = json!(["get", "list", "watch"]);
        assert_eq!(
            role(&descriptor(), false)["rules"],
            json!([
                {"apiGroups": [""], "resources": ["services"], "verbs": write},
                {"apiGroups": [""], "resources": ["persistentvolumeclaims"], "verbs": keep},
                {"apiGroups": [""], "resources": ["pods"], "verbs": read},
                {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": write},
                {"apiGroups": ["storage.cloud.atomix.io"], "resources": ["webstorageclasses"], "verbs": read},
            ])
        );
    }

    #[test]
    fn the_role_names_the_kinds_that_nobody_checks() {
        assert_eq!(role(&descriptor(), false)["metadata"].get("annotations"), None);
        let mut it = descriptor();
        it.emits.push(kind("example.com", "Widget", "widgets"));
        assert_eq!(role(&it, false)["metadata"]["annotations"][UNCHECKED], "widgets.example.com");
    }

    #[test]
    fn the_first_version_of_a_class_is_stored_and_all_are_served() {
        let definition = definition(&descriptor(), &descriptor().class_kinds[0]);
        let versions = definition["spec"]["versions"].as_array().expect("versions are a list");
        let versions: Vec<_> = versions.iter().map(|v| (&v["name"], &v["storage"], &v["served"])).collect();
        let yes = json!(true);
        assert_eq!(versions, [(&json!("v1beta1"), &yes, &yes), (&json!("v1beta3"), &json!(false), &yes)]);
        assert_eq!(definition["metadata"]["name"], "webstorageclasses.storage.cloud.atomix.io");
    }

    #[test]
    fn the_same_plugin_is_packed_to_the_same_bytes_and_too_large_a_one_is_refused() {
        let pack = |bytes: &[u8]| manifests(&descriptor(), false, bytes, "kube-system");
        assert_eq!(pack(b"\0asm"), pack(b"\0asm"));
        let mut seed = 1_u32; // bytes that do not compress
        let noise: Vec<u8> = (0..limits::PLUGIN_PACKED_BYTES_MAX)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 24) as u8
            })
            .collect();
        let error = pack(&noise).expect_err("it is too large");
        assert!(error.contains("once compressed; a ConfigMap holds at most 1048576"), "{error}");
    }
}
