//! Plans as a review reads them: each folder of `tests/golden/<plugin>/` is a case, `given.yaml` the request, `plan.yaml` or
//! `refusal.yaml` the answer of the real component. `make golden` rewrites the answers.

use super::components::{self, plugin};
use atomix_model::contract::{PartitionWanted, Plan, Refusal, Request};
use atomix_sandbox::Metered;
use harness::golden::{self, Answer};

/// The answer as it stands in the case's folder.
fn as_answer(answer: &Result<Plan, Refusal>) -> Answer {
    let (plan, refusal) = ("plan.yaml", "refusal.yaml");
    match answer {
        Ok(answer) => Answer { file: plan, other: Some(refusal), text: golden::yaml(&without_scripts(answer.clone())) },
        Err(answer) => Answer { file: refusal, other: Some(plan), text: golden::yaml(answer) },
    }
}

/// The plan with scripts, which are the same in every case, as their first line.
fn without_scripts(mut plan: Plan) -> Plan {
    for object in &mut plan.objects {
        let data = object.manifest.get_mut("data").and_then(|data| data.as_object_mut());
        for text in data.into_iter().flat_map(|data| data.values_mut()) {
            if let Some(first) = text.as_str().filter(|text| text.starts_with("#!")).and_then(|text| text.lines().next()) {
                *text = format!("{first} ...").into();
            }
        }
    }
    plan
}

fn check(name: &str) {
    let plugin = plugin(name);
    golden::check(name, |case| {
        let answer =
            plugin.plan(&golden::given::<Request>(case)).unwrap_or_else(|fault| panic!("{}: {fault}", case.display()));
        as_answer(&answer)
    });
}

#[test]
fn raft_plans_as_in_its_cases() {
    check("raft");
}

#[test]
fn etcd_plans_as_in_its_cases() {
    check("etcd");
}

#[test]
fn redis_plans_as_in_its_cases() {
    check("redis");
}

#[test]
fn valkey_plans_as_in_its_cases() {
    check("valkey");
}

#[test]
fn cache_plans_as_in_its_cases() {
    check("cache");
}

#[test]
fn the_same_bytes_and_the_same_request_give_the_same_plan_for_the_same_fuel() {
    let request: Request = golden::given(&golden::case("raft/three-clusters-fresh"));
    let first = plugin("raft").plan_metered(&request).expect("a plan");
    let again = plugin("raft"); // compiled anew
    let threads: Vec<Metered<_>> = std::thread::scope(|scope| {
        let spawn = || scope.spawn(|| (0..3).map(|_| again.plan_metered(&request).expect("a plan")).collect::<Vec<_>>());
        let handles: Vec<_> = (0..12).map(|_| spawn()).collect();
        handles.into_iter().flat_map(|thread| thread.join().expect("no thread panics")).collect()
    });
    assert!(first.fuel > 0);
    for answer in threads {
        assert_eq!(answer, first);
    }
}

#[test]
fn the_largest_database_stays_within_fuel_and_memory() {
    let mut request: Request = golden::given(&golden::case("raft/three-clusters-fresh"));
    request.database.partitions = 1024;
    request.class.spec["replicas"] = 9.into();
    request.partitions =
        (1..=1024).map(|id| PartitionWanted { id, cluster: id, service_name: format!("raft-{id}") }).collect();
    let plan = plugin("raft").plan(&request).unwrap_or_else(|fault| panic!("{fault}")).expect("a plan");
    assert_eq!((plan.objects.len(), plan.partitions.len()), (5 * 1024, 1024));
}

#[test]
fn plugins_are_small() {
    for name in ["raft", "cache", "etcd", "redis", "valkey"] {
        // Every cause that a pod shows takes 7,000, claims that must not be taken up by name 10,000; etcd has the list of
        // its flags that only tune it, and the history of a cluster since it was formed; the script by which servers of the
        // last two start, and what reads it, take 35,000. What keeps their messages within the controller's bounds takes
        // 4,500 of each; checks of amounts and of variables 1,800; what claims have got, compared with what is asked for, 3,500.
        let most = match name {
            "valkey" => 271_000,
            "redis" => 245_000,
            "etcd" => 242_000,
            _ => 231_000,
        };
        plugin(name); // built, and loads: so it imports nothing
        let size = components::bytes(name).len();
        assert!(size <= most, "{name} has {size} bytes");
    }
}
