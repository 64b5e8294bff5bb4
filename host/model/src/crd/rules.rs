//! Rules in CEL that both versions of Database share: its name, and what cannot be edited while the database runs. They
//! stand at the root of the schema, where name and status can be read: what never ran may be edited freely, and another
//! spelling of the same value is no edit.

use kube::core::{Message, Reason, Rule};

use serde_json::Value;

use crate::names::is_label;

/// What may be the name of a Database.
pub const NAME: &str = "self.metadata.name.size() <= 47 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')";
const NAME_MESSAGE: &str = "metadata.name must be at most 47 characters: lower case letters, digits and '-', starting with a letter and ending with a letter or digit (names of Services and StatefulSets are made from it)";

/// How many partitions the older version of a Database may ask for.
pub const PRODUCT: &str = "self.clusters * self.template.spec.partitions <= 1024";
/// The message of [`PRODUCT`].
pub const PRODUCT_MESSAGE: &str =
    "clusters times template.spec.partitions may be at most 1024: a database has no more partitions in all";

/// [`NAME`] with its message.
pub fn name() -> Rule {
    Rule::new(NAME).message(NAME_MESSAGE)
}

/// What a new Database breaks of [`NAME`] and [`PRODUCT`], for code that evaluates no CEL.
pub fn errors(database: &Value) -> Vec<&'static str> {
    let name = database.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let good = name.len() <= 47 && is_label(name) && name.starts_with(|first: char| first.is_ascii_lowercase());
    let count = |pointer: &str| database.pointer(pointer).and_then(Value::as_u64).unwrap_or(1);
    let partitions = count("/spec/clusters").saturating_mul(count("/spec/template/spec/partitions"));
    let broken = [(!good, NAME_MESSAGE), (partitions > 1024, PRODUCT_MESSAGE)];
    broken.into_iter().filter(|(is_so, _)| *is_so).map(|(_, message)| message).collect()
}

/// The reference to the class, which stands at `path` in the spec, stays what it is once there is a plan.
///
/// No group is ours, no version is the one in use, and no namespace is the database's own. Only booleans are computed: the
/// API server estimates what a rule may cost, and has no bound for what `orValue` or a condition yields.
pub fn class_stays(path: &str) -> Rule {
    let (new, old) = (&format!("self.spec.{path}"), &format!("oldSelf.spec.{path}"));
    let (group, in_use) = (super::STORAGE_GROUP, "oldSelf.status.storageClass");
    let same = |field: &str| format!("has({new}.{field}) && has({old}.{field}) && {new}.{field} == {old}.{field}");
    let none = |of: &str, field: &str| format!("(!has({of}.{field}) || {of}.{field} == '')");
    let ours = |of: &str| format!("(!has({of}.group) || {of}.group == '' || {of}.group == '{group}')");
    let unknown = |field: &str| format!("!has({in_use}) || !has({in_use}.{field})");
    let rule = [
        format!(
            "!has(oldSelf.status) || !has(oldSelf.status.plan) || ({new}.kind == {old}.kind && {new}.name == {old}.name"
        ),
        format!("&& ({} || {} && {})", same("group"), ours(new), ours(old)),
        format!("&& ({} || {}", none(new, "version"), same("version")),
        format!("|| {} && ({} || {new}.version == {in_use}.version))", none(old, "version"), unknown("version")),
        format!("&& ({} || {}", same("__namespace__"), none(new, "__namespace__")),
        format!("&& ({} || {} || {in_use}.ownNamespace)", none(old, "__namespace__"), unknown("ownNamespace")),
        format!("|| has({new}.__namespace__) && has({in_use}) && {new}.__namespace__ == {in_use}.__namespace__))"),
    ];
    let message = format!(
        "'spec.{path} cannot be changed while the database runs on ' + {old}.kind + ' ' + {old}.name + \
         ': data do not move to another class; create another database instead'"
    );
    fixed(rule.join(" "), Message::Expression(message), path)
}

/// How many partitions share a cluster, which stands at `path` in the spec, stays what was decided.
pub fn per_cluster_stays(path: &str) -> Rule {
    let (new, old, decided) =
        (format!("self.spec.{path}"), format!("oldSelf.spec.{path}"), "oldSelf.status.partitionsPerCluster");
    let rule = format!(
        "!has(oldSelf.status) || !has({decided}) || !has({new}) || {new} == {decided} || has({old}) && {new} == {old}"
    );
    let message = format!(
        "spec.{path} cannot be changed once it is decided (status.partitionsPerCluster): it says in which cluster each partition \
         lives; create another database instead"
    );
    fixed(rule, Message::Message(message), path)
}

fn fixed(rule: String, message: Message, path: &str) -> Rule {
    Rule::new(rule).message(message).field_path(format!(".spec.{path}")).reason(Reason::FieldValueForbidden)
}
