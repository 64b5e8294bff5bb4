//! Each row of the tables "edit | what happens" of the plugins' pages, tried on the real component: `tests/edits/<plugin>.yaml` has edits for
//! each row, and what a plan makes of them. What only a server can show of a row is a test on real nodes.

use std::collections::BTreeMap;
use std::fs;

use super::components::plugin;
use atomix_model::contract::{Observed, Plan, Request};
use atomix_sandbox::Revision;
use harness::manifests::merged;
use harness::paths;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Table {
    /// Spec of the class before each edit.
    base: Value,
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    /// The beginning of the row's first cell.
    row: String,
    edits: Vec<Edit>,
    /// File of the tests on real nodes that show the rest of the row.
    #[serde(default)]
    on_nodes: Option<String>,
    /// File of the tests on a control plane that show the row.
    #[serde(default)]
    on_control_plane: Option<String>,
}

#[derive(Deserialize)]
struct Edit {
    /// What is merged into the base before.
    #[serde(default)]
    from: Value,
    /// What is merged into the class then.
    #[serde(default)]
    to: Value,
    /// Partitions of the database then; two before.
    #[serde(default)]
    partitions: Option<u32>,
    /// Whether all members are ready with the image that they were started with.
    #[serde(default)]
    ready: bool,
    then: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Outcome {
    /// No pod template changes, and nothing is refused.
    Nothing,
    /// A pod template changes.
    Restarts,
    /// No pod template changes, and the plan names the field that is not taken.
    NotTaken,
    /// There is no plan.
    Refused,
}

fn request(kind: &str, spec: &Value, partitions: u32, observed: Vec<Observed>) -> Request {
    let each: Vec<_> =
        (1..=partitions).map(|id| json!({"id": id, "cluster": id, "serviceName": format!("db-{id}")})).collect();
    let request = json!({
        "database": {"namespace": "n", "name": "db", "partitions": partitions, "partitionsPerCluster": 1, "databaseLabel": "db.n"},
        "class": {"kind": kind, "version": "v1beta1", "name": "c", "spec": spec},
        "partitions": each,
        "clusterDomain": "cluster.local",
    });
    Request { observed, ..serde_json::from_value(request).expect("it is a request") }
}

/// The plan's objects as they are when they have just been made, and their pods, if these are to be ready.
fn live(revision: &Revision, plan: &Plan, ready: bool) -> Vec<Observed> {
    let descriptor = revision.descriptor();
    let mut observed = Vec::new();
    for object in plan.objects.iter().map(|object| &object.manifest) {
        let kind = object["kind"].as_str().unwrap();
        let Some(declared) = descriptor.emits.iter().find(|declared| declared.kind == kind) else { continue };
        let fields = declared.reads.iter().filter_map(|pointer| Some((pointer.clone(), object.pointer(pointer)?.clone())));
        let name = object["metadata"]["name"].as_str().unwrap();
        observed.push(seen(&declared.group, kind, name, fields.collect()));
        let pods =
            descriptor.watches.iter().find(|declared| declared.kind == "Pod").filter(|_| kind == "StatefulSet" && ready);
        for number in 0..object["spec"]["replicas"].as_i64().unwrap_or(1) {
            let Some(pods) = pods else { break };
            let pod = json!({
                "metadata": {"labels": object["spec"]["template"]["metadata"]["labels"]},
                "spec": object["spec"]["template"]["spec"],
                "status": {"conditions": [{"type": "Ready", "status": "True"}]},
            });
            let fields = pods.reads.iter().filter_map(|pointer| Some((pointer.clone(), pod.pointer(pointer)?.clone())));
            observed.push(seen("", "Pod", &format!("{name}-{number}"), fields.collect()));
        }
    }
    observed.sort_by(|a, b| (&a.group, &a.kind, &a.name).cmp(&(&b.group, &b.kind, &b.name)));
    observed
}

fn seen(group: &str, kind: &str, name: &str, fields: Vec<(String, Value)>) -> Observed {
    Observed { group: group.into(), kind: kind.into(), name: name.into(), terminating: false, fields }
}

/// Pod templates by kind and name.
fn templates(plan: &Plan) -> BTreeMap<String, Value> {
    let objects = plan.objects.iter().map(|object| &object.manifest);
    let of = |object: &Value| {
        let template = object.pointer("/spec/template")?.clone();
        Some((format!("{} {}", object["kind"].as_str()?, object["metadata"]["name"].as_str()?), template))
    };
    objects.filter_map(of).collect()
}

fn outcome(revision: &Revision, base: &Value, edit: &Edit) -> Outcome {
    let kind = revision.descriptor().class_kinds[0].kind.clone();
    let spec = merged(base.clone(), &edit.from);
    let plan = |spec: &Value, partitions: u32, observed| {
        revision.plan(&request(&kind, spec, partitions, observed)).unwrap_or_else(|fault| panic!("{fault}"))
    };
    let first = plan(&spec, 2, Vec::new()).unwrap_or_else(|refusal| panic!("{spec} is refused: {refusal:?}"));
    // As it stands once a plan has observed all of it.
    let before = plan(&spec, 2, live(revision, &first, edit.ready)).unwrap();
    let seen = live(revision, &before, edit.ready);
    let Ok(after) = plan(&merged(spec, &edit.to), edit.partitions.unwrap_or(2), seen) else { return Outcome::Refused };
    let (before, now) = (templates(&before), templates(&after));
    let changed = before.iter().any(|(place, template)| now.get(place).is_some_and(|now| now != template));
    match (changed, after.unsupported.is_empty()) {
        (true, true) => Outcome::Restarts,
        (true, false) => panic!("it restarts, and is not taken: {:?}", after.unsupported),
        (false, true) => Outcome::Nothing,
        (false, false) => Outcome::NotTaken,
    }
}

fn check(name: &str) {
    let text = fs::read_to_string(paths::root().join(format!("tests/edits/{name}.yaml"))).unwrap();
    let table: Table = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("tests/edits/{name}.yaml: {error}"));
    let page = fs::read_to_string(paths::root().join(format!("plugins/{name}/README.md"))).unwrap();
    let lines = page.lines().skip_while(|line| !line.starts_with("| edit | what happens |")).skip(2);
    let cells: Vec<_> =
        lines.take_while(|line| line.starts_with('|')).map(|line| line[1..].split(" | ").next().unwrap().trim()).collect();
    assert!(!cells.is_empty(), "the page of {name} has a table of edits");
    let revision = plugin(name);
    let mut wrong = Vec::new();
    for (cell, row) in cells.iter().zip(&table.rows) {
        if !cell.starts_with(&row.row) {
            wrong.push(format!("the page has the row {cell:?} where tests/edits/{name}.yaml has {:?}", row.row));
        }
        for (folder, file) in [("nodes", &row.on_nodes), ("controlplane", &row.on_control_plane)] {
            let there = file.as_ref().is_none_or(|file| paths::root().join("tests").join(folder).join(file).exists());
            assert!(there, "{file:?} is no file of tests/{folder}");
        }
        assert!(!row.edits.is_empty() || row.on_control_plane.is_some(), "{cell}: nothing tries it");
        for edit in &row.edits {
            let found = outcome(&revision, &table.base, edit);
            if found != edit.then {
                wrong.push(format!("{cell}: {} is {found:?}, not {:?}", edit.to, edit.then));
            }
        }
    }
    assert_eq!(cells.len(), table.rows.len(), "each row of the page of {name} has its edits");
    assert!(wrong.is_empty(), "{name}\n{}", wrong.join("\n"));
}

#[test]
fn each_row_of_the_table_of_raft_is_what_happens() {
    check("raft");
}

#[test]
fn each_row_of_the_table_of_etcd_is_what_happens() {
    check("etcd");
}

#[test]
fn each_row_of_the_table_of_valkey_is_what_happens() {
    check("valkey");
}

#[test]
fn each_row_of_the_table_of_redis_is_what_happens() {
    check("redis");
}

#[test]
fn each_row_of_the_table_of_the_cache_is_what_happens() {
    check("cache");
}
