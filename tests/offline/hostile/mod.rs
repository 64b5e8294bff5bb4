//! Hostile plugins of every kind, a row each: what becomes of its bytes, or of its plan, in the message that a user reads.
//! Each is stopped by the limit that is there for it, and by no other.

mod bytes;
mod costs;
mod plans;

/// The rest of a message after the name of the plugin.
#[track_caller]
fn after_the_name(message: &str) -> &str {
    assert!(message.starts_with("plugin ") || message.starts_with("the plan of plugin "), "no plugin is named: {message}");
    message.split_once("): ").or(message.split_once(") ")).unwrap_or_else(|| panic!("no digest is named: {message}")).1
}

/// Whether a message is the one expected: the whole of it, or its beginning if that ends in three dots.
fn is_expected(message: &str, expected: &str) -> bool {
    match expected.strip_suffix("...") {
        Some(start) => message.starts_with(start),
        None => message == expected,
    }
}

/// Asserts that all messages are as expected; prints all that are not.
fn none(wrong: &[String]) {
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
}
