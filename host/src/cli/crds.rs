//! `atomix-controller crds`: prints the definitions that a cluster needs before the controller can run.

use std::io::Write;

use anyhow::Context as _;

use atomix_model::crd::definitions;

/// Print the definitions of Database, Partition, Member, Primitive and StoragePlugin as YAML, for `kubectl apply -f -`.
///
/// They are part of deploy/atomix-controller.yaml. Those of storage classes come with their plugin: see `plugin pack`.
#[derive(clap::Args, Debug)]
pub struct Args {}

/// Writes one YAML document a definition to standard output.
pub fn run(_: Args) -> anyhow::Result<()> {
    std::io::stdout().write_all(yaml()?.as_bytes()).context("could not write to standard output")
}

/// The definitions, one YAML document each, in the order in which to apply them.
pub fn yaml() -> anyhow::Result<String> {
    let mut text = String::new();
    for definition in definitions::all() {
        text.push_str("---\n");
        let document = serde_saphyr::to_string(&definition).context("could not write a definition as YAML")?;
        text.push_str(document.trim_start_matches("---\n"));
        if !text.ends_with('\n') {
            text.push('\n');
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    #[test]
    fn what_is_printed_is_what_was_meant() {
        let read: Vec<serde_json::Value> = serde_saphyr::from_multiple(&super::yaml().unwrap()).unwrap();
        let meant: Vec<_> = super::definitions::all().into_iter().map(|it| serde_json::to_value(it).unwrap()).collect();
        assert_eq!(read, meant);
    }

    /// The file that users apply holds these definitions. `UPDATE=1 cargo test -p atomix-controller crds` puts them there.
    #[test]
    fn what_is_deployed_is_what_is_printed() {
        const BEGIN: &str = "# begin of definitions\n";
        const END: &str = "# end of definitions\n";
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/atomix-controller.yaml");
        let file = std::fs::read_to_string(path).unwrap();
        let (before, rest) = file.split_once(BEGIN).unwrap();
        let (found, after) = rest.split_once(END).unwrap();
        let printed = super::yaml().unwrap();
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, format!("{before}{BEGIN}{printed}{END}{after}")).unwrap();
        } else {
            assert!(
                found == printed,
                "deploy/atomix-controller.yaml is stale: run UPDATE=1 cargo test -p atomix-controller crds"
            );
        }
    }
}
