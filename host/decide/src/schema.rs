//! Whether a value fits the schema of a definition, as the API server would check it: structural schemas, unknown fields
//! refused. Knows no definition and no class. Rules in CEL are the API server's alone: those of Databases compare an edit
//! with the object before it, and offline there is none.

use std::fmt::{self, Display, Formatter};

use regex::Regex;
use serde_json::{Map, Value};

use atomix_model::contract::short;

/// What is wrong with one field of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// Path to the field.
    pub path: String,
    /// What stands there, shortened. None if the field itself is what is wrong: it is missing, or unknown.
    pub found: Option<String>,
    /// What is accepted.
    pub expected: String,
}

impl Display for Misfit {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.found {
            Some(found) => write!(f, "{} is {found}; {}", self.path, self.expected),
            None => write!(f, "{} is {}", self.path, self.expected),
        }
    }
}

/// What is wrong with a value: a sentence for each field, with its path.
pub fn errors(path: &str, schema: &Value, value: &Value) -> Vec<String> {
    let mut check = Check { open: false, errors: Vec::new() };
    check.value(path, schema, value);
    check.errors.iter().map(ToString::to_string).collect()
}

/// What is wrong with a value, which may have fields that the schema does not know: a newer definition brought them.
pub fn misfits(path: &str, schema: &Value, value: &Value) -> Vec<Misfit> {
    let mut check = Check { open: true, errors: Vec::new() };
    check.value(path, schema, value);
    check.errors
}

/// What is wrong with the defaults in a schema itself, for which the API server would refuse the definition.
pub fn default_errors(path: &str, schema: &Value) -> Vec<String> {
    let mut wrong = match schema.get("default") {
        Some(Value::Null) if schema.get("nullable") != Some(&Value::Bool(true)) => {
            vec![format!("{path} is null; no default, or nullable: true, is expected")]
        }
        Some(default) => errors(path, schema, default),
        None => Vec::new(),
    };
    for (name, inner) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        wrong.extend(default_errors(&format!("{path}.{name}"), inner));
    }
    for (field, name) in [("items", "[]"), ("additionalProperties", ".*")] {
        wrong.extend(schema.get(field).into_iter().flat_map(|inner| default_errors(&format!("{path}{name}"), inner)));
    }
    wrong
}

struct Check {
    /// Whether unknown fields are ignored: in `oneOf` and its like, which judge values only.
    open: bool,
    errors: Vec<Misfit>,
}

impl Check {
    fn wrong(&mut self, path: &str, found: &Value, expected: impl Display) {
        let found = Some(short(&found.to_string()));
        self.errors.push(Misfit { path: path.to_owned(), found, expected: expected.to_string() });
    }

    fn value(&mut self, path: &str, schema: &Value, value: &Value) {
        let is_true = |field: &str| schema.get(field) == Some(&Value::Bool(true));
        if value.is_null() && (is_true("nullable") || schema.get("default").is_some()) {
            return;
        }
        if is_true("x-kubernetes-int-or-string") {
            if !(value.is_i64() || value.is_u64() || value.is_string()) {
                self.wrong(path, value, "a whole number or a text is expected");
            }
        } else if let Some(name) = schema.get("type").and_then(Value::as_str)
            && !is_of(name, value)
        {
            return self.wrong(path, value, format_args!("{name} is expected"));
        }
        if let Some(Value::Array(accepted)) = schema.get("enum")
            && !accepted.contains(value)
        {
            let accepted: Vec<_> = accepted.iter().map(ToString::to_string).collect();
            self.wrong(path, value, format_args!("{} are accepted", accepted.join(", ")));
        }
        match value {
            Value::Number(number) => self.number(path, schema, number.as_f64().unwrap_or_default(), value),
            Value::String(text) => self.text(path, schema, text, value),
            Value::Array(items) => self.list(path, schema, items, value),
            Value::Object(fields) => self.object(path, schema, fields, value),
            _ => {}
        }
        self.combined(path, schema, value);
    }

    fn number(&mut self, path: &str, schema: &Value, number: f64, value: &Value) {
        let bound = |field: &str| schema.get(field).and_then(Value::as_f64);
        let is_open = |field: &str| schema.get(field) == Some(&Value::Bool(true));
        if let Some(min) = bound("minimum") {
            match is_open("exclusiveMinimum") {
                true if number <= min => self.wrong(path, value, format_args!("more than {min} is accepted")),
                false if number < min => self.wrong(path, value, format_args!("at least {min} is accepted")),
                _ => {}
            }
        }
        if let Some(max) = bound("maximum") {
            match is_open("exclusiveMaximum") {
                true if number >= max => self.wrong(path, value, format_args!("less than {max} is accepted")),
                false if number > max => self.wrong(path, value, format_args!("at most {max} is accepted")),
                _ => {}
            }
        }
        if let Some(of) = bound("multipleOf").filter(|of| (number / of).fract() != 0.0) {
            self.wrong(path, value, format_args!("a multiple of {of} is accepted"));
        }
    }

    fn text(&mut self, path: &str, schema: &Value, text: &str, value: &Value) {
        self.counted(path, schema, ("minLength", "maxLength", "characters"), text.chars().count(), value);
        let pattern = schema.get("pattern").and_then(Value::as_str);
        if let Some(pattern) = pattern.filter(|pattern| Regex::new(pattern).is_ok_and(|pattern| !pattern.is_match(text))) {
            self.wrong(path, value, format_args!("a text that fits {pattern} is accepted"));
        }
    }

    fn list(&mut self, path: &str, schema: &Value, items: &[Value], value: &Value) {
        self.counted(path, schema, ("minItems", "maxItems", "items"), items.len(), value);
        let keys: Vec<&str> = schema
            .get("x-kubernetes-list-map-keys")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let of_set = schema.get("x-kubernetes-list-type").is_some_and(|kind| kind == "set");
        for (at, item) in items.iter().enumerate() {
            let inner = format!("{path}[{at}]");
            if let Some(schema) = schema.get("items") {
                self.value(&inner, schema, item);
            }
            let same = |other: &Value| match keys.is_empty() {
                true => of_set && other == item,
                false => keys.iter().all(|key| other.get(key) == item.get(key)),
            };
            if items[..at].iter().any(same) {
                self.wrong(&inner, item, "it is there already");
            }
        }
    }

    fn object(&mut self, path: &str, schema: &Value, fields: &Map<String, Value>, value: &Value) {
        self.counted(path, schema, ("minProperties", "maxProperties", "fields"), fields.len(), value);
        for name in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            let has_default = schema.pointer(&format!("/properties/{name}/default")).is_some();
            if !fields.contains_key(name) && !has_default {
                self.errors.push(Misfit { path: format!("{path}.{name}"), found: None, expected: "missing".to_owned() });
            }
        }
        let is_true = |field: &str| schema.get(field) == Some(&Value::Bool(true));
        let none = Map::new();
        let known = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
        let more = schema.get("additionalProperties").filter(|more| more.is_object());
        let any = self.open
            || is_true("x-kubernetes-preserve-unknown-fields")
            || schema.get("additionalProperties") == Some(&Value::Bool(true));
        for (name, inner) in fields {
            let path = format!("{path}.{name}");
            let embedded =
                is_true("x-kubernetes-embedded-resource") && ["apiVersion", "kind", "metadata"].contains(&name.as_str());
            match (known.get(name), more) {
                (Some(schema), _) => self.value(&path, schema, inner),
                (None, Some(schema)) => self.value(&path, schema, inner),
                (None, None) if any || embedded => {}
                (None, None) => {
                    let known = known.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
                    self.errors.push(Misfit { path, found: None, expected: format!("unknown; {known} are accepted") });
                }
            }
        }
    }

    fn counted(&mut self, path: &str, schema: &Value, of: (&str, &str, &str), count: usize, value: &Value) {
        let bound = |field: &str| schema.get(field).and_then(Value::as_u64).and_then(|bound| usize::try_from(bound).ok());
        let (min, max, what) = of;
        if let Some(min) = bound(min).filter(|min| count < *min) {
            self.wrong(path, value, format_args!("at least {min} {what} are accepted"));
        }
        if let Some(max) = bound(max).filter(|max| count > *max) {
            self.wrong(path, value, format_args!("at most {max} {what} are accepted"));
        }
    }

    fn combined(&mut self, path: &str, schema: &Value, value: &Value) {
        let of = |field: &str| schema.get(field).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let errors_of = |schema: &Value| {
            let mut check = Check { open: true, errors: Vec::new() };
            check.value(path, schema, value);
            check.errors
        };
        of("allOf").iter().for_each(|schema| self.errors.extend(errors_of(schema)));
        let fits = |field: &str| of(field).iter().filter(|schema| errors_of(schema).is_empty()).count();
        if !of("anyOf").is_empty() && fits("anyOf") == 0 {
            self.wrong(path, value, format_args!("one of {} forms is expected", of("anyOf").len()));
        }
        if !of("oneOf").is_empty() && fits("oneOf") != 1 {
            self.wrong(path, value, format_args!("just one of {} forms is expected", of("oneOf").len()));
        }
        if schema.get("not").is_some_and(|schema| errors_of(schema).is_empty()) {
            self.wrong(path, value, "that is not accepted");
        }
    }
}

fn is_of(name: &str, value: &Value) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_field_that_does_not_fit_is_named_by_its_path() {
        let schema = json!({"type": "object", "required": ["image", "mode"], "properties": {
            "image": {"type": "string", "minLength": 1, "maxLength": 9, "pattern": "^[a-z]+$"},
            "mode": {"type": "string", "enum": ["a", "b"], "default": "a"},
            "replicas": {"type": "integer", "minimum": 1, "maximum": 9},
            "share": {"type": "number", "minimum": 0, "exclusiveMinimum": true},
            "port": {"x-kubernetes-int-or-string": true},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "maybe": {"type": "string", "nullable": true},
            "env": {"type": "array", "maxItems": 2, "x-kubernetes-list-map-keys": ["name"], "items": {
                "type": "object", "properties": {"name": {"type": "string"}}}},
            "one": {"type": "object", "properties": {"x": {"type": "string"}, "y": {"type": "string"}},
                "oneOf": [{"required": ["x"]}, {"required": ["y"]}]},
        }});
        let with = |field: &str, value: Value| {
            let mut spec = json!({"image": "a"});
            spec[field] = value;
            errors("spec", &schema, &spec)
        };
        for (field, value) in [
            ("replicas", json!(9)),
            ("replicas", json!(3.0)),
            ("port", json!("http")),
            ("port", json!(80)),
            ("labels", json!({"a": "b"})),
            ("free", json!({"a": [1]})),
            ("maybe", json!(null)),
            ("mode", json!(null)),
            ("env", json!([{"name": "a"}, {"name": "b"}])),
            ("one", json!({"x": "1"})),
        ] {
            assert_eq!(with(field, value.clone()), Vec::<String>::new(), "{field}: {value}");
        }
        for (field, value, expected) in [
            ("replicas", json!(99), "spec.replicas is 99; at most 9 is accepted"),
            ("replicas", json!(0), "spec.replicas is 0; at least 1 is accepted"),
            ("replicas", json!("3"), "spec.replicas is \"3\"; integer is expected"),
            ("replicas", json!(null), "spec.replicas is null; integer is expected"),
            ("share", json!(0), "spec.share is 0; more than 0 is accepted"),
            ("replica", json!(3), "spec.replica is unknown; env, free, image"),
            ("image", json!(""), "spec.image is \"\"; at least 1 characters"),
            ("image", json!("A"), "spec.image is \"A\"; a text that fits ^[a-z]+$ is accepted"),
            ("mode", json!("c"), "spec.mode is \"c\"; \"a\", \"b\" are accepted"),
            ("port", json!(1.5), "spec.port is 1.5; a whole number or a text"),
            ("labels", json!({"a": 1}), "spec.labels.a is 1; string is expected"),
            ("env", json!([{"name": "a"}, {"name": "a"}]), "spec.env[1] is {\"name\":\"a\"}; it is there already"),
            ("env", json!([{"nam": "a"}]), "spec.env[0].nam is unknown; name are accepted"),
            ("one", json!({"x": "1", "y": "2"}), "just one of 2 forms"),
        ] {
            let errors = with(field, value.clone());
            assert!(errors.iter().any(|error| error.contains(expected)), "{field}: {value}: {errors:?}");
        }
        assert_eq!(errors("spec", &schema, &json!({})), ["spec.image is missing"]);
    }

    #[test]
    fn a_default_that_does_not_fit_its_own_schema_is_named() {
        let number = |default: Value| json!({"type": "integer", "maximum": 9, "default": default});
        let within = |inner: Value| {
            json!({"type": "object", "properties": {"a": {"type": "array", "items": inner},
                "b": {"type": "object", "additionalProperties": {"type": "string", "default": "x"}}}})
        };
        assert_eq!(default_errors("spec", &within(number(json!(3)))), Vec::<String>::new());
        assert_eq!(
            default_errors("spec", &json!({"type": "string", "nullable": true, "default": null})),
            Vec::<String>::new()
        );
        for (default, expected) in [
            (json!("3"), "spec.a[] is \"3\"; integer is expected"),
            (json!(10), "spec.a[] is 10; at most 9 is accepted"),
            (json!(null), "spec.a[] is null; no default, or nullable: true, is expected"),
        ] {
            assert_eq!(default_errors("spec", &within(number(default))), [expected]);
        }
        let object =
            json!({"type": "object", "default": {"b": 1}, "properties": {"a": {"type": "string", "default": true}}});
        assert_eq!(
            default_errors("spec", &object),
            ["spec.b is unknown; a are accepted", "spec.a is true; string is expected"]
        );
    }
}
