//! Plans as a review reads them: each folder of `tests/golden/<plugin>/` is a case, `given.yaml` the request, `plan.yaml` or
//! `refusal.yaml` the answer of the real component. `UPDATE=1` rewrites the answers.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use atomix_controller::sandbox::{Metered, Revision, Sandbox};
use atomix_controller::wit::{Plan, Refusal, Request};
use harness::{dist, paths};

/// One for all tests.
pub fn sandbox() -> Sandbox {
    static SANDBOX: OnceLock<Sandbox> = OnceLock::new();
    SANDBOX.get_or_init(|| Sandbox::new().expect("this machine runs plugins")).clone()
}

/// The plugin of the checkout, as it was built last.
pub fn plugin(name: &str) -> Revision {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| dist::build_unless_prebuilt().expect("the plugins build"));
    let wasm = dist::wasm(name);
    let bytes = fs::read(&wasm).unwrap_or_else(|error| panic!("{} cannot be read: {error}", wasm.display()));
    sandbox().load(name, &bytes).unwrap_or_else(|fault| panic!("{fault}"))
}

fn given(case: &Path) -> Request {
    let text = fs::read_to_string(case.join("given.yaml")).unwrap_or_else(|error| panic!("{}: {error}", case.display()));
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}/given.yaml: {error}", case.display()))
}

/// The answer as it stands in the case's folder.
fn told(answer: &Result<Plan, Refusal>) -> (&'static str, String) {
    let (file, text) = match answer {
        Ok(plan) => ("plan.yaml", serde_saphyr::to_string(plan)),
        Err(refusal) => ("refusal.yaml", serde_saphyr::to_string(refusal)),
    };
    (file, text.expect("an answer is plain data"))
}

fn check(name: &str) {
    let (plugin, update) = (plugin(name), std::env::var_os("UPDATE").is_some());
    let folder = paths::root().join("tests/golden").join(name);
    let mut cases: Vec<_> = fs::read_dir(&folder).expect("there are cases").map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    let mut wrong = Vec::new();
    for case in &cases {
        let answer = plugin.plan(&given(case)).unwrap_or_else(|fault| panic!("{}: {fault}", case.display()));
        let (file, text) = told(&answer);
        let other = if file == "plan.yaml" { "refusal.yaml" } else { "plan.yaml" };
        if update {
            let _ = fs::remove_file(case.join(other));
            fs::write(case.join(file), &text).expect("the case is writable");
        }
        let expected = fs::read_to_string(case.join(file)).unwrap_or_default();
        if expected != text || case.join(other).exists() {
            let differs = expected.lines().zip(text.lines()).position(|(a, b)| a != b).unwrap_or(0);
            let line = text.lines().nth(differs).unwrap_or_default();
            wrong.push(format!("{}: {file} is no longer the answer, from line {}: {line}", case.display(), differs + 1));
        }
    }
    assert!(wrong.is_empty(), "UPDATE=1 rewrites the answers\n{}", wrong.join("\n"));
    assert!(!cases.is_empty(), "{} is empty", folder.display());
}

#[test]
fn raft_plans_what_its_cases_say() {
    check("raft");
}

#[test]
fn etcd_plans_what_its_cases_say() {
    check("etcd");
}

#[test]
fn redis_plans_what_its_cases_say() {
    check("redis");
}

#[test]
fn valkey_plans_what_its_cases_say() {
    check("valkey");
}

#[test]
fn cache_plans_what_its_cases_say() {
    check("cache");
}

#[test]
fn the_same_bytes_and_the_same_request_give_the_same_plan_for_the_same_fuel() {
    let request = given(&paths::root().join("tests/golden/raft/three-clusters-fresh"));
    let first = plugin("raft").plan_metered(&request).expect("a plan");
    let again = plugin("raft"); // compiled anew
    let threads: Vec<Metered<_>> = std::thread::scope(|scope| {
        let ask = || scope.spawn(|| (0..3).map(|_| again.plan_metered(&request).expect("a plan")).collect::<Vec<_>>());
        let asked: Vec<_> = (0..12).map(|_| ask()).collect();
        asked.into_iter().flat_map(|thread| thread.join().expect("no thread panics")).collect()
    });
    assert!(first.fuel > 0);
    for answer in threads {
        assert_eq!(answer, first);
    }
}

#[test]
fn the_largest_database_stays_within_fuel_and_memory() {
    let mut request = given(&paths::root().join("tests/golden/raft/three-clusters-fresh"));
    request.database.partitions = 1024;
    request.class.spec["replicas"] = 9.into();
    request.partitions = (1..=1024)
        .map(|id| atomix_controller::wit::PartitionWanted { id, cluster: id, service_name: format!("raft-{id}") })
        .collect();
    let plan = plugin("raft").plan(&request).unwrap_or_else(|fault| panic!("{fault}")).expect("a plan");
    assert_eq!((plan.objects.len(), plan.partitions.len()), (5 * 1024, 1024));
}

#[test]
fn plugins_are_small() {
    for name in ["raft", "cache", "etcd", "redis", "valkey"] {
        let most = if name == "valkey" { 205_000 } else { 200_000 };
        plugin(name); // built, and loads: so it imports nothing
        let size = fs::metadata(dist::wasm(name)).expect("it was built").len();
        assert!(size <= most, "{name} has {size} bytes");
    }
}
