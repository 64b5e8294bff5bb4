//! Checks the descriptor that a plugin returns: names, counts, kinds, schemas. An error is one sentence for the plugin's author.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::answer_checks::{Checked, at_most, dns_label, kind_name, word};
use atomix_model::contract::{ClassKind, Descriptor, ObjectKind, short};
use atomix_model::object::builtin_plural;
use atomix_model::{denied_kinds, limits};

/// Checks the result of `describe`.
pub fn check_descriptor(descriptor: &Descriptor) -> Checked {
    dns_label("the plugin's name", &descriptor.name, limits::PLUGIN_NAME_CHARS_MAX)?;
    let good = |c: char| c.is_ascii_alphanumeric() || "-._+".contains(c);
    if descriptor.version.is_empty()
        || descriptor.version.len() > limits::PLUGIN_VERSION_CHARS_MAX
        || !descriptor.version.chars().all(good)
    {
        return Err(format!(
            "the plugin's version is {:?}; at most 63 letters, digits and -._+ are expected",
            short(&descriptor.version)
        ));
    }
    if descriptor.class_kinds.is_empty() {
        return Err("it serves no class kind".to_owned());
    }
    at_most("class kinds", descriptor.class_kinds.len(), limits::CLASS_KINDS_MAX)?;
    let mut taken = BTreeSet::new();
    for class in &descriptor.class_kinds {
        check_class_kind(class)?;
        for name in
            [&class.kind.to_lowercase(), &class.plural].into_iter().chain(&class.short_names).collect::<BTreeSet<_>>()
        {
            if !taken.insert(name.clone()) {
                return Err(format!("two class kinds are called {name}"));
            }
        }
    }
    at_most("kinds emitted and watched", descriptor.emits.len() + descriptor.watches.len(), limits::OBJECT_KINDS_MAX)?;
    let mut seen = BTreeSet::new();
    for kind in descriptor.emits.iter().chain(&descriptor.watches) {
        check_object_kind(kind)?;
        if !seen.insert((&kind.group, &kind.kind)) {
            return Err(format!("the kind {} is named twice", kind.kind));
        }
    }
    if let Some(kind) = descriptor.emits.iter().find(|kind| denied_kinds::is_never_written(&kind.group, &kind.plural)) {
        return Err(format!("it emits {}, which no plugin may write", kind.plural));
    }
    // What a manifest may hold goes by its kind, and where it is written by the plural: one belongs to the other.
    for kind in &descriptor.emits {
        if let Some(plural) = builtin_plural(&kind.group, &kind.kind).filter(|plural| *plural != kind.plural) {
            return Err(format!("the plural of {} is {:?}; it is {plural:?}", kind.kind, kind.plural));
        }
    }
    if let Some(kind) = descriptor.watches.iter().find(|kind| denied_kinds::is_never_read(&kind.group, &kind.plural)) {
        return Err(format!("it watches {}, which no plugin may read", kind.plural));
    }
    Ok(())
}

/// The first of these that stands there before.
fn repeated(words: &[String]) -> Option<&String> {
    words.iter().enumerate().find(|(at, word)| words[..*at].contains(word)).map(|(_, word)| word)
}

fn check_class_kind(class: &ClassKind) -> Checked {
    kind_name("a class kind", &class.kind)?;
    dns_label(&format!("the plural of {}", class.kind), &class.plural, 63)?;
    if denied_kinds::is_own(&class.kind, &class.plural) {
        return Err(format!(
            "the class kind {} ({}) would take the place of the controller's own",
            class.kind, class.plural
        ));
    }
    if class.versions.is_empty() {
        return Err(format!("{} has no version", class.kind));
    }
    for (what, count) in
        [("versions", class.versions.len()), ("short names", class.short_names.len()), ("columns", class.columns.len())]
    {
        at_most(&format!("{what} of {}", class.kind), count, limits::CLASS_KIND_LIST_MAX)?;
    }
    class.versions.iter().try_for_each(|version| dns_label(&format!("a version of {}", class.kind), version, 63))?;
    if let Some(twice) = repeated(&class.versions).or_else(|| repeated(&class.short_names)) {
        return Err(format!("{} names {twice:?} twice, as a version or as a short name", class.kind));
    }
    class.short_names.iter().try_for_each(|name| dns_label(&format!("a short name of {}", class.kind), name, 63))?;
    if class.spec_schema.get("type").and_then(Value::as_str) != Some("object") {
        return Err(format!("the schema of {} is not of type object", class.kind));
    }
    check_schema("spec", &class.spec_schema).map_err(|why| format!("the schema of {}: {why}", class.kind))?;
    for column in &class.columns {
        let types = ["string", "integer", "number", "boolean", "date"];
        if !types.contains(&column.data_type.as_str()) || !column.json_path.starts_with('.') || column.name.is_empty() {
            return Err(format!(
                "the column {:?} of {} has type {:?} and path {:?}; a type of {} and a path that starts with a dot are expected",
                short(&column.name),
                class.kind,
                short(&column.data_type),
                short(&column.json_path),
                types.join(", ")
            ));
        }
        word(&format!("a column of {}", class.kind), &column.name)?;
        word(&format!("the path of a column of {}", class.kind), &column.json_path)?;
    }
    Ok(())
}

/// Fields of JSON Schema that no definition may have, see the documentation of structural schemas.
const NOT_STRUCTURAL: [&str; 12] = [
    "$ref",
    "$schema",
    "definitions",
    "dependencies",
    "deprecated",
    "discriminator",
    "id",
    "patternProperties",
    "readOnly",
    "uniqueItems",
    "writeOnly",
    "xml",
];
/// Fields of JSON Schema that a definition has, see JSONSchemaProps of Kubernetes' API reference; the API server drops others.
const KNOWN: [&str; 36] = [
    "additionalProperties",
    "allOf",
    "anyOf",
    "default",
    "description",
    "enum",
    "example",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "externalDocs",
    "format",
    "items",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "not",
    "nullable",
    "oneOf",
    "pattern",
    "properties",
    "required",
    "title",
    "type",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
];
/// Fields that may not stand within `allOf`, `anyOf`, `oneOf` or `not`.
const NOT_COMBINED: [&str; 6] = ["additionalProperties", "default", "description", "nullable", "title", "type"];
const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// Whether a definition takes the schema of the field at `path`: a definition that is refused keeps all of a plugin's manifest out.
fn check_schema(path: &str, schema: &Value) -> Checked {
    let Some(fields) = schema.as_object() else { return Err(format!("{path} is no object")) };
    if let Some(field) = NOT_STRUCTURAL.iter().find(|field| fields.contains_key(**field)) {
        return Err(format!("{path} has {field}, which no definition may have"));
    }
    check_values(path, fields)?;
    let is_true = |field: &str| fields.get(field) == Some(&Value::Bool(true));
    if is_true("x-kubernetes-int-or-string") && fields.contains_key("type") {
        return Err(format!("{path} has both x-kubernetes-int-or-string and a type; one of them is accepted"));
    }
    if fields.get("x-kubernetes-list-type") == Some(&"map".into()) && !fields.contains_key("x-kubernetes-list-map-keys") {
        return Err(format!("{path} is a list of type map without x-kubernetes-list-map-keys"));
    }
    let is_open = is_true("x-kubernetes-preserve-unknown-fields") || fields.contains_key("properties");
    if is_true("x-kubernetes-embedded-resource") && !(is_open && fields.get("type") == Some(&"object".into())) {
        return Err(format!(
            "{path} is an embedded resource; type object is expected, with properties or x-kubernetes-preserve-unknown-fields"
        ));
    }
    for (at, inner) in combined(path, fields) {
        check_combined(&at, inner, is_true("x-kubernetes-int-or-string"))?;
    }
    let free = is_true("x-kubernetes-int-or-string") || is_true("x-kubernetes-preserve-unknown-fields");
    match fields.get("type") {
        Some(Value::String(name)) if TYPES.contains(&name.as_str()) => {}
        None if free => {}
        found => {
            let found = found.map_or_else(|| "missing".to_owned(), |found| short(&found.to_string()));
            return Err(format!("the type of {path} is {found}; {} are accepted", TYPES.join(", ")));
        }
    }
    for (name, inner) in fields.get("properties").and_then(Value::as_object).into_iter().flatten() {
        check_schema(&format!("{path}.{}", short(name)), inner)?;
    }
    match (fields.get("type").and_then(Value::as_str), fields.get("items")) {
        (Some("array"), None) => return Err(format!("{path} is an array without items")),
        (_, Some(items)) => check_schema(&format!("{path}[]"), items)?,
        _ => {}
    }
    match fields.get("additionalProperties") {
        None | Some(Value::Bool(true)) => Ok(()),
        Some(_) if fields.contains_key("properties") => {
            Err(format!("{path} has both properties and additionalProperties; one of them is accepted"))
        }
        Some(inner @ Value::Object(_)) => check_schema(&format!("{path}.*"), inner),
        Some(_) => Err(format!("additionalProperties of {path} is no schema")),
    }
}

/// Checks what stands in the fields of a schema whatever its type is.
fn check_values(path: &str, fields: &Map<String, Value>) -> Checked {
    if let Some(unknown) = fields.keys().find(|field| !KNOWN.contains(&field.as_str())) {
        return Err(format!("{path} has {}, which no definition knows", short(unknown)));
    }
    for (field, value) in fields {
        let is_good = match field.as_str() {
            "properties" => value.is_object(),
            "required" | "x-kubernetes-list-map-keys" => {
                value.as_array().is_some_and(|all| all.iter().all(Value::is_string))
            }
            "allOf" | "anyOf" | "oneOf" | "enum" | "x-kubernetes-validations" => {
                value.as_array().is_some_and(|all| !all.is_empty())
            }
            "nullable" | "exclusiveMaximum" | "exclusiveMinimum" => value.is_boolean(),
            "x-kubernetes-int-or-string" | "x-kubernetes-embedded-resource" => value.is_boolean(),
            "x-kubernetes-preserve-unknown-fields" => *value == Value::Bool(true),
            "maximum" | "minimum" | "multipleOf" => value.is_number(),
            "maxItems" | "maxLength" | "maxProperties" | "minItems" | "minLength" | "minProperties" => value.is_u64(),
            "description" | "format" | "title" => value.is_string(),
            "pattern" => {
                value.as_str().is_some_and(|pattern| regex_syntax::ast::parse::Parser::new().parse(pattern).is_ok())
            }
            "x-kubernetes-list-type" => ["atomic", "map", "set"].iter().any(|one| value == one),
            "x-kubernetes-map-type" => ["atomic", "granular"].iter().any(|one| value == one),
            _ => true,
        };
        if !is_good {
            return Err(format!("{field} of {path} is {}, which no definition takes", short(&value.to_string())));
        }
    }
    let rules = fields.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten();
    for rule in rules.map(|rule| &rule["rule"]) {
        if rule.as_str().is_none_or(|rule| rule.trim().is_empty()) {
            return Err(format!("a rule of {path} is {}; an expression in CEL is expected", short(&rule.to_string())));
        }
    }
    Ok(())
}

/// The schemas that a schema is combined with, each with its path.
fn combined<'a>(path: &str, fields: &'a Map<String, Value>) -> Vec<(String, &'a Value)> {
    let of = |field: &str| fields.get(field).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let lists = ["allOf", "anyOf", "oneOf"].into_iter();
    let listed = lists.flat_map(|field| of(field).iter().map(move |inner| (format!("{field} of {path}"), inner)));
    listed.chain(fields.get("not").map(|inner| (format!("not of {path}"), inner))).collect()
}

/// Checks a schema that stands within `allOf` and the like: it may only restrict values. Within what is a number or a text, it may say which.
fn check_combined(path: &str, schema: &Value, of_int_or_string: bool) -> Checked {
    let Some(fields) = schema.as_object() else { return Err(format!("{path} is no object")) };
    check_values(path, fields)?;
    let may_stand = |field: &&&str| of_int_or_string && **field == "type";
    if let Some(field) = NOT_COMBINED.iter().filter(|field| !may_stand(field)).find(|field| fields.contains_key(**field)) {
        return Err(format!("{path} has {field}, which stands outside of it"));
    }
    let properties = fields.get("properties").and_then(Value::as_object).into_iter().flatten();
    let inner = properties.map(|(name, inner)| (format!("{path}.{}", short(name)), inner));
    let items = fields.get("items").map(|inner| (format!("{path}[]"), inner));
    for (path, inner) in inner.chain(items).chain(combined(path, fields)) {
        check_combined(&path, inner, of_int_or_string)?;
    }
    Ok(())
}

fn check_object_kind(kind: &ObjectKind) -> Checked {
    kind_name("a kind", &kind.kind)?;
    dns_label(&format!("the plural of {}", kind.kind), &kind.plural, 63)?;
    dns_label(&format!("the version of {}", kind.kind), &kind.version, 63)?;
    if !kind.group.is_empty() {
        kind.group.split('.').try_for_each(|part| dns_label(&format!("the group of {}", kind.kind), part, 63))?;
        word(&format!("the group of {}", kind.kind), &kind.group)?;
    }
    at_most(&format!("fields read of {}", kind.kind), kind.reads.len(), limits::POINTERS_MAX)?;
    for pointer in &kind.reads {
        if !pointer.starts_with('/') || pointer.len() > limits::DESCRIPTOR_TEXT_CHARS_MAX {
            return Err(format!(
                "{:?} is read of {}; a JSON pointer of at most 253 characters is expected",
                short(pointer),
                kind.kind
            ));
        }
    }
    Ok(())
}

/// Checks the result of `protocols`: full names of messages, as protobuf has them.
pub fn check_protocols(protocols: &[String]) -> Checked {
    at_most("protocols", protocols.len(), limits::PROTOCOLS_MAX)?;
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    for (at, name) in protocols.iter().enumerate() {
        if name.len() > limits::DESCRIPTOR_TEXT_CHARS_MAX || !name.split('.').all(part) {
            return Err(format!(
                "a protocol is {:?}; the full name of a protobuf message of at most {} characters is expected",
                short(name),
                limits::DESCRIPTOR_TEXT_CHARS_MAX
            ));
        }
        if protocols[..at].contains(name) {
            return Err(format!("the protocol {name} is named twice"));
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use atomix_model::contract::Column;
    use serde_json::json;

    fn text(text: &str) -> String {
        text.to_owned()
    }

    /// A description that is good.
    pub(crate) fn descriptor() -> Descriptor {
        Descriptor {
            name: text("web"),
            version: text("0.1.0"),
            class_kinds: vec![ClassKind {
                kind: text("WebStorageClass"),
                plural: text("webstorageclasses"),
                short_names: Vec::new(),
                versions: vec![text("v1beta1")],
                spec_schema: json!({"type": "object"}),
                columns: vec![Column { name: text("Image"), data_type: text("string"), json_path: text(".spec.image") }],
            }],
            emits: vec![kind("Widget")],
            watches: vec![kind("Gadget")],
        }
    }

    fn kind(kind: &str) -> ObjectKind {
        ObjectKind {
            group: text("apps"),
            version: text("v1"),
            kind: text(kind),
            plural: format!("{}s", kind.to_lowercase()),
            reads: vec![text("/status")],
        }
    }

    #[test]
    fn protocols_are_full_names_each_once() {
        let named = |name: &str| check_protocols(&[text("a.b_2.Message"), text(name)]);
        assert_eq!(named("Message"), Ok(()));
        for wrong in ["", ".a", "a..b", "a.2b", "a b", "type.googleapis.com/a.B", &"x".repeat(254)] {
            assert!(named(wrong).expect_err("it is refused").contains("the full name of a protobuf message"), "{wrong}");
        }
        assert_eq!(named("a.b_2.Message"), Err(text("the protocol a.b_2.Message is named twice")));
        let many: Vec<_> = (0..17).map(|i| format!("m{i}")).collect();
        assert_eq!(check_protocols(&many), Err(text("protocols: 17; at most 16 are accepted")));
    }

    #[test]
    fn a_descriptor_names_itself_and_what_it_deals_with() {
        let good = descriptor();
        assert_eq!(check_descriptor(&good), Ok(()));
        let broken = |spoil: &dyn Fn(&mut Descriptor), expected: &str| {
            let mut bad = good.clone();
            spoil(&mut bad);
            let error = check_descriptor(&bad).expect_err("it is refused");
            assert!(error.contains(expected), "{error}");
        };
        broken(&|it| it.name = text("Web"), "the plugin's name is \"Web\"");
        broken(&|it| it.name = "x".repeat(41), "at most 40");
        broken(&|it| it.version = text("one two"), "the plugin's version");
        broken(&|it| it.class_kinds.clear(), "no class kind");
        broken(&|it| it.class_kinds[0].versions.clear(), "WebStorageClass has no version");
        broken(&|it| it.class_kinds[0].versions = vec![text("v1"); 2], "names \"v1\" twice");
        broken(&|it| it.class_kinds[0].short_names = vec![text("web"); 2], "names \"web\" twice");
        broken(&|it| it.class_kinds[0].spec_schema = json!({}), "not of type object");
        broken(&|it| it.class_kinds[0].columns[0].data_type = text("text"), "the column \"Image\"");
        broken(&|it| it.watches[0] = kind("Widget"), "the kind Widget is named twice");
        broken(&|it| it.emits[0].reads = vec![text("status")], "a JSON pointer");
        broken(&|it| it.emits[0].plural = text("a/b"), "the plural of Widget");
        broken(
            &|it| it.emits[0].plural = text("statefulsets"),
            "the plural of Widget is \"statefulsets\"; it is \"widgets\"",
        );
        for (plural, group) in [("secrets", ""), ("pods", ""), ("clusterroles", "rbac.authorization.k8s.io"), ("nodes", "")]
        {
            let spoil = |it: &mut Descriptor| (it.emits[0].plural, it.emits[0].group) = (text(plural), text(group));
            broken(&spoil, &format!("it emits {plural}, which no plugin may write"));
        }
        for (plural, group) in [("secrets", ""), ("nodes", ""), ("customresourcedefinitions", "apiextensions.k8s.io")] {
            let spoil = |it: &mut Descriptor| (it.watches[0].plural, it.watches[0].group) = (text(plural), text(group));
            broken(&spoil, &format!("it watches {plural}, which no plugin may read"));
        }
        broken(&|it| it.class_kinds[0].plural = text("databases"), "would take the place of the controller's own");
        broken(&|it| it.class_kinds[0].kind = text("StoragePlugin"), "would take the place of the controller's own");
        broken(&|it| it.class_kinds.push(it.class_kinds[0].clone()), "two class kinds are called webstorageclass");
    }

    #[test]
    fn a_schema_that_no_definition_takes_is_named_by_its_field() {
        let checked = |of_image: Value| {
            let mut it = descriptor();
            it.class_kinds[0].spec_schema = json!({"type": "object", "properties": {"image": of_image}});
            check_descriptor(&it)
        };
        for good in [
            json!({"type": "string"}),
            json!({"x-kubernetes-int-or-string": true}),
            json!({"type": "array", "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}),
            json!({"type": "object", "additionalProperties": {"type": "integer"}}),
            json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]}),
            json!({"type": "object", "properties": {"a": {"type": "string"}}, "oneOf": [{"required": ["a"]}, {"not": {"required": ["a"]}}]}),
            json!({"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}),
            json!({"type": "string", "pattern": "^a+$", "x-kubernetes-validations": [{"rule": "self != 'b'"}]}),
        ] {
            assert_eq!(checked(good.clone()), Ok(()), "{good}");
        }
        for (bad, expected) in [
            (json!({"$ref": "#/definitions/x"}), "spec.image has $ref"),
            (json!({"type": "text"}), "the type of spec.image is \"text\""),
            (json!({"type": ["string", "null"]}), "the type of spec.image is [\"string\",\"null\"]"),
            (json!({}), "the type of spec.image is missing"),
            (json!({"type": "array"}), "spec.image is an array without items"),
            (json!({"type": "array", "items": {"type": "any"}}), "the type of spec.image[] is"),
            (json!({"type": "object", "additionalProperties": false}), "additionalProperties of spec.image"),
            (json!({"type": "object", "additionalProperties": {"type": "x"}}), "the type of spec.image.* is"),
            (json!(true), "spec.image is no object"),
            (json!({"type": "string", "pattern": "("}), r#"pattern of spec.image is "(", which no definition takes"#),
            (json!({"type": "string", "pattern": 3}), "pattern of spec.image is 3"),
            (json!({"type": "string", "const": "a"}), "spec.image has const, which no definition knows"),
            (json!({"type": "string", "enum": []}), "enum of spec.image is []"),
            (json!({"type": "integer", "exclusiveMinimum": 1}), "exclusiveMinimum of spec.image is 1"),
            (json!({"type": "object", "required": "a"}), "required of spec.image is"),
            (
                json!({"type": "object", "x-kubernetes-preserve-unknown-fields": false}),
                "x-kubernetes-preserve-unknown-fields of",
            ),
            (json!({"type": "string", "x-kubernetes-int-or-string": true}), "both x-kubernetes-int-or-string and a type"),
            (json!({"type": "object", "x-kubernetes-embedded-resource": true}), "spec.image is an embedded resource"),
            (json!({"type": "string", "oneOf": [{"type": "string"}]}), "oneOf of spec.image has type"),
            (json!({"type": "object", "not": {"properties": {"a": {"default": 1}}}}), "not of spec.image.a has default"),
            (
                json!({"type": "array", "items": {"type": "object"}, "x-kubernetes-list-type": "map"}),
                "without x-kubernetes-list-map-keys",
            ),
            (json!({"type": "string", "x-kubernetes-validations": [{"message": "no"}]}), "a rule of spec.image is null"),
            (
                json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "list"}),
                "x-kubernetes-list-type of",
            ),
        ] {
            let error = checked(bad.clone()).expect_err("it is refused");
            assert!(error.contains(expected), "{bad}: {error}");
        }
    }
}
