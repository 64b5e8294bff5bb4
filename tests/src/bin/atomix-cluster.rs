//! Runs a cluster for the demo and for a person to play with, and guards the processes of every cluster.

use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};
use harness::{assets, demo, dev_cluster, dist, gitops, goclient, guard, linux_namespaces, real_nodes, rights};

#[derive(Parser)]
#[command(version, about = "A real Kubernetes control plane on this machine, with the Atomix controller")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build the programs of the control plane, if they are not there yet
    Build,
    /// Build the clients of the gRPC API that tests run, Helm, and the programs of GitOps tools, if they are not there yet
    Clients,
    /// Build everything that a user applies into dist/, the controller's image too
    Dist,
    /// Build what a user applies into dist/, without the image
    Manifests,
    /// Build the controller's image into dist/
    Image,
    /// Check whether real nodes can run here, and install what they need where that can be done
    Nodes,
    /// Check whether the controller used each of its rights in the tests that ran since it was built
    Rights {
        /// Instead run the test of each right in tests/rights.yaml without it, so many at a time (an hour on 2 cores)
        #[arg(long, value_name = "AT_A_TIME")]
        without_each: Option<usize>,
    },
    /// Bring the cluster up in the background, unless it is
    Up,
    /// Bring the cluster up and take the walk of the README on it
    Demo,
    /// Take the cluster down
    Down,
    /// Run the cluster until a signal stops it
    #[command(hide = true)]
    Serve {
        /// How many real nodes; without it nodes are played
        #[arg(long)]
        nodes: Option<usize>,
        /// Port kept for the gRPC API
        #[arg(long)]
        grpc_port: u16,
        /// Port for metrics and health
        #[arg(long)]
        metrics_port: u16,
    },
    /// Run a command until it ends or standard input does
    #[command(hide = true)]
    Guard {
        /// How long the command may take to stop after SIGTERM before it is killed; 0 kills it at once
        #[arg(long, default_value_t = 0)]
        grace_ms: u64,
        /// The command
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Run a command in namespaces of its own until it ends or a signal stops this
    #[command(hide = true)]
    #[command(name = linux_namespaces::SUBCOMMAND)]
    LinuxNamespaces {
        /// The cgroup to remove at the end
        #[arg(long)]
        cgroup: String,
        /// The command
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Be the first process of namespaces
    #[command(hide = true)]
    Init {
        /// Unix socket through which connections come in
        #[arg(long)]
        socket: PathBuf,
    },
    /// Carry connections of this machine into namespaces
    #[command(hide = true)]
    Forward {
        /// Port of 127.0.0.1 to listen on
        #[arg(long)]
        port: u16,
        /// Unix socket of the namespaces
        #[arg(long)]
        through: PathBuf,
        /// Where to, as the namespaces see it: HOST:PORT
        #[arg(long)]
        to: String,
    },
    /// Become a command whose life is tied to that of its guard
    #[command(hide = true)]
    Guarded {
        /// Process id of the guard
        guard: u32,
        /// The command
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Build => assets::build().map(drop)?,
        Command::Clients => {
            goclient::build()?;
            gitops::build()?;
            assets::helm()?;
        }
        Command::Dist => dist::build_with_image()?,
        Command::Manifests => dist::build()?,
        Command::Image => dist::image().map(drop)?,
        Command::Nodes => real_nodes::require()?,
        Command::Rights { without_each: None } => rights::check()?,
        Command::Rights { without_each: Some(at_a_time) } => rights::need_each(at_a_time)?,
        Command::Up => dev_cluster::up(dev_cluster::nodes_asked()?, || {})?,
        Command::Demo => demo::demo()?,
        Command::Down => dev_cluster::down()?,
        Command::Serve { nodes, grpc_port, metrics_port } => dev_cluster::serve(nodes, grpc_port, metrics_port)?,
        Command::Guard { grace_ms, command } => {
            return guard::guard(&command, Duration::from_millis(grace_ms)).map(ExitCode::from);
        }
        Command::LinuxNamespaces { cgroup, command } => block_on(linux_namespaces::supervise(&cgroup, &command))?,
        Command::Init { socket } => block_on(linux_namespaces::init(&socket))?,
        Command::Forward { port, through, to } => block_on(linux_namespaces::forward(port, &through, &to))?,
        Command::Guarded { guard, command } => return Err(guard::become_guarded(guard, &command)),
    }
    Ok(ExitCode::SUCCESS)
}

fn block_on(work: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}
