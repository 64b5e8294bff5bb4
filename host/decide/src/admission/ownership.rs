//! The one rule of what a plan may touch: what it selects, mounts, routes to or limits is of its own database, or stands by name in the
//! class that the user wrote. Knows no grant and no kind.

use std::collections::BTreeSet;

use serde_json::Value;

use super::kept::Kept;
use super::{drop_nulls, items, text};
use atomix_model::contract::{Plan, Request};

/// What in a manifest may be only since the class asks for it. The policy in `deploy/` does not know the class: it admits
/// what is listed in an annotation that no plugin can write, so that both reach one verdict.
pub(super) type Asked = BTreeSet<&'static str>;

/// The group of an `apiVersion`; empty for the core group.
pub(super) fn group_of(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// What is of one database, and its class.
pub(super) struct Own<'a> {
    /// Value of the label `database`.
    pub label: &'a str,
    pub namespace: &'a str,
    /// Groups, kinds and names that the plan makes, or that carry the database's label already.
    made: BTreeSet<(&'a str, &'a str, &'a str)>,
    /// How names of the claims begin that the plan's StatefulSets make.
    claims: Vec<String>,
    /// The class's spec, without nulls, and without what its plugin's schema put there: the user did not write that.
    pub class: Value,
    words: BTreeSet<String>,
    /// What its workloads hold already.
    kept: &'a Kept,
}

impl<'a> Own<'a> {
    pub fn of(plan: &'a Plan, request: &'a Request, schema: Option<&Value>, kept: &'a Kept) -> Own<'a> {
        let manifests = || plan.objects.iter().map(|object| &object.manifest);
        let planned = manifests().map(|manifest| {
            (group_of(text(manifest, "/apiVersion")), text(manifest, "/kind"), text(manifest, "/metadata/name"))
        });
        let observed = request.observed.iter().map(|seen| (seen.group.as_str(), seen.kind.as_str(), seen.name.as_str()));
        let claims = manifests().flat_map(|manifest| {
            let templates = manifest.get("spec").map(|spec| items(spec, "volumeClaimTemplates")).unwrap_or_default();
            let name = text(manifest, "/metadata/name");
            templates.into_iter().map(move |(_, template)| format!("{}-{name}-", text(template, "/metadata/name")))
        });
        let mut class = request.class.spec.clone();
        drop_nulls(&mut class);
        schema.into_iter().for_each(|schema| drop_defaults(&mut class, schema));
        let mut words = BTreeSet::new();
        collect(&class, &mut words);
        Own {
            label: &request.database.database_label,
            namespace: &request.database.namespace,
            made: planned.chain(observed).collect(),
            claims: claims.collect(),
            class,
            words,
            kept,
        }
    }

    /// Whether an object is the database's own, or the class names it.
    pub fn has(&self, group: &str, kind: &str, name: &str) -> bool {
        let ordinal = |rest: &str| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit());
        let is_claim = || {
            (group, kind) == ("", "PersistentVolumeClaim")
                && self.claims.iter().any(|start| name.strip_prefix(start.as_str()).is_some_and(ordinal))
        };
        self.made.contains(&(group, kind, name)) || self.names(name) || is_claim()
    }

    /// Whether pods may read an object of the core group: the database's own, one that the class names, or one that they read already.
    pub fn reads(&self, kind: &str, name: &str) -> bool {
        self.has("", kind, name) || self.kept.reads(kind, name)
    }

    /// Whether a claim may have this in its spec: as it stands in the class, or as it stands in the claims already.
    pub fn claims(&self, field: &str, value: &Value) -> bool {
        self.holds(value) || self.kept.claims(field, value)
    }

    /// Whether the class holds this name, or this number, anywhere.
    pub fn names(&self, word: &str) -> bool {
        !word.is_empty() && self.words.contains(word)
    }

    /// Whether this value stands in the class as it is.
    pub fn holds(&self, value: &Value) -> bool {
        let mut value = value.clone();
        drop_nulls(&mut value);
        find(&self.class, &|there| *there == value)
    }

    /// Whether the class has this value under this key, in any of its maps.
    pub fn pairs(&self, key: &str, value: &Value) -> bool {
        find(&self.class, &|there| there.get(key) == Some(value))
    }

    /// Whether labels, or those that a selector asks for, are of the database's own objects.
    pub fn is_labelled(&self, labels: Option<&Value>) -> bool {
        labels.and_then(|labels| labels.get("database")) == Some(&Value::from(self.label))
    }

    /// Whether a selector finds the database's own objects only.
    pub fn selects(&self, selector: Option<&Value>) -> bool {
        self.is_labelled(selector.and_then(|selector| selector.get("matchLabels")))
    }

    /// What a selector must have, in words.
    pub fn expected(&self) -> String {
        format!("the label database: {} is expected, which finds this database's own", self.label)
    }
}

fn drop_defaults(class: &mut Value, schema: &Value) {
    match class {
        Value::Object(fields) => {
            let of = |name: &String| {
                schema.pointer("/properties").and_then(|all| all.get(name)).or(schema.get("additionalProperties"))
            };
            fields.retain(|name, value| {
                of(name).and_then(|schema| schema.get("default")).is_none_or(|default| default != value)
            });
            for (name, value) in fields.iter_mut() {
                of(name).into_iter().for_each(|schema| drop_defaults(value, schema));
            }
        }
        Value::Array(items) => {
            let schema = schema.get("items").unwrap_or(&Value::Null);
            items.iter_mut().for_each(|item| drop_defaults(item, schema));
        }
        _ => {}
    }
}

fn find(value: &Value, is_it: &dyn Fn(&Value) -> bool) -> bool {
    is_it(value)
        || match value {
            Value::Array(items) => items.iter().any(|item| find(item, is_it)),
            Value::Object(fields) => fields.values().any(|field| find(field, is_it)),
            _ => false,
        }
}

fn collect(value: &Value, words: &mut BTreeSet<String>) {
    match value {
        Value::String(word) => drop(words.insert(word.clone())),
        Value::Number(number) => drop(words.insert(number.to_string())),
        Value::Array(items) => items.iter().for_each(|item| collect(item, words)),
        Value::Object(fields) => fields.values().for_each(|field| collect(field, words)),
        _ => {}
    }
}
