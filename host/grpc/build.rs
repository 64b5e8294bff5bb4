//! Generates the gRPC API's types and services from `proto/`.

use std::io::Result;
use std::path::PathBuf;

use tonic_prost_build::FileDescriptorSet;

const FILES: [&str; 4] = [
    "atomix/controller/controller.proto",
    "atomix/database/database.proto",
    "atomix/membership/membership.proto",
    "atomix/primitive/primitive.proto",
];
/// Answers that are kept as the bytes they are sent as.
const ENCODED: [&str; 5] = [
    ".atomix.controller.GetPartitionGroupsResponse",
    ".atomix.controller.GetDatabasesResponse",
    ".atomix.database.GetDatabaseResponse",
    ".atomix.database.GetDatabasesResponse",
    ".atomix.membership.JoinGroupResponse",
];

fn main() -> Result<()> {
    println!("cargo::rerun-if-changed=../../proto");
    let set: FileDescriptorSet = protox::compile(FILES, ["../../proto"]).map_err(std::io::Error::other)?;
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or_else(|| std::io::Error::other("cargo sets OUT_DIR"))?);
    let mut builder =
        tonic_prost_build::configure().build_client(false).build_transport(false).generate_default_stubs(false);
    builder = ENCODED.iter().fold(builder, |builder, message| builder.extern_path(*message, "crate::proto::Encoded"));
    std::fs::write(out.join("descriptors.bin"), prost::Message::encode_to_vec(&set))?;
    builder.compile_fds(set)
}
