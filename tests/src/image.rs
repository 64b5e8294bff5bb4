//! Container images made without a container engine: archives that `ctr`, `docker load`, `podman load` and `skopeo` take. Runs
//! nothing. The same content gives the same bytes.
//!
//! An archive holds the image twice: as an OCI image layout (`oci-layout`, `index.json`, opencontainers image-spec 1.1) and, for
//! engines older than that, as `manifest.json` of `docker save`; both name the same blobs.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// What an image holds and how it runs.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// Its whole name, e.g. `atomix/atomix-controller:v0.1.0`.
    pub name: String,
    /// An unpacked file system as a tar file, the first layer.
    pub root: Option<std::path::PathBuf>,
    /// Programs: where they lie in the image, and where on this machine.
    pub programs: Vec<(String, std::path::PathBuf)>,
    /// What runs unless a manifest has another command.
    pub entrypoint: Vec<String>,
    /// `uid:gid` that it runs as; root if none is given.
    pub user: Option<String>,
    /// Labels, e.g. `org.opencontainers.image.version`.
    pub labels: BTreeMap<String, String>,
    /// Whether layers are compressed: smaller to keep, slower to make.
    pub compressed: bool,
}

/// Users that programs may look themselves up by; 65532 is what images without a distribution run as by custom.
const PASSWD: &str = "root:x:0:0:root:/:/none\nnonroot:x:65532:65532:nonroot:/:/none\n";
const GROUP: &str = "root:x:0:\nnonroot:x:65532:\n";

impl Image {
    /// Writes the archive; returns the digest of the image's manifest, `sha256:…`.
    pub fn write(&self, out: &Path) -> Result<String> {
        let mut layers = Vec::new();
        if let Some(root) = &self.root {
            layers.push(fs::read(root).with_context(|| format!("could not read {}", root.display()))?);
        }
        if !self.programs.is_empty() {
            layers.push(self.programs_layer()?);
        }
        let diff_ids: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
        let media = if self.compressed { "layer.v1.tar+gzip" } else { "layer.v1.tar" };
        let layers: Vec<Vec<u8>> =
            if self.compressed { layers.iter().map(|layer| gzip(layer)).collect::<Result<_>>()? } else { layers };

        let config = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {
                "Entrypoint": self.entrypoint,
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                "WorkingDir": "/",
                "User": self.user.clone().unwrap_or_default(),
                "Labels": self.labels,
            },
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = config.to_string().into_bytes();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type("manifest.v1+json"),
            "config": descriptor("config.v1+json", &config),
            "layers": layers.iter().map(|layer| descriptor(media, layer)).collect::<Vec<_>>(),
            "annotations": self.labels,
        });
        let manifest = manifest.to_string().into_bytes();
        let mut entry = descriptor("manifest.v1+json", &manifest);
        let tag = self.name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
        entry["annotations"] =
            json!({"io.containerd.image.name": self.full_name(), "org.opencontainers.image.ref.name": tag});
        entry["platform"] = json!({"architecture": architecture(), "os": "linux"});
        let index = json!({"schemaVersion": 2, "mediaType": media_type("index.v1+json"), "manifests": [entry]});
        let docker = json!([{
            "Config": blob(&config),
            "RepoTags": [self.name],
            "Layers": layers.iter().map(|layer| blob(layer)).collect::<Vec<_>>(),
        }]);

        let file = fs::File::create(out).with_context(|| format!("could not write {}", out.display()))?;
        let mut archive = tar::Builder::new(std::io::BufWriter::new(file));
        add(&mut archive, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644)?;
        add(&mut archive, "index.json", index.to_string().as_bytes(), 0o644)?;
        add(&mut archive, "manifest.json", docker.to_string().as_bytes(), 0o644)?;
        for bytes in [&config, &manifest].into_iter().chain(&layers) {
            add(&mut archive, &blob(bytes), bytes, 0o644)?;
        }
        archive.into_inner()?.flush().with_context(|| format!("could not write {}", out.display()))?;
        Ok(digest(&manifest))
    }

    // With the registry that Docker assumes when a name has none: so the kubelet looks it up.
    fn full_name(&self) -> String {
        match self.name.split_once('/') {
            None => format!("docker.io/library/{}", self.name),
            Some((first, _)) if first.contains(['.', ':']) => self.name.clone(),
            Some(_) => format!("docker.io/{}", self.name),
        }
    }

    fn programs_layer(&self) -> Result<Vec<u8>> {
        let mut layer = tar::Builder::new(Vec::new());
        if self.root.is_none() {
            add_dir(&mut layer, "etc", 0o755)?;
            add(&mut layer, "etc/group", GROUP.as_bytes(), 0o644)?;
            add(&mut layer, "etc/passwd", PASSWD.as_bytes(), 0o644)?;
            add_dir(&mut layer, "tmp", 0o1777)?;
        }
        for (at, source) in &self.programs {
            let bytes = fs::read(source).with_context(|| format!("could not read {}", source.display()))?;
            add(&mut layer, at.trim_start_matches('/'), &bytes, 0o755)?;
        }
        layer.into_inner().context("a layer in memory can be written")
    }
}

fn add<W: Write>(archive: &mut tar::Builder<W>, path: &str, bytes: &[u8], mode: u32) -> Result<()> {
    let mut header = header(tar::EntryType::Regular, mode);
    header.set_size(bytes.len() as u64);
    archive.append_data(&mut header, path, bytes).with_context(|| format!("could not add {path}"))
}

fn add_dir<W: Write>(archive: &mut tar::Builder<W>, path: &str, mode: u32) -> Result<()> {
    archive.append_data(&mut header(tar::EntryType::Directory, mode), path, std::io::empty())?;
    Ok(())
}

// No time, no user of this machine: they would make every archive another.
fn header(kind: tar::EntryType, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(0);
    header.set_mtime(0);
    header
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    encoder.finish().context("bytes in memory can be compressed")
}

fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    format!("sha256:{}", hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

fn blob(bytes: &[u8]) -> String {
    format!("blobs/{}", digest(bytes).replace(':', "/"))
}

fn descriptor(kind: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type(kind), "digest": digest(bytes), "size": bytes.len()})
}

fn media_type(kind: &str) -> String {
    format!("application/vnd.oci.image.{kind}")
}

/// Go's name of this machine's processor, as images use it.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_whole_as_engines_do() {
        let full = |name: &str| Image { name: name.into(), ..Image::default() }.full_name();
        assert_eq!(full("redis:7"), "docker.io/library/redis:7");
        assert_eq!(full("atomix/atomix-controller:v1"), "docker.io/atomix/atomix-controller:v1");
        assert_eq!(full("example.test/pause:1"), "example.test/pause:1");
        assert_eq!(full("localhost:5000/a:1"), "localhost:5000/a:1");
    }
}
