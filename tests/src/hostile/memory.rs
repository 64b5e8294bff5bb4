//! A guest's answers in its memory: values of the contract's types, laid out as the Component Model's canonical ABI has them
//! (<https://github.com/WebAssembly/component-model/blob/main/design/mvp/CanonicalABI.md>). Knows no guest.

use atomix_model::contract::{
    ClassKind, Column, Descriptor, Endpoint, FieldError, Note, ObjectKind, PartitionState, Plan, Reason, Refusal,
    Unsupported,
};
use serde_json::Value;

/// A value of one of the contract's types.
#[derive(Clone, Debug)]
pub enum Wire {
    /// A boolean, a byte.
    Bool(bool),
    /// A `u16`.
    U16(u16),
    /// A `u32`.
    U32(u32),
    /// A string.
    Text(String),
    /// A list.
    List(Vec<Wire>),
    /// A record.
    Record(Vec<Wire>),
    /// A case of an option, a result or a variant: its number, its payload, and the bytes that the largest payload of all cases takes.
    /// Payloads are aligned to four bytes, as all of this contract's are.
    Case(u8, Option<Box<Wire>>, u32),
}

/// Bytes of a guest's memory from an address on.
#[derive(Clone, Debug)]
pub struct Memory {
    start: u32,
    /// What stands there.
    pub bytes: Vec<u8>,
}

impl Wire {
    fn align(&self) -> u32 {
        match self {
            Wire::Bool(_) => 1,
            Wire::U16(_) => 2,
            Wire::U32(_) | Wire::Text(_) | Wire::List(_) | Wire::Case(..) => 4,
            Wire::Record(fields) => fields.iter().map(Wire::align).max().unwrap_or(1),
        }
    }

    fn size(&self) -> u32 {
        match self {
            Wire::Bool(_) => 1,
            Wire::U16(_) => 2,
            Wire::U32(_) => 4,
            Wire::Text(_) | Wire::List(_) => 8,
            Wire::Record(fields) => {
                let end = fields.iter().fold(0_u32, |end, field| end.next_multiple_of(field.align()) + field.size());
                end.next_multiple_of(self.align())
            }
            Wire::Case(_, _, largest) => 4 + largest,
        }
    }
}

impl Memory {
    /// Nothing yet, from the address `start` on: a multiple of eight.
    pub fn new(start: u32) -> Memory {
        Memory { start, bytes: Vec::new() }
    }

    /// Adds a value, and returns its address.
    pub fn put(&mut self, value: &Wire) -> u32 {
        let at = self.room(value.size());
        self.write(at, value);
        at
    }

    fn room(&mut self, size: u32) -> u32 {
        let at = self.bytes.len().next_multiple_of(8);
        self.bytes.resize(at + size as usize, 0);
        self.start + at as u32
    }

    fn write(&mut self, at: u32, value: &Wire) {
        match value {
            Wire::Bool(value) => self.set(at, &[u8::from(*value)]),
            Wire::U16(value) => self.set(at, &value.to_le_bytes()),
            Wire::U32(value) => self.set(at, &value.to_le_bytes()),
            Wire::Text(text) => {
                let place = self.room(text.len() as u32);
                self.set(place, text.as_bytes());
                self.set(at, &place.to_le_bytes());
                self.set(at + 4, &(text.len() as u32).to_le_bytes());
            }
            Wire::List(items) => {
                let size = items.first().map_or(0, Wire::size);
                let place = self.room(size * items.len() as u32);
                for (index, item) in items.iter().enumerate() {
                    self.write(place + size * index as u32, item);
                }
                self.set(at, &place.to_le_bytes());
                self.set(at + 4, &(items.len() as u32).to_le_bytes());
            }
            Wire::Record(fields) => {
                let mut end = at;
                for field in fields {
                    end = end.next_multiple_of(field.align());
                    self.write(end, field);
                    end += field.size();
                }
            }
            Wire::Case(number, payload, _) => {
                self.set(at, &[*number]);
                payload.iter().for_each(|payload| self.write(at + 4, payload));
            }
        }
    }

    fn set(&mut self, at: u32, bytes: &[u8]) {
        let at = (at - self.start) as usize;
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

/// The answer of `describe`.
pub fn descriptor(value: &Descriptor) -> Wire {
    Wire::Record(vec![
        text(&value.name),
        text(&value.version),
        list(&value.class_kinds, class_kind),
        list(&value.emits, object_kind),
        list(&value.watches, object_kind),
    ])
}

/// The answer of `plan`.
pub fn plan(value: &Result<Plan, Refusal>) -> Wire {
    const PLAN_BYTES: u32 = 32; // four lists
    const REASON_BYTES: u32 = 16; // two texts
    let (case, payload) = match value {
        Ok(plan) => (0, storage_plan(plan)),
        Err(Refusal::Invalid(errors)) => (1, Wire::Case(0, Some(Box::new(list(errors, field_error))), REASON_BYTES)),
        Err(Refusal::Waiting(why)) => (1, Wire::Case(1, Some(Box::new(reason(why))), REASON_BYTES)),
    };
    Wire::Case(case, Some(Box::new(payload)), PLAN_BYTES)
}

/// The answer of `validate`.
pub fn validated(value: &Result<(), Vec<FieldError>>) -> Wire {
    const ERRORS_BYTES: u32 = 8; // a list
    match value {
        Ok(()) => Wire::Case(0, None, ERRORS_BYTES),
        Err(errors) => Wire::Case(1, Some(Box::new(list(errors, field_error))), ERRORS_BYTES),
    }
}

fn class_kind(value: &ClassKind) -> Wire {
    let column = |c: &Column| Wire::Record(vec![text(&c.name), text(&c.data_type), text(&c.json_path)]);
    Wire::Record(vec![
        text(&value.kind),
        text(&value.plural),
        list(&value.short_names, |name| text(name)),
        list(&value.versions, |version| text(version)),
        json(&value.spec_schema),
        list(&value.columns, column),
    ])
}

fn object_kind(value: &ObjectKind) -> Wire {
    let names = [&value.group, &value.version, &value.kind, &value.plural].map(|name| text(name));
    Wire::Record(names.into_iter().chain([list(&value.reads, |pointer| text(pointer))]).collect())
}

fn storage_plan(value: &Plan) -> Wire {
    Wire::Record(vec![
        list(&value.objects, |object| Wire::Record(vec![text(&object.id), json(&object.manifest)])),
        list(&value.partitions, partition),
        list(&value.unsupported, unsupported),
        list(&value.notes, |Note { warning, reason: why }| Wire::Record(vec![Wire::Bool(*warning), reason(why)])),
    ])
}

fn partition(value: &PartitionState) -> Wire {
    const REASON_BYTES: u32 = 16; // two texts
    let endpoint = |Endpoint { host, port }: &Endpoint| Wire::Record(vec![text(host), Wire::U16(*port)]);
    let problem = value.problem.as_ref().map(|problem| Box::new(reason(problem)));
    Wire::Record(vec![
        Wire::U32(value.id),
        Wire::Bool(value.ready),
        list(&value.endpoints, endpoint),
        Wire::Case(u8::from(problem.is_some()), problem, REASON_BYTES),
    ])
}

fn unsupported(value: &Unsupported) -> Wire {
    Wire::Record([&value.field, &value.wanted, &value.kept, &value.why].map(|field| text(field)).to_vec())
}

fn field_error(value: &FieldError) -> Wire {
    Wire::Record(vec![text(&value.path), text(&value.message)])
}

fn reason(value: &Reason) -> Wire {
    Wire::Record(vec![text(&value.code), text(&value.message)])
}

fn list<T>(items: &[T], each: impl Fn(&T) -> Wire) -> Wire {
    Wire::List(items.iter().map(each).collect())
}

fn text(text: &str) -> Wire {
    Wire::Text(text.to_owned())
}

/// JSON as text; a text stands as it is, so that it may be no JSON at all.
fn json(value: &Value) -> Wire {
    Wire::Text(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}
