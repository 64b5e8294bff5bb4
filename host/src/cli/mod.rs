//! What the program can be asked to do: one file a sub-command.

mod crds;
mod run;

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
    Run(run::Args),
    Crds(crds::Args),
}

impl Cli {
    /// Does what was asked.
    pub fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Run(args) => run::run(args),
            Command::Crds(args) => crds::run(args),
        }
    }
}
