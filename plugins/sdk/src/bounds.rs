//! Bounds of what a class may hold and of messages about it. The controller treats an answer beyond its own bounds as a
//! fault of the plugin; a text of the user that is too long for a message is cut, and a spec that is too long for a manifest
//! is refused. Knows no particular storage.

use crate::field_error;
use crate::types::{FieldError, Note, Reason, Refusal, StoragePlan};

/// Most bytes of a spec. A manifest may have four times as many, and a part of the spec stands in it for each container.
const SPEC_BYTES_MAX: usize = 128 * 1024;
/// Deepest nesting of a spec. A manifest may be eight levels deeper, and what is for pods stands four or six deep in it.
const SPEC_DEPTH_MAX: usize = 24;
/// Most field errors, changes not taken, or notes of an answer, as many as the controller accepts.
const REMARKS_MAX: usize = 64;
/// Most bytes of a field's path, as many as the controller accepts.
const WORD_MAX: usize = 253;
/// Most bytes of a message, as many as the controller accepts.
const MESSAGE_MAX: usize = 4096;
/// What is kept of the beginning, and of the end, of a message that is longer: what is wrong, and what is accepted.
const MESSAGE_PART: usize = 1024;

/// What is wrong with a spec, as JSON text, before it is read.
pub fn check(spec: &str) -> Result<(), FieldError> {
    if spec.len() > SPEC_BYTES_MAX {
        return Err(field_error("spec", format!("{} bytes; at most {SPEC_BYTES_MAX} are accepted", spec.len())));
    }
    match depth(spec) {
        depth if depth > SPEC_DEPTH_MAX => {
            Err(field_error("spec", format!("nested {depth} deep; at most {SPEC_DEPTH_MAX} is accepted")))
        }
        _ => Ok(()),
    }
}

/// How deep objects and lists are within each other, in JSON text.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_text, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_text,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Field errors that the controller accepts.
pub fn errors(mut errors: Vec<FieldError>) -> Vec<FieldError> {
    if errors.len() > REMARKS_MAX {
        let more = errors.len() - (REMARKS_MAX - 1);
        errors.truncate(REMARKS_MAX - 1);
        errors.push(field_error("spec", format!("{more} more fields are wrong")));
    }
    for FieldError { path, message: text } in &mut errors {
        word(path);
        message(text);
    }
    errors
}

/// A refusal that the controller accepts.
pub fn refusal(refusal: Refusal) -> Refusal {
    match refusal {
        Refusal::Invalid(found) => Refusal::Invalid(errors(found)),
        Refusal::Waiting(mut why) => {
            message(&mut why.message);
            Refusal::Waiting(why)
        }
    }
}

/// A plan whose messages the controller accepts.
pub fn plan(mut plan: StoragePlan) -> StoragePlan {
    plan.unsupported.truncate(REMARKS_MAX);
    for change in &mut plan.unsupported {
        word(&mut change.field);
        [&mut change.wanted, &mut change.kept, &mut change.why].into_iter().for_each(message);
    }
    plan.notes.truncate(REMARKS_MAX);
    let of_notes = plan.notes.iter_mut().map(|Note { reason, .. }| reason);
    let of_partitions = plan.partitions.iter_mut().filter_map(|state| state.problem.as_mut());
    of_notes.chain(of_partitions).for_each(|Reason { message: text, .. }| message(text));
    plan
}

/// Cuts a path, and takes what would act on a terminal out of it.
fn word(text: &mut String) {
    if text.chars().any(char::is_control) {
        *text = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    }
    text.truncate(text.floor_char_boundary(WORD_MAX));
}

/// Takes the middle out of a message that is too long.
fn message(text: &mut String) {
    if text.len() > MESSAGE_MAX {
        let end = text.floor_char_boundary(MESSAGE_PART);
        let start = text.ceil_char_boundary(text.len() - MESSAGE_PART);
        text.replace_range(end..start, " ... ");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{reason, types::UnsupportedChange};

    #[test]
    fn a_spec_that_no_manifest_could_hold_is_refused() {
        assert_eq!(
            check(r#"{"a": "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\"[[[[", "b": [[]]}"#),
            Ok(()),
            "brackets in a text are none"
        );
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert_eq!(check(&nested(24)), Ok(()));
        assert_eq!(check(&nested(25)), Err(field_error("spec", "nested 25 deep; at most 24 is accepted")));
        let long = "x".repeat(131_073);
        assert_eq!(check(&long), Err(field_error("spec", "131073 bytes; at most 131072 are accepted")));
    }

    #[test]
    fn messages_about_a_class_have_the_length_that_is_accepted() {
        let long = |with: &str| format!("\"{}\"; {with}", "ä".repeat(5000));
        let bounded = errors(vec![field_error(format!("spec.\u{1b}{}", "ä".repeat(300)), long("a name is expected")); 100]);
        assert_eq!((bounded.len(), &*bounded[63].message), (64, "37 more fields are wrong"));
        let FieldError { path, message } = &bounded[0];
        assert!(path.starts_with("spec. ää") && path.len() <= 253, "{path}");
        assert!(
            message.starts_with("\"ää") && message.ends_with("ä\"; a name is expected") && message.len() < 2100,
            "{message}"
        );
        let short = vec![field_error("spec.a", "b")];
        assert_eq!(errors(short.clone()), short);
        let Refusal::Waiting(why) = refusal(Refusal::Waiting(reason("A", long("b")))) else { panic!("it waits") };
        assert!(why.message.ends_with("; b") && why.message.len() < 2100);
        let change = UnsupportedChange { field: long("c"), wanted: long("d"), kept: long("e"), why: long("f") };
        let full = StoragePlan {
            objects: Vec::new(),
            partitions: Vec::new(),
            unsupported: vec![change; 100],
            notes: vec![Note { warning: false, reason: reason("A", long("g")) }; 100],
        };
        let plan = plan(full);
        assert_eq!((plan.unsupported.len(), plan.notes.len()), (64, 64));
        assert!(plan.unsupported[0].wanted.len() < 2100 && plan.notes[0].reason.message.len() < 2100);
    }
}
