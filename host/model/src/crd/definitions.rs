//! The definitions as an API server accepts them, made from the types. What Rust types cannot express stands here.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceConversion, CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, ServiceReference,
    WebhookClientConfig, WebhookConversion,
};
use kube::CustomResourceExt as _;
use kube::core::crd::merge_crds;

use super::{Database, Member, Partition, Primitive, StoragePlugin, UNOBSERVED, VERSION, VERSION_OLD, v1beta2};

/// Name of the one definition whose versions the webhook converts.
pub const DATABASES: &str = "databases.cloud.atomix.io";
/// Path of the conversion webhook.
pub const CONVERT_PATH: &str = "/convert";
/// Name of the Service in front of the webhook.
pub const SERVICE: &str = "atomix-controller";
/// Namespace of that Service in the definitions that are handed out.
pub const NAMESPACE: &str = "kube-system";

/// All definitions that the controller needs, in the order in which to apply them.
pub fn all() -> Vec<CustomResourceDefinition> {
    vec![
        databases(),
        partitions(),
        described(Member::crd(), "A Member takes part in a group of peers: the program in the Pod that owns it."),
        described(
            Primitive::crd(),
            "A Primitive is a data structure that clients have created in a Database: a map, a lock, a counter. Clients make it.",
        ),
        described(
            StoragePlugin::crd(),
            "A StoragePlugin tells what became of a storage plugin that a ConfigMap brought. The controller writes it; editing it \
             changes nothing.",
        ),
    ]
}

/// The schema of a Database's spec in one of its versions.
///
/// # Errors
/// It is not served in that version: the versions that it is served in.
pub fn database_spec(version: &str) -> Result<JSONSchemaProps, Vec<String>> {
    let versions = databases().spec.versions;
    let served = || versions.iter().map(|served| served.name.clone()).collect::<Vec<_>>();
    let found = versions.iter().find(|served| served.name == version).ok_or_else(served)?;
    let schema = found.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
    let spec = schema.and_then(|schema| schema.properties.as_ref()?.get("spec"));
    Ok(spec.cloned().unwrap_or_default())
}

/// Both versions, of which v1beta3 is stored. No caBundle: the controller puts it there, since a wrong one breaks both versions.
fn databases() -> CustomResourceDefinition {
    let versions = vec![v1beta2::Database::crd(), Database::crd()];
    let mut definition = merge_crds(versions, VERSION).expect("both versions have the same group, kind and names");
    definition.spec.versions.sort_by(|a, b| a.name.cmp(&b.name));
    definition.spec.conversion = Some(CustomResourceConversion {
        strategy: "Webhook".to_owned(),
        webhook: Some(WebhookConversion {
            client_config: Some(WebhookClientConfig {
                service: Some(ServiceReference {
                    name: SERVICE.to_owned(),
                    namespace: NAMESPACE.to_owned(),
                    path: Some(CONVERT_PATH.to_owned()),
                    port: Some(443),
                }),
                ..WebhookClientConfig::default()
            }),
            conversion_review_versions: vec!["v1".to_owned()],
        }),
    });
    described(
        definition,
        "A Database is split into partitions; a storage plugin runs them on the storage that its class describes.",
    )
}

/// The old version has the same schema, so nothing needs converting.
fn partitions() -> CustomResourceDefinition {
    let mut definition = Partition::crd();
    let mut old = definition.spec.versions[0].clone();
    old.name = VERSION_OLD.to_owned();
    old.storage = false;
    definition.spec.versions.insert(0, old);
    definition.spec.conversion =
        Some(CustomResourceConversion { strategy: "None".to_owned(), ..CustomResourceConversion::default() });
    described(definition, "A Partition is one share of a Database. The controller makes it; clients connect to its Service.")
}

/// `kubectl explain` opens with `text`: the derive has a sentence of its own there, about Rust.
fn described(mut definition: CustomResourceDefinition, text: &str) -> CustomResourceDefinition {
    for version in &mut definition.spec.versions {
        if let Some(schema) = version.schema.as_mut().and_then(|it| it.open_api_v3_schema.as_mut()) {
            tidy(schema);
            unobserved(schema);
            schema.description = Some(text.to_owned());
        }
    }
    definition
}

/// Sentences go on where a comment breaks its lines. An `Option` is a field that may be absent: without `nullable` the API
/// server drops a null instead of keeping it, so that rules and conversion meet one form of absence, not two.
fn tidy(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    schema.description = schema.description.take().map(|text| text.replace('\n', " "));
    schema.properties.iter_mut().flatten().for_each(|(_, field)| tidy(field));
    if let Some(JSONSchemaPropsOrArray::Schema(item)) = &mut schema.items {
        tidy(item);
    }
}

/// A status that was never written has generation -1, which no object has, so that a fresh object is not taken for one that
/// is done.
fn unobserved(schema: &mut JSONSchemaProps) {
    let status = schema.properties.as_mut().and_then(|fields| fields.get_mut("status"));
    let Some(status) = status else { return };
    if let Some(field) = status.properties.as_mut().and_then(|fields| fields.get_mut("observedGeneration")) {
        field.default = Some(JSON(UNOBSERVED.into()));
        status.default = Some(JSON(serde_json::json!({"observedGeneration": UNOBSERVED})));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::crd::rules;

    #[test]
    fn names_are_those_of_old_manifests() {
        let names: Vec<_> = all().iter().map(|it| it.metadata.name.clone().unwrap()).collect();
        assert_eq!(
            names,
            [
                DATABASES,
                "partitions.cloud.atomix.io",
                "members.cloud.atomix.io",
                "primitives.cloud.atomix.io",
                "storageplugins.storage.cloud.atomix.io"
            ]
        );
    }

    #[test]
    fn every_kind_is_listed_by_kubectl_get_atomix() {
        for definition in all() {
            assert_eq!(definition.spec.names.categories, Some(vec!["atomix".to_owned()]), "{:?}", definition.metadata.name);
        }
    }

    #[test]
    fn one_version_is_stored_and_the_old_one_is_served_where_it_was() {
        for definition in all() {
            let versions: Vec<_> =
                definition.spec.versions.iter().map(|it| (it.name.as_str(), it.served, it.storage)).collect();
            let expected = match definition.spec.names.kind.as_str() {
                "Database" | "Partition" => vec![("v1beta2", true, false), ("v1beta3", true, true)],
                "StoragePlugin" => vec![("v1beta1", true, true)],
                _ => vec![("v1beta3", true, true)],
            };
            assert_eq!(versions, expected);
        }
    }

    /// So `render`, which has no earlier object to compare with, need not evaluate CEL: it checks the other two in code.
    #[test]
    fn every_rule_but_two_compares_an_edit_with_what_was() {
        let mut rules = 0;
        for definition in all() {
            for version in &definition.spec.versions {
                let schema = version.schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
                walk("", schema, &mut |path, it| {
                    for rule in it.x_kubernetes_validations.iter().flatten() {
                        let known = rule.rule.contains("oldSelf") || [rules::NAME, rules::PRODUCT].contains(&&*rule.rule);
                        assert!(known, "{}{path}: {}", definition.spec.names.kind, rule.rule);
                        rules += 1;
                    }
                });
            }
        }
        assert!(rules > 0);
    }

    #[test]
    fn kubectl_explain_has_a_sentence_on_every_field() {
        for definition in all() {
            let kind = &definition.spec.names.kind;
            for version in &definition.spec.versions {
                let schema = version.schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
                walk(&format!("{kind}.{}", version.name), schema, &mut |path, it| {
                    let item = path.ends_with("[]");
                    assert!(item || it.description.as_ref().is_some_and(|text| text.len() > 3), "{path} has no description");
                    assert!(
                        !it.format.as_ref().is_some_and(|it| it.starts_with("uint")),
                        "{path}: no API server knows uint"
                    );
                });
            }
        }
    }

    #[test]
    fn every_status_is_of_no_generation_until_it_is_written() {
        let mut with_status = Vec::new();
        for definition in all() {
            for version in &definition.spec.versions {
                let schema = version.schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
                let Some(status) = schema.properties.as_ref().unwrap().get("status") else { continue };
                with_status.push(format!("{} {}", definition.spec.names.kind, version.name));
                assert_eq!(status.default, Some(JSON(serde_json::json!({"observedGeneration": -1}))));
                let field = &status.properties.as_ref().unwrap()["observedGeneration"];
                assert_eq!(field.default, Some(JSON(serde_json::json!(-1))));
            }
        }
        let expected =
            ["Database v1beta2", "Database v1beta3", "Partition v1beta2", "Partition v1beta3", "StoragePlugin v1beta1"];
        assert_eq!(with_status, expected);
    }

    fn walk(path: &str, schema: &JSONSchemaProps, visit: &mut impl FnMut(&str, &JSONSchemaProps)) {
        visit(path, schema);
        for (name, field) in schema.properties.iter().flatten() {
            walk(&format!("{path}.{name}"), field, visit);
        }
        if let Some(JSONSchemaPropsOrArray::Schema(item)) = &schema.items {
            walk(&format!("{path}[]"), item, visit);
        }
    }
}
