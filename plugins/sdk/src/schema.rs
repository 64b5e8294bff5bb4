//! Turns a Rust type's JSON schema into the structural form that Kubernetes demands of definitions. Knows no particular type.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

/// The schema of `C` as a definition takes it: no references, only formats and keywords that Kubernetes knows.
/// See <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema>.
pub fn structural<C: JsonSchema>() -> Value {
    let settings = SchemaSettings::openapi3().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<C>().to_value();
    mend(&mut schema);
    schema
}

/// For `#[schemars(transform = preserve_unknown_fields)]` on a field that holds part of a Kubernetes object: fields beyond those that
/// its type names are kept.
pub fn preserve_unknown_fields(schema: &mut Schema) {
    let mut fields = schema.as_object().cloned().unwrap_or_default();
    fields.insert("type".to_owned(), json!("object"));
    fields.insert("x-kubernetes-preserve-unknown-fields".to_owned(), json!(true));
    *schema = fields.into();
}

fn mend(schema: &mut Value) {
    let Value::Object(fields) = schema else { return };
    for unknown in ["$schema", "title", "examples", "example", "deprecated", "readOnly", "writeOnly", "components", "$defs"]
    {
        fields.remove(unknown);
    }
    for (keyword, exclusive) in [("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")] {
        if let Some(bound) = fields.get(keyword).filter(|bound| bound.is_number()).cloned() {
            fields.insert(exclusive.to_owned(), bound);
            fields.insert(keyword.to_owned(), json!(true));
        }
    }
    if fields.get("default") == Some(&Value::Null) {
        fields.remove("default");
    }
    or_null(fields);
    known_format(fields);
    plain_enum(fields);
    if let Some(Value::Object(properties)) = fields.get_mut("properties") {
        properties.values_mut().for_each(mend);
    }
    for keyword in ["items", "additionalProperties", "not"] {
        if let Some(inner) = fields.get_mut(keyword) {
            mend(inner);
        }
    }
    for keyword in ["allOf", "anyOf", "oneOf"] {
        if let Some(Value::Array(inner)) = fields.get_mut(keyword) {
            inner.iter_mut().for_each(mend);
        }
    }
    // A list of fields that excludes all others says what a structural schema says anyway, and is refused beside `properties`.
    if fields.get("additionalProperties") == Some(&json!(false)) {
        fields.remove("additionalProperties");
    }
}

/// "This or null" becomes this, nullable: structural schemas say so beside the type.
fn or_null(fields: &mut Map<String, Value>) {
    let Some(Value::Array(cases)) = fields.get("anyOf") else {
        return;
    };
    let is_null = |case: &Value| case.get("enum") == Some(&json!([null])) || case.get("type") == Some(&json!("null"));
    let (null, real): (Vec<&Value>, Vec<&Value>) = cases.iter().partition(|case| is_null(case));
    let ([_], [Value::Object(real)]) = (null.as_slice(), real.as_slice()) else {
        return;
    };
    let real = real.clone();
    fields.remove("anyOf");
    fields.insert("nullable".to_owned(), json!(true));
    for (keyword, value) in real {
        fields.entry(keyword).or_insert(value);
    }
}

/// Rust's widths of integers are not formats of OpenAPI.
fn known_format(fields: &mut Map<String, Value>) {
    let known = match fields.get("format").and_then(Value::as_str) {
        Some("int8" | "uint8" | "int16" | "uint16" | "int32") => "int32",
        Some("uint32" | "int64" | "uint64" | "int" | "uint") => "int64",
        Some("float") => "float",
        Some("double") => "double",
        Some("date-time" | "date" | "duration" | "byte" | "uuid" | "uri") | None => return,
        Some(_) => {
            fields.remove("format");
            return;
        }
    };
    fields.insert("format".to_owned(), json!(known));
}

/// An enum of words, each with its own text, becomes one list of words whose texts follow the description.
fn plain_enum(fields: &mut Map<String, Value>) {
    let Some(Value::Array(cases)) = fields.get("oneOf") else {
        return;
    };
    let words = |case: &Value| {
        case.get("enum").and_then(Value::as_array).filter(|words| words.iter().all(Value::is_string)).cloned()
    };
    let Some(all) = cases.iter().map(words).collect::<Option<Vec<_>>>() else {
        return;
    };
    let mut text = fields.get("description").and_then(Value::as_str).unwrap_or_default().to_owned();
    for (case, words) in cases.iter().zip(&all) {
        if let (Some(about), [word]) = (case.get("description").and_then(Value::as_str), words.as_slice()) {
            let word = word.as_str().unwrap_or_default();
            text.push_str(&format!("{}{word}: {about}", if text.is_empty() { "" } else { "\n" }));
        }
    }
    fields.remove("oneOf");
    fields.remove("nullable"); // null would have to be one of the words
    fields.insert("type".to_owned(), json!("string"));
    fields.insert("enum".to_owned(), all.concat().into());
    if !text.is_empty() {
        fields.insert("description".to_owned(), text.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the storage is made of.
    #[derive(JsonSchema)]
    #[allow(dead_code)]
    struct Sample {
        /// How many.
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
