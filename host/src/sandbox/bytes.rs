//! What a plugin's bytes show before anything of them is compiled or run. Knows no engine.

use wasmparser::{Parser, Payload};

use super::Wrong;
use crate::limits;
use crate::wit::v0_1;

/// Versions of the contract that are served, by the name under which a component exports them.
pub const CONTRACTS: [&str; 1] = [v0_1::EXPORT];

/// Refuses bytes that are too large, no component, with any import, of another contract, or that would take long to compile.
pub fn check(bytes: &[u8]) -> Result<(), Wrong> {
    if bytes.len() > limits::PLUGIN_BYTES_MAX {
        return Err(Wrong::Bytes(format!("{} bytes; at most {} are accepted", bytes.len(), limits::PLUGIN_BYTES_MAX)));
    }
    if Parser::is_core_wasm(bytes) {
        return Err(Wrong::Bytes("a core WebAssembly module; a component is expected".to_owned()));
    }
    if !Parser::is_component(bytes) {
        return Err(Wrong::Bytes("not a WebAssembly component".to_owned()));
    }
    let found = read(bytes).map_err(|error| Wrong::Bytes(format!("a broken component: {error}")))?;
    if let Some(import) = found.import {
        return Err(Wrong::Imports(import));
    }
    if !found.exports.iter().any(|name| CONTRACTS.contains(&name.as_str())) {
        let exports = match found.exports.is_empty() {
            true => "nothing".to_owned(),
            false => found.exports.join(", "),
        };
        return Err(Wrong::Contract(format!("it exports {exports}; supported is {}", CONTRACTS.join(", "))));
    }
    let over = |count: usize, what: &str, max: usize| match count > max {
        true => Err(Wrong::Bytes(format!("{what}: {count}; at most {max} are accepted"))),
        false => Ok(()),
    };
    over(found.modules, "core modules", limits::PLUGIN_MODULES_MAX)?;
    over(found.functions, "functions", limits::PLUGIN_FUNCTIONS_MAX)?;
    over(found.largest_function, "bytes of one function", limits::PLUGIN_FUNCTION_BYTES_MAX)
}

#[derive(Default)]
struct Found {
    import: Option<String>,
    exports: Vec<String>,
    modules: usize,
    functions: usize,
    largest_function: usize,
}

fn read(bytes: &[u8]) -> wasmparser::Result<Found> {
    let mut found = Found::default();
    let mut depth = 0; // 0 is the component itself; imports of what is inside it are satisfied by it
    for payload in Parser::new(0).parse_all(bytes) {
        match payload? {
            Payload::ModuleSection { .. } => {
                depth += 1;
                found.modules += 1;
            }
            Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(imports) if depth == 0 => {
                for import in imports {
                    found.import.get_or_insert(import?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(exports) if depth == 0 => {
                for export in exports {
                    found.exports.push(export?.name.name.to_owned());
                }
            }
            Payload::CodeSectionEntry(body) => {
                found.functions += 1;
                found.largest_function = found.largest_function.max(body.range().len());
            }
            _ => {}
        }
    }
    Ok(found)
}
