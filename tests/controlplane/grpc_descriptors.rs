//! Requests of every method, made of what the descriptors say of its message. Knows no service.

use std::collections::{BTreeMap, BTreeSet};

use atomix_controller_grpc::proto::DESCRIPTORS;
use harness::seed::Dice;
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint};
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FileDescriptorSet};

/// Messages within messages that are made; a message of the API nests less.
const DEPTH_MAX: usize = 6;

/// Messages by their full name.
pub struct Messages(BTreeMap<String, DescriptorProto>);

/// A method by its path, with the name of its request.
pub struct Method {
    pub path: String,
    pub request: String,
}

/// Every method of every service that is described, and all messages.
pub fn described() -> (Vec<Method>, Messages) {
    let set = FileDescriptorSet::decode(DESCRIPTORS).expect("descriptors that were compiled in");
    let (mut methods, mut messages) = (Vec::new(), BTreeMap::new());
    for file in &set.file {
        let package = file.package();
        for service in &file.service {
            methods.extend(service.method.iter().map(|method| Method {
                path: format!("/{package}.{}/{}", service.name(), method.name()),
                request: method.input_type().to_owned(),
            }));
        }
        messages.extend(file.message_type.iter().map(|message| (format!(".{package}.{}", message.name()), message.clone())));
    }
    assert!(methods.len() >= 12, "{} methods", methods.len());
    (methods, Messages(messages))
}

impl Messages {
    /// Names of all fields of a message, and of those within it.
    pub fn fields(&self, name: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        self.add_fields(name, &mut found);
        found
    }

    fn add_fields(&self, name: &str, found: &mut BTreeSet<String>) {
        for field in self.0.get(name).into_iter().flat_map(|message| &message.field) {
            if found.insert(field.name().to_owned()) {
                self.add_fields(field.type_name(), found);
            }
        }
    }

    /// A message with something in most of its fields: numbers at bounds, texts that are names and such that are none.
    pub fn encoded(&self, name: &str, dice: &Dice) -> Vec<u8> {
        self.of_depth(name, dice, 0)
    }

    fn of_depth(&self, name: &str, dice: &Dice, depth: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let fields = self.0.get(name).map(|message| message.field.as_slice()).unwrap_or_default();
        for field in fields.iter().filter(|_| depth < DEPTH_MAX) {
            if dice.below(8) == 0 {
                continue;
            }
            let number = field.number().unsigned_abs();
            let part = match field.r#type() {
                Type::Message => self.of_depth(field.type_name(), dice, depth + 1),
                Type::String => (*dice.one_of(&TEXTS)).repeat(if dice.below(20) == 0 { 300 } else { 1 }).into_bytes(),
                Type::Bytes => vec![0xff; dice.below(20) as usize],
                _ => {
                    encode_key(number, WireType::Varint, &mut bytes);
                    encode_varint(*dice.one_of(&NUMBERS), &mut bytes);
                    continue;
                }
            };
            encode_key(number, WireType::LengthDelimited, &mut bytes);
            encode_varint(part.len() as u64, &mut bytes);
            bytes.extend(part);
        }
        bytes
    }
}

const TEXTS: [&str; 12] = ["db", "any-request", "any-request", "db", "", "..", "a/b", "A", "\u{e4}", "a?b", "peer", "x"];
const NUMBERS: [u64; 12] =
    [0, 1, 1, 2, 11, 65_535, 65_536, 1025, i32::MAX as u64, u32::MAX as u64, i64::MAX as u64, u64::MAX];
