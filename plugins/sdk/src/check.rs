//! Checks of the fields of classes: numbers, durations, names of Secrets. Each is given the path of a field, and names what is wrong with it and
//! what is accepted.

use std::ops::RangeInclusive;

use crate::amount::duration;

/// The largest whole number that an API server stores.
pub const INTEGER_MAX: u64 = i64::MAX as u64;

/// Names a number in the field `path` that is not one of those accepted. `found` is the number and what it counts, e.g. `12 nodes`.
///
/// ```
/// let mut errors = Vec::new();
/// atomix_sdk::check_number("spec.replicas", (12, " nodes"), 1..=9, &mut |path, why| errors.push(format!("{path}: {why}")));
/// assert_eq!(errors, ["spec.replicas: 12 nodes; 1 to 9 are accepted"]);
/// ```
pub fn check_number(
    path: &str,
    (number, unit): (u64, &str),
    accepted: RangeInclusive<u64>,
    wrong: &mut impl FnMut(&str, String),
) {
    if !accepted.contains(&number) {
        wrong(path, format!("{number}{unit}; {} to {} are accepted", accepted.start(), accepted.end()));
    }
}

/// Which durations a field accepts.
pub struct Durations {
    /// Examples, e.g. `1h or 30m`.
    pub like: &'static str,
    /// Lengths in nanoseconds.
    pub accepted: RangeInclusive<u64>,
}

impl Durations {
    /// Durations of any length, also none at all.
    pub const fn any(like: &'static str) -> Self {
        Self { like, accepted: 0..=u64::MAX }
    }

    /// Reads a duration, in nanoseconds; None if it is none, or not accepted.
    pub fn read(&self, text: &str) -> Option<u64> {
        duration(text).filter(|length| self.accepted.contains(length))
    }

    /// Names a duration in the field `path` that is none, or not accepted.
    ///
    /// ```
    /// let mut errors = Vec::new();
    /// let wrong = &mut |path: &str, why| errors.push(format!("{path}: {why}"));
    /// atomix_sdk::Durations::any("1h or 30m").check("spec.timeout", "90", wrong);
    /// assert_eq!(errors, ["spec.timeout: \"90\"; a duration like 1h or 30m is expected"]);
    /// ```
    pub fn check(&self, path: &str, text: &str, wrong: &mut impl FnMut(&str, String)) {
        if self.read(text).is_none() {
            wrong(path, format!("{text:?}; {}", self.expected()));
        }
    }

    /// The end of a message about a duration.
    pub fn expected(&self) -> String {
        format!("a duration like {} is expected", self.like)
    }
}

/// Names a Secret in the field `path` whose name no Secret can have: it is a DNS subdomain.
///
/// ```
/// let mut errors = Vec::new();
/// atomix_sdk::check_secret("spec.secretName", "A_b", &mut |path, why| errors.push(format!("{path}: {why}")));
/// assert_eq!(errors, ["spec.secretName: \"A_b\"; the name of a Secret is expected"]);
/// ```
pub fn check_secret(path: &str, name: &str, wrong: &mut impl FnMut(&str, String)) {
    if name.len() > NAME_CHARS_MAX || !name.split('.').all(is_label) {
        wrong(path, format!("{name:?}; the name of a Secret is expected"));
    }
}

/// Names a key in the field `path` that no Secret can have.
pub fn check_secret_key(path: &str, key: &str, wrong: &mut impl FnMut(&str, String)) {
    let inner = |c: u8| c.is_ascii_alphanumeric() || b"-._".contains(&c);
    let is_key = (1..=NAME_CHARS_MAX).contains(&key.len()) && key.bytes().all(inner) && key != "." && !key.starts_with("..");
    if !is_key {
        wrong(path, format!("{key:?}; a key of a Secret is expected"));
    }
}

/// The longest name or key in Kubernetes.
const NAME_CHARS_MAX: usize = 253;

/// Whether a text is a DNS label, of any length.
pub(crate) fn is_label(text: &str) -> bool {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_fine(check: impl FnOnce(&mut dyn FnMut(&str, String))) -> bool {
        let mut fine = true;
        check(&mut |_, _| fine = false);
        fine
    }

    #[test]
    fn names_of_secrets_and_their_keys_are_those_of_kubernetes() {
        let long = "a".repeat(254);
        for (text, is_name, is_key) in [
            ("a", true, true),
            ("a.b-c.0", true, true),
            ("A_b", false, true),
            ("tls.crt", true, true),
            ("", false, false),
            ("-a", false, true),
            ("a-", false, true),
            ("a..b", false, true),
            (".a", false, true),
            ("..", false, false),
            ("..a", false, false),
            (".", false, false),
            ("a/b", false, false),
            ("a b", false, false),
            (&long, false, false),
        ] {
            assert_eq!(is_fine(|mut wrong| check_secret("spec.it", text, &mut wrong)), is_name, "{text}");
            assert_eq!(is_fine(|mut wrong| check_secret_key("spec.it", text, &mut wrong)), is_key, "{text}");
        }
    }

    #[test]
    fn a_duration_is_one_that_go_reads_and_that_the_field_accepts() {
        let positive = Durations { accepted: 1..=3_600_000_000_000, ..Durations::any("1h") };
        for (text, is_one, is_positive) in [
            ("1h", true, true),
            ("1ns", true, true),
            ("1h1ns", true, false),
            ("0s", true, false),
            ("90", false, false),
            ("", false, false),
            ("1d", false, false),
        ] {
            for (durations, accepted) in [(&Durations::any("1h"), is_one), (&positive, is_positive)] {
                assert_eq!(is_fine(|mut wrong| durations.check("spec.it", text, &mut wrong)), accepted, "{text}");
                assert_eq!(durations.read(text).is_some(), accepted, "{text}");
            }
        }
    }

    #[test]
    fn a_number_is_accepted_up_to_its_bounds() {
        for (number, accepted) in [(0, false), (1, true), (9, true), (10, false), (INTEGER_MAX, false)] {
            assert_eq!(is_fine(|mut wrong| check_number("spec.it", (number, ""), 1..=9, &mut wrong)), accepted, "{number}");
        }
    }

    #[test]
    fn a_label_begins_and_ends_in_a_letter_or_a_digit() {
        for (text, is_one) in [
            ("a", true),
            ("0-a", true),
            ("", false),
            ("-a", false),
            ("a-", false),
            ("a.b", false),
            ("A", false),
            ("é", false),
        ] {
            assert_eq!(is_label(text), is_one, "{text}");
        }
    }
}
