//! Changes of components that keep what surrounds them in order: sections come, go and change places, and the code and the data within them
//! is other code and other data. What comes out is read further than bytes that are changed anywhere. Knows no contract.

use arbitrary::Unstructured;
use proptest::prelude::*;
use proptest::sample::Index;
use wasm_smith::{Config, Module};
use wasmparser::{Operator, Parser, Payload};

/// Bytes before the first section: the magic number, the version, and what is described.
const PREAMBLE: usize = 8;
/// Numbers of sections of a component that hold binaries of their own.
const CORE_MODULE: u8 = 1;
const COMPONENT: u8 = 4;

/// A change of a component.
#[derive(Clone, Debug)]
pub enum Change {
    /// Sections, at the outermost level or in a binary within.
    Drop(Index),
    Double(Index),
    Swap(Index, Index),
    /// Bytes of a section, whose length is put right.
    Bytes(Index, Vec<(Index, super::Change)>),
    /// The same within a binary that is within the section.
    Within(Index, Box<Change>),
    /// An operator in place of another of its type, e.g. an addition in place of a subtraction.
    Operator(Index, u8),
    /// A core module that means nothing in place of one.
    Module(Index, Shape),
}

/// What a random core module is made of.
#[derive(Clone, Debug)]
pub struct Shape {
    seed: u64,
    bytes: usize,
}

/// Changes of a component.
pub fn changes() -> impl Strategy<Value = Vec<Change>> {
    prop::collection::vec(change(), 1..5)
}

/// Core modules of any content that are valid.
pub fn shape() -> impl Strategy<Value = Shape> {
    (any::<u64>(), 0..30_000_usize).prop_map(|(seed, bytes)| Shape { seed, bytes })
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    let sections = prop_oneof![
        2 => at().prop_map(Change::Drop),
        1 => at().prop_map(Change::Double),
        1 => (at(), at()).prop_map(|(a, b)| Change::Swap(a, b)),
        4 => (at(), prop::collection::vec(super::change(), 1..4)).prop_map(|(at, changes)| Change::Bytes(at, changes)),
    ];
    let sections = sections.boxed();
    let within = (at(), sections.clone()).prop_map(|(at, change)| Change::Within(at, Box::new(change)));
    prop_oneof![
        3 => sections,
        4 => within,
        4 => (at(), any::<u8>()).prop_map(|(at, new)| Change::Operator(at, new)),
        1 => (at(), shape()).prop_map(|(at, shape)| Change::Module(at, shape)),
    ]
}

/// The bytes of a component or of a core module after a change; unchanged if there is nothing that it fits.
pub fn changed(bytes: Vec<u8>, change: &Change) -> Vec<u8> {
    let Some(mut sections) = sections(&bytes) else { return bytes };
    match change {
        Change::Operator(at, new) => return other_operator(bytes, at, *new),
        _ if sections.is_empty() => return bytes,
        Change::Drop(at) => drop(sections.remove(at.index(sections.len()))),
        Change::Double(at) => {
            let section = sections[at.index(sections.len())].clone();
            sections.push(section);
        }
        Change::Swap(a, b) => {
            let count = sections.len();
            sections.swap(a.index(count), b.index(count));
        }
        Change::Bytes(at, changes) => {
            let at = at.index(sections.len());
            changes.iter().for_each(|change| super::changed(&mut sections[at].1, change));
        }
        Change::Within(at, change) => {
            let inner = |id: u8| id == CORE_MODULE || id == COMPONENT;
            let found: Vec<_> = sections.iter_mut().filter(|(id, _)| inner(*id)).collect();
            let count = found.len();
            if let Some((_, section)) = found.into_iter().nth(at.index(count.max(1))) {
                *section = changed(std::mem::take(section), change);
            }
        }
        Change::Module(at, shape) => {
            let found: Vec<_> = sections.iter_mut().filter(|(id, _)| *id == CORE_MODULE).collect();
            let count = found.len();
            if let Some((_, section)) = found.into_iter().nth(at.index(count.max(1))) {
                *section = module(shape);
            }
        }
    }
    joined(&bytes[..PREAMBLE], &sections)
}

/// A valid core module without imports, always the same for the same shape.
pub fn module(shape: &Shape) -> Vec<u8> {
    let mut state = shape.seed | 1;
    let random = |_| {
        state ^= state << 13; // xorshift, which is random enough for this
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    let bytes: Vec<u8> = (0..shape.bytes).map(random).collect();
    let few = shape.seed.is_multiple_of(3);
    let config = Config {
        max_imports: 0,
        max_funcs: if few { 3 } else { 500 },
        max_instructions: if few { 20_000 } else { 300 },
        max_memories: 1,
        max_memory32_bytes: 100 << 20,
        max_tables: 1,
        max_table_elements: 10_000,
        memory64_enabled: false,
        gc_enabled: false,
        exceptions_enabled: false,
        relaxed_simd_enabled: false,
        threads_enabled: false,
        shared_everything_threads_enabled: false,
        custom_page_sizes_enabled: false,
        custom_descriptors_enabled: false,
        wide_arithmetic_enabled: false,
        compact_imports_enabled: false,
        ..Config::default()
    };
    let made = Module::new(config, &mut Unstructured::new(&bytes));
    made.map_or_else(|_| wat::parse_str("(module)").expect("a module"), |module| module.to_bytes())
}

/// A component of the contract's name that holds nothing but this core module.
pub fn around(module: &[u8]) -> Vec<u8> {
    let empty =
        harness::hostile::component(r#"(core module) (instance $it) (export "atomix:storage/plugin@0.1.0" (instance $it))"#);
    let mut sections = sections(&empty).expect("it is a component");
    let section = sections.iter_mut().find(|(id, _)| *id == CORE_MODULE).expect("it holds a module");
    section.1 = module.to_vec();
    joined(&empty[..PREAMBLE], &sections)
}

/// Sections, by their numbers; None if the bytes are no such thing.
fn sections(bytes: &[u8]) -> Option<Vec<(u8, Vec<u8>)>> {
    let mut rest = bytes.get(PREAMBLE..)?;
    let mut found = Vec::new();
    while let Some((id, after)) = rest.split_first() {
        let (mut size, mut shift, mut after) = (0_usize, 0, after);
        loop {
            let (byte, next) = after.split_first()?;
            size |= usize::from(byte & 0x7f).checked_shl(shift)?;
            (shift, after) = (shift + 7, next);
            if byte & 0x80 == 0 {
                break;
            }
        }
        let (section, next) = after.split_at_checked(size)?;
        found.push((*id, section.to_vec()));
        rest = next;
    }
    Some(found)
}

fn joined(preamble: &[u8], sections: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = preamble.to_vec();
    for (id, section) in sections {
        bytes.push(*id);
        let mut size = section.len();
        loop {
            let more = size > 0x7f;
            bytes.push((size & 0x7f) as u8 | if more { 0x80 } else { 0 });
            size >>= 7;
            if !more {
                break;
            }
        }
        bytes.extend_from_slice(section);
    }
    bytes
}

/// Operators of one byte each that take and leave values of the same types (WebAssembly's core specification, 5.4): comparisons and
/// arithmetic of `i32`, of `i64`, and of `f64`.
const ALIKE: [(u8, u8); 6] = [(0x46, 0x4f), (0x51, 0x5a), (0x6a, 0x78), (0x7c, 0x8a), (0x61, 0x66), (0xa0, 0xa6)];

fn other_operator(mut bytes: Vec<u8>, at: &Index, new: u8) -> Vec<u8> {
    let mut found = Vec::new();
    for payload in Parser::new(0).parse_all(&bytes) {
        let Ok(Payload::CodeSectionEntry(body)) = payload else { continue };
        let Ok(operators) = body.get_operators_reader() else { continue };
        for (operator, place) in operators.into_iter_with_offsets().flatten() {
            let constant = matches!(operator, Operator::I32Const { .. } | Operator::I64Const { .. });
            if constant || ALIKE.iter().any(|(first, last)| (first..=last).contains(&&bytes[place])) {
                found.push(place);
            }
        }
    }
    if found.is_empty() {
        return bytes;
    }
    let place = found[at.index(found.len())];
    match ALIKE.iter().find(|(first, last)| (first..=last).contains(&&bytes[place])) {
        Some((first, last)) => bytes[place] = first + new % (last - first + 1),
        None => bytes[place + 1] = (bytes[place + 1] & 0x80) | (new & 0x7f), // of a constant, its lowest bits
    }
    bytes
}
