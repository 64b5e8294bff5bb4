//! A guest with given answers to `describe` and `plan`, or with other code in their place. Knows no storage and no cluster.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use atomix_model::contract::{
    ClassKind, Descriptor, Endpoint, FieldError, ObjectKind, PartitionState, Plan, PlannedObject, Reason, Refusal,
};
use serde_json::{Value, json};

use super::memory::{self, Memory, Wire};

/// Where answers stand in memory. What comes before is for arguments, which are written over each other.
const ANSWERS: u32 = 128 * 1024;
/// Pages of memory, of 64 KiB each, after that of the answers.
const PAGES: u32 = 1;

/// A guest in WebAssembly. All that it answers stands in its memory.
#[derive(Clone, Debug)]
pub struct Guest {
    descriptor: Wire,
    plan: Wire,
    validated: Wire,
    fields: String,
    code: BTreeMap<&'static str, String>,
    spoiled: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Guest {
    /// A guest that answers these.
    pub fn new(descriptor: &Descriptor, plan: &Result<Plan, Refusal>) -> Guest {
        Guest {
            descriptor: memory::descriptor(descriptor),
            plan: memory::plan(plan),
            validated: memory::validated(&Ok(())),
            fields: String::new(),
            code: BTreeMap::new(),
            spoiled: Vec::new(),
        }
    }

    /// Has it accept no class, for these reasons.
    #[must_use]
    pub fn refuses(mut self, errors: &[FieldError]) -> Guest {
        self.validated = memory::validated(&Err(errors.to_vec()));
        self
    }

    /// Has `function` of the guest (`describe`, `validate`, `plan` or `realloc`) run these instructions, as text. In them `{describe}`,
    /// `{validate}` and `{plan}` stand for the addresses of the answers, which is what a function returns.
    #[must_use]
    pub fn does(mut self, function: &'static str, code: &str) -> Guest {
        self.code.insert(function, code.to_owned());
        self
    }

    /// Adds fields to the core module, as text.
    #[must_use]
    pub fn with(mut self, fields: &str) -> Guest {
        self.fields.push_str(fields);
        self
    }

    /// Puts other bytes, of the same number, in the place of these in its answers.
    #[must_use]
    pub fn spoiled(mut self, old: &[u8], new: &[u8]) -> Guest {
        assert_eq!(old.len(), new.len(), "bytes keep their places");
        self.spoiled.push((old.to_vec(), new.to_vec()));
        self
    }

    /// The bytes of the answer to `plan`, whose first is the first of the answer itself, and where they begin in memory.
    pub fn plan_bytes(&self) -> Vec<u8> {
        let mut memory = Memory::new(ANSWERS);
        memory.put(&self.plan);
        memory.bytes
    }

    /// The component.
    ///
    /// # Panics
    /// Its code is none.
    pub fn wasm(&self) -> Vec<u8> {
        self.wasm_with(&self.plan_bytes())
    }

    /// The component with these bytes as its answer to `plan`: those of [`Guest::plan_bytes`], changed.
    ///
    /// # Panics
    /// Its code is none.
    pub fn wasm_with(&self, plan: &[u8]) -> Vec<u8> {
        let mut memory = Memory::new(ANSWERS);
        memory.bytes.extend_from_slice(plan);
        let addresses =
            [("plan", ANSWERS), ("describe", memory.put(&self.descriptor)), ("validate", memory.put(&self.validated))];
        for (old, new) in &self.spoiled {
            let at = memory.bytes.windows(old.len()).position(|bytes| bytes == old);
            let at = at.unwrap_or_else(|| panic!("{:?} stands nowhere in the answers", String::from_utf8_lossy(old)));
            memory.bytes[at..at + new.len()].copy_from_slice(new);
        }
        let code = |function: &str, usual: &str| {
            let code = self.code.get(function).map_or(usual, String::as_str).to_owned();
            addresses.iter().fold(code, |code, (of, at)| code.replace(&format!("{{{of}}}"), &at.to_string()))
        };
        let pages = (ANSWERS + memory.bytes.len() as u32).div_ceil(64 * 1024) + PAGES;
        let mut data = String::with_capacity(3 * memory.bytes.len());
        memory.bytes.iter().for_each(|byte| write!(data, "\\{byte:02x}").expect("a text takes all"));
        super::of_contract(&format!(
            r#"(core module $guest
              (memory (export "memory") {pages})
              (data (i32.const {ANSWERS}) "{data}")
              {}
              (func (export "describe") (result i32) {})
              (func (export "validate") (param i32 i32 i32 i32) (result i32) {})
              (func (export "plan") (param i32) (result i32) {})
              (func (export "realloc") (param i32 i32 i32 i32) (result i32) {}))"#,
            self.fields,
            code("describe", "(i32.const {describe})"),
            code("validate", "(i32.const {validate})"),
            code("plan", "(i32.const {plan})"),
            code("realloc", "(i32.const 1024)"),
        ))
    }
}

/// A kind of object by its group, kind and plural, in version `v1`.
pub fn kind(group: &str, kind: &str, plural: &str) -> ObjectKind {
    ObjectKind { group: group.into(), version: "v1".into(), kind: kind.into(), plural: plural.into(), reads: Vec::new() }
}

/// The descriptor of a guest of this name: it serves the kind of class that is named, and emits Services, ConfigMaps and
/// StatefulSets.
pub fn descriptor(name: &str, class: &str) -> Descriptor {
    Descriptor {
        name: name.into(),
        version: "6.6.6".into(),
        class_kinds: vec![ClassKind {
            kind: class.into(),
            plural: format!("{}es", class.to_lowercase()),
            short_names: Vec::new(),
            versions: vec!["v1beta1".into()],
            spec_schema: json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
            columns: Vec::new(),
        }],
        emits: vec![
            kind("", "ConfigMap", "configmaps"),
            kind("", "Service", "services"),
            kind("apps", "StatefulSet", "statefulsets"),
        ],
        watches: Vec::new(),
    }
}

/// A plan of one partition without members, of `database` in `namespace`: its Service, and whatever else it is given.
pub fn plan(namespace: &str, database: &str, more: impl IntoIterator<Item = Value>) -> Plan {
    let name = format!("{database}-1");
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {
        "selector": {"database": format!("{database}.{namespace}")},
        "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
    }});
    let objects = [service].into_iter().chain(more).enumerate();
    Plan {
        objects: objects.map(|(at, manifest)| PlannedObject { id: format!("object-{at}"), manifest }).collect(),
        partitions: vec![PartitionState {
            id: 1,
            ready: true,
            endpoints: vec![Endpoint { host: format!("{name}.{namespace}.svc.cluster.local"), port: 80 }],
            problem: None,
        }],
        unsupported: Vec::new(),
        notes: Vec::new(),
    }
}

/// A reason with a message.
pub fn reason(code: &str, message: &str) -> Reason {
    Reason { code: code.into(), message: message.into() }
}
