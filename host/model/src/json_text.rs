//! What JSON text takes in memory once it is read: a few bytes make an object, and an object takes hundreds. Code that reads
//! untrusted text bounds it by this, before it is read. Knows no limit.

/// Bytes of an object that has a field: a node of a B-tree, with room for eleven.
const OBJECT_BYTES: usize = 640;
/// Bytes of each further field of an object, whose nodes are half full at worst, and of each further item of a list, which is copied as it
/// grows.
const ITEM_BYTES: usize = 112;

/// About how many bytes a `serde_json::Value` takes that is read from this text, and not less. It takes one look at each byte.
pub fn heap(text: &[u8]) -> usize {
    let (mut objects, mut items, mut in_text, mut escaped) = (0_usize, 0_usize, false, false);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_text,
            b'"' => in_text = !in_text,
            b'{' if !in_text && text.get(at + 1) != Some(&b'}') => objects += 1,
            b'[' | b',' if !in_text => items += 1,
            _ => {}
        }
    }
    objects * OBJECT_BYTES + items * ITEM_BYTES + text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_text_takes_is_counted_by_what_is_in_it() {
        for (text, objects, items) in [
            ("{}", 0, 0),
            (r#"{"a":1}"#, 1, 0),
            (r#"{"a":1,"b":[{},{"c":0}]}"#, 2, 3),
            (r#""{[,{\",{""#, 0, 0),
            (r#"["\\",{"":0}]"#, 1, 2),
            ("", 0, 0),
        ] {
            assert_eq!(heap(text.as_bytes()), objects * OBJECT_BYTES + items * ITEM_BYTES + text.len(), "{text}");
        }
    }
}
