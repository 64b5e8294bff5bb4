//! Hostile bytes, and bytes that are no plugin by accident, for tests that hand them to a sandbox or to a cluster.

pub mod guest;
pub mod memory;

use std::fs;

use crate::paths;

/// The text of `tests/hostile/<name>.wat`.
///
/// # Panics
/// There is none.
pub fn text(name: &str) -> String {
    let path = paths::root().join(format!("tests/hostile/{name}.wat"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The component of `tests/hostile/<name>.wat`. If the file holds a core module, it is made a component of the contract.
///
/// # Panics
/// It is none.
pub fn guest(name: &str) -> Vec<u8> {
    let text = text(name);
    if text.contains("\n(core module $guest") {
        return of_contract(&text);
    }
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"))
}

/// The text of a component of the contract with this core module, `$guest`, in it.
///
/// # Panics
/// There is no `tests/hostile/contract.wat`.
pub fn of_contract_text(module: &str) -> String {
    text("contract").replacen("(component\n", &format!("(component\n{module}\n"), 1)
}

/// The same as a component.
///
/// # Panics
/// It is none.
pub fn of_contract(module: &str) -> Vec<u8> {
    wat::parse_str(of_contract_text(module)).unwrap_or_else(|error| panic!("{error}"))
}

/// Random bytes, always the same.
pub fn noise() -> Vec<u8> {
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

/// A component with these fields, as text.
///
/// # Panics
/// They make none.
pub fn component(fields: &str) -> Vec<u8> {
    wat::parse_str(format!("(component {fields})")).unwrap_or_else(|error| panic!("{error}"))
}

/// A component that is within every count and takes more memory to compile than there is: each of its loops sets one of many locals.
pub fn memory_hog() -> Vec<u8> {
    let within = |at: usize| {
        format!("loop local.get {} i32.const 1 i32.add local.set {} local.get 0 br_if 0 end ", at % 4000, at * 7 % 4000)
    };
    let code: String = (0..15_000).map(within).collect();
    let locals = "i32 ".repeat(4000);
    component(&format!(
        r#"(core module (func (local {locals}) {code})) (instance $it) (export "atomix:storage/plugin@0.1.0" (instance $it))"#
    ))
}
