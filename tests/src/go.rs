//! Programs built from source with Go. Knows none of them.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

/// A program to build.
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    /// What it is called.
    pub name: &'a str,
    /// Its package.
    pub package: &'a str,
    /// The folder whose go.mod names the version.
    pub module: &'a Path,
    /// How long that takes on 2 cores when nothing is cached.
    pub takes: &'a str,
    /// Further flags of the linker.
    pub link: &'a str,
}

/// Builds a program, and puts it in its place when it is whole. Prints on standard error what it builds, and how long that
/// took.
pub fn build(program: &Program<'_>, out: &Path) -> Result<()> {
    let fresh = out.with_extension("new");
    build_all(program, &[program.package], &fresh)?;
    fs::rename(&fresh, out).with_context(|| format!("could not put {} in its place", program.name))
}

/// Builds several packages of a module at once, into the folder `out`; of one, into the file `out`. Of the program, the package does not count.
pub fn build_all(program: &Program<'_>, packages: &[&str], out: &Path) -> Result<()> {
    let Program { name, module, takes, link, .. } = program;
    require()?;
    print_progress(&format!("building {name} … (about {takes} on 2 cores the first time)"));
    let mut command = Command::new("go");
    command.current_dir(module).env("CGO_ENABLED", "0").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.args(["build", "-trimpath", "-ldflags", &format!("-s -w{link}"), "-o"]).arg(out).args(packages);
    let start = Instant::now();
    let child = command.spawn().context("could not start go")?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    let output = loop {
        match receiver.recv_timeout(Duration::from_secs(30)) {
            Ok(output) => break output.context("could not wait for go")?,
            Err(RecvTimeoutError::Timeout) => print_progress(&format!("  {name}: {} s so far", start.elapsed().as_secs())),
            Err(RecvTimeoutError::Disconnected) => bail!("the thread that waits for go is gone"),
        }
    };
    if !output.status.success() {
        bail!("could not build {name}:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    print_progress(&format!("  {name} built in {} s", start.elapsed().as_secs()));
    Ok(())
}

/// Prints what is built: to standard error itself, so that a test runner that captures output shows it too.
pub fn print_progress(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}"); // nothing is lost if nothing reads it
}

/// A hash of the contents of files and of something else: what was built of them is good for as long as it stays.
pub fn fingerprint(files: &[PathBuf], further: &[u8]) -> Result<String> {
    let mut hash = Sha256::new();
    for path in files {
        hash.update(fs::read(path).with_context(|| format!("could not read {}", path.display()))?);
    }
    hash.update(further);
    Ok(hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect())
}

/// Go must be there, and new enough to bring the version that go.mod asks for by itself.
pub fn require() -> Result<()> {
    let how = "programs are built from source with Go 1.21 or newer: https://go.dev/doc/install, or your system's package golang-go";
    let output = Command::new("go").args(["env", "GOVERSION"]).current_dir(std::env::temp_dir()).output();
    let Ok(output) = output else { bail!("go is not there; {how}") };
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    match minor(&version) {
        Some(minor) if minor >= 21 => Ok(()),
        _ => bail!("the version of go is {version:?}; {how}"),
    }
}

fn minor(version: &str) -> Option<u32> {
    let rest = version.strip_prefix("go1.")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_go_are_read() {
        assert_eq!(minor("go1.26.8"), Some(26));
        assert_eq!(minor("go1.21rc2"), Some(21));
        assert_eq!(minor("devel"), None);
    }
}
