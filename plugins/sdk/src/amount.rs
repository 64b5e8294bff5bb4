//! Amounts that have several spellings, by their value: Kubernetes' quantities (`1Gi`, `1e3`) and durations (`90s`, `1.5h`). Knows
//! nothing of where they stand.

use serde_json::Value;

/// A quantity in thousandths, rounded up, or None if it is none; all that exceed what can be counted (16 PiB) are equal.
/// See <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>.
pub(crate) fn quantity(value: &Value) -> Option<u64> {
    let number;
    let text = match value {
        Value::String(text) => text.as_str(),
        Value::Number(plain) => {
            number = plain.to_string();
            &number
        }
        _ => return None,
    };
    let (digits, decimals, unit) = decimal(text.strip_prefix('+').unwrap_or(text))?;
    let power = |of: &str| ["K", "M", "G", "T", "P", "E"].iter().position(|letter| *letter == of);
    let (twos, tens) = match unit {
        "n" => (0, -9),
        "u" => (0, -6),
        "m" => (0, -3),
        "" => (0, 0),
        "k" => (0, 3),
        "K" => return None,
        _ => match (unit.strip_suffix('i').and_then(power), power(unit)) {
            (Some(power), _) => (10 * (power as u32 + 1), 0),
            (_, Some(power)) => (0, 3 * (power as i32 + 1)),
            _ => (0, unit.strip_prefix(['e', 'E'])?.parse::<i32>().ok()?),
        },
    };
    let mut size = digits;
    for _ in 0..twos {
        size = size.saturating_mul(2);
    }
    let mut tens = tens.saturating_add(3).saturating_sub(decimals);
    while tens > 0 && size > 0 && size < u64::MAX {
        size = size.saturating_mul(10);
        tens -= 1;
    }
    while tens < 0 && size > 1 {
        size = size.div_ceil(10);
        tens += 1;
    }
    Some(size)
}

/// A duration in nanoseconds, as Go reads it and protobuf writes it in JSON: numbers with units from h to ns, largest first or not.
/// None if it is none, or longer than 290 years, which is more than Go can count.
pub fn duration(text: &str) -> Option<u64> {
    let (mut rest, mut sum) = (text, 0_u64);
    loop {
        let (mut digits, mut decimals, more) = decimal(rest)?;
        let units = [("h", HOUR), ("ms", 1_000_000), ("m", MINUTE), ("s", SECOND), ("us", 1000), ("µs", 1000), ("ns", 1)];
        let (more, mut unit) = units.iter().find_map(|(name, unit)| Some((more.strip_prefix(name)?, *unit)))?;
        while decimals > 0 {
            // The unit is divided as long as nothing is lost, then the number is.
            if unit % 10 == 0 {
                unit /= 10
            } else {
                digits /= 10
            }
            decimals -= 1;
        }
        sum = sum.checked_add(digits.checked_mul(unit)?)?;
        rest = more;
        if rest.is_empty() {
            return Some(sum).filter(|sum| *sum <= i64::MAX as u64);
        }
    }
}

const SECOND: u64 = 1_000_000_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

/// The one spelling of a duration, which Go reads: `1h30m` for `90m`, `0s` for nothing.
pub fn duration_text(mut nanoseconds: u64) -> String {
    let mut text = String::new();
    for (name, unit) in [("h", HOUR), ("m", MINUTE), ("s", SECOND), ("ms", 1_000_000), ("us", 1000), ("ns", 1)] {
        if nanoseconds >= unit {
            text.push_str(&(nanoseconds / unit).to_string());
            text.push_str(name);
            nanoseconds %= unit;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// A decimal number at the start of a text: its digits as one number, how many of them are decimals, and what follows.
fn decimal(text: &str) -> Option<(u64, i32, &str)> {
    let (mut digits, mut decimals, mut zeros, mut dot, mut any) = (0_u64, 0, 0, false, false);
    let mut end = text.len();
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'.' if dot => return None,
            b'.' => dot = true,
            b'0' if dot => (zeros, any) = (zeros + 1, true), // they count once another digit follows
            b'0'..=b'9' => {
                any = true;
                for _ in 0..zeros {
                    digits = digits.checked_mul(10)?;
                }
                digits = digits.checked_mul(10)?.checked_add((byte - b'0').into())?;
                decimals += if dot { zeros + 1 } else { 0 };
                zeros = 0;
            }
            _ => {
                end = at;
                break;
            }
        }
    }
    any.then_some((digits, decimals, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn one_quantity_in_two_spellings_is_one() {
        for (one, other) in [
            (json!("1Gi"), json!("1024Mi")),
            (json!("0.5Gi"), json!("512Mi")),
            (json!("1e9"), json!("1G")),
            (json!("1E9"), json!(1_000_000_000)),
            (json!("1.5G"), json!("1500M")),
            (json!("100M"), json!("1e8")),
            (json!("0.1"), json!("100m")),
            (json!(".5"), json!("500m")),
            (json!("5."), json!(5)),
            (json!("+1"), json!("1.000")),
            (json!("1Ki"), json!(1024)),
            (json!("0"), json!("0Gi")),
            (json!("8Pi"), json!("9007199254740992")),
            (json!("0.1m"), json!("1m")),
            (json!("1e-99"), json!("1m")),
            (json!("0e2147483647"), json!(0)),
            (json!("1.10"), json!("1100m")),
            (json!("10.010"), json!("10010m")),
        ] {
            assert!(quantity(&one).is_some() && quantity(&one) == quantity(&other), "{one} and {other}");
        }
        for none in ["", "Gi", "1 Gi", "1x", "1K", "1ki", "1Mib", "1.2.3", ".", "1ex", "é", "-1", "--1"] {
            assert_eq!(quantity(&json!(none)), None, "{none}");
        }
        assert_ne!(quantity(&json!("1G")), quantity(&json!("1Gi")));
        assert_ne!(quantity(&json!("1m")), quantity(&json!("1M")));
    }

    #[test]
    fn one_duration_in_two_spellings_is_one() {
        for (text, canonical) in [
            ("60m", "1h"),
            ("1h", "1h"),
            ("90s", "1m30s"),
            ("1.5h", "1h30m"),
            ("30m1h", "1h30m"),
            ("1000ms", "1s"),
            ("1.0s", "1s"),
            (".5s", "500ms"),
            ("0h", "0s"),
            ("0.000000001s", "1ns"),
        ] {
            let nanoseconds = duration(text).unwrap_or_else(|| panic!("{text} is a duration"));
            assert_eq!(duration_text(nanoseconds), canonical, "{text}");
            assert_eq!(duration(canonical), Some(nanoseconds));
        }
        for none in
            ["", "1", "h", "1d", "1 h", "-1h", "1h30", "1..5h", "1hé", "é", "9999999999h", "99999999999999999999s", "0"]
        {
            assert_eq!(duration(none), None, "{none}");
        }
    }
}
