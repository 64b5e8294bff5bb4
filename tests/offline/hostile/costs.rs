//! Bytes that would cost more than they weigh: each is refused by a count before anything of it is compiled, or by the limits of the process
//! that tries it.

use crate::components::{self, sandbox};
use atomix_controller_kube::catalog::{Catalog, Loading, Source, Trial, Tried};
use atomix_model::limits::{TRIAL_FIRST, TRIAL_LAST};
use atomix_sandbox::{PluginFault, Wrong};
use harness::hostile::{component, guest, memory_hog};
use harness::paths;

fn refused(bytes: &[u8]) -> PluginFault {
    let fault = sandbox().load("stranger", bytes).expect_err("it is refused");
    let message = fault.to_string();
    assert!(message.starts_with(&format!("plugin stranger (sha256 {}): ", &fault.digest[..12])), "{message}");
    fault
}

/// A component of one core module with these fields.
fn module(fields: &str) -> Vec<u8> {
    component(&format!("(core module {fields})"))
}

/// Components of few bytes that would take long to compile, or much memory: each with the count that its refusal names.
fn costly() -> Vec<(&'static str, Vec<u8>)> {
    let doubling = |levels: usize| {
        let level = |at: usize| {
            let within = at - 1;
            format!(
                "(component $c{at} (alias outer $top $c{within} (component $c)) (instance (instantiate $c)) (instance (instantiate $c)))"
            )
        };
        let levels: String = (1..=levels).map(level).collect();
        let text = format!("(component $top (component $c0 (core module $m) (core instance (instantiate $m))) {levels})");
        wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"))
    };
    let within_each_other = |depth: usize| "(component ".repeat(depth) + &")".repeat(depth);
    let functions = |count: usize, body: &str| module(&format!("(func {body})").repeat(count));
    let nested = |depth: usize| "block ".repeat(depth) + &"end ".repeat(depth);
    let locals = |count: usize| format!("(local {})", "i32 ".repeat(count));
    let branches = |count: usize| format!("i32.const 0 br_table {} ", "0 ".repeat(count));
    let elements = |count: usize| {
        module(&format!("(func $f) (table {count} funcref) (elem (i32.const 0) func {})", "$f ".repeat(count)))
    };
    vec![
        ("instances: ", doubling(20)),
        ("core modules: ", component(&"(core module)".repeat(9))),
        ("components within it: ", component(&"(component)".repeat(33))),
        ("components within each other: ", component(&within_each_other(5))),
        ("a component within it imports component ", component(r#"(component (import "c" (component)))"#)),
        ("elements of tables: ", elements(400_000)),
        ("segments of data and elements: ", module(&r#"(data "")"#.repeat(4097))),
        ("functions: ", functions(20_001, "")),
        ("bytes of one function: ", functions(1, &"nop ".repeat(256 * 1024))),
        ("locals of one function: ", functions(1, &locals(50_000))),
        ("locals: ", functions(200, &locals(4000))),
        ("blocks within each other: ", functions(1, &nested(60_000))),
        ("blocks within each other, over all functions: ", functions(101, &nested(2000))),
        ("targets of branches: ", functions(2, &branches(120_000))),
        ("types: ", component(&"(type string)".repeat(10_001))),
        ("types: ", component(&format!("(type (instance {}))", "(type string)".repeat(10_001)))),
        ("types: ", module(&"(type (func))".repeat(10_001))),
        ("imports, exports, aliases and other definitions: ", module(&"(global i32 i32.const 0)".repeat(20_001))),
    ]
}

#[test]
fn what_costs_more_than_it_weighs_is_refused_by_its_count() {
    for (count, bytes) in costly() {
        let message = refused(&bytes).to_string();
        assert!(message.contains(&format!("not a plugin: {count}")), "{count} {message}");
        assert!(bytes.len() < atomix_model::limits::PLUGIN_BYTES_MAX, "it is refused for its size alone");
    }
}

#[test]
fn what_plugins_hold_is_far_below_every_count() {
    for name in ["raft", "cache", "etcd", "valkey", "redis"] {
        let bytes = components::bytes(name);
        atomix_sandbox::check(name, &bytes).unwrap_or_else(|fault| panic!("{fault}"));
    }
}

/// The controller's own program, as it tries bytes that are new.
fn trial() -> Trial {
    Trial::new(paths::controller_program().expect("it is built"), vec!["plugin", "try"])
}

#[tokio::test]
async fn bytes_that_are_new_are_loaded_in_a_process_with_limits() {
    let tried = async |bytes: &[u8], limits| trial().run(bytes, &limits).await.expect("there is a process");
    for name in ["raft", "cache", "etcd", "valkey", "redis"] {
        assert_eq!(tried(&components::bytes(name), TRIAL_FIRST).await, Tried::Good, "{name}");
    }
    for limits in [TRIAL_FIRST, TRIAL_LAST] {
        let Tried::Refused(why) = tried(&guest("endless-loop"), limits).await else { panic!("it cannot be loaded") };
        assert!(why.starts_with("describe gave no answer: it used all of its 50000000 units of fuel"), "{why}");
    }
    assert!(matches!(tried(&memory_hog(), TRIAL_FIRST).await, Tried::Exceeds(_)));
    let fault = tried(&memory_hog(), TRIAL_LAST).await.verdict().expect_err("it cannot be loaded");
    assert_eq!(fault.to_string(), "not a plugin: loading it takes more than 768 MiB of memory");
}

#[tokio::test]
async fn a_plugin_is_loaded_before_costly_bytes_that_came_first() {
    let (catalog, mut loading) = (Catalog::default(), Loading::new(sandbox(), trial()));
    let hogs = ["hog-1", "hog-2", "hog-3", "hog-4", "hog-5", "hog-6"];
    for (at, name) in hogs.into_iter().chain(["raft"]).enumerate() {
        let bytes = if name == "raft" { components::bytes("raft") } else { memory_hog() };
        let source = Source {
            pinned: None,
            name: name.to_owned(),
            plugin: name.to_owned(),
            stamp: "1".to_owned(),
            created: at.try_into().expect("there are few"),
            bytes: Ok(bytes.into()),
        };
        loading.want(&catalog, name, &source, |_| false).await;
    }
    loading.next().await;
    assert!(loading.loaded("raft").expect("it is the first that is done").is_ok());
    for _ in hogs {
        loading.next().await;
    }
    assert!(hogs.iter().all(|name| loading.loaded(name).is_some_and(|loaded| loaded.is_err())));
}

#[test]
fn another_contract_is_refused_with_the_ones_supported() {
    let fault = refused(&guest("other-version"));
    let why = "it exports atomix:storage/plugin@9.0.0; supported is atomix:storage/plugin@0.1.0";
    assert_eq!(fault.what, Wrong::Contract(why.to_owned()));
    let module = refused(&wat::parse_str("(module)").expect("it is a module"));
    assert!(module.to_string().contains("a core WebAssembly module"), "{module}");
}
