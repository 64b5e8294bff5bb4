//! Plugins that mean harm, or were built by accident. Each ends in an error that says which bytes it was, and nothing else happens.

use std::fs;

use atomix_controller::sandbox::{PluginFault, Sandbox, Wrong};
use harness::paths;

fn sandbox() -> Sandbox {
    Sandbox::new().expect("this machine runs plugins")
}

fn guest(name: &str) -> Vec<u8> {
    let path = paths::root().join(format!("tests/hostile/{name}.wat"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"))
}

fn noise() -> Vec<u8> {
    let mut seed = 42_u64;
    let byte = |_| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1);
        (seed >> 56) as u8
    };
    (0..10_000).map(byte).collect()
}

/// Bytes that must never serve, each under a name.
pub fn guests() -> Vec<(&'static str, Vec<u8>)> {
    vec![("import", guest("import")), ("endless-loop", guest("endless-loop")), ("random bytes", noise())]
}

fn refused(bytes: &[u8]) -> PluginFault {
    let fault = sandbox().load("stranger", bytes).expect_err("it is refused");
    let said = fault.to_string();
    assert!(said.starts_with(&format!("plugin stranger (sha256 {}): ", &fault.digest[..12])), "{said}");
    fault
}

#[test]
fn an_import_is_refused_by_its_name() {
    let fault = refused(&guest("import"));
    assert_eq!(fault.what, Wrong::Imports("wasi:clocks/wall-clock@0.2.0".to_owned()));
}

#[test]
fn an_endless_loop_ends_with_its_fuel() {
    let fault = refused(&guest("endless-loop"));
    assert!(fault.to_string().contains("describe gave no answer: it used all of its 50000000 units of fuel"), "{fault}");
}

#[test]
fn random_bytes_are_no_plugin() {
    assert!(matches!(refused(&noise()).what, Wrong::Bytes(_)));
    assert!(matches!(refused(&[]).what, Wrong::Bytes(_)));
    let mut torn = guest("endless-loop");
    torn.truncate(torn.len() / 2);
    assert!(matches!(refused(&torn).what, Wrong::Bytes(_)));
}

#[test]
fn another_contract_is_refused_with_the_ones_supported() {
    let fault = refused(&guest("other-version"));
    let why = "it exports atomix:storage/plugin@9.0.0; supported is atomix:storage/plugin@0.1.0";
    assert_eq!(fault.what, Wrong::Contract(why.to_owned()));
    let module = refused(&wat::parse_str("(module)").expect("it is a module"));
    assert!(module.to_string().contains("a core WebAssembly module"), "{module}");
}
