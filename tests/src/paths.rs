//! Where things lie in a checkout. Knows names only, no contents.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The checkout.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("tests/ lies in the checkout").to_owned()
}

/// Where state of control planes, built programs and reports go: `target/` of the checkout, also when cargo builds elsewhere.
pub fn state() -> PathBuf {
    root().join("target")
}

/// What a user applies.
pub fn dist() -> PathBuf {
    root().join("dist")
}

/// Where cargo puts what it builds.
pub fn cargo_target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) if !dir.is_empty() => root().join(dir),
        _ => state(),
    }
}

/// The program that guards processes and runs clusters: `atomix-cluster`, built with every test of this crate.
pub fn cluster_program() -> Result<PathBuf> {
    let own = std::env::current_exe().context("this program's own path")?;
    if own.file_stem().is_some_and(|stem| stem == "atomix-cluster") {
        return Ok(own);
    }
    // Tests and benchmarks lie in `deps` beside it.
    let beside = own.ancestors().skip(1).take(2).map(|dir| dir.join("atomix-cluster"));
    if let Some(found) = beside.into_iter().find(|path| path.is_file()) {
        return Ok(found);
    }
    bail!("atomix-cluster is not built beside {}: run cargo build -p atomix-tests --bin atomix-cluster", own.display())
}

/// The controller: `ATOMIX_CONTROLLER`, else what `cargo build -p atomix-controller` built.
pub fn controller_program() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("ATOMIX_CONTROLLER") {
        return Ok(path.into());
    }
    let path = cargo_target().join("debug/atomix-controller");
    match path.is_file() {
        true => Ok(path),
        false => bail!("{} is not there: run cargo build -p atomix-controller", path.display()),
    }
}
