//! Groups of the old gRPC API: what plugins make of them, through the real components and in a cluster. Each folder of
//! `tests/golden/groups/<plugin>/` is a case: `given.yaml` a group or a class, `answer.yaml` what the plugin makes of it.

use std::collections::BTreeMap;
use std::fs;

use atomix_controller::catalog::{Catalog, Grants, Source};
use atomix_controller::sandbox::{Revision, Sandbox, Wrong};
use atomix_controller::wit::{FieldError, Group, GroupClass};
use harness::world::world;
use harness::{dist, paths};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::golden::{plugin, sandbox};

const RAFT: &str = "atomix.raft.config.ProtocolConfig";

/// What is asked.
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

/// What is answered, with bytes in hexadecimal.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<Vec<FieldError>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<GroupClass>,
    /// What the class means as a group; null if that cannot be said.
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
    let (plugin, update) = (plugin(name), std::env::var_os("UPDATE").is_some());
    let folder = paths::root().join("tests/golden/groups").join(name);
    let mut cases: Vec<_> = fs::read_dir(&folder).expect("there are cases").map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    let mut wrong = Vec::new();
    for case in &cases {
        let given =
            fs::read_to_string(case.join("given.yaml")).unwrap_or_else(|error| panic!("{}: {error}", case.display()));
        let given = serde_saphyr::from_str(&given).unwrap_or_else(|error| panic!("{}/given.yaml: {error}", case.display()));
        let text = serde_saphyr::to_string(&answer(&plugin, given)).expect("an answer is plain data");
        let file = case.join("answer.yaml");
        if update {
            fs::write(&file, &text).expect("the case is writable");
        }
        if fs::read_to_string(&file).unwrap_or_default() != text {
            wrong.push(format!("{} is no longer the answer, which is:\n{text}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "UPDATE=1 rewrites the answers\n{}", wrong.join("\n"));
    assert!(!cases.is_empty(), "{} is empty", folder.display());
}

#[test]
fn raft_makes_of_groups_what_its_cases_say() {
    assert_eq!(plugin("raft").protocols(), [RAFT]);
    check("raft");
}

#[test]
fn cache_makes_of_groups_what_its_cases_say() {
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
    plugin("raft"); // builds all
    let web = sandbox().load("web", &fs::read(dist::wasm("web-guest")).unwrap()).unwrap_or_else(|fault| panic!("{fault}"));
    assert_eq!(web.protocols(), [""; 0]);
    assert_eq!(web.class_of(RAFT, &[], 1), Ok(None));
    assert_eq!(web.group_of("WebStorageClass", &json!({"image": "web"})), Ok(None));
}

/// A component whose `plugin` is what the contract says, with another export beside it.
fn with_export(export: &str) -> Vec<u8> {
    let path = paths::root().join("tests/hostile/endless-loop.wat");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let text = text.trim_end().strip_suffix(')').expect("it ends with the component");
    wat::parse_str(format!("{text}\n{export})")).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn an_export_of_other_types_is_refused_by_its_name() {
    for (export, says) in [
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
        let said = fault.to_string();
        assert!(said.starts_with(&format!("plugin stranger (sha256 {}): ", &fault.digest[..12])), "{said}");
        assert!(said.contains("atomix:storage/groups@0.1.0") && said.contains(says), "{said}");
    }
}

/// The bytes with one text in place of another of the same length.
fn replaced(bytes: &[u8], old: &str, new: &str) -> Vec<u8> {
    assert_eq!(old.len(), new.len());
    let mut bytes = bytes.to_vec();
    let at: Vec<_> = (0..bytes.len() - old.len()).filter(|at| bytes[*at..].starts_with(old.as_bytes())).collect();
    assert!(!at.is_empty(), "{old} stands nowhere");
    at.into_iter().for_each(|at| bytes[at..at + new.len()].copy_from_slice(new.as_bytes()));
    bytes
}

#[test]
fn the_first_plugin_to_claim_a_protocol_keeps_it() {
    plugin("raft"); // builds all
    let sandbox: Sandbox = sandbox();
    let raft = fs::read(dist::wasm("raft")).unwrap();
    let catalog = Catalog::default();
    let settle = |name: &str, bytes: Vec<u8>| {
        let source =
            Source { name: name.to_owned(), plugin: name.to_owned(), stamp: hex(&bytes[..8]), created: 1, bytes: Ok(bytes) };
        let all = json!({"rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]});
        catalog.settle(&sandbox, name, vec![source], Some(Grants::of(&all)));
        catalog.refusal(name)
    };
    assert_eq!(settle("raft", raft.clone()), None);
    assert_eq!(settle("cache", fs::read(dist::wasm("cache")).unwrap()), None);
    let known: BTreeMap<String, String> = catalog.protocols().into_iter().collect();
    let cache = "atomix.cache.config.ProtocolConfig";
    assert_eq!(catalog.protocols(), [("cache".to_owned(), cache.to_owned()), ("raft".to_owned(), RAFT.to_owned())]);
    assert_eq!(known["cache"], cache);
    assert_eq!(catalog.for_protocol(RAFT).unwrap().revision.descriptor().name, "raft");
    assert!(catalog.for_protocol("atomix.other.Config").is_none());

    // The same plugin under another name and with another kind of class, but the same protocol.
    let other = replaced(&replaced(&raft, "raft0.1.0", "other.1.0"), "RaftStorageClass", "RiftStorageClass");
    let other = replaced(&other, "other.1.0", "rift0.1.0");
    let refused = settle("rift", other).expect("it is refused");
    assert!(refused.contains(&format!("protocol {RAFT} is already served by plugin raft, which came first")), "{refused}");
    assert_eq!(catalog.for_protocol(RAFT).unwrap().revision.descriptor().name, "raft");
    settle("raft", raft); // its own claim is none of another
    assert_eq!(catalog.refusal("raft"), None);
}

const DATABASES: &str = r"
apiVersion: storage.cloud.atomix.io/v1beta1
kind: RaftStorageClass
metadata: {name: raft}
spec: {replicas: 1, electionTimeout: 2s, snapshotThreshold: 300}
---
apiVersion: storage.cloud.atomix.io/v1beta1
kind: CacheStorageClass
metadata: {name: cache}
spec: {}
---
apiVersion: cloud.atomix.io/v1beta3
kind: Database
metadata: {name: db}
spec:
  partitions: 2
  partitionsPerCluster: 1
  storageClass: {kind: RaftStorageClass, name: raft}
---
apiVersion: cloud.atomix.io/v1beta3
kind: Database
metadata: {name: memory}
spec:
  partitions: 1
  storageClass: {kind: CacheStorageClass, name: cache}
";

fn group(size: u32, message: &str, base64: &str) -> Value {
    json!({"partitionSize": size, "protocol": {"typeUrl": format!("type.googleapis.com/{message}"), "value": base64}})
}

#[tokio::test]
async fn a_database_says_what_its_class_means_as_a_group_and_follows_an_edit() {
    let world = world().await;
    let ns = world.namespace("groups").await;
    ns.create(DATABASES).await;
    ns.wait("database/db", "Ready").await;
    ns.wait("database/memory", "Ready").await;
    let database = ns.one("database/db").await;
    assert_eq!(database["status"]["group"], group(1, RAFT, "CgIIAiCsAg=="), "0a 02 08 02, 20 ac 02");
    let older = ns.one("database.v1beta2.cloud.atomix.io/db").await;
    assert_eq!(older["status"]["group"], database["status"]["group"]);
    let cache = ns.one("database/memory").await;
    assert_eq!(cache["status"]["group"], group(1, "atomix.cache.config.ProtocolConfig", ""));
    let config = ns.one("configmap/db-2").await;
    assert_eq!(config["data"]["protocol.json"], r#"{"electionTimeout":"2s","snapshotThreshold":"300"}"#);
    let set = ns.one("statefulset/db-2").await;
    ns.settled().await;

    let mark = world.mark().await;
    let patch = r#"{"spec":{"snapshotThreshold":500,"electionTimeout":null}}"#;
    ns.kubectl(["patch", "raftstorageclass/raft", "--type=merge", "-p", patch]).await;
    ns.until("database/db", "the group follows the class", |found| {
        found.iter().any(|db| db["status"]["group"] == group(1, RAFT, "IPQD"))
    })
    .await;
    ns.until("configmap/db-2", "so do the nodes' files", |found| {
        found.iter().any(|map| map["data"]["protocol.json"] == r#"{"snapshotThreshold":"500"}"#)
    })
    .await;
    ns.until("statefulset/db-2", "and the nodes, which read them when they start", |found| {
        found.iter().any(|now| now["spec"]["template"] != set["spec"]["template"])
    })
    .await;
    ns.wait("database/db", "Ready").await;
    ns.settled().await;
    let requests = world.requests_since(mark).await;
    let ours = |r: &&harness::audit::Request| r.user == harness::controller::USER && r.namespace == "groups" && r.writes();
    let reads =
        requests.iter().filter(|r| r.user == harness::controller::USER && r.verb == "get" && r.namespace == "groups");
    assert_eq!(reads.count(), 0, "nothing is asked for it: {}", harness::audit::table(&requests));
    assert!(
        requests.iter().filter(ours).all(|r| !r.name.starts_with("memory")),
        "the other database is left alone: {}",
        harness::audit::table(&requests)
    );
}
