//! How the members of a cluster agree, in three encodings: fields of the class, the protobuf message of the old gRPC API,
//! and the nodes' own JSON. Knows no database.

use atomix_sdk::{Durations, FieldError, Group, INTEGER_MAX, Value, check_number, field_error, json, set};

use crate::class::{NODES, RaftClass};

/// Full name of the message: durations in fields 1 to 3, in the order of [`DURATIONS`], and a number in field 4.
pub const MESSAGE: &str = "atomix.raft.config.ProtocolConfig";

/// Fields that hold durations, and the one that holds a number, in the class as in the nodes' JSON.
const DURATIONS: [&str; 3] = ["electionTimeout", "heartbeatInterval", "snapshotInterval"];
const THRESHOLD: &str = "snapshotThreshold";

/// The durations that the class sets, in the order of the message.
fn durations(class: &RaftClass) -> [Option<&String>; 3] {
    [&class.election_timeout, &class.heartbeat_interval, &class.snapshot_interval].map(Option::as_ref)
}

/// The nodes' own format, `protocol.json`: what is not set is absent, and the nodes' default.
pub fn protocol_json(class: &RaftClass) -> Value {
    let mut fields = json!({});
    for (field, duration) in DURATIONS.into_iter().zip(durations(class)) {
        if let Some(duration) = duration {
            // In the one spelling that protobuf reads: members restart when it changes.
            let text = self::duration(duration).and_then(duration_text).unwrap_or_else(|| duration.clone());
            set(&mut fields, field, text.into());
        }
    }
    if let Some(threshold) = class.snapshot_threshold {
        set(&mut fields, THRESHOLD, threshold.to_string().into()); // as protobuf writes 64 bits in JSON
    }
    fields
}

/// What is wrong with these fields of a class.
pub fn check(class: &RaftClass, wrong: &mut impl FnMut(&str, String)) {
    for (field, text) in DURATIONS.into_iter().zip(durations(class)) {
        if let Some(text) = text {
            ACCEPTED.check(&format!("spec.{field}"), text, wrong);
        }
    }
    if let Some(threshold) = class.snapshot_threshold {
        check_number("spec.snapshotThreshold", (threshold, ""), 1..=INTEGER_MAX, wrong);
    }
}

/// The spec of the class that a group asks for.
pub fn spec_of(message: &[u8], partition_size: u32) -> Result<Value, Vec<FieldError>> {
    let mut errors = Vec::new();
    let mut spec = json!({"replicas": partition_size, "partitionsPerCluster": 1});
    let mut wrong = |path: &str, why: String| errors.push(field_error(path, why));
    check_number("partition_size", (partition_size.into(), " members"), NODES, &mut wrong);
    let mut wrong = |why: String| wrong("protocol.value", why);
    match decoded(message) {
        None => wrong(format!("malformed bytes; an encoded {MESSAGE} is expected")),
        Some((durations, threshold)) => {
            for (field, duration) in DURATIONS.into_iter().zip(durations) {
                match duration.map(duration_text) {
                    None => {}
                    Some(Some(text)) => set(&mut spec, field, text.into()),
                    Some(None) => wrong(format!("{field} is out of range; {}", ACCEPTED.expected())),
                }
            }
            match threshold {
                0 => {} // not set
                1..=INTEGER_MAX => set(&mut spec, THRESHOLD, threshold.into()),
                _ => wrong(format!("{THRESHOLD} is {threshold}; at most {INTEGER_MAX} is accepted")),
            }
        }
    }
    if errors.is_empty() { Ok(spec) } else { Err(errors) }
}

/// The group that a class means: the inverse of [`spec_of`].
pub fn group_of(class: &RaftClass) -> Group {
    let mut message = Vec::new();
    for (at, text) in durations(class).into_iter().enumerate() {
        let Some((seconds, nanos)) = text.and_then(|text| duration(text)) else { continue };
        let mut inner = Vec::new();
        put_number(&mut inner, 8, seconds);
        put_number(&mut inner, 16, nanos);
        message.extend([(at as u8 + 1) << 3 | 2, inner.len() as u8]); // at most two fields of six bytes
        message.append(&mut inner);
    }
    put_number(&mut message, 32, class.snapshot_threshold.unwrap_or(0));
    Group { partition_size: class.replicas, value: message }
}

/// Durations that nodes read: more than nothing, and less than thirty years.
const ACCEPTED: Durations = Durations { like: "2s or 500ms", accepted: 1..=BILLION * BILLION - 1 };

/// Seconds and billionths of a duration.
fn duration(text: &str) -> Option<(u64, u64)> {
    let nanoseconds = ACCEPTED.read(text)?;
    Some((nanoseconds / BILLION, nanoseconds % BILLION))
}

/// The duration as text, if [`duration`] would read it.
fn duration_text((seconds, nanos): (u64, u64)) -> Option<String> {
    if seconds >= BILLION || nanos >= BILLION || seconds + nanos == 0 {
        return None;
    }
    let mut text = seconds.to_string();
    if nanos > 0 {
        text = format!("{text}.{nanos:09}");
        while text.ends_with('0') {
            text.pop();
        }
    }
    text.push('s');
    Some(text)
}

const BILLION: u64 = 1_000_000_000;

/// Seconds and billionths of each duration that is there, and the threshold, 0 if it is not.
type Decoded = ([Option<(u64, u64)>; 3], u64);

/// Reads the message; None if its bytes are malformed. Fields that are not known are skipped, and of two that are alike the last
/// counts. See <https://protobuf.dev/programming-guides/encoding/>.
fn decoded(mut message: &[u8]) -> Option<Decoded> {
    let (mut durations, mut threshold) = ([None; 3], 0);
    while !message.is_empty() {
        match field(&mut message)? {
            (tag @ (10 | 18 | 26), _, mut inner) => {
                let (seconds, nanos) = durations[tag as usize / 8 - 1].get_or_insert((0, 0));
                while !inner.is_empty() {
                    match field(&mut inner)? {
                        (8, number, _) => *seconds = number, // a negative number is a very large one here
                        (16, number, _) => *nanos = number,
                        _ => {}
                    }
                }
            }
            (32, number, _) => threshold = number,
            _ => {}
        }
    }
    Some((durations, threshold))
}

/// Takes the next field off: its number and wire type, as they stand together in its tag, and its value, a number or bytes.
fn field<'a>(message: &mut &'a [u8]) -> Option<(u64, u64, &'a [u8])> {
    let tag = varint(message).filter(|tag| *tag >= 8)?;
    let (number, len) = match tag & 7 {
        0 => (varint(message)?, 0),
        1 => (0, 8),
        2 => (0, usize::try_from(varint(message)?).ok()?),
        5 => (0, 4),
        _ => return None,
    };
    let (bytes, rest) = message.split_at_checked(len)?;
    *message = rest;
    Some((tag, number, bytes))
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = message.split_first()?;
        *message = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

/// Appends a field that is a number, unless it is 0, which is absent. `tag` is below 128.
fn put_number(message: &mut Vec<u8>, tag: u8, mut number: u64) {
    if number == 0 {
        return;
    }
    message.push(tag);
    while number >= 0x80 {
        message.push(number as u8 | 0x80);
        number >>= 7;
    }
    message.push(number as u8);
}

#[cfg(test)]
#[path = "protocol_tests.rs"]
mod tests;
