//! Programs of other authors that use the gRPC API: a client in Go, generated from the descriptors that the controller hands
//! out, grpcurl, and a linter of `proto/`. Built once and kept while go.mod and `proto/` stay as they are. Knows no
//! controller.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use atomix_controller_grpc::proto::DESCRIPTORS;
use prost::Message;
use prost_types::FileDescriptorSet;
use prost_types::compiler::{CodeGeneratorRequest, CodeGeneratorResponse, Version};

use crate::go::{self, Program};
use crate::paths;

/// A tool to build: name, package, how long it takes on 2 cores when nothing is cached.
const TOOLS: [(&str, &str, &str); 4] = [
    ("protoc-gen-go", "google.golang.org/protobuf/cmd/protoc-gen-go", "10 s"),
    ("protoc-gen-go-grpc", "google.golang.org/grpc/cmd/protoc-gen-go-grpc", "5 s"),
    ("grpcurl", "github.com/fullstorydev/grpcurl/cmd/grpcurl", "45 s"),
    ("protolint", "github.com/yoheimuta/protolint/cmd/protolint", "10 s"),
];
/// Those that write Go.
const GENERATORS: [&str; 2] = ["protoc-gen-go", "protoc-gen-go-grpc"];
/// Name of the module in tests/goclient.
const MODULE: &str = "goclient";
/// What of it is copied to where the generated code lies.
const SOURCES: [&str; 3] = ["go.mod", "go.sum", "main.go"];

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Programs {
    tools: BTreeMap<&'static str, PathBuf>,
    /// The client: `goclient ADDRESS NAMESPACE`.
    pub client: PathBuf,
}

impl Programs {
    /// Path of one of the tools: protoc-gen-go, protoc-gen-go-grpc, grpcurl, protolint.
    pub fn tool(&self, name: &str) -> &Path {
        self.tools.get(name).expect("the list of tools is fixed")
    }
}

/// Path of grpcurl, which is built if it is missing.
pub fn grpcurl() -> Result<PathBuf> {
    Place::take()?.tool("grpcurl")
}

/// Finds the programs, and builds what is missing. Prints on standard error what it builds.
pub fn build() -> Result<Programs> {
    let place = Place::take()?;
    let mut tools = BTreeMap::new();
    for (name, ..) in TOOLS {
        tools.insert(name, place.tool(name)?);
    }
    let (dir, sources) = (&place.dir, &place.sources);
    let (bin, files) = (dir.join("bin"), SOURCES.map(|name| sources.join(name)));
    let client = bin.join(format!("client-{}", go::fingerprint(&files, DESCRIPTORS)?));
    if !client.is_file() {
        let module = dir.join("client");
        let _ = fs::remove_dir_all(&module); // of an older proto/
        for name in GENERATORS {
            generate(&tools[name], &module).with_context(|| format!("{name} does not take proto/"))?;
        }
        for (name, file) in SOURCES.into_iter().zip(&files) {
            fs::copy(file, module.join(name)).with_context(|| format!("could not copy {}", file.display()))?;
        }
        let program = Program { name: "the Go client", package: ".", module: &module, takes: "5 s", link: "" };
        go::build(&program, &client)?;
    }
    Ok(Programs { tools, client })
}

/// Where programs of this go.mod are kept; one process at a time.
struct Place {
    sources: PathBuf,
    dir: PathBuf,
    _lock: fs::File,
}

impl Place {
    fn take() -> Result<Place> {
        let sources = paths::root().join("tests/goclient");
        let files = [SOURCES[0], SOURCES[1]].map(|name| sources.join(name));
        let dir = paths::state().join("goclient").join(go::fingerprint(&files, &[])?);
        fs::create_dir_all(dir.join("bin")).with_context(|| format!("could not make {}", dir.display()))?;
        let lock = fs::File::create(dir.join("lock")).with_context(|| format!("could not lock {}", dir.display()))?;
        lock.lock().context("could not wait for another build of the client")?;
        Ok(Place { sources, dir, _lock: lock })
    }

    /// One of the [`TOOLS`], built if it is missing.
    fn tool(&self, name: &str) -> Result<PathBuf> {
        let path = self.dir.join("bin").join(name);
        let (name, package, takes) =
            *TOOLS.iter().find(|(known, ..)| *known == name).context("no such tool is built here")?;
        if !path.is_file() {
            go::build(&Program { name, package, module: &self.sources, takes, link: "" }, &path)?;
        }
        Ok(path)
    }
}

/// Has a plugin of protoc write Go for all files of `proto/`, in the place of protoc
/// (<https://protobuf.dev/reference/cpp/api-docs/google.protobuf.compiler.plugin.pb>).
fn generate(plugin: &Path, module: &Path) -> Result<()> {
    let set = FileDescriptorSet::decode(DESCRIPTORS).context("the descriptors cannot be read")?;
    let names = set.file.iter().map(|file| file.name().to_owned());
    let ours: Vec<String> = names.filter(|name| name.starts_with("atomix/")).collect();
    let mut parameters = vec!["paths=source_relative".to_owned()];
    for name in &ours {
        let folder = name.rsplit_once('/').context("each file lies in a folder")?.0;
        parameters.push(format!("M{name}={MODULE}/{folder}")); // no option of Go's stands in proto/
    }
    let request = CodeGeneratorRequest {
        file_to_generate: ours,
        parameter: Some(parameters.join(",")),
        proto_file: set.file,
        compiler_version: Some(Version { major: Some(5), minor: Some(29), patch: Some(0), suffix: None }),
    };
    let mut command = Command::new(plugin);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("it does not start")?;
    let mut input = child.stdin.take().context("its input is piped")?;
    input.write_all(&request.encode_to_vec()).context("it does not read its input")?; // it answers only when it has read all
    drop(input);
    let output = child.wait_with_output().context("it does not end")?;
    if !output.status.success() {
        bail!("it ended with {}", output.status);
    }
    let response = CodeGeneratorResponse::decode(&output.stdout[..]).context("what it answers cannot be read")?;
    if let Some(error) = response.error {
        bail!("{error}");
    }
    for file in response.file {
        let path = module.join(file.name());
        let folder = path.parent().context("each file lies in a folder")?;
        fs::create_dir_all(folder).with_context(|| format!("could not make {}", folder.display()))?;
        fs::write(&path, file.content()).with_context(|| format!("could not write {}", path.display()))?;
    }
    Ok(())
}
