//! Everything a user applies, built and laid out in `dist/`. Knows no cluster.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::assets::say;
use crate::paths;

/// Builds the controller and every plugin, packs the plugins, and fills `dist/`. Quick when nothing changed.
pub fn build() -> Result<()> {
    say("building the controller and the plugins …");
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
    Ok(())
}

/// Builds unless `ATOMIX_PREBUILT` says that this was done just before.
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

/// The example `name`: a file in `dist/examples`.
pub fn example(name: &str) -> PathBuf {
    paths::dist().join(format!("examples/{name}.yaml"))
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
    say(&format!("adding Rust's target {WASM} …"));
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
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(paths::root()).stdin(Stdio::null());
    // What `cargo test` and `cargo run` say of their own package would only make cargo build anew.
    for (key, _) in std::env::vars_os() {
        let key_text = key.to_string_lossy();
        if key_text.starts_with("CARGO_PKG_")
            || key_text.starts_with("CARGO_MANIFEST_")
            || key_text.starts_with("CARGO_BIN_")
        {
            command.env_remove(&key);
        }
    }
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
