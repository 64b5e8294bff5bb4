//! Kubernetes' quantities (`500m`, `1Gi`, `1e3`), compared by value. Knows nothing of where they stand.

use serde_json::Value;

/// Whether two JSON strings or numbers are the same quantity, however it is written.
///
/// The API server rewrites quantities in a canonical form (0.5 becomes 500m, 1024Mi becomes 1Gi) and rounds up to whole
/// billionths. What is no quantity equals nothing.
pub fn same(one: &Value, other: &Value) -> bool {
    match (billionths(one), billionths(other)) {
        (Some(one), Some(other)) => one == other,
        _ => false,
    }
}

/// One spelling for all that are the same quantity; `None` if it is none.
pub fn canonical(value: &Value) -> Option<Value> {
    let billionths = billionths(value)?;
    Some(match billionths % BILLION {
        0 => Value::from((billionths / BILLION).to_string()),
        _ => Value::from(format!("{billionths}n")),
    })
}

const BILLION: i128 = 1_000_000_000;

/// The value in billionths, rounded away from zero, if it is a quantity that fits (10^29; the API server ends at 2^63).
/// Grammar: `apimachinery/pkg/api/resource/quantity.go`.
fn billionths(value: &Value) -> Option<i128> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let (negative, text) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, &text[..]),
    };
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.len() + fraction.len() == 0 || fraction.contains('.') {
        return None;
    }
    let digits = format!("{whole}{}", fraction.trim_end_matches('0'));
    let mantissa: i128 = if digits.is_empty() { 0 } else { digits.parse().ok()? };
    let (twos, tens) = scale(suffix)?;
    let tens = tens.checked_add(9)?.checked_sub(i32::try_from(fraction.trim_end_matches('0').len()).ok()?)?;
    let scaled = mantissa.checked_mul(1_i128.checked_shl(twos)?)?;
    let size = match u32::try_from(tens) {
        _ if scaled == 0 => 0,
        Ok(tens) => scaled.checked_mul(10_i128.checked_pow(tens)?)?,
        // Finer than can be told apart: more than 10^38 of them are not one billionth.
        Err(_) => 10_i128.checked_pow(tens.unsigned_abs()).map_or(1, |unit| (scaled + unit - 1) / unit),
    };
    Some(if negative { -size } else { size })
}

/// Powers of two and ten that a suffix stands for.
fn scale(suffix: &str) -> Option<(u32, i32)> {
    Some(match suffix {
        "n" => (0, -9),
        "u" => (0, -6),
        "m" => (0, -3),
        "" => (0, 0),
        "k" => (0, 3),
        "M" => (0, 6),
        "G" => (0, 9),
        "T" => (0, 12),
        "P" => (0, 15),
        "E" => (0, 18),
        "Ki" => (10, 0),
        "Mi" => (20, 0),
        "Gi" => (30, 0),
        "Ti" => (40, 0),
        "Pi" => (50, 0),
        "Ei" => (60, 0),
        _ => (0, suffix.strip_prefix(['e', 'E'])?.parse().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn one_amount_in_two_spellings_is_the_same() {
        for (one, other) in [
            (json!("1Gi"), json!("1024Mi")),
            (json!("0.5"), json!("500m")),
            (json!(".5"), json!("500m")),
            (json!("5."), json!(5)),
            (json!(0.5), json!("500m")),
            (json!("1000m"), json!("1")),
            (json!(1), json!("1")),
            (json!(1_000_000), json!("1M")),
            (json!("1e3"), json!("1k")),
            (json!("1E3"), json!("1000")),
            (json!("1e-1"), json!("100m")),
            (json!("100e-3"), json!("0.1")),
            (json!("1.1Gi"), json!("1181116006400m")),
            (json!("0.5Gi"), json!("512Mi")),
            (json!("+1"), json!("1.000")),
            (json!("0"), json!("0Gi")),
            (json!("-0.5"), json!("-500m")),
            (json!("8Ei"), json!("9223372036854775808")),
            (json!("0.1n"), json!("1n")), // the server rounds up
            (json!("1e-99"), json!("1n")),
        ] {
            assert!(same(&one, &other), "{one} and {other}");
            assert_eq!(canonical(&one), canonical(&other));
            assert!(same(&one, &canonical(&one).unwrap()), "{one} keeps its value");
        }
    }

    #[test]
    fn different_amounts_and_things_that_are_none_are_not() {
        for (one, other) in [
            (json!("1G"), json!("1Gi")),
            (json!("1m"), json!("1M")),
            (json!("1"), json!("2")),
            (json!("-1"), json!("1")),
            (json!(""), json!("")),
            (json!("m"), json!("m")),
            (json!("1.2.3"), json!("1.2.3")),
            (json!("1 Gi"), json!("1Gi")),
            (json!("1x"), json!("1x")),
            (json!("1ex"), json!("1ex")),
            (json!("é"), json!("é")),
            (json!("1e2147483647"), json!("1e2147483647")),
            (json!("1e-2147483648"), json!("2")),
            (json!(true), json!(true)),
            (json!(null), json!(null)),
        ] {
            assert!(!same(&one, &other), "{one} and {other}");
        }
    }
}
