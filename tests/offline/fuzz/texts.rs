//! Gzip, reviews and manifests: what comes in ConfigMaps, from the API server and out of a plugin's plan.

use std::io::Write as _;
use std::time::Duration;

use atomix_controller_kube::catalog;
use atomix_controller_kube::webhook::conversion_review;
use atomix_decide::admission::{self, Kept};
use atomix_model::contract::{ObjectKind, Plan, PlannedObject, Request};
use atomix_model::crd::{Database, DatabaseSpec};
use atomix_model::grants::Grants;
use atomix_model::{json_text, limits};
use harness::golden;
use harness::hostile::guest::descriptor;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Bound, Parser, changed_bytes, corpus, json_changes as changes};
use crate::components;

/// JSON that is nearly one of these, as text; a part of it no JSON any more.
fn nearly(seeds: Vec<Value>) -> impl Strategy<Value = Vec<u8>> {
    let texts = seeds.iter().map(|seed| seed.to_string().into_bytes()).collect();
    let structured = (prop::sample::select(seeds), changes::changes()).prop_map(|(mut value, made)| {
        made.iter().for_each(|change| changes::changed(&mut value, change));
        value.to_string().into_bytes()
    });
    prop_oneof![4 => structured, 1 => changed_bytes(texts)]
}

fn parsed(corpus: Vec<Vec<u8>>) -> Vec<Value> {
    corpus.iter().filter_map(|bytes| serde_json::from_slice(bytes).ok()).collect()
}

#[test]
fn what_json_takes_is_not_more_than_its_estimate() {
    let read = |bytes: &[u8]| {
        let estimate = json_text::heap(bytes) as u64;
        let heap = allocation_counter::measure(|| drop(serde_json::from_slice::<Value>(bytes))).bytes_max;
        match heap > estimate + 1024 {
            true => Err(format!("{heap} bytes, and the estimate is {estimate}")),
            false => Ok(()),
        }
    };
    let wide: Value = (0..500).map(|at| (at.to_string(), json!(at))).collect::<serde_json::Map<_, _>>().into();
    let seeds = [
        parsed(corpus("conversion-review")),
        parsed(corpus("manifest")),
        vec![wide, json!(vec![0; 1000]), json!(vec![json!({"": 0}); 1000])],
    ];
    let bound = Bound { heap: 256 << 10, heap_per_byte: 200, cpu: Duration::from_secs(1) };
    Parser { name: "manifest", cases: 2000, bound, read: &read }.takes(nearly(seeds.concat()));
}

#[test]
fn any_gzip_is_unpacked_up_to_the_limit_or_refused() {
    let gzip = |bytes: &[u8]| {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        packed.write_all(bytes).unwrap();
        packed.finish().unwrap()
    };
    let seeds = [corpus("gzip"), vec![gzip(b"\0asm"), gzip(&[0; 1 << 20]), gzip(&components::bytes("web-guest")[..20_000])]]
        .concat();
    let read = |bytes: &[u8]| match catalog::unpacked(bytes) {
        Ok(plain) if plain.len() > limits::PLUGIN_BYTES_MAX.max(bytes.len()) => {
            Err(format!("{} bytes came out", plain.len()))
        }
        _ => Ok(()),
    };
    // A list that grows is twice as large as what is in it, and there is a copy while it does.
    let bound =
        Bound { heap: 3 * limits::PLUGIN_BYTES_MAX as u64 + (256 << 10), heap_per_byte: 1, cpu: Duration::from_secs(1) };
    Parser { name: "gzip", cases: 2000, bound, read: &read }.takes(changed_bytes(seeds));
}

#[test]
fn any_review_is_answered_with_its_uid_or_refused() {
    let read = |bytes: &[u8]| {
        let Ok(answer) = conversion_review::answer(bytes) else { return Ok(()) };
        let review: Value = serde_json::from_slice(bytes).map_err(|error| format!("no JSON, and yet answered: {error}"))?;
        let answer: Value = serde_json::from_slice(&answer).map_err(|error| format!("the answer is no JSON: {error}"))?;
        let (request, response) = (&review["request"], &answer["response"]);
        let count = |of: &Value| of.as_array().map_or(0, Vec::len);
        let is_whole = match response["result"]["status"].as_str() {
            Some("Success") => count(&response["convertedObjects"]) == count(&request["objects"]),
            Some("Failure") => response["result"]["message"].as_str().is_some_and(|message| !message.is_empty()),
            _ => false,
        };
        match is_whole && response["uid"] == request["uid"] {
            true => Ok(()),
            false => Err(format!("answered with {answer}")),
        }
    };
    let bound = Bound { heap: 256 << 10, heap_per_byte: 200, cpu: Duration::from_secs(1) };
    Parser { name: "conversion-review", cases: 4000, bound, read: &read }.takes(nearly(parsed(corpus("conversion-review"))));
}

#[test]
fn any_object_of_a_plan_is_admitted_as_the_databases_own_or_refused() {
    let request: Request = golden::given(&golden::case("raft/every-field-of-the-pods"));
    let plan: Plan =
        serde_saphyr::from_str(&std::fs::read_to_string(golden::case("raft/every-field-of-the-pods/plan.yaml")).unwrap())
            .unwrap();
    let planned = plan.objects.iter().map(|object| object.manifest.clone());
    let seeds: Vec<Value> = planned.chain(parsed(corpus("manifest"))).collect();
    let mut database = Database::new(&request.database.name, DatabaseSpec { partitions: 1, ..DatabaseSpec::default() });
    database.metadata.namespace = Some(request.database.namespace.clone());
    database.metadata.uid = Some("u".into());
    let all = Grants::of(&json!({"rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]}));
    let read = |bytes: &[u8]| {
        let Ok(manifest) = serde_json::from_slice::<Value>(bytes) else { return Ok(()) };
        let text = |field: &str| manifest[field].as_str().unwrap_or_default().to_owned();
        let (group, version) =
            text("apiVersion").rsplit_once('/').map_or((String::new(), text("apiVersion")), |(g, v)| (g.into(), v.into()));
        let mut descriptor = descriptor("any", "RaftStorageClass");
        let plural = format!("{}s", text("kind").to_lowercase());
        descriptor.emits = vec![ObjectKind { group, version, kind: text("kind"), plural, reads: Vec::new() }];
        let plan = Plan {
            objects: vec![PlannedObject { id: "it".into(), manifest }],
            partitions: Vec::new(),
            unsupported: Vec::new(),
            notes: Vec::new(),
        };
        let Ok(admitted) = admission::admit(&plan, &request, &database, &descriptor, &all, "a.b", &Kept::default()) else {
            return Ok(());
        };
        let it = &admitted.objects.iter().find(|object| object.kind.kind != "Partition").ok_or("it is lost")?.manifest;
        let meta = &it["metadata"];
        let owned = it["kind"] == "PersistentVolumeClaim" || meta["ownerReferences"][0]["uid"] == "u";
        match owned && meta["namespace"] == json!(request.database.namespace) && meta["labels"]["app"] == "atomix" {
            true => Ok(()),
            false => Err(format!("admitted as {it}")),
        }
    };
    let bound = Bound { heap: 512 << 10, heap_per_byte: 600, cpu: Duration::from_secs(1) };
    Parser { name: "manifest", cases: 3000, bound, read: &read }.takes(nearly(seeds));
}
