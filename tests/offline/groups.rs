//! Groups of the old gRPC API: what plugins make of them, through the real components. Each folder of
//! `tests/golden/groups/<plugin>/` is a case: `given.yaml` a group or a class, `answer.yaml` what the plugin makes of it.

use super::components::{plugin, sandbox};
use atomix_model::contract::{FieldError, Group, GroupClass};
use atomix_sandbox::{Revision, Wrong};
use harness::golden;
use harness::hostile;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

const RAFT: &str = "atomix.raft.config.ProtocolConfig";

/// The request.
#[derive(Deserialize)]
#[serde(untagged, rename_all_fields = "camelCase", deny_unknown_fields)]
enum Given {
    /// Which class does a group ask for?
    Group {
        protocol: String,
        /// In hexadecimal.
        value: String,
        partition_size: u32,
    },
    /// What does a class mean as a group?
    Class { kind: String, spec: Value },
}

/// The answer, with bytes in hexadecimal.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<Vec<FieldError>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<GroupClass>,
    /// What the class means as a group; null if it has no such meaning.
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<Value>,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.chars().map(|c| c.to_digit(16).expect("hexadecimal") as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn group_of(plugin: &Revision, kind: &str, spec: &Value) -> Value {
    let group = plugin.group_of(kind, spec).unwrap_or_else(|fault| panic!("{fault}"));
    let shown = |Group { partition_size, protocol, value }: Group| json!({"partitionSize": partition_size, "protocol": protocol, "value": hex(&value)});
    group.map_or(Value::Null, shown)
}

fn answer(plugin: &Revision, given: Given) -> Answer {
    match given {
        Given::Class { kind, spec } => Answer { refused: None, class: None, group: Some(group_of(plugin, &kind, &spec)) },
        Given::Group { protocol, value, partition_size } => {
            let answer =
                plugin.class_of(&protocol, &bytes(&value), partition_size).unwrap_or_else(|fault| panic!("{fault}"));
            match answer.expect("it serves groups") {
                Err(refused) => Answer { refused: Some(refused), class: None, group: None },
                Ok(class) => {
                    assert_eq!(plugin.validate(&class.kind, &class.spec), Ok(Ok(())), "the class is one that it accepts");
                    let group = group_of(plugin, &class.kind, &class.spec);
                    Answer { refused: None, class: Some(class), group: Some(group) }
                }
            }
        }
    }
}

fn check(name: &str) {
    let plugin = plugin(name);
    golden::check(&format!("groups/{name}"), |case| golden::Answer {
        file: "answer.yaml",
        other: None,
        text: golden::yaml(&answer(&plugin, golden::given(case))),
    });
}

#[test]
fn raft_answers_about_groups_as_in_its_cases() {
    assert_eq!(plugin("raft").protocols(), [RAFT]);
    check("raft");
}

#[test]
fn cache_answers_about_groups_as_in_its_cases() {
    assert_eq!(plugin("cache").protocols(), ["atomix.cache.config.ProtocolConfig"]);
    check("cache");
}

#[test]
fn the_same_group_is_the_same_class_and_the_same_class_the_same_group() {
    let (plugin, again) = (plugin("raft"), plugin("raft")); // compiled anew
    let message = bytes("0a02080220ac02");
    let class = plugin.class_of(RAFT, &message, 3).unwrap().unwrap().unwrap();
    for _ in 0..3 {
        assert_eq!(again.class_of(RAFT, &message, 3).unwrap().unwrap().unwrap(), class);
        let group = again.group_of(&class.kind, &class.spec).unwrap().unwrap();
        assert_eq!(group, Group { partition_size: 3, protocol: RAFT.to_owned(), value: message.clone() });
    }
}

#[test]
fn a_plugin_without_groups_serves_as_before() {
    let web = plugin("web-guest");
    assert_eq!(web.protocols(), [""; 0]);
    assert_eq!(web.class_of(RAFT, &[], 1), Ok(None));
    assert_eq!(web.group_of("WebStorageClass", &json!({"image": "web"})), Ok(None));
}

/// A component whose `plugin` is as in the contract, with another export beside it.
fn with_export(export: &str) -> Vec<u8> {
    let text = hostile::of_contract_text(&hostile::text("endless-loop"));
    let text = text.trim_end().strip_suffix(')').expect("it ends with the component");
    wat::parse_str(format!("{text}\n{export})")).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn an_export_of_other_types_is_refused_by_its_name() {
    for (export, expected) in [
        (
            r#"(instance $groups (export "protocols" (func $describe)) (export "class-of" (func $validate)) (export "group-of" (func $plan)))
            (export "atomix:storage/groups@0.1.0" (instance $groups))"#,
            "type mismatch",
        ),
        (
            r#"(instance $groups (export "protocols" (func $describe)))
            (export "atomix:storage/groups@0.1.0" (instance $groups))"#,
            "class-of",
        ),
    ] {
        let fault = sandbox().load("stranger", &with_export(export)).expect_err("it is refused");
        assert!(matches!(fault.what, Wrong::Promise(_)), "{fault}");
        let message = fault.to_string();
        assert!(message.starts_with(&format!("plugin stranger (sha256 {}): ", &fault.digest[..12])), "{message}");
        assert!(message.contains("atomix:storage/groups@0.1.0") && message.contains(expected), "{message}");
    }
}
