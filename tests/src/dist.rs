//! Everything a user applies, built and laid out in `dist/`. Knows no cluster.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use sha2::{Digest, Sha256};

use crate::assets::print_progress;
use crate::image::Image;
use crate::{images, paths};

/// Builds the controller and every plugin, packs the plugins, and fills `dist/`. Quick when nothing changed.
pub fn build() -> Result<()> {
    print_progress("building the controller and the plugins …");
    // With this crate beside it, so that what both depend on is built once, with the features of both.
    cargo(&["build", "--package", "atomix-controller", "--package", "atomix-tests", "--bin", "atomix-controller"])?;
    let plugins = plugins()?;
    require_wasm()?;
    let mut args = vec!["build", "--target", WASM, "--profile", "plugin"];
    let guests = GUESTS.iter().map(|name| format!("--package=atomix-{name}-guest"));
    let packages: Vec<String> = plugins.iter().map(|name| format!("--package=atomix-{name}")).chain(guests).collect();
    args.extend(packages.iter().map(String::as_str));
    cargo(&args)?;

    let dist = paths::dist();
    for folder in ["plugins", "examples"] {
        fs::create_dir_all(dist.join(folder)).with_context(|| format!("could not make {}", dist.join(folder).display()))?;
    }
    for name in &plugins {
        write_if_new(&dist.join(format!("plugins/{name}.yaml")), &pack(&wasm(name))?)?;
    }
    for name in GUESTS {
        let packed = plugin(name);
        fs::create_dir_all(packed.parent().context("a file has a folder")?)?;
        write_if_new(&packed, &pack(&wasm(&format!("{name}-guest")))?)?;
    }
    let deploy = paths::root().join("deploy");
    copy(&deploy.join("atomix-controller.yaml"), &dist.join("atomix-controller.yaml"))?;
    for example in files(&deploy.join("examples"), "yaml")? {
        let name = example.file_name().context("a file has a name")?;
        copy(&example, &dist.join("examples").join(name))?;
    }
    write_chart(&dist.join("helm/atomix-controller"), &deploy.join("atomix-controller.yaml"))?;
    let kustomize = dist.join("kustomize");
    fs::create_dir_all(&kustomize).with_context(|| format!("could not make {}", kustomize.display()))?;
    copy(&deploy.join("atomix-controller.yaml"), &kustomize.join("atomix-controller.yaml"))?;
    write_if_new(&kustomize.join("kustomization.yaml"), KUSTOMIZATION)?;
    let argocd = dist.join("argocd");
    fs::create_dir_all(&argocd).with_context(|| format!("could not make {}", argocd.display()))?;
    copy(&deploy.join("argocd/argocd-cm.yaml"), &argocd.join("argocd-cm.yaml"))
}

/// Builds all that is handed out: what [`build`] does, the controller's image, and checksums of it all.
pub fn build_with_image() -> Result<()> {
    build()?;
    image()?;
    let dist = paths::dist();
    let mut all = Vec::new();
    list(&dist, &mut all)?;
    all.retain(|path| path.file_name().is_some_and(|name| name != SUMS));
    all.sort();
    let mut sums = String::new();
    for path in all {
        let bytes = fs::read(&path).with_context(|| format!("could not read {}", path.display()))?;
        let sum: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let name = path.strip_prefix(&dist).context("a file of dist/")?;
        sums.push_str(&format!("{sum}  {}\n", name.display()));
    }
    write_if_new(&dist.join(SUMS), &sums)
}

/// The file that `sha256sum --check` reads.
const SUMS: &str = "SHA256SUMS";
const KUSTOMIZATION: &str = "apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources:
  - atomix-controller.yaml
";

/// How a definition of the manifest begins.
const DEFINITION: &str = "kind: CustomResourceDefinition\nmetadata:\n";
/// The annotation by which Helm keeps definitions when the release goes, since with them every Database would go.
const KEEP: &str = "  annotations:\n    helm.sh/resource-policy: keep\n";

/// A Helm chart that renders to the manifest at `manifest`, with the image as its one value, and keeps the definitions.
fn write_chart(chart: &Path, manifest: &Path) -> Result<()> {
    let text = fs::read_to_string(manifest).with_context(|| format!("could not read {}", manifest.display()))?;
    let image = format!("image: {CONTROLLER}\n");
    if text.matches(&image).count() != 1 || text.contains("{{") {
        bail!("{} should hold {image:?} once, and nothing that Helm takes for its own", manifest.display());
    }
    if !text.contains(DEFINITION) || text.contains(&format!("{DEFINITION}  annotations:")) {
        bail!("{}: definitions should begin with {DEFINITION:?}, and have no annotations", manifest.display());
    }
    fs::create_dir_all(chart.join("templates")).with_context(|| format!("could not make {}", chart.display()))?;
    let version = env!("CARGO_PKG_VERSION");
    let about = format!(
        "apiVersion: v2
name: atomix-controller
description: Turns Databases into running, partitioned storage
type: application
version: {version}
appVersion: v{version}
"
    );
    write_if_new(&chart.join("Chart.yaml"), &about)?;
    write_if_new(&chart.join("values.yaml"), &format!("# The controller's image.\n{image}"))?;
    let template = text.replace(&image, "image: {{ .Values.image }}\n").replace(DEFINITION, &format!("{DEFINITION}{KEEP}"));
    write_if_new(&chart.join("templates/atomix-controller.yaml"), &template)
}

/// Adds the files of a folder and of the folders in it.
pub fn list(dir: &Path, into: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("could not read {}", dir.display()))? {
        let path = entry?.path();
        match path.is_dir() {
            true => list(&path, into)?,
            false => into.push(path),
        }
    }
    Ok(())
}

/// Name of the controller's image, as `deploy/` names it.
pub const CONTROLLER: &str = concat!("atomix/atomix-controller:v", env!("CARGO_PKG_VERSION"));

/// Builds the controller's image, an archive in `dist/`, and returns its path. Quick when nothing changed.
pub fn image() -> Result<PathBuf> {
    if !cfg!(target_os = "linux") {
        bail!("the controller's image is built on Linux");
    }
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    print_progress("building the controller for its image … (about 8 min on 2 cores the first time)");
    let flags = static_and_reproducible()?;
    let args =
        ["build", "--package", "atomix-controller", "--bin", "atomix-controller", "--profile", "image", "--target", &target];
    cargo_with(&args, &[("CARGO_ENCODED_RUSTFLAGS", &flags)])?;
    let program = paths::cargo_target().join(target).join("image/atomix-controller");
    let out = paths::dist().join(format!("atomix-controller-v{}.tar", env!("CARGO_PKG_VERSION")));
    fs::create_dir_all(paths::dist()).context("could not make dist/")?;
    let digest = image_of(&program, &out)?;
    print_progress(&format!("{}: {CONTROLLER}, {digest}", out.display()));
    Ok(out)
}

/// An image of the controller as it was built for this machine, with the libraries that it is linked with here: not to be handed out.
pub fn image_of_this_machine() -> Result<PathBuf> {
    let program = paths::controller_program()?;
    let mut programs = vec![("/atomix-controller".to_owned(), program.clone())];
    programs.extend(libraries(&program)?.into_iter().map(|path| (path.display().to_string(), path)));
    let image = Image { programs, compressed: false, ..controller_image() };
    let newest = fs::metadata(&program).and_then(|found| found.modified()).ok();
    images::made_once(&format!("{CONTROLLER}-of-this-machine"), newest, |out| image.write(out).map(drop))
}

/// Files that the loader of this machine loads with a program, itself among them.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let listed = Command::new("ldd").arg(program).output().context("could not run ldd")?;
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    let words = text.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    Ok(words.map(PathBuf::from).collect())
}

/// Writes the image that runs `program`, the controller, and returns the digest of its manifest.
pub fn image_of(program: &Path, out: &Path) -> Result<String> {
    let programs = vec![("/atomix-controller".to_owned(), program.to_owned())];
    Image { programs, ..controller_image() }.write(out)
}

/// The controller's image, without a program.
fn controller_image() -> Image {
    let label = |key: &str, value: &str| (format!("org.opencontainers.image.{key}"), value.to_owned());
    Image {
        name: CONTROLLER.to_owned(),
        entrypoint: vec!["/atomix-controller".to_owned()],
        user: Some("65532:65532".to_owned()),
        labels: BTreeMap::from([
            label("title", "atomix-controller"),
            label("description", "Turns Databases into running, partitioned storage"),
            label("version", env!("CARGO_PKG_VERSION")),
            label("licenses", "Apache-2.0"),
        ]),
        compressed: true,
        ..Image::default()
    }
}

// The C library within, so that the image needs nothing else; no folder of this machine in it, so that any machine builds the same.
fn static_and_reproducible() -> Result<String> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home =
        home.or_else(|| std::env::home_dir().map(|home| home.join(".cargo"))).context("where cargo keeps its files")?;
    let remap = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
    let flags = [
        "-Ctarget-feature=+crt-static".to_owned(),
        remap(&paths::root(), "/atomix-controller"),
        remap(&paths::cargo_target(), "/atomix-controller/target"), // the last that fits counts
        remap(&home, "/cargo"),
    ];
    Ok(flags.join("\x1f"))
}

/// Builds unless `ATOMIX_PREBUILT` is set, which means that this was done just before.
pub fn build_unless_prebuilt() -> Result<()> {
    match std::env::var_os("ATOMIX_PREBUILT") {
        Some(value) if !value.is_empty() => Ok(()),
        _ => build(),
    }
}

/// The manifest that `plugin pack` prints for the component in `wasm`.
pub fn pack(wasm: &Path) -> Result<String> {
    let output =
        Command::new(paths::controller_program()?).args(["plugin", "pack"]).arg(wasm).env_remove("KUBECONFIG").output();
    let output = output.context("could not run the controller")?;
    match output.status.success() {
        true => String::from_utf8(output.stdout).context("plugin pack printed no text"),
        false => bail!("could not pack {}: {}", wasm.display(), String::from_utf8_lossy(&output.stderr)),
    }
}

/// Plugins that only tests use, below `tests/guests/`.
const GUESTS: [&str; 1] = ["web"];

/// The packed plugin `name`: a file in `dist/plugins`, or beside the tests' state if only tests use it.
pub fn plugin(name: &str) -> PathBuf {
    if GUESTS.contains(&name) {
        return paths::state().join(format!("guests/{name}.yaml"));
    }
    paths::dist().join(format!("plugins/{name}.yaml"))
}

/// A file in `dist/`.
pub fn file(name: &str) -> PathBuf {
    paths::dist().join(name)
}

/// The example `name`: a file in `dist/examples`.
pub fn example(name: &str) -> PathBuf {
    paths::dist().join(format!("examples/{name}.yaml"))
}

/// Builds a plugin of tests by itself: built beside others, it would have the features of the SDK that they have.
pub fn guest_alone(name: &str) -> Result<()> {
    require_wasm()?;
    cargo(&["build", "--target", WASM, "--profile", "plugin", &format!("--package=atomix-{name}-guest")])
}

/// The component that plugin `name` was built to.
pub fn wasm(name: &str) -> PathBuf {
    paths::cargo_target().join(WASM).join(format!("plugin/atomix_{}.wasm", name.replace('-', "_")))
}

const WASM: &str = "wasm32-unknown-unknown";

/// Names of the plugins: the folders below `plugins/`, the SDK aside.
fn plugins() -> Result<Vec<String>> {
    let dir = paths::root().join("plugins");
    let entries = fs::read_dir(&dir).with_context(|| format!("could not read {}", dir.display()))?;
    let folders = entries.filter_map(|entry| entry.ok()).filter(|entry| entry.path().join("Cargo.toml").is_file());
    let mut names: Vec<String> = folders.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| name != "sdk");
    names.sort();
    Ok(names)
}

/// Adds the target that plugins are built for, where rustup does not do so by itself.
fn require_wasm() -> Result<()> {
    let rustc =
        Command::new("rustc").args(["--print", "target-libdir", "--target", WASM]).current_dir(paths::root()).output();
    let there = rustc.is_ok_and(|output| Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir());
    if there {
        return Ok(());
    }
    print_progress(&format!("adding Rust's target {WASM} …"));
    let added = Command::new("rustup").args(["target", "add", WASM]).current_dir(paths::root()).status();
    match added {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => bail!("rustup target add {WASM} ended with {status}"),
        Err(error) => bail!(
            "Rust's target {WASM} is not there, and rustup, which brings it, cannot be run ({error}): https://rustup.rs"
        ),
    }
}

/// Runs cargo on this checkout, as from a shell.
pub fn cargo(args: &[&str]) -> Result<()> {
    cargo_with(args, &[])
}

fn cargo_with(args: &[&str], env: &[(&str, &str)]) -> Result<()> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(paths::root()).stdin(Stdio::null());
    // What `cargo test` and `cargo run` set about their own package would only make cargo build anew.
    for (key, _) in std::env::vars_os() {
        let key_text = key.to_string_lossy();
        if key_text.starts_with("CARGO_PKG_")
            || key_text.starts_with("CARGO_MANIFEST_")
            || key_text.starts_with("CARGO_BIN_")
            || key_text == "OUT_DIR"
        {
            command.env_remove(&key);
        }
    }
    command.envs(env.iter().copied());
    let status = command.status().context("could not run cargo")?;
    match status.success() {
        true => Ok(()),
        false => bail!("cargo {} ended with {status}", args.join(" ")),
    }
}

fn files(dir: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| format!("could not read {}", dir.display()))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    Ok(paths)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let text = fs::read_to_string(from).with_context(|| format!("could not read {}", from.display()))?;
    write_if_new(to, &text)
}

fn write_if_new(path: &Path, text: &str) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|found| found == text) {
        return Ok(());
    }
    fs::write(path, text).with_context(|| format!("could not write {}", path.display()))
}
