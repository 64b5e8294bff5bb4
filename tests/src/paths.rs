//! Where things lie in a checkout. Knows names only, no contents.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The checkout in which this program lies, or from which cargo runs it. A program that was copied with its checkout must not act on the
/// one that it was built in.
pub fn root() -> PathBuf {
    let manifest_dir = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let own = std::env::current_exe().ok();
    checkout_of(manifest_dir.as_deref(), own.as_deref()).unwrap_or_else(|| {
        let built_in = Path::new(env!("CARGO_MANIFEST_DIR"));
        built_in.parent().expect("tests/ lies in the checkout").to_owned()
    })
}

/// The checkout of the package that cargo runs, else of a program's path.
fn checkout_of(manifest_dir: Option<&Path>, program: Option<&Path>) -> Option<PathBuf> {
    let above = |path: &Path| path.ancestors().skip(1).find(|dir| dir.join(SIGN).is_file()).map(Path::to_owned);
    manifest_dir.and_then(above).or_else(|| program.and_then(above))
}

/// A file that only a checkout has.
const SIGN: &str = "tests/src/paths.rs";

/// Distinguishes this checkout's things from another's on this machine: a few letters and digits, of its path.
pub fn sign() -> String {
    let path = root().display().to_string();
    let hash =
        path.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    format!("{hash:016x}")[..8].to_owned()
}

/// Where state of control planes, built programs and reports go: `target/` of the checkout, also when cargo builds elsewhere.
pub fn state() -> PathBuf {
    root().join("target")
}

/// Where control planes of tests are: elsewhere for each process that has a folder of its own in `ATOMIX_TESTS`.
pub fn tests() -> PathBuf {
    match std::env::var_os("ATOMIX_TESTS") {
        Some(folder) if !folder.is_empty() => state().join(folder),
        _ => state().join("tests"),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_acts_on_the_checkout_in_which_it_lies() {
        let top = root().join("target/tests/checkouts");
        let made = ["original", "copy"].map(|name| {
            let checkout = top.join(name);
            std::fs::create_dir_all(checkout.join("tests/src")).expect("the folder can be made");
            std::fs::write(checkout.join(SIGN), "").expect("the file can be written");
            checkout
        });
        for checkout in &made {
            let program = checkout.join("target/debug/atomix-cluster");
            assert_eq!(checkout_of(None, Some(&program)), Some(checkout.clone()));
            let elsewhere = Path::new("/tmp/target/debug/atomix-cluster"); // CARGO_TARGET_DIR
            assert_eq!(checkout_of(Some(&checkout.join("tests")), Some(elsewhere)), Some(checkout.clone()));
        }
        assert_eq!(checkout_of(None, Some(Path::new("/usr/bin/atomix-cluster"))), None);
        assert_eq!(root().join("tests"), Path::new(env!("CARGO_MANIFEST_DIR")));
    }
}
