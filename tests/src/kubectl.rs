//! Runs kubectl against one control plane, never against what this machine's user has configured.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::controlplane::{ADMIN, ControlPlane};

/// kubectl with its arguments before the verb settled.
#[derive(Clone, Debug)]
pub struct Kubectl {
    program: PathBuf,
    home: PathBuf,
    kubeconfig: PathBuf,
    namespace: Option<String>,
    env: Vec<(String, String)>,
}

/// What kubectl printed.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // its fields explain themselves
pub struct Printed {
    /// Whether it ended well.
    pub success: bool,
    pub stdout: String,
    pub stderr: String,
}

impl Kubectl {
    /// As a user who may do everything, in namespace `default`.
    pub fn new(plane: &ControlPlane) -> Kubectl {
        Kubectl::with(plane, plane.kubeconfig(ADMIN))
    }

    /// For another identity.
    pub fn with(plane: &ControlPlane, kubeconfig: PathBuf) -> Kubectl {
        let program = plane.assets().program("kubectl").to_owned();
        Kubectl { program, home: plane.dir().to_owned(), kubeconfig, namespace: None, env: Vec::new() }
    }

    /// The same in another namespace.
    pub fn namespace(mut self, namespace: &str) -> Kubectl {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// The same with a variable of the environment, e.g. one that switches a feature of kubectl on.
    pub fn env(mut self, name: &str, value: &str) -> Kubectl {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs kubectl and returns what it printed to standard output; an exit code other than 0 is an error with both outputs.
    pub async fn run<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> Result<String> {
        let args: Vec<String> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        let printed = self.try_run(&args, None).await?;
        succeeded(&args, printed)
    }

    /// The same, with `input` on standard input (`-f -`).
    pub async fn run_with<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>, input: &str) -> Result<String> {
        let args: Vec<String> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        let printed = self.try_run(&args, Some(input)).await?;
        succeeded(&args, printed)
    }

    /// Runs kubectl and returns what it printed, also if it failed.
    pub async fn try_run(&self, args: &[String], input: Option<&str>) -> Result<Printed> {
        let mut command = Command::new(&self.program);
        command.arg("--kubeconfig").arg(&self.kubeconfig);
        if let Some(namespace) = &self.namespace {
            command.arg("--namespace").arg(namespace);
        }
        command.args(args).env_remove("KUBECONFIG").env("KUBERC", "off").env("HOME", &self.home).kill_on_drop(true);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("could not start {}", self.program.display()))?;
        let mut stdin = child.stdin.take().context("standard input is a pipe")?;
        let written = async {
            let _ = stdin.write_all(input.unwrap_or_default().as_bytes()).await; // it may end without reading it
            drop(stdin);
        };
        let (output, ()) = tokio::join!(child.wait_with_output(), written);
        let output = output.context("could not wait for kubectl")?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Printed { success: output.status.success(), stdout: text(output.stdout), stderr: text(output.stderr) })
    }
}

fn succeeded(args: &[String], printed: Printed) -> Result<String> {
    match printed.success {
        true => Ok(printed.stdout),
        false => bail!("kubectl {} failed:\n{}{}", args.join(" "), printed.stdout, printed.stderr),
    }
}
