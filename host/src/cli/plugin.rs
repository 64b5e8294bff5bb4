//! `atomix-controller plugin`: packs a plugin into a manifest, describes it, compares it, or tries to load it. Needs no cluster.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::Subcommand;

use crate::pack;
use atomix_model::contract::{Descriptor, ObjectKind};
use atomix_sandbox::{Revision, Sandbox};

/// Pack a storage plugin for a cluster, look into one, or compare two. None needs a cluster.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Pack(Pack),
    Inspect(Inspect),
    Diff(super::diff::Args),
    /// Load a plugin from standard input under limits of memory and time, as the controller has it done with bytes that are new.
    #[command(hide = true)]
    Try {
        /// Most bytes of memory.
        memory_bytes: u64,
        /// Most seconds of processor time.
        cpu_secs: u64,
    },
}

/// How the controller calls itself to try bytes that are new.
pub(super) const TRY: [&str; 2] = ["plugin", "try"];

/// Print what installs a plugin, or takes the place of an older one, as YAML:
/// `atomix-controller plugin pack web.wasm | kubectl apply --server-side --force-conflicts -f -`.
///
/// A plain `kubectl apply` copies what it is given into an annotation, where a larger plugin has no room; `--force-conflicts` also takes
/// over what `kubectl create` or a plain `apply` has written.
///
/// That is the definitions of its storage classes, the ClusterRole atomix-plugin-NAME, whose rules are all that the plugin may
/// write, and the ConfigMap that holds the plugin, compressed. Leave rules out to grant less.
#[derive(clap::Args, Debug)]
struct Pack {
    /// The plugin: a WebAssembly component, as it is or in gzip; - for standard input.
    file: PathBuf,

    /// Namespace of the ConfigMap: the controller's. Who may write ConfigMaps there may install plugins.
    #[arg(long, env = "ATOMIX_NAMESPACE", default_value = "kube-system")]
    namespace: String,
}

/// Describe a plugin: name, version and digest, classes, protocols of groups, kinds that it writes and watches, size and fuel.
#[derive(clap::Args, Debug)]
struct Inspect {
    /// The plugin: a WebAssembly component, as it is or in gzip; - for standard input.
    file: PathBuf,
}

/// Runs the sub-command.
pub fn run(args: Args) -> anyhow::Result<()> {
    let text = match args.command {
        Command::Pack(args) => {
            let plugin = load(&Sandbox::on_demand().map_err(anyhow::Error::from)?, &args.file)?;
            let manifests = pack::manifests(
                plugin.revision.descriptor(),
                !plugin.revision.protocols().is_empty(),
                &plugin.bytes,
                &args.namespace,
            )
            .map_err(|why| anyhow!(why))?;
            format!("{}{}", heading(plugin.revision.descriptor()), super::yaml_documents(&manifests)?)
        }
        Command::Diff(args) => {
            let (text, code) = super::diff::run(&args);
            std::io::stdout().write_all(text.as_bytes()).context("could not write to standard output")?;
            std::process::exit(code);
        }
        Command::Inspect(args) => described(&load(&Sandbox::on_demand().map_err(anyhow::Error::from)?, &args.file)?),
        Command::Try { memory_bytes, cpu_secs } => {
            let (input, output) = (std::io::stdin().lock(), std::io::stdout().lock());
            let code = atomix_controller_kube::catalog::load_under_limits(input, output, (memory_bytes, cpu_secs));
            std::process::exit(code.context("no trial could be made")?.into());
        }
    };
    std::io::stdout().write_all(text.as_bytes()).context("could not write to standard output")
}

/// The comment at the top of the manifest, which is read long after the command that printed it.
fn heading(descriptor: &Descriptor) -> String {
    let unchecked = match pack::unchecked(descriptor) {
        none if none.is_empty() => String::new(),
        kinds => format!(
            "#\n# NOT CHECKED: what its {} do to others. All else that it writes is held to what is of its own\n\
             # database, or stands in a class; to apply the ClusterRole is to trust it with these. See docs/security.md.\n",
            kinds.join(", ")
        ),
    };
    format!(
        "# Storage plugin {} {}. To install it, and to put it in the place of an older one:\n\
         #   kubectl apply --server-side --force-conflicts -f FILE\n\
         # Without --server-side, kubectl copies it into an annotation, which has no room for a larger plugin.\n{unchecked}",
        descriptor.name, descriptor.version
    )
}

/// A plugin that was read from a file and loaded.
pub(super) struct Plugin {
    /// The loaded code and its descriptor.
    pub revision: Revision,
    /// Its bytes, not compressed.
    pub bytes: Vec<u8>,
}

/// Reads and loads a plugin.
pub(super) fn load(sandbox: &Sandbox, file: &Path) -> anyhow::Result<Plugin> {
    let mut bytes = Vec::new();
    let read = match file == Path::new("-") {
        true => std::io::stdin().read_to_end(&mut bytes),
        false => std::fs::File::open(file).and_then(|mut file| file.read_to_end(&mut bytes)),
    };
    read.with_context(|| format!("could not read {}", file.display()))?;
    let bytes = atomix_controller_kube::catalog::unpacked(&bytes).map_err(|why| anyhow!("{}: {why}", file.display()))?;
    let hint = file.file_stem().map_or("unknown".into(), |stem| stem.to_string_lossy());
    let revision = sandbox.load(&hint, &bytes)?;
    for class in &revision.descriptor().class_kinds {
        let wrong = atomix_decide::schema::default_errors("the default of spec", &class.spec_schema);
        anyhow::ensure!(
            wrong.is_empty(),
            "{}: no definition takes class {}: {}",
            file.display(),
            class.kind,
            wrong.join("; ")
        );
    }
    Ok(Plugin { revision, bytes })
}

fn described(plugin: &Plugin) -> String {
    let (revision, descriptor) = (&plugin.revision, plugin.revision.descriptor());
    let mut lines = vec![
        ("Plugin", format!("{} {}", descriptor.name, descriptor.version)),
        ("Digest", format!("sha256 {}", revision.digest())),
        ("Contract", revision.contract().to_owned()),
        ("Size", format!("{} bytes", plugin.bytes.len())),
        ("Imports", "none".to_owned()), // it was loaded, so it has none
        ("Fuel", format!("{} to describe itself", revision.describe_fuel())),
    ];
    for class in &descriptor.class_kinds {
        let short = match class.short_names.is_empty() {
            true => String::new(),
            false => format!(", short {}", class.short_names.join(", ")),
        };
        lines.push(("Class", format!("{} ({}) {}{short}", class.kind, class.plural, class.versions.join(", "))));
    }
    lines.extend(revision.protocols().iter().map(|protocol| ("Protocol", protocol.clone())));
    lines.extend(descriptor.emits.iter().map(|kind| ("Writes", about(kind))));
    lines.extend(pack::unchecked(descriptor).into_iter().map(|kind| ("Unchecked", kind)));
    lines.extend(descriptor.watches.iter().map(|kind| ("Watches", about(kind))));
    lines.iter().map(|(what, value)| format!("{what:<10}{value}\n")).collect()
}

fn about(kind: &ObjectKind) -> String {
    let group = if kind.group.is_empty() { "" } else { "." };
    let reads = match kind.reads.is_empty() {
        true => String::new(),
        false => format!(", reads {}", kind.reads.join(" ")),
    };
    format!("{}{group}{} {}{reads}", kind.plural, kind.group, kind.version)
}
