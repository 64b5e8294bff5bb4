//! Checks a plugin's bytes before anything of them is compiled or run. Knows no engine.
//!
//! Compiling is not bounded by fuel, and some of what a component may hold costs far more than its bytes: a few bytes declare fifty
//! thousand locals, or double the number of instances. So everything that can be counted is counted here, in time proportional to the
//! bytes, and bounded by [`limits`].

use wasmparser::{
    CanonicalFunction, ComponentInstance, ComponentType, ComponentTypeDeclaration, ComponentTypeRef, CoreType, ElementItems,
    FunctionBody, Instance, InstanceTypeDeclaration, Operator, Parser, Payload, TypeRef,
};

use super::Wrong;
use crate::versions;
use atomix_model::limits;

/// Versions of the contract that are served, by the name under which a component exports them.
const CONTRACTS: &[&str] = &versions::EXPORTS;

/// The message for the commonest mistake in building a plugin.
const CORE_MODULE: &str = "a core WebAssembly module; a component is expected: set linker = \"wasm-component-ld\" for the target \
                           wasm32-unknown-unknown in .cargo/config.toml, and build again";

/// Refuses bytes that are too large, no component, with any import, of another contract, or that would take long to compile.
pub fn check(bytes: &[u8]) -> Result<(), Wrong> {
    if bytes.len() > limits::PLUGIN_BYTES_MAX {
        return Err(Wrong::Bytes(format!("{} bytes; at most {} are accepted", bytes.len(), limits::PLUGIN_BYTES_MAX)));
    }
    if Parser::is_core_wasm(bytes) {
        return Err(Wrong::Bytes(CORE_MODULE.to_owned()));
    }
    if !Parser::is_component(bytes) {
        return Err(Wrong::Bytes("not a WebAssembly component".to_owned()));
    }
    let mut counted = Counted::default();
    let (import, exports) = count(bytes, &mut counted)?;
    if let Some(import) = import {
        return Err(Wrong::Imports(import));
    }
    if !exports.iter().any(|name| CONTRACTS.contains(&name.as_str())) {
        let exports = match exports.is_empty() {
            true => "nothing".to_owned(),
            false => exports.join(", "),
        };
        return Err(Wrong::Contract(format!("it exports {exports}; supported is {}", CONTRACTS.join(", "))));
    }
    Ok(())
}

/// A count that grows while the bytes are read, and ends the reading when it is over its bound.
#[derive(Default)]
struct Counted {
    modules: usize,
    components: usize,
    functions: usize,
    locals: usize,
    nesting: usize,
    branch_targets: usize,
    segments: usize,
    elements: usize,
    types: usize,
    items: usize,
}

/// Adds to a count. `what` names it in the message.
fn add(count: &mut usize, more: usize, what: &str, max: usize) -> Result<(), Wrong> {
    *count = count.saturating_add(more);
    at_most(*count, what, max)
}

fn at_most(count: usize, what: &str, max: usize) -> Result<(), Wrong> {
    match count > max {
        true => Err(Wrong::Bytes(format!("{what}: {count} or more; at most {max} are accepted"))),
        false => Ok(()),
    }
}

fn broken(error: wasmparser::BinaryReaderError) -> Wrong {
    Wrong::Bytes(format!("a broken component: {error}"))
}

/// One component while it is read.
#[derive(Default)]
struct Open {
    /// Whether it is a core module.
    is_module: bool,
    /// Instances that come of one instantiation of it, with those within.
    instances: usize,
}

/// Counts what a component holds, and returns the first import and the exports of the outermost component.
fn count(bytes: &[u8], counted: &mut Counted) -> Result<(Option<String>, Vec<String>), Wrong> {
    let (mut import, mut exports) = (None, Vec::new());
    let mut open = vec![Open::default()]; // the first is the component itself; imports of what is inside it are satisfied by it
    // Instances that come of the largest component that is closed. An instantiation may name any of those, and no other: what is open
    // has no index yet, and components are imported by none.
    let mut largest = 1_usize;
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload.map_err(broken)?;
        let outermost = open.len() == 1;
        match payload {
            Payload::ModuleSection { .. } => {
                add(&mut counted.modules, 1, "core modules", limits::PLUGIN_MODULES_MAX)?;
                open.push(Open { is_module: true, instances: 1 });
            }
            Payload::ComponentSection { .. } => {
                add(&mut counted.components, 1, "components within it", limits::PLUGIN_COMPONENTS_MAX)?;
                at_most(open.len(), "components within each other", limits::PLUGIN_COMPONENT_DEPTH_MAX)?;
                open.push(Open { is_module: false, instances: 1 });
            }
            Payload::End(_) => {
                if let Some(closed) = open.pop().filter(|closed| !closed.is_module) {
                    largest = largest.max(closed.instances);
                }
            }
            Payload::ComponentImportSection(imports) => {
                add_items(counted, imports.count())?;
                for found in imports {
                    let found = found.map_err(broken)?;
                    if outermost {
                        import.get_or_insert(found.name.name.to_owned());
                    } else if matches!(found.ty, ComponentTypeRef::Component(_)) {
                        let name = found.name.name;
                        return Err(Wrong::Bytes(format!("a component within it imports component {name}; none may")));
                    }
                }
            }
            Payload::ComponentExportSection(found) => {
                add_items(counted, found.count())?;
                for export in found.into_iter().filter(|_| outermost) {
                    exports.push(export.map_err(broken)?.name.name.to_owned());
                }
            }
            Payload::InstanceSection(instances) => {
                add_items(counted, instances.count())?;
                for instance in instances {
                    if let Instance::Instantiate { .. } = instance.map_err(broken)? {
                        instantiate(&mut open, 1)?;
                    }
                }
            }
            Payload::ComponentInstanceSection(instances) => {
                add_items(counted, instances.count())?;
                for instance in instances {
                    if let ComponentInstance::Instantiate { .. } = instance.map_err(broken)? {
                        instantiate(&mut open, largest)?;
                    }
                }
            }
            Payload::CodeSectionEntry(body) => function(counted, &body)?,
            payload => section(counted, payload)?,
        }
    }
    Ok((import, exports))
}

fn instantiate(open: &mut [Open], instances: usize) -> Result<(), Wrong> {
    match open.last_mut() {
        Some(inner) => add(&mut inner.instances, instances, "instances", limits::PLUGIN_INSTANCES_MAX),
        None => Ok(()),
    }
}

fn add_items(counted: &mut Counted, more: u32) -> Result<(), Wrong> {
    add(&mut counted.items, more as usize, "imports, exports, aliases and other definitions", limits::PLUGIN_ITEMS_MAX)
}

/// Counts a section that is not about instances or code.
fn section(counted: &mut Counted, payload: Payload<'_>) -> Result<(), Wrong> {
    match payload {
        Payload::TypeSection(types) => add_types(counted, types.count() as usize),
        Payload::CoreTypeSection(types) => {
            for found in types {
                match found.map_err(broken)? {
                    CoreType::Rec(_) => add_types(counted, 1)?,
                    CoreType::Module(declared) => add_types(counted, 1 + declared.len())?,
                }
            }
            Ok(())
        }
        Payload::ComponentTypeSection(types) => {
            for found in types {
                component_type(counted, &found.map_err(broken)?)?;
            }
            Ok(())
        }
        Payload::ImportSection(imports) => {
            for found in imports.into_imports() {
                add_items(counted, 1)?;
                if let TypeRef::Func(_) = found.map_err(broken)?.ty {
                    add(&mut counted.functions, 1, "functions", limits::PLUGIN_FUNCTIONS_MAX)?;
                }
            }
            Ok(())
        }
        Payload::TableSection(tables) => add_items(counted, tables.count()),
        Payload::MemorySection(memories) => add_items(counted, memories.count()),
        Payload::TagSection(tags) => add_items(counted, tags.count()),
        Payload::GlobalSection(globals) => add_items(counted, globals.count()),
        Payload::ExportSection(exports) => add_items(counted, exports.count()),
        Payload::ElementSection(segments) => {
            add_segments(counted, segments.count())?;
            for segment in segments {
                let elements = match segment.map_err(broken)?.items {
                    ElementItems::Functions(functions) => functions.count(),
                    ElementItems::Expressions(_, expressions) => expressions.count(),
                };
                add(&mut counted.elements, elements as usize, "elements of tables", limits::CALL_TABLE_ELEMENTS_MAX)?;
            }
            Ok(())
        }
        Payload::DataSection(segments) => add_segments(counted, segments.count()),
        Payload::ComponentAliasSection(aliases) => add_items(counted, aliases.count()),
        Payload::ComponentCanonicalSection(functions) => {
            for found in functions {
                add_items(counted, 1)?;
                if let CanonicalFunction::Lift { options, .. } | CanonicalFunction::Lower { options, .. } =
                    found.map_err(broken)?
                {
                    add(
                        &mut counted.items,
                        options.len(),
                        "canonical options and other definitions",
                        limits::PLUGIN_ITEMS_MAX,
                    )?;
                }
            }
            Ok(())
        }
        _ => Ok(()), // the rest is bounded by its bytes
    }
}

fn add_segments(counted: &mut Counted, more: u32) -> Result<(), Wrong> {
    add(&mut counted.segments, more as usize, "segments of data and elements", limits::PLUGIN_SEGMENTS_MAX)
}

fn add_types(counted: &mut Counted, more: usize) -> Result<(), Wrong> {
    add(&mut counted.types, more, "types", limits::PLUGIN_TYPES_MAX)
}

/// Counts a type and those that are declared within it. The parser bounds how deep they are within each other.
fn component_type(counted: &mut Counted, found: &ComponentType<'_>) -> Result<(), Wrong> {
    add_types(counted, 1)?;
    match found {
        ComponentType::Component(declared) => declared.iter().try_for_each(|inner| match inner {
            ComponentTypeDeclaration::Type(inner) => component_type(counted, inner),
            _ => add_types(counted, 1),
        }),
        ComponentType::Instance(declared) => declared.iter().try_for_each(|inner| match inner {
            InstanceTypeDeclaration::Type(inner) => component_type(counted, inner),
            _ => add_types(counted, 1),
        }),
        _ => Ok(()),
    }
}

/// Counts a function's bytes, locals, blocks within each other and targets of branches.
fn function(counted: &mut Counted, body: &FunctionBody<'_>) -> Result<(), Wrong> {
    add(&mut counted.functions, 1, "functions", limits::PLUGIN_FUNCTIONS_MAX)?;
    at_most(body.range().len(), "bytes of one function", limits::PLUGIN_FUNCTION_BYTES_MAX)?;
    let mut locals = 0_usize;
    for declared in body.get_locals_reader().map_err(broken)? {
        locals = locals.saturating_add(declared.map_err(broken)?.0 as usize);
    }
    at_most(locals, "locals of one function", limits::PLUGIN_FUNCTION_LOCALS_MAX)?;
    add(&mut counted.locals, locals, "locals", limits::PLUGIN_LOCALS_MAX)?;
    let (mut depth, mut deepest) = (0_usize, 0_usize);
    for operator in body.get_operators_reader().map_err(broken)? {
        match operator.map_err(broken)? {
            Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } | Operator::TryTable { .. } => {
                depth += 1;
                deepest = deepest.max(depth);
                at_most(depth, "blocks within each other", limits::PLUGIN_FUNCTION_NESTING_MAX)?;
            }
            Operator::End => depth = depth.saturating_sub(1),
            Operator::BrTable { targets } => {
                let more = targets.len() as usize;
                add(&mut counted.branch_targets, more, "targets of branches", limits::PLUGIN_BRANCH_TARGETS_MAX)?;
            }
            _ => {}
        }
    }
    add(&mut counted.nesting, deepest, "blocks within each other, over all functions", limits::PLUGIN_NESTING_MAX)
}
