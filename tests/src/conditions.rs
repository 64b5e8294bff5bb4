//! Conditions of objects, as tests look at them.

use serde_json::Value;

/// A condition of an object; null if it has none of the type, as an object that was not looked at yet.
pub fn condition<'a>(object: &'a Value, type_: &str) -> &'a Value {
    let conditions = object["status"]["conditions"].as_array();
    conditions.into_iter().flatten().find(|c| c["type"] == type_).unwrap_or(&Value::Null)
}

/// Whether an object has a condition with this status and reason; an empty reason is any.
pub fn has(object: &Value, type_: &str, status: &str, reason: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|c| c["type"] == type_ && c["status"] == status && (reason.is_empty() || c["reason"] == reason))
}
