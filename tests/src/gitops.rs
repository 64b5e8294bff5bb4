//! How other programs judge objects: kstatus, and Argo CD's health script in `deploy/argocd`, in the Go program of
//! tests/gitops. Knows no cluster.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::go::{self, Program};
use crate::paths;

/// The verdict on one object.
#[derive(Clone, Debug, Deserialize)]
pub struct Verdict {
    /// InProgress, Current, Failed or Terminating: what Flux, Helm and others wait by.
    pub kstatus: String,
    /// The message of kstatus.
    pub message: String,
    /// Healthy, Progressing, Degraded or Suspended: what Argo CD shows. Empty for a kind without a script.
    pub health: String,
    /// The message of the script.
    pub why: String,
}

/// The verdicts on objects, as they come from the API.
pub fn verdicts_on(objects: &[Value]) -> Result<Vec<Verdict>> {
    let question = json!({"scripts": scripts()?, "objects": objects}).to_string();
    let mut command = Command::new(build()?);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("its input is piped")?.write_all(question.as_bytes())?; // it answers when it has read all
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("no verdict: {}", String::from_utf8_lossy(&output.stderr));
    }
    serde_json::from_slice(&output.stdout).context("the verdicts are no JSON")
}

/// Builds the program, if it is not there yet.
pub fn build() -> Result<PathBuf> {
    let sources = paths::root().join("tests/gitops");
    let dir = paths::state().join("gitops");
    fs::create_dir_all(&dir).with_context(|| format!("could not make {}", dir.display()))?;
    let lock = fs::File::create(dir.join("lock")).with_context(|| format!("could not lock {}", dir.display()))?;
    lock.lock().context("could not wait for another build of the program")?;
    let files = ["go.mod", "go.sum", "main.go"].map(|name| sources.join(name));
    let program = dir.join(format!("gitops-{}", go::fingerprint(&files, &[])?));
    if !program.is_file() {
        let name = "kstatus and the engine of Argo CD's health scripts";
        go::build(&Program { name, package: ".", module: &sources, takes: "20 s", link: "" }, &program)?;
    }
    Ok(program)
}

/// The health scripts, by kind.
fn scripts() -> Result<Map<String, Value>> {
    let path = paths::root().join("deploy/argocd/argocd-cm.yaml");
    let text = fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
    let patch: Value = serde_saphyr::from_str(&text).with_context(|| format!("{} is not YAML", path.display()))?;
    let data = patch["data"].as_object().with_context(|| format!("{} has no data", path.display()))?;
    data.iter()
        .map(|(key, script)| {
            let kind = key.strip_prefix("resource.customizations.health.").and_then(|key| key.split_once('_'));
            let (_, kind) = kind.with_context(|| format!("{key:?} is no key of a health script"))?;
            Ok((kind.to_owned(), script.clone()))
        })
        .collect()
}
