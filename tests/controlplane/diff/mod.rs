//! The diff, proved against a real API server: what is written is what differs, no more and no less. Knows no database and no
//! plugin.

mod fixture;
mod manifests;
mod mutate;

use std::ops::RangeInclusive;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use serde_json::{Value, json};

use fixture::Fixture;

/// What happens to an object that was written once.
#[derive(Clone, Debug)]
enum Event {
    /// Another client changes or removes, in the live object, what the manifest owns.
    Drift { place: Index, removed: bool },
    /// The manifest changes.
    Plan { place: Index, removed: bool },
    /// Another client adds what the manifest does not mention.
    Addition(Index),
}

#[test]
fn a_stateful_set_is_written_once_and_then_once_for_each_difference() {
    prove("sts", manifests::stateful_set(), 24);
}

#[test]
fn a_service_is_written_once_and_then_once_for_each_difference() {
    prove("svc", manifests::service(), 24);
}

#[test]
fn a_deployment_is_written_once_and_then_once_for_each_difference() {
    prove("deploy", manifests::deployment(), 6);
}

#[test]
fn a_config_map_is_written_once_and_then_once_for_each_difference() {
    prove("config", manifests::config_map(), 8);
}

#[test]
fn a_disruption_budget_is_written_once_and_then_once_for_each_difference() {
    prove("budget", manifests::disruption_budget(), 8);
}

/// Runs as many random lives of objects, the same ones each time.
fn prove(prefix: &str, manifests: BoxedStrategy<Value>, cases: u32) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let fixture = runtime.block_on(Fixture::new(prefix));
    let config = ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 40, ..ProptestConfig::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let outcome = runner.run(&(manifests, proptest::collection::vec(event(), 12)), |(manifest, events)| {
        runtime.block_on(life(&fixture, manifest, events)).map_err(TestCaseError::fail)
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(reason, (_, events))) => panic!("{reason}\nafter {events:?}"),
        Err(error) => panic!("{error}"),
    }
    let (taken, refused) = fixture.tally();
    println!("{prefix}: {taken} differences made, {refused} refused by the API server as immutable or invalid");
    println!("{prefix}: {} could not be repaired by an apply, and were by overwriting", fixture.overwrites());
    assert!(taken > refused / 2 && taken > cases, "{taken} differences made, {refused} refused: too little was tried");
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (any::<Index>(), any::<bool>()).prop_map(|(place, removed)| Event::Drift { place, removed }),
        4 => (any::<Index>(), any::<bool>()).prop_map(|(place, removed)| Event::Plan { place, removed }),
        2 => any::<Index>().prop_map(Event::Addition),
    ]
}

/// One object from its first write to its end.
async fn life(fixture: &Fixture, manifest: Value, events: Vec<Event>) -> Result<(), String> {
    let mut desired = fixture.stamped(&manifest);
    expect(fixture.settle(&desired).await?, 1..=1, "the first apply", &desired)?;
    for (n, event) in events.into_iter().enumerate() {
        let at_event = |error: String| format!("{error}\n(event {n})");
        expect(fixture.settle(&desired).await.map_err(at_event)?, 0..=0, "a second pass", &desired).map_err(at_event)?;
        match event {
            Event::Drift { place, removed } => drift(fixture, &desired, place, removed).await,
            Event::Plan { place, removed } => plan(fixture, &mut desired, place, removed).await,
            Event::Addition(which) => addition(fixture, &desired, which).await,
        }
        .map_err(at_event)?;
    }
    fixture.remove(&desired).await
}

async fn drift(fixture: &Fixture, desired: &Value, place: Index, removed: bool) -> Result<(), String> {
    let Some((path, others)) = mutate::alterations(desired, place, removed) else {
        return Ok(());
    };
    let before = fixture.live(desired).await?;
    for other in others {
        let Some(altered) = mutate::with(&before, &path, other.as_ref()) else {
            continue;
        };
        if !fixture.replaced_by_another(&altered).await? {
            continue;
        }
        let what = format!("somebody changed {path} to {other:?}");
        let now = fixture.live(desired).await?;
        let writes = if fixture::substance(&now) == fixture::substance(&before) { 0 } else { 1 };
        let written = fixture.settle(desired).await.map_err(|error| format!("{what}: {error}"))?;
        expect(written, writes..=writes, &what, &now)?;
        return as_if_new(fixture, desired, &what, is_key(&path)).await;
    }
    Ok(())
}

async fn plan(fixture: &Fixture, desired: &mut Value, place: Index, removed: bool) -> Result<(), String> {
    let Some((path, others)) = mutate::alterations(desired, place, removed) else {
        return Ok(());
    };
    for other in others {
        let Some(altered) = mutate::with(desired, &path, other.as_ref()) else {
            continue;
        };
        let altered = fixture.stamped(&altered);
        if !fixture.is_valid(&altered).await? {
            continue;
        }
        let what = format!("the plan changed {path} to {other:?}");
        // An apply that takes the last of its fields out of an object takes the object too, and the next puts it back, empty.
        let emptied = mutate::is_emptied(&altered, &path);
        let writes = fixture.settle(&altered).await.map_err(|error| format!("{what}: {error}"))?;
        expect(writes, 1..=if emptied { 2 } else { 1 }, &what, &altered)?;
        *desired = altered;
        return as_if_new(fixture, desired, &what, false).await;
    }
    Ok(())
}

async fn addition(fixture: &Fixture, desired: &Value, which: Index) -> Result<(), String> {
    let before = fixture.live(desired).await?;
    let all: Vec<(&str, Value)> = additions(&before);
    let (path, value) = which.get(&all);
    let added = match before.pointer(path) {
        Some(Value::Array(items)) => {
            Value::Array(items.iter().chain(value.as_array().into_iter().flatten()).cloned().collect())
        }
        Some(Value::Object(fields)) => {
            Value::Object(fields.clone().into_iter().chain(value.as_object().cloned().into_iter().flatten()).collect())
        }
        _ => value.clone(),
    };
    let Some(altered) = mutate::with(&before, path, Some(&added)) else {
        return Ok(());
    };
    if fixture.replaced_by_another(&altered).await? {
        let now = fixture.live(desired).await?;
        expect(fixture.settle(desired).await?, 0..=0, &format!("somebody added to {path}"), &now)?;
        fixture.renew(desired).await?;
    }
    Ok(())
}

/// What others may add to an object without causing a write: no manifest here mentions it.
fn additions(live: &Value) -> Vec<(&'static str, Value)> {
    let mut all =
        vec![("/metadata/labels", json!({"team": "blue"})), ("/metadata/annotations", json!({"example.com/seen": "yes"}))];
    let pod = [
        ("/spec/template/metadata/annotations", json!({"kubectl.kubernetes.io/restartedAt": "now"})),
        ("/spec/template/spec/containers", json!([{"name": "sidecar", "image": "s"}])),
        ("/spec/template/spec/containers/0/env", json!([{"name": "THEIRS", "value": "x"}])),
        ("/spec/template/spec/containers/0/volumeMounts", json!([{"name": "v0", "mountPath": "/theirs"}])),
        ("/spec/template/spec/containers/0/livenessProbe", json!({"exec": {"command": ["true"]}})),
        ("/spec/template/spec/volumes", json!([{"name": "theirs", "emptyDir": {}}])),
        ("/spec/template/spec/imagePullSecrets", json!([{"name": "theirs"}])),
        ("/spec/template/spec/runtimeClassName", json!("theirs")),
    ];
    let service = [
        ("/spec/ports", json!([{"name": "theirs", "port": 99}])),
        ("/spec/trafficDistribution", json!("PreferClose")),
        ("/spec/loadBalancerSourceRanges", json!([])),
    ];
    match live["kind"].as_str() {
        Some("StatefulSet" | "Deployment") => all.extend(pod),
        Some("Service") => all.extend(service),
        Some("ConfigMap") => all.push(("/data", json!({"theirs": "x"}))),
        _ => {}
    }
    all
}

/// Whether what now stands there is what a first apply would have made; `beside` lets stand what another client put beside
/// it.
async fn as_if_new(fixture: &Fixture, desired: &Value, what: &str, beside: bool) -> Result<(), String> {
    let (live, new) = (fixture.live(desired).await?, fixture.as_new(desired).await?);
    if fixture::substance(&live) == fixture::substance(&new) {
        return Ok(());
    }
    if beside {
        return fixture.renew(desired).await;
    }
    Err(format!("after {what}, and a write, there is\n{live:#}\nand not, as after a first apply,\n{new:#}"))
}

/// Whether the place is an item of a list or part of its merge key: changing it makes an item of another owner, which stays.
fn is_key(path: &str) -> bool {
    let keys = ["name", "ip", "containerPort", "port", "protocol", "topologyKey", "whenUnsatisfiable", "mountPath"];
    path.rsplit('/').next().is_some_and(|last| keys.contains(&last) || last.parse::<usize>().is_ok())
}

fn expect(writes: usize, expected: RangeInclusive<usize>, what: &str, object: &Value) -> Result<(), String> {
    if expected.contains(&writes) {
        return Ok(());
    }
    Err(format!("{what}: {writes} writes instead of {expected:?}\n{object:#}"))
}
