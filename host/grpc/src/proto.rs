//! The gRPC API's messages and services, generated from `proto/`, and answers that are kept as the bytes they are sent as. Knows no
//! other module.

use bytes::{Buf, BufMut, Bytes};
use prost::encoding::{DecodeContext, WireType};
use prost::{DecodeError, Message};

/// Package `atomix.controller`, the first generation.
#[allow(missing_docs, clippy::all)]
pub mod controller {
    tonic::include_proto!("atomix.controller");
}
/// Package `atomix.database`.
#[allow(missing_docs, clippy::all)]
pub mod database {
    tonic::include_proto!("atomix.database");
}
/// Package `atomix.membership`.
#[allow(missing_docs, clippy::all)]
pub mod membership {
    tonic::include_proto!("atomix.membership");
}
/// Package `atomix.primitive`.
#[allow(missing_docs, clippy::all)]
pub mod primitive {
    tonic::include_proto!("atomix.primitive");
}

/// All of `proto/` as an encoded `FileDescriptorSet`, for reflection.
pub const DESCRIPTORS: &[u8] = tonic::include_file_descriptor_set!("descriptors");

/// A message that was encoded when its content last changed, and is only copied when it is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded(pub Bytes);

impl Message for Encoded {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.0);
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn merge_field(&mut self, _: u32, _: WireType, _: &mut impl Buf, _: DecodeContext) -> Result<(), DecodeError> {
        Ok(()) // answers are not read here
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

/// Appends a message as a field, below 16, of another: as an item of the list, if the field is one.
pub fn put(field: u8, message: &impl Message, into: &mut Vec<u8>) {
    const LENGTH_DELIMITED: u8 = 2; // https://protobuf.dev/programming-guides/encoding
    into.push(field << 3 | LENGTH_DELIMITED);
    message.encode_length_delimited(into).expect("a Vec grows");
}

#[cfg(test)]
#[path = "proto_tests.rs"]
mod tests;
