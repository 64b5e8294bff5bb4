//! Programs of Atomix 4's first year, built from `tests/oldclients`: the published Go clients, and a stand-in for the storage node,
//! as images under the names that manifests give them. Knows no cluster.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::go::{self, Program};
use crate::image::Image;
use crate::{dist, images, paths};

/// The image of the clients.
pub const CLIENTS: &str = "atomix.test/old-clients:1";
/// Generations of the client: each a program `old-client-<generation>`.
pub const GENERATIONS: [&str; 4] = ["v1", "v2", "v3", "v4"];
/// What nodes were called, and with what further argument the stand-in takes their place: it reads `cluster.json` as each did.
const NODES: [(&str, &[&str]); 2] =
    [("atomix/raft-storage-node:v0.5.3", &[]), ("atomix/raft-replica:latest", &["-first-era"])];

/// What the stand-in for the storage node is called, and its folder.
const NODE: (&str, &str) = ("old-node", "node");

/// The client of the first generation and the stand-in for its storage node, to be run on this machine. Builds them, if they are not
/// there yet.
pub fn first() -> Result<[PathBuf; 2]> {
    Ok([program("old-client-v1", "v1")?, program(NODE.0, NODE.1)?])
}

/// Builds a program, if it is not there yet.
fn program(name: &str, folder: &str) -> Result<PathBuf> {
    let sources = paths::root().join("tests/oldclients");
    let mut files = Vec::new();
    dist::list(&sources, &mut files)?;
    files.sort();
    let dir = paths::state().join("oldclients").join(go::fingerprint(&files, b"")?);
    fs::create_dir_all(&dir).with_context(|| format!("could not make {}", dir.display()))?;
    let lock = fs::File::create(dir.join("lock")).context("could not make the lock of the old clients")?;
    lock.lock().context("could not wait for another build of the old clients")?;
    let out = dir.join(name);
    if !out.is_file() {
        go::build(&Program { name, package: ".", module: &sources.join(folder), takes: "10 s", link: "" }, &out)?;
    }
    Ok(out)
}

/// Builds the clients, if they are not there yet, and the image of them.
pub fn clients() -> Result<PathBuf> {
    let clients: Vec<(String, PathBuf)> = GENERATIONS
        .iter()
        .map(|generation| {
            let name = format!("old-client-{generation}");
            Ok((name.clone(), program(&name, generation)?))
        })
        .collect::<Result<_>>()?;
    let clients: Vec<(&str, &Path)> = clients.iter().map(|(name, path)| (name.as_str(), path.as_path())).collect();
    images::of_programs(CLIENTS, &clients)
}

/// Builds the stand-in for the storage node, if it is not there yet, and its images.
pub fn nodes() -> Result<Vec<PathBuf>> {
    let (mut all, node) = (Vec::new(), program(NODE.0, NODE.1)?);
    for (name, further) in NODES {
        let mut entrypoint = vec!["/usr/local/bin/old-node".to_owned()];
        entrypoint.extend(further.iter().map(|word| (*word).to_owned()));
        let programs = vec![(entrypoint[0].clone(), node.clone()), ("/bin/stat".into(), node.clone())]; // what the probe runs
        let image = Image { name: name.to_owned(), programs, entrypoint, ..Image::default() };
        let newest = fs::metadata(&node).and_then(|found| found.modified()).ok();
        all.push(images::made_once(name, newest, |out| image.write(out).map(drop))?);
    }
    Ok(all)
}
