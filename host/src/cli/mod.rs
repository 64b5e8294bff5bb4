//! The command line: one file for each sub-command.

mod crds;
mod diff;
mod groups;
mod grpc;
mod plugin;
mod render;
mod run;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

/// Turns Database resources into running, partitioned storage. What kinds of storage there are is decided by plugins:
/// WebAssembly components, one ConfigMap each.
#[derive(Parser, Debug)]
#[command(name = "atomix-controller", version, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Run(Box<run::Args>),
    Render(render::Args),
    Plugin(plugin::Args),
    Crds(crds::Args),
}

impl Cli {
    /// Runs the sub-command.
    pub fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Run(args) => run::run(*args),
            Command::Render(args) => render::run(args),
            Command::Plugin(args) => plugin::run(args),
            Command::Crds(args) => crds::run(args),
        }
    }
}

/// Objects as YAML, one document each.
fn yaml_documents<T: serde::Serialize>(objects: &[T]) -> anyhow::Result<String> {
    let mut text = String::new();
    for object in objects {
        let document = serde_saphyr::to_string(object).context("could not write an object as YAML")?;
        text.push_str("---\n");
        text.push_str(document.trim_start_matches("---\n").trim_end());
        text.push('\n');
    }
    Ok(text)
}
