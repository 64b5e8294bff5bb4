//! Turns a Rust type's JSON schema into the structural form that Kubernetes demands of definitions. Knows no particular type.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value};

use crate::json;

/// The schema of `C` as a definition takes it: no references, only formats and keywords that Kubernetes has.
/// See <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema>.
pub fn structural<C: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    // As `into_root_schema_for` does, without its title and its references, and without the code for them.
    let mut schema = C::json_schema(&mut settings.into_generator()).to_value();
    make_structural(&mut schema);
    schema
}

/// For `#[schemars(transform = preserve_unknown_fields)]` on a field that holds part of a Kubernetes object: fields beyond those that
/// its type names are kept.
pub fn preserve_unknown_fields(schema: &mut Schema) {
    let mut fields = schema.as_object().cloned().unwrap_or_default();
    json::put(&mut fields, "type", "object".into());
    json::put(&mut fields, "x-kubernetes-preserve-unknown-fields", true.into());
    *schema = fields.into();
}

fn make_structural(schema: &mut Value) {
    let Value::Object(fields) = schema else {
        *schema = json!({"x-kubernetes-preserve-unknown-fields": true}); // `true`: anything
        return;
    };
    for unknown in ["$schema", "title", "examples", "deprecated", "readOnly", "writeOnly", "$defs"] {
        remove(fields, unknown);
    }
    if fields.get("default") == Some(&Value::Null) {
        remove(fields, "default");
    }
    if let Some(word) = remove(fields, "const") {
        json::put(fields, "enum", Value::Array(vec![word]));
    }
    for (keyword, bound) in [("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")] {
        if let Some(limit) = fields.get_mut(keyword) {
            let limit = std::mem::replace(limit, Value::Bool(true));
            json::put(fields, bound, limit);
        }
    }
    if let Some(Value::String(text)) = fields.get_mut("description") {
        *text = join_lines(text);
    }
    without_null(fields);
    openapi_format(fields);
    plain_enum(fields);
    // A structural schema excludes other fields anyway, and refuses this keyword beside `properties`.
    if fields.get("additionalProperties") == Some(&Value::Bool(false)) {
        remove(fields, "additionalProperties");
    }
    for (keyword, inner) in fields.iter_mut() {
        match (keyword.as_str(), inner) {
            ("properties", Value::Object(properties)) => properties.values_mut().for_each(make_structural),
            ("items" | "additionalProperties" | "not", inner) => make_structural(inner),
            ("allOf" | "anyOf" | "oneOf", Value::Array(inner)) => inner.iter_mut().for_each(make_structural),
            _ => {}
        }
    }
}

/// Takes a keyword out. The few others go into a new map: its own `remove` would be 4 kB of code that nothing else needs.
fn remove(fields: &mut Map<String, Value>, keyword: &str) -> Option<Value> {
    if !fields.contains_key(keyword) {
        return None;
    }
    let mut taken = None;
    for (name, value) in std::mem::take(fields) {
        match name == keyword {
            true => taken = Some(value),
            false => drop(fields.insert(name, value)),
        }
    }
    taken
}

/// Lines of a doc comment end where the editor's column ends; those of `kubectl explain` where the sentence does.
fn join_lines(text: &str) -> String {
    let mut whole = String::with_capacity(text.len());
    for line in text.split('\n') {
        if !(whole.is_empty() || whole.ends_with('\n')) {
            whole.push_str(if line.is_empty() { "\n\n" } else { " " });
        }
        whole.push_str(line);
    }
    whole
}

/// "This or null" becomes this: an API server drops a null where the schema does not allow one, so that absence has one form.
fn without_null(fields: &mut Map<String, Value>) {
    let is_null = |case: &Value| case == "null" || case.get("type").is_some_and(|kind| kind == "null");
    for keyword in ["type", "anyOf"] {
        let Some(Value::Array(cases)) = fields.get_mut(keyword) else {
            continue;
        };
        let before = cases.len();
        cases.retain(|case| !is_null(case));
        if cases.len() == before || cases.len() != 1 {
            continue;
        }
        let real = cases.pop();
        remove(fields, keyword);
        match real {
            Some(Value::Object(real)) => {
                for (keyword, value) in real {
                    if !fields.contains_key(&keyword) {
                        json::put(fields, &keyword, value);
                    }
                }
            }
            Some(kind) => {
                json::put(fields, keyword, kind);
            }
            None => {}
        }
    }
}

/// Rust's widths of integers are not formats of OpenAPI.
fn openapi_format(fields: &mut Map<String, Value>) {
    let known = match fields.get("format").and_then(Value::as_str) {
        Some("int8" | "uint8" | "int16" | "uint16" | "int32") => "int32",
        Some("uint32" | "int64" | "uint64" | "int" | "uint") => "int64",
        Some("float") => "float",
        Some("double") => "double",
        Some("date-time" | "date" | "duration" | "byte" | "uuid" | "uri") | None => return,
        Some(_) => {
            remove(fields, "format");
            return;
        }
    };
    json::put(fields, "format", known.into());
}

/// An enum of words, each with its own text, becomes one list of words whose texts follow the description.
fn plain_enum(fields: &mut Map<String, Value>) {
    let Some(Value::Array(cases)) = fields.get("oneOf") else {
        return;
    };
    let mut words = Vec::new();
    let mut text = fields.get("description").and_then(Value::as_str).unwrap_or_default().to_owned();
    for case in cases {
        match (case.get("const"), case.get("enum")) {
            (Some(Value::String(word)), _) => {
                if let Some(about) = case.get("description").and_then(Value::as_str) {
                    for part in [if text.is_empty() { "" } else { "\n" }, word, ": ", about] {
                        text.push_str(part);
                    }
                }
                words.push(Value::from(word.as_str()));
            }
            (None, Some(Value::Array(more))) if more.iter().all(Value::is_string) => words.extend(more.iter().cloned()),
            _ => return,
        }
    }
    remove(fields, "oneOf");
    json::put(fields, "type", "string".into());
    json::put(fields, "enum", words.into());
    if !text.is_empty() {
        json::put(fields, "description", text.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the storage is made of.
    #[derive(JsonSchema)]
    #[allow(dead_code)]
    struct Sample {
        /// How
        /// many.
        #[schemars(range(min = 1, max = 9))]
        #[serde(default)]
        count: u32,
        /// How it starts.
        #[serde(default)]
        mode: Option<Mode>,
        part: Part,
        #[schemars(transform = preserve_unknown_fields)]
        anything: Value,
    }

    #[derive(JsonSchema)]
    #[allow(dead_code)]
    enum Mode {
        /// At once.
        Fast,
        /// In order.
        Slow,
    }

    /// A part.
    #[derive(JsonSchema)]
    #[allow(dead_code)]
    struct Part {
        names: Vec<String>,
    }

    #[test]
    fn a_rust_type_becomes_a_structural_schema() {
        let schema = structural::<Sample>();
        assert_eq!(
            schema["properties"]["count"],
            json!({"description": "How many.", "type": "integer", "format": "int64", "minimum": 1, "maximum": 9, "default": 0})
        );
        let mode = &schema["properties"]["mode"];
        let text = "How it starts.\nFast: At once.\nSlow: In order.";
        assert_eq!(mode, &json!({"description": text, "type": "string", "enum": ["Fast", "Slow"]}));
        assert_eq!(schema["properties"]["part"]["description"], json!("A part."));
        assert_eq!(
            schema["properties"]["anything"],
            json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
        );
        assert_eq!(schema["properties"]["part"]["properties"]["names"]["items"], json!({"type": "string"}));
        let text = schema.to_string();
        for unwanted in ["$ref", "$schema", "title", "uint32", "anyOf", "oneOf"] {
            assert!(!text.contains(unwanted), "{unwanted} is left in {schema:#}");
        }
    }
}
