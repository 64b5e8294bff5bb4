//! Bytes that are to be a plugin: counted before anything of them is compiled, compiled, and their `describe` called.

use std::fs;
use std::sync::LazyLock;
use std::time::Duration;

use atomix_model::contract::Request;
use atomix_sandbox::{PluginFault, Sandbox};
use harness::hostile::guest::{Guest, descriptor, plan};
use harness::{golden, hostile, paths};
use proptest::prelude::*;

use super::{Bound, Parser, changed_bytes, component_changes as changes, corpus};
use crate::components;

/// A sandbox that compiles on the calling thread, so that all it takes is counted.
static SANDBOX: LazyLock<Sandbox> = LazyLock::new(|| Sandbox::on_demand().expect("this machine runs plugins"));

/// A component of each kind that there is: built by the toolchain, of an earlier version, written by hand.
fn seeds() -> Vec<Vec<u8>> {
    let folder = paths::root().join("tests/hostile");
    let names =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned());
    let texts = names.filter(|name| name != "contract").map(|name| hostile::guest(&name));
    let kept = fs::read(paths::root().join("tests/contract/v0.1/component.wasm")).unwrap();
    texts.chain([kept, small()]).chain(corpus("component")).collect()
}

/// A guest of a few hundred bytes that is a plugin.
fn small() -> Vec<u8> {
    Guest::new(&descriptor("small", "SmallStorageClass"), &Ok(plan("default", "db", []))).wasm()
}

/// Components that are nearly such as there are.
fn nearly(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let structured = (prop::sample::select(seeds.clone()), changes::changes())
        .prop_map(|(bytes, changes)| changes.iter().fold(bytes, changes::changed));
    let modules = changes::shape().prop_map(|shape| changes::around(&changes::module(&shape)));
    prop_oneof![6 => structured, 2 => modules, 2 => changed_bytes(seeds)]
}

/// The message of a plugin's fault is for people: short, and one line.
fn check_message(fault: &PluginFault) -> Result<(), String> {
    let message = fault.to_string();
    match message.is_empty() || message.chars().any(char::is_control) || message.len() > 8192 {
        true => Err(format!("it is reported in {} bytes: {message:?}", message.len())),
        false => Ok(()),
    }
}

#[test]
fn any_bytes_are_counted_before_they_are_compiled() {
    let read = |bytes: &[u8]| atomix_sandbox::check("any", bytes).map_or_else(|fault| check_message(&fault), Ok);
    let bound = Bound { heap: 256 << 10, heap_per_byte: 100, cpu: Duration::from_secs(1) };
    Parser { name: "component", cases: 3000, bound, read: &read }.takes(nearly(seeds()));
}

#[test]
fn any_bytes_are_compiled_and_described_within_bounds() {
    let request: Request = golden::given(&golden::case("raft/defaults"));
    let read = |bytes: &[u8]| match SANDBOX.load("any", bytes) {
        Err(fault) => check_message(&fault),
        Ok(revision) => match revision.plan(&request) {
            Err(fault) => check_message(&fault),
            Ok(_) => Ok(()),
        },
    };
    LazyLock::force(&SANDBOX); // not on the account of the first
    let bound = Bound { heap: 64 << 20, heap_per_byte: 1000, cpu: Duration::from_secs(20) };
    Parser { name: "component", cases: 300, bound, read: &read }.takes(nearly(seeds()));
}

#[test]
fn any_memory_of_a_guest_is_read_as_a_plan_or_refused() {
    let guest = Guest::new(&descriptor("small", "RaftStorageClass"), &Ok(plan("default", "db", [])));
    let request: Request = golden::given(&golden::case("raft/defaults"));
    let read = |bytes: &[u8]| {
        let revision = SANDBOX.load("small", &guest.wasm_with(bytes)).map_err(|fault| fault.to_string())?;
        match revision.plan(&request) {
            Err(fault) => check_message(&fault),
            Ok(_) => Ok(()),
        }
    };
    LazyLock::force(&SANDBOX);
    let bound = Bound { heap: 96 << 20, heap_per_byte: 100, cpu: Duration::from_secs(5) };
    Parser { name: "plan", cases: 1000, bound, read: &read }.takes(changed_bytes(vec![guest.plan_bytes()]));
}

#[test]
fn what_plugins_are_changed_into_is_read_as_far_as_it_goes() {
    // The changes are worth nothing if nearly all that comes out of them is refused by its first bytes.
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let strategy = nearly(vec![components::bytes("web-guest"), small()]);
    let stages = ["", "a broken component", "does not compile", "gave no answer", "broke the contract"];
    let mut reached = [0; 6];
    for _ in 0..300 {
        let bytes = strategy.new_tree(&mut runner).expect("a value can be had").current();
        let error = SANDBOX.load("any", &bytes).err().map(|fault| fault.to_string());
        let stage =
            error.map_or(0, |error| stages.iter().skip(1).position(|words| error.contains(words)).map_or(5, |at| at + 1));
        reached[stage] += 1;
    }
    println!("loaded, {}, other: {reached:?}", stages[1..].join(", "));
    assert!(reached[..5].iter().all(|count| *count > 2), "{reached:?}");
}
