//! Untrusted texts in our messages: cleaned, cut, and compared without times, addresses and identifiers. Knows no other
//! module.

/// A text as part of one line: no control characters, runs of white space as one, at most `max` characters.
pub fn line(text: &str, max: usize) -> String {
    let words = text.split(|c: char| c.is_control() || c.is_whitespace()).filter(|word| !word.is_empty());
    let mut line = String::new();
    for word in words {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        if line.len() > 4 * max {
            break;
        }
    }
    match line.char_indices().nth(max) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

/// Whether two texts are the same but for times, durations, addresses and identifiers: such a change alone is not worth a
/// write.
pub fn same(a: &str, b: &str) -> bool {
    a == b || normal(a) == normal(b)
}

/// A text with `#` for each time, duration, address and identifier in it. Counts stay: they are what a person looks for.
pub fn normal(text: &str) -> String {
    replaced(text, is_volatile)
}

/// The same with `#` for every number: messages about one pod after the other become one text.
pub fn of_any(text: &str) -> String {
    replaced(text, |word, _| word.contains(|c: char| c.is_ascii_digit()))
}

/// A text with `#` for each run of letters and digits that `replace` picks, given what stands around it.
fn replaced(text: &str, replace: impl Fn(&str, (&str, &str)) -> bool) -> String {
    let (mut out, mut at) = (String::with_capacity(text.len()), 0);
    while let Some(first) = text[at..].chars().next() {
        if !first.is_ascii_alphanumeric() {
            out.push(first);
            at += first.len_utf8();
            continue;
        }
        let end = text[at..].find(|c: char| !c.is_ascii_alphanumeric()).map_or(text.len(), |length| at + length);
        match replace(&text[at..end], (&text[..at], &text[end..])) {
            true => out.push('#'),
            false => out.push_str(&text[at..end]),
        }
        at = end;
    }
    out
}

/// Whether a run of letters and digits is part of a time, a duration, an address or an identifier.
fn is_volatile(word: &str, (before, after): (&str, &str)) -> bool {
    let digits = word.chars().filter(char::is_ascii_digit).count();
    if digits == 0 {
        return false;
    }
    let digit = |text: Option<&str>, last: bool| {
        text.is_some_and(|text| {
            if last { text.ends_with(|c: char| c.is_ascii_digit()) } else { text.starts_with(|c: char| c.is_ascii_digit()) }
        })
    };
    let beside = |mark: char| digit(before.strip_suffix(mark), true) || digit(after.strip_prefix(mark), false);
    let hexadecimal = word.len() >= 8 && word.chars().all(|c| c.is_ascii_hexdigit());
    let long = digits == word.len() && digits >= 4; // a year, a port, a process
    let number = word.trim_start_matches(|c: char| c.is_ascii_digit());
    let duration =
        ["ns", "us", "ms", "s", "m", "h", "Z"].contains(&number) || number.starts_with(['h', 'm']) && number.ends_with('s');
    let date =
        word.contains('T') && word.split('T').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    let of_time =
        beside(':') || date || word.starts_with(|c: char| c.is_ascii_digit()) && before.ends_with('.') && beside('.');
    hexadecimal || long || of_time || duration
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_by_itself_is_not_another_text() {
        for (a, b) in [
            ("failed to set up sandbox \"0f3a9bc2d1\" of pod", "failed to set up sandbox \"7e12ac9900\" of pod"),
            ("1:C 28 Nov 2026 15:04:43.123 * bad directive", "1:C 28 Nov 2026 15:09:11.940 * bad directive"),
            ("back-off 40s restarting", "back-off 1m20s restarting"),
            ("dial tcp 10.0.0.1:35122: refused", "dial tcp 10.0.0.1:40511: refused"),
            ("at 2026-01-01T10:00:00Z it failed", "at 2026-01-01T11:30:05Z it failed"),
        ] {
            assert!(same(a, b), "{}\n{}", normal(a), normal(b));
        }
        for (a, b) in [
            ("1 of 3 partitions are ready", "2 of 3 partitions are ready"),
            ("its container keeps exiting with exit code 1", "its container keeps exiting with exit code 137"),
            ("secret \"a\" not found", "secret \"b\" not found"),
            ("db-1-0: claim is pending", "db-1-1: claim is pending"),
        ] {
            assert!(!same(a, b), "{a} / {b}");
        }
        assert_eq!(of_any("create Pod e-1-0 failed"), of_any("create Pod e-1-2 failed"));
    }

    #[test]
    fn a_text_of_somebody_else_is_one_line() {
        assert_eq!(line("a\u{1b}[1m\n\n b\t", 10), "a [1m b");
        assert_eq!(line("äöüäöü", 3), "äöü...");
    }
}
