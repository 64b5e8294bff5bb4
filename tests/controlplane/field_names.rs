//! Whether a message names a field, so that whoever reads it knows what to correct.

/// Whether a text has a word, with other characters than letters and digits around it.
pub fn is_word(text: &str, word: &str) -> bool {
    let is_alone = |at: usize| {
        let around = [text[..at].chars().next_back(), text[at + word.len()..].chars().next()];
        around.iter().all(|it| it.is_none_or(|it| !it.is_alphanumeric()))
    };
    !word.is_empty() && text.match_indices(word).any(|(at, _)| is_alone(at))
}

#[test]
fn a_field_is_named_where_it_stands_alone() {
    for (text, named) in [
        ("spec.replicas: Invalid value: 0", true),
        ("replicas", true),
        ("spec.replicas[0] is 3", true),
        ("readyReplicas are 3", false),
        ("replicas1 and xreplicas", false),
        ("", false),
    ] {
        assert_eq!(is_word(text, "replicas"), named, "{text}");
    }
    assert!(!is_word("anything", ""));
}
