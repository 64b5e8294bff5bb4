//! Generates clients of the gRPC API from `proto/`.

fn main() -> std::io::Result<()> {
    println!("cargo::rerun-if-changed=../proto");
    let packages = ["controller", "database", "membership", "primitive"];
    let files = packages.map(|package| format!("atomix/{package}/{package}.proto"));
    let set = protox::compile(files, ["../proto"]).map_err(std::io::Error::other)?;
    tonic_prost_build::configure().build_server(false).build_transport(true).compile_fds(set)
}
