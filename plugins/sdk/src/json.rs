//! Manifests as they look in YAML. Like `serde_json::json!`, in a quarter of the code: a plugin consists largely of manifests.

use serde::Serialize;
use serde_json::{Map, Value};

/// A JSON value: `json!({"kind": "Service", "metadata": {"name": name}})`. Keys are literals or constants; values are JSON or any
/// expression that serde can serialize.
#[macro_export]
macro_rules! json {
    (@fields $map:ident) => {};
    (@fields $map:ident $key:tt : null $(, $($rest:tt)*)?) => {
        $crate::json::put(&mut $map, $key, $crate::Value::Null);
        $($crate::json!(@fields $map $($rest)*);)?
    };
    (@fields $map:ident $key:tt : { $($inner:tt)* } $(, $($rest:tt)*)?) => {
        $crate::json::put(&mut $map, $key, $crate::json!({ $($inner)* }));
        $($crate::json!(@fields $map $($rest)*);)?
    };
    (@fields $map:ident $key:tt : [ $($inner:tt)* ] $(, $($rest:tt)*)?) => {
        $crate::json::put(&mut $map, $key, $crate::json!([ $($inner)* ]));
        $($crate::json!(@fields $map $($rest)*);)?
    };
    (@fields $map:ident $key:tt : $value:expr $(, $($rest:tt)*)?) => {
        $crate::json::put_any(&mut $map, $key, &$value);
        $($crate::json!(@fields $map $($rest)*);)?
    };
    (@items $list:ident) => {};
    (@items $list:ident null $(, $($rest:tt)*)?) => {
        $crate::json::add(&mut $list, $crate::Value::Null);
        $($crate::json!(@items $list $($rest)*);)?
    };
    (@items $list:ident { $($inner:tt)* } $(, $($rest:tt)*)?) => {
        $crate::json::add(&mut $list, $crate::json!({ $($inner)* }));
        $($crate::json!(@items $list $($rest)*);)?
    };
    (@items $list:ident [ $($inner:tt)* ] $(, $($rest:tt)*)?) => {
        $crate::json::add(&mut $list, $crate::json!([ $($inner)* ]));
        $($crate::json!(@items $list $($rest)*);)?
    };
    (@items $list:ident $value:expr $(, $($rest:tt)*)?) => {
        $crate::json::add(&mut $list, $crate::json::any(&$value));
        $($crate::json!(@items $list $($rest)*);)?
    };
    (null) => { $crate::Value::Null };
    ({}) => { $crate::Value::Object(Default::default()) };
    ([]) => { $crate::Value::Array(Vec::new()) };
    ({ $($fields:tt)* }) => {{
        let mut map = $crate::json::Fields::new();
        $crate::json!(@fields map $($fields)*);
        $crate::Value::Object(map)
    }};
    ([ $($items:tt)* ]) => {{
        let mut list: Vec<$crate::Value> = Vec::new();
        $crate::json!(@items list $($items)*);
        $crate::Value::Array(list)
    }};
    ($value:expr) => { $crate::json::any(&$value) };
}

/// The fields of an object.
pub type Fields = Map<String, Value>;

/// Puts a field; called rather than repeated in each place.
#[inline(never)]
pub fn put(fields: &mut Fields, key: &str, value: Value) {
    fields.insert(key.to_owned(), value);
}

/// Sets a field of an object, as `object[field] = value` does, in less code. What is no object stays as it is.
pub fn set(object: &mut Value, field: &str, value: Value) {
    if let Value::Object(fields) = object {
        put(fields, field, value);
    }
}

/// Puts a field of whatever can be serialized.
#[inline(never)]
pub fn put_any<T: Serialize + ?Sized>(fields: &mut Fields, key: &str, value: &T) {
    put(fields, key, any(value));
}

/// Puts an item.
#[inline(never)]
pub fn add(list: &mut Vec<Value>, value: Value) {
    list.push(value);
}

/// Whatever can be serialized; what cannot (a map whose keys are no text) is null.
#[inline(never)]
pub fn any<T: Serialize + ?Sized>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// JSON as text, as `serde_json::to_string` writes it, in less code and half the time.
pub fn text(value: &Value) -> String {
    let mut text = String::with_capacity(1024);
    write(value, &mut text);
    text
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => out.push_str(&number.to_string()),
        Value::String(text) => write_text(text, out),
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write(item, out);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            out.push('{');
            for (at, (key, value)) in fields.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write_text(key, out);
                out.push(':');
                write(value, out);
            }
            out.push('}');
        }
    }
}

fn write_text(text: &str, out: &mut String) {
    out.push('"');
    let bytes = text.as_bytes();
    let (mut rest, mut at) = (0, 0);
    while let Some(byte) = next_escaped(bytes, &mut at) {
        let escaped = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0x08 => "\\b",
            0x0c => "\\f",
            _ => "\\u00",
        };
        out.push_str(&text[rest..at]); // an ASCII byte is never inside a character
        out.push_str(escaped);
        if escaped.len() > 2 {
            for digit in [byte >> 4, byte & 0xf] {
                out.push(char::from_digit(digit.into(), 16).unwrap_or('0'));
            }
        }
        at += 1;
        rest = at;
    }
    out.push_str(&text[rest..]);
    out.push('"');
}

/// The next byte from `at` on that JSON escapes, with `at` moved to it. Eight bytes at a time: most texts have none.
fn next_escaped(bytes: &[u8], at: &mut usize) -> Option<u8> {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    let zero = |word: u64| word.wrapping_sub(ONES) & !word; // the high bit of a byte that is zero, or above one that is
    while let Some(word) = bytes.get(*at..).and_then(|rest| rest.first_chunk()) {
        let word = u64::from_le_bytes(*word);
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        if (control | zero(word ^ (ONES * u64::from(b'"'))) | zero(word ^ (ONES * u64::from(b'\\')))) & HIGH != 0 {
            break; // among these eight, or a false alarm above one of them
        }
        *at += 8;
    }
    let found = bytes.get(*at..)?.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f))?;
    *at += found;
    Some(bytes[*at])
}

#[cfg(test)]
mod tests {
    #[test]
    fn text_is_what_serde_json_writes() {
        let odd: String = (0..0x250).filter_map(char::from_u32).chain(['\u{2028}', '𝄞']).collect();
        let value = serde_json::json!({
            odd.as_str(): [null, true, false, 0, -1, u64::MAX, i64::MIN, 1.5, 1e300, "", odd],
            "nested": {"empty": {}, "list": [[], {}]},
        });
        assert_eq!(super::text(&value), serde_json::to_string(&value).expect("it is JSON"));
    }

    #[test]
    fn a_manifest_is_what_serde_json_makes_of_it() {
        const KEY: &str = "note";
        let (name, ports) = (String::from("it"), [1, 2]);
        let ours = json!({
            "a": {"b": [1, "two", {"c": null}, [], null, [3.5, name]], "d": {}, KEY: true},
            "ports": ports.map(|port| port + 1), "name": name, "none": null, "option": Some(7), // a comment
        });
        let theirs = serde_json::json!({
            "a": {"b": [1, "two", {"c": null}, [], null, [3.5, name]], "d": {}, KEY: true},
            "ports": [2, 3], "name": "it", "none": null, "option": 7,
        });
        assert_eq!(ours, theirs);
        assert_eq!((json!(null), json!("x"), json!([])), (serde_json::json!(null), "x".into(), serde_json::json!([])));
    }
}
