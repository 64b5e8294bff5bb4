//! The programs of a control plane, built from source once and kept while the go.mod files stay as they are. Starts none of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::go::{self, Program};
use crate::paths;

pub use crate::go::print_progress;

/// Names the version of Kubernetes, e.g. `1.33`, where it is not the one of tests/kubernetes/go.mod: that of a folder beside it.
const KUBERNETES: &str = "ATOMIX_KUBERNETES";

/// A program to build: name, package, folder of its go.mod below tests/kubernetes, how long it takes on 2 cores when nothing is
/// cached (each finds compiled what the ones before it share with it).
type Source = (&'static str, &'static str, &'static str, &'static str);

const PROGRAMS: [Source; 5] = [
    ("etcd", "go.etcd.io/etcd/server/v3", "", "45 s"),
    ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver", "", "3 min"),
    ("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager", "", "1 min"),
    ("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler", "", "5 s"),
    ("kubectl", "k8s.io/kubernetes/cmd/kubectl", "", "20 s"),
];

/// What plays nodes.
const PLAYER: Source = ("kwok", "sigs.k8s.io/kwok/cmd/kwok", "kwok", "70 s");

/// What real nodes run beside: their own programs, and those in their pods.
const NODE_PROGRAMS: [Source; 6] = [
    ("kubelet", "k8s.io/kubernetes/cmd/kubelet", "", "20 s"),
    ("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy", "", "10 s"),
    ("pause", "./pause", "nodes", "1 s"),
    ("coredns", "./coredns", "nodes", "1 min"),
    ("client", "./client", "nodes", "3 s"),
    ("etcdctl", "go.etcd.io/etcd/etcdctl/v3", "nodes", "10 s"),
];

/// How kwok plays nodes and pods: folders of stage files in its module. It would make volumes one by one, in six requests each.
const STAGES: [&str; 3] = ["pod/fast", "node/fast", "node/heartbeat-with-lease"];
/// The stage that is not among them: see [`crate::kwok_nodes::end_pods`].
const NOT_PLAYED: &str = "pod-delete.yaml";

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Assets {
    programs: BTreeMap<&'static str, PathBuf>,
    /// Configuration of kwok, where it is built: all its stages in one file.
    pub stages: PathBuf,
}

impl Assets {
    /// Path of one of the programs: etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubectl; with played nodes kwok; with
    /// real nodes kubelet, kube-proxy, pause, coredns, client, etcdctl.
    pub fn program(&self, name: &str) -> &Path {
        self.programs.get(name).expect("the list of programs is fixed")
    }
}

/// Finds the programs, and builds what is missing (up to nine minutes the first time). Prints on standard error what it
/// builds.
///
/// What the folder named by `KUBEBUILDER_ASSETS` has is taken from there.
pub fn build() -> Result<Assets> {
    build_all(&[&PROGRAMS[..], &[PLAYER]].concat())
}

/// The same for real nodes (a minute more the first time).
pub fn build_for_real_nodes() -> Result<Assets> {
    build_all(&[&PROGRAMS[..], &NODE_PROGRAMS].concat())
}

/// Whether the programs are there, so that nothing has to be built.
pub fn are_built() -> bool {
    let sources = paths::root().join("tests/kubernetes");
    let Ok(print) = fingerprint(&sources) else { return false };
    let bin = paths::state().join("controlplane").join(print).join("bin");
    let supplied = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
    let places = |name: &str| [Some(bin.join(name)), supplied.as_ref().map(|dir| dir.join(name))];
    PROGRAMS.iter().all(|(name, ..)| places(name).into_iter().flatten().any(|path| path.is_file()))
}

/// Builds Helm, if it is not there yet, and returns its path: for the test of the chart.
pub fn helm() -> Result<PathBuf> {
    Ok(build_all(&[HELM])?.program("helm").to_owned())
}

const HELM: Source = ("helm", "helm.sh/helm/v4/cmd/helm", "helm", "1 min");

fn build_all(sources_of: &[Source]) -> Result<Assets> {
    let sources = paths::root().join("tests/kubernetes");
    let dir = paths::state().join("controlplane").join(fingerprint(&sources)?);
    let bin = dir.join("bin");
    fs::create_dir_all(&bin).with_context(|| format!("could not make {}", bin.display()))?;
    let lock = fs::File::create(dir.join("lock")).with_context(|| format!("could not lock {}", dir.display()))?;
    lock.lock().context("could not wait for another build of the control plane")?;

    let supplied = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
    let kubernetes = kubernetes(&sources)?;
    let mut programs = BTreeMap::new();
    for &(name, ..) in sources_of {
        let given = supplied.as_ref().map(|dir| dir.join(name)).filter(|path| path.is_file());
        let path = given.unwrap_or_else(|| bin.join(name));
        programs.insert(name, path);
    }
    let missing = |source: &&Source| !programs[source.0].is_file();
    let (of_kubernetes, others): (Vec<_>, Vec<_>) =
        sources_of.iter().filter(missing).partition(|(_, package, ..)| package.starts_with(KUBERNETES_PACKAGE));
    build_kubernetes(&of_kubernetes, &kubernetes, &bin)?;
    for &(name, package, module, takes) in others {
        go_build(name, package, &sources.join(module), takes, &programs[name])?;
    }
    let stages = dir.join("stages.yaml");
    if sources_of.contains(&PLAYER) && !stages.is_file() {
        fs::write(&stages, read_stages(&sources.join("kwok"))?)
            .with_context(|| format!("could not write {}", stages.display()))?;
    }
    Ok(Assets { programs, stages })
}

/// The folder whose go.mod names the version of Kubernetes.
fn kubernetes(sources: &Path) -> Result<PathBuf> {
    let wanted = std::env::var(KUBERNETES).unwrap_or_default();
    let folder = if wanted.is_empty() { sources.to_owned() } else { sources.join(format!("kubernetes-{wanted}")) };
    match folder.join("go.mod").is_file() {
        true => Ok(folder),
        false => {
            bail!("{KUBERNETES} is {wanted:?}; versions are those of the folders kubernetes-* in {}", sources.display())
        }
    }
}

fn fingerprint(sources: &Path) -> Result<String> {
    let kubernetes = kubernetes(sources)?;
    let files = [
        "kwok/go.mod",
        "kwok/go.sum",
        "nodes/go.mod",
        "nodes/go.sum",
        "nodes/pause/main.go",
        "nodes/coredns/main.go",
        "nodes/client/main.go",
        "helm/go.mod",
        "helm/go.sum",
    ]
    .map(|name| sources.join(name));
    let files = [&["go.mod", "go.sum"].map(|name| kubernetes.join(name))[..], &files].concat();
    go::fingerprint(&files, format!("{STAGES:?} {NOT_PLAYED}").as_bytes())
}

/// How the packages of Kubernetes' own programs begin.
const KUBERNETES_PACKAGE: &str = "k8s.io/kubernetes/";

/// Builds programs of Kubernetes together: they share most of their packages, and one links while another compiles.
fn build_kubernetes(sources: &[&Source], module: &Path, bin: &Path) -> Result<()> {
    let (names, packages): (Vec<&str>, Vec<&str>) = sources.iter().map(|source| (source.0, source.1)).unzip();
    if names.is_empty() {
        return Ok(());
    }
    // Without it the API server and the nodes call themselves v0.0.0-master+$Format:%H$.
    let link = format!(" -X k8s.io/component-base/version.gitVersion={}", version(module, "k8s.io/kubernetes")?);
    let takes: Vec<&str> = sources.iter().map(|source| source.3).collect();
    let (name, takes) = (names.join(", "), takes.join(" + "));
    let fresh = bin.join("fresh");
    fs::create_dir_all(&fresh).with_context(|| format!("could not make {}", fresh.display()))?;
    go::build_all(&Program { name: &name, package: "", module, takes: &takes, link: &link }, &packages, &fresh)?;
    for name in names {
        fs::rename(fresh.join(name), bin.join(name)).with_context(|| format!("go built no {name}"))?;
    }
    Ok(())
}

fn go_build(name: &str, package: &str, module: &Path, takes: &str, out: &Path) -> Result<()> {
    let version = match name {
        "kwok" => format!(" -X sigs.k8s.io/kwok/pkg/consts.Version={}", version(module, "sigs.k8s.io/kwok")?),
        _ => String::new(),
    };
    go::build(&Program { name, package, module, takes, link: &version }, out)
}

/// The version of a package that a go.mod asks for.
fn version(module: &Path, package: &str) -> Result<String> {
    let path = module.join("go.mod");
    let text = fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
    let mut lines = text.lines().map(|line| line.trim_start().trim_start_matches("require "));
    let version = lines.find_map(|line| line.strip_prefix(package)?.strip_prefix(' ')?.split(' ').next());
    Ok(version.with_context(|| format!("{} does not ask for {package}", path.display()))?.to_owned())
}

fn read_stages(module: &Path) -> Result<String> {
    go::require()?;
    let list = ["list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/kwok"];
    let download = Command::new("go").args(["mod", "download", "sigs.k8s.io/kwok"]).current_dir(module).output();
    let output = Command::new("go").args(list).current_dir(module).output();
    let (download, output) = (download.context("could not run go")?, output.context("could not run go")?);
    let dir = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if !output.status.success() || dir.is_empty() {
        let output = [download.stderr, output.stderr].concat();
        bail!("go did not print where the files of kwok are:\n{}", String::from_utf8_lossy(&output));
    }
    let mut stages = String::new();
    for folder in STAGES {
        let folder = Path::new(&dir).join("kustomize/stage").join(folder);
        let entries = fs::read_dir(&folder).with_context(|| format!("could not read {}", folder.display()))?;
        let mut paths: Vec<PathBuf> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
        paths.sort();
        let is_played = |path: &&PathBuf| path.extension().is_some_and(|ext| ext == "yaml") && !path.ends_with(NOT_PLAYED);
        for path in paths.iter().filter(is_played) {
            let text = fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))?;
            if text.contains("kind: Stage\n") {
                stages.push_str("---\n");
                stages.push_str(&text);
            }
        }
    }
    Ok(stages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_the_go_mod_files() {
        let sources = paths::root().join("tests/kubernetes");
        assert!(version(&sources, "k8s.io/kubernetes").expect("it is there").starts_with("v1.36."));
        assert!(version(&sources.join("kubernetes-1.33"), "k8s.io/kubernetes").expect("it is there").starts_with("v1.33."));
        assert!(version(&sources.join("kwok"), "sigs.k8s.io/kwok").expect("it is there").starts_with("v0."));
        assert!(version(&sources, "k8s.io").is_err());
    }
}
