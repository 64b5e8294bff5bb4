//! The protobuf codec: bytes written by hand, what is malformed, and that nothing is lost there and back.

use super::*;

fn class(spec: Value) -> RaftClass {
    serde_json::from_value(spec).expect("the spec fits its type")
}

/// Each field of the message set, with a fraction and a number of two bytes.
const FULL: [u8; 21] = [
    0x0a, 0x02, 0x08, 0x02, // election_timeout {seconds: 2}
    0x12, 0x06, 0x10, 0x80, 0xca, 0xb5, 0xee, 0x01, // heartbeat_interval {nanos: 500000000}
    0x1a, 0x04, 0x08, 0x3c, 0x10, 0x01, // snapshot_interval {seconds: 60, nanos: 1}
    0x20, 0xac, 0x02, // snapshot_threshold: 300
];

fn errors(message: &[u8], size: u32) -> Vec<String> {
    let errors = spec_of(message, size).expect_err("it is refused");
    errors.into_iter().map(|error| format!("{}: {}", error.path, error.message)).collect()
}

#[test]
fn a_message_becomes_a_spec_and_the_nodes_json() {
    let spec = spec_of(&FULL, 3).expect("a spec");
    let expected = json!({
        "replicas": 3, "partitionsPerCluster": 1, "electionTimeout": "2s", "heartbeatInterval": "0.5s",
        "snapshotInterval": "60.000000001s", "snapshotThreshold": 300,
    });
    assert_eq!(spec, expected);
    let class = class(spec);
    assert_eq!(
        protocol_json(&class).to_string(),
        r#"{"electionTimeout":"2s","heartbeatInterval":"0.5s","snapshotInterval":"60.000000001s","snapshotThreshold":"300"}"#
    );
    assert_eq!(group_of(&class), Group { partition_size: 3, value: FULL.to_vec() });
}

#[test]
fn an_empty_message_leaves_all_to_the_nodes() {
    let spec = spec_of(&[], 1).expect("a spec");
    assert_eq!(spec, json!({"replicas": 1, "partitionsPerCluster": 1}));
    assert_eq!(group_of(&class(spec.clone())), Group { partition_size: 1, value: Vec::new() });
    assert_eq!(protocol_json(&class(spec)).to_string(), "{}");
}

#[test]
fn unknown_fields_are_skipped_and_of_two_alike_the_last_counts() {
    let message = [
        0x28, 0xff, 0x01, // field 5: a number
        0x31, 1, 2, 3, 4, 5, 6, 7, 8, // field 6: eight bytes
        0x3a, 0x02, 0xff, 0xff, // field 7: bytes
        0x45, 1, 2, 3, 4, // field 8: four bytes
        0x08, 0x07, // field 1 as a number, which it is not
        0x20, 0x05, 0x20, 0x00, 0x20, 0x06, // field 4, three times
        0x0a, 0x06, 0x08, 0x01, 0x10, 0x00, 0x18, 0x07, // field 1 with a field that no duration has
        0x0a, 0x02, 0x08, 0x03, // field 1 again
    ];
    let expected = json!({"replicas": 1, "partitionsPerCluster": 1, "electionTimeout": "3s", "snapshotThreshold": 6});
    assert_eq!(spec_of(&message, 1).expect("a spec"), expected);
}

#[test]
fn what_cannot_be_is_refused_by_its_path() {
    assert_eq!(errors(&[], 0), ["partition_size: 0 members; 1 to 9 are accepted"]);
    assert_eq!(errors(&[], 10), ["partition_size: 10 members; 1 to 9 are accepted"]);
    let negative = [0x0a, 0x0b, 0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    assert_eq!(
        errors(&negative, 10),
        [
            "partition_size: 10 members; 1 to 9 are accepted",
            "protocol.value: electionTimeout is out of range; a duration like 2s or 500ms is expected"
        ]
    );
    assert!(errors(&[0x12, 0x00], 1)[0].contains("heartbeatInterval"), "no time at all");
    let large = [0x20, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01];
    assert!(errors(&large, 1)[0].contains("snapshotThreshold is 9223372036854775808"));
}

#[test]
fn malformed_bytes_are_an_error_and_no_panic() {
    let malformed: [&[u8]; 9] = [
        &[0x0a],                                                                   // no length
        &[0x0a, 0x02, 0x08],                                                       // shorter than its length
        &[0x0a, 0x01, 0x08],                                                       // an inner field without its number
        &[0x20],                                                                   // no number
        &[0x20, 0xff],                                                             // a number without its end
        &[0x20, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], // a number of eleven bytes
        &[0x0b],                                                                   // a group, which proto3 has not
        &[0x00, 0x00],                                                             // field 0
        &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],       // a length beyond all memory
    ];
    for message in malformed {
        let expected = "protocol.value: malformed bytes; an encoded atomix.raft.config.ProtocolConfig is expected";
        assert_eq!(errors(message, 1), [expected], "{message:?}");
    }
    for cut in 1..FULL.len() {
        let _ = spec_of(&FULL[..cut], 1);
    }
}

#[test]
fn durations_are_those_of_protobuf() {
    for (text, value) in
        [("2s", (2, 0)), ("1.5s", (1, 500_000_000)), ("0.000000001s", (0, 1)), ("999999999s", (999_999_999, 0))]
    {
        assert_eq!(duration(text), Some(value), "{text}");
        assert_eq!(duration_text(value).as_deref(), Some(text));
    }
    for (text, value) in [("2000ms", (2, 0)), ("2.0s", (2, 0)), (".5s", (0, 500_000_000)), ("1m30s", (90, 0))] {
        assert_eq!(duration(text), Some(value), "{text}, as people write it");
    }
    for text in ["", "s", "2", "0s", "0.0s", "-1s", "+1s", "1.5.5s", "1e3s", "1000000000s", "0.0000000001s", "2d"] {
        assert_eq!(duration(text), None, "{text}");
    }
}

/// A generator that gives the same numbers each time, many of them small.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let number = (self.0 >> 16) % end;
        if self.0 >> 62 == 0 { number % 3 } else { number }
    }
}

#[test]
fn there_and_back_nothing_is_lost() {
    let mut numbers = Numbers(7);
    for _ in 0..5000 {
        let mut spec = json!({"replicas": numbers.below(9) + 1, "partitionsPerCluster": 1});
        for field in DURATIONS {
            let text = duration_text((numbers.below(BILLION), numbers.below(BILLION)));
            if let Some(text) = text.filter(|_| numbers.below(3) > 0) {
                spec[field] = text.into();
            }
        }
        if numbers.below(2) > 0 {
            spec[THRESHOLD] = (numbers.below(INTEGER_MAX) + 1).into();
        }
        let group = group_of(&class(spec.clone()));
        assert_eq!(spec_of(&group.value, group.partition_size), Ok(spec));
    }
}

#[test]
fn no_bytes_at_all_make_it_panic_and_what_it_takes_it_gives_back() {
    let mut numbers = Numbers(11);
    for _ in 0..20_000 {
        let mut message: Vec<u8> = (0..numbers.below(24)).map(|_| numbers.below(256) as u8).collect();
        if numbers.below(2) > 0 {
            message = [&FULL[..], &message].concat();
        }
        if let Ok(spec) = spec_of(&message, 3) {
            let group = group_of(&class(spec.clone()));
            assert_eq!(spec_of(&group.value, 3), Ok(spec), "{message:?}");
        }
    }
}
