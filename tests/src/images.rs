//! Images for real nodes, made here: of programs built from source, and of Debian's packages. Made once and kept. Knows no node.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::assets::{Assets, print_progress};
use crate::image::Image;
use crate::{goclient, linux_namespaces, paths, real_nodes};

/// What tests run in a pod as a program that uses databases: `client`, and grpcurl.
pub const CLIENT: &str = "atomix.test/client:1";

/// What every node has: the images of pods themselves, of DNS, and of the tests' client.
pub fn base(assets: &Assets) -> Result<Vec<PathBuf>> {
    let grpcurl = goclient::grpcurl()?;
    Ok(vec![
        of_programs(real_nodes::PAUSE, &[("pause", assets.program("pause"))])?,
        of_programs("atomix.test/coredns:1", &[("coredns", assets.program("coredns"))])?,
        of_programs(CLIENT, &[("client", assets.program("client")), ("grpcurl", &grpcurl)])?,
    ])
}

/// An image of static programs, the first of which runs by default; `name` is what manifests call it.
pub fn of_programs(name: &str, programs: &[(&str, &Path)]) -> Result<PathBuf> {
    let at = |program: &str| format!("/usr/local/bin/{program}");
    let image = Image {
        name: name.to_owned(),
        programs: programs.iter().map(|(program, path)| (at(program), (*path).to_owned())).collect(),
        entrypoint: programs.first().map(|(program, _)| at(program)).into_iter().collect(),
        ..Image::default()
    };
    let newest = programs.iter().filter_map(|(_, path)| fs::metadata(path).ok()?.modified().ok()).max();
    made_once(name, newest, |out| image.write(out).map(drop))
}

/// The file system of a Debian release with packages in it, as a tar file (from Debian's archive, by mmdebstrap).
pub fn debian(release: &str, packages: &[&str]) -> Result<PathBuf> {
    let packages = packages.join(",");
    made_once(&format!("debian/{release}:{packages}"), None, |out| {
        print_progress(&format!("unpacking {packages} of Debian's {release} … (about 50 s the first time)"));
        let fresh = out.with_extension("root.tar"); // mmdebstrap makes a tar file for this ending
        let mut command = Command::new("mmdebstrap");
        command.args(["--mode=root", "--variant=essential", &format!("--include={packages}"), release]).arg(&fresh);
        linux_namespaces::run(&mut command).with_context(|| format!("could not unpack Debian's {packages}"))?;
        fs::rename(&fresh, out).context("the file was just written")
    })
}

/// An image of such a file system; `name` is what manifests call it.
pub fn of_root(name: &str, root: &Path) -> Result<PathBuf> {
    let image = Image { name: name.to_owned(), root: Some(root.to_owned()), ..Image::default() };
    let newest = fs::metadata(root).and_then(|found| found.modified()).ok();
    made_once(name, newest, |out| image.write(out).map(drop))
}

/// Makes an archive unless it is there. Kept below target/images under the image's name; made anew when what it is made of is newer.
pub fn made_once(
    name: &str,
    newest: Option<std::time::SystemTime>,
    make: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let dir = paths::state().join("images");
    fs::create_dir_all(&dir).with_context(|| format!("could not make {}", dir.display()))?;
    let lock = fs::File::create(dir.join("lock")).context("could not make the lock of images")?;
    lock.lock().context("could not wait for the process that makes images")?;
    let path = dir.join(format!("{}.tar", name.replace(['/', ':'], "_")));
    let made = fs::metadata(&path).and_then(|found| found.modified()).ok();
    if made.is_none_or(|made| newest.is_some_and(|newest| newest > made)) {
        let fresh = path.with_extension("new");
        make(&fresh)?;
        fs::rename(&fresh, &path).with_context(|| format!("could not put {} in its place", path.display()))?;
    }
    Ok(path)
}
