//! Real nodes: containerd, kubelet and kube-proxy, each node in namespaces of its own within those of the control plane. Knows no
//! Atomix.
//!
//! ```text
//!   127.0.0.1:PORT ── ns.sock ──► 10.240.0.254  API server, etcd, controller manager, scheduler
//!   (this machine)                        │ br0
//!                          ┌──────────────┼──────────────┐
//!                      10.240.0.1     10.240.0.2     10.240.0.3      nodes
//!                      10.241.1.0/24  10.241.2.0/24  10.241.3.0/24   their pods, by static routes
//!   services 10.96.0.0/16 by kube-proxy on each node; no route leads out of it all
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::assets::Assets;
use crate::guard::{Guarded, Spec, log_tail};
use crate::linux_namespaces::{self, LinuxNamespaces, cgroup_hierarchies};
use crate::{paths, pki, volumes};

/// Address of the control plane.
pub const CONTROL_PLANE: &str = "10.240.0.254";
/// Address of the cluster's DNS service.
pub const DNS: &str = "10.96.0.10";
/// Image that holds the namespaces of each pod.
pub const PAUSE: &str = "atomix.test/pause:1";
/// How long containerd may take to answer on a busy machine.
const CONTAINERD_WITHIN: Duration = Duration::from_secs(120);

/// What a node needs of the cluster that it belongs to.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// The cluster's folder.
    pub dir: PathBuf,
    /// Its programs.
    pub assets: Assets,
    /// Name of its cgroup.
    pub cgroup: String,
    /// How many nodes it has.
    pub nodes: usize,
}

/// A node. Dropping it cuts its power.
#[derive(Debug)]
pub struct RealNode {
    number: usize,
    cluster: Cluster,
    namespaces: Option<LinuxNamespaces>,
    processes: Vec<Guarded>,
}

/// Lays the bridge that all nodes hang on, in the control plane's namespaces.
pub fn lay_bridge(plane: &LinuxNamespaces) -> Result<()> {
    for line in
        ["link set lo up", "link add br0 type bridge", &format!("addr add {CONTROL_PLANE}/24 dev br0"), "link set br0 up"]
    {
        plane.ip(line)?;
    }
    Ok(())
}

impl RealNode {
    /// A node that is off. Its kubelet's kubeconfig is `node<number>.kubeconfig` in the cluster's folder.
    pub fn new(cluster: Cluster, number: usize) -> RealNode {
        RealNode { number, cluster, namespaces: None, processes: Vec::new() }
    }

    /// What it is called.
    pub fn name(&self) -> String {
        format!("node{}", self.number)
    }

    /// Switches it on, as far as its containerd with `images` in it: what it had before is there again.
    pub fn boot(&mut self, plane: &LinuxNamespaces, images: &[PathBuf]) -> Result<()> {
        let dir = self.dir();
        let namespaces = plane.nested(&dir)?;
        self.make_cgroups()?;
        namespaces.run(&["sh", "-ec", &mounts(&dir, &self.cluster.dir.join("volumes"))])?;
        namespaces.run(&["hostname", &self.name()])?;
        self.connect(plane, &namespaces)?;
        self.namespaces = Some(namespaces);
        self.write_configuration()?;
        self.spawn("containerd", Path::new("containerd"), vec!["--config".into(), self.file("containerd.toml")])?;
        self.containerd_ready()?;
        images.iter().try_for_each(|image| self.import(image))
    }

    /// Starts its kubelet and kube-proxy: the API server must answer by now.
    pub fn join(&mut self) -> Result<()> {
        let (name, kubeconfig) = (self.name(), self.cluster.dir.join(format!("{}.kubeconfig", self.name())));
        let kubelet = vec![
            format!("--config={}", self.file("kubelet.yaml")),
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--hostname-override={name}"),
            format!("--node-ip={}", self.address()),
            format!("--root-dir={}", self.file("kubelet")),
        ];
        let program = self.cluster.assets.program("kubelet").to_owned();
        self.spawn("kubelet", &program, kubelet)?;
        let program = self.cluster.assets.program("kube-proxy").to_owned();
        self.spawn("kube-proxy", &program, vec![format!("--config={}", self.file("proxy.yaml"))])
    }

    /// Cuts its power: all that runs on it ends at once.
    pub fn cut(&mut self) -> Result<()> {
        self.processes.clear();
        match self.namespaces.take() {
            Some(mut namespaces) => namespaces.cut(),
            None => Ok(()),
        }
    }

    /// Whether it is on.
    pub fn is_on(&self) -> bool {
        self.namespaces.is_some()
    }

    /// Runs a command on the node.
    pub fn run(&self, command: &[&str]) -> Result<String> {
        self.namespaces()?.run(command)
    }

    /// Takes an image from an archive.
    pub fn import(&self, archive: &Path) -> Result<()> {
        let archive = archive.display().to_string();
        self.run(&["ctr", "--address", "/run/containerd.sock", "--namespace", "k8s.io", "images", "import", &archive])?;
        Ok(())
    }

    /// The namespaces that it runs in.
    pub fn namespaces(&self) -> Result<&LinuxNamespaces> {
        self.namespaces.as_ref().with_context(|| format!("{} is off", self.name()))
    }

    /// The last lines of the log of containerd, kubelet or kube-proxy.
    pub fn log_tail(&self, program: &str, lines: usize) -> String {
        log_tail(&self.log(program), lines)
    }

    fn dir(&self) -> PathBuf {
        self.cluster.dir.join(self.name())
    }

    fn file(&self, name: &str) -> String {
        self.dir().join(name).display().to_string()
    }

    fn log(&self, program: &str) -> PathBuf {
        self.cluster.dir.join("log").join(format!("{}-{program}.log", self.name()))
    }

    fn address(&self) -> String {
        format!("10.240.0.{}", self.number)
    }

    fn spawn(&mut self, name: &str, program: &Path, args: Vec<String>) -> Result<()> {
        let mut command = vec![program.display().to_string()];
        command.extend(args);
        let (program, args) = self.namespaces()?.enter(&command);
        let log = self.log(name);
        let name = format!("{name} of {}", self.name());
        let env = vec![("HOME".to_owned(), self.dir().display().to_string())];
        self.processes.push(Guarded::spawn(&Spec { name, program, args, env, log, grace: Duration::ZERO })?);
        Ok(())
    }

    // One end of a cable at the bridge, the other as eth0 of the node.
    fn connect(&self, plane: &LinuxNamespaces, namespaces: &LinuxNamespaces) -> Result<()> {
        let (n, address, first) = (self.number, self.address(), namespaces.first());
        plane.ip(&format!("link del n{n}")).ok(); // of the same node before its power was cut
        plane.ip(&format!("link add n{n} type veth peer name eth0 netns {first}"))?;
        plane.ip(&format!("link set n{n} master br0 up"))?;
        plane.ip(&format!("route replace 10.241.{n}.0/24 via {address}"))?;
        namespaces.ip("link set lo up")?;
        namespaces.ip(&format!("addr add {address}/24 dev eth0"))?;
        namespaces.ip("link set eth0 up")?;
        namespaces.ip(&format!("route add default via {CONTROL_PLANE}"))?; // leads nowhere further; service addresses need some route
        for other in (1..=self.cluster.nodes).filter(|&other| other != n) {
            namespaces.ip(&format!("route add 10.241.{other}.0/24 via 10.240.0.{other}"))?;
        }
        namespaces.run(&["sysctl", "-qw", "net.ipv4.ip_forward=1", "net.bridge.bridge-nf-call-iptables=1"])?;
        Ok(())
    }

    fn make_cgroups(&self) -> Result<()> {
        for hierarchy in cgroup_hierarchies()? {
            let mut dir = hierarchy.clone();
            for name in [self.cluster.cgroup.as_str(), &self.name()] {
                dir.push(name);
                fs::create_dir_all(&dir).with_context(|| format!("could not make {}", dir.display()))?;
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    // cgroup v1: an empty cpuset takes no process
                    if let Ok(all) = fs::read(hierarchy.join(file)) {
                        fs::write(dir.join(file), all).with_context(|| format!("could not fill {}", dir.display()))?;
                    }
                }
            }
        }
        Ok(())
    }

    fn write_configuration(&self) -> Result<()> {
        let (dir, name) = (self.dir(), self.name());
        fs::create_dir_all(dir.join("cni")).with_context(|| format!("could not make {}", dir.display()))?;
        fs::write(dir.join("resolv.conf"), "")?;
        pki::write(&dir.join("containerd.toml"), &containerd(&dir))?;
        let network = json!({"cniVersion": "0.4.0", "name": "pods", "plugins": [
            {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true, "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": format!("10.241.{}.0/24", self.number)}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            }},
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ]});
        pki::write(&dir.join("cni/10-pods.conflist"), &network.to_string())?;
        let kubelet = json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "failCgroupV1": false, // 1.35 and later refuse cgroup v1 unless this is set
            "failSwapOn": false,
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": format!("/{}/{name}", self.cluster.cgroup),
            "containerRuntimeEndpoint": "unix:///run/containerd.sock",
            "clusterDomain": "cluster.local",
            "clusterDNS": [DNS],
            "resolvConf": dir.join("resolv.conf"),
            "authentication": {
                "anonymous": {"enabled": false},
                "webhook": {"enabled": true},
                "x509": {"clientCAFile": self.cluster.dir.join("pki/ca.crt")},
            },
            "authorization": {"mode": "Webhook"},
            "nodeStatusUpdateFrequency": "2s",
            "nodeLeaseDurationSeconds": 8,
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "0%", "imagefs.available": "0%", "nodefs.inodesFree": "0%"},
            "imageGCHighThresholdPercent": 100, // images came by hand and could not be pulled again
            "registerNode": true,
        });
        pki::write(&dir.join("kubelet.yaml"), &kubelet.to_string())?;
        let proxy = json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "clientConnection": {"kubeconfig": self.cluster.dir.join("kube-proxy.kubeconfig")},
            "clusterCIDR": "10.241.0.0/16",
            "hostnameOverride": name,
            "conntrack": {"maxPerCore": 0, "min": 0}, // a network namespace may not set the kernel's limits
        });
        pki::write(&dir.join("proxy.yaml"), &proxy.to_string())
    }

    fn containerd_ready(&mut self) -> Result<()> {
        let start = Instant::now();
        loop {
            match self.run(&["ctr", "--address", "/run/containerd.sock", "version"]) {
                Ok(_) => return Ok(()),
                Err(error) if start.elapsed() > CONTAINERD_WITHIN => {
                    bail!("{error:#}\nlast lines of its log:\n{}", self.log_tail("containerd", 10))
                }
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }
}

impl Drop for RealNode {
    fn drop(&mut self) {
        self.cut().ok(); // there is no caller to return it to
    }
}

/// Private copies of the folders that the three programs write to; shared within the node, as volumes of pods need.
fn mounts(dir: &Path, volumes: &Path) -> String {
    let (dir, volumes, at) = (dir.display(), volumes.display(), volumes::AT);
    format!(
        "mount --make-rshared /
        mount -t tmpfs tmpfs /run
        mount -t tmpfs tmpfs /var/lib
        mkdir -p /run/lock {at} '{volumes}' '{dir}/log' '{dir}/kubelet'
        mount --bind '{volumes}' {at}
        mount --bind '{dir}/log' /var/log"
    )
}

// Without restrict_oom_score_adj a score below the daemon's own is set, which takes a capability that root may lack
// (CAP_SYS_RESOURCE); runc then dies with "can't get final child's PID from pipe: EOF".
fn containerd(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        r#"version = 2
root = "{dir}/containerd"
state = "/run/containerd-state"
[grpc]
  address = "/run/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{dir}/cni"
"#
    )
}

/// What real nodes need of this machine, installed where that can be done; an error names what is missing and how to get it.
pub fn require() -> Result<()> {
    if !cfg!(target_os = "linux") {
        bail!("real nodes need Linux");
    }
    let uid = linux_namespaces::run(Command::new("id").arg("-u"))?;
    if uid.trim() != "0" {
        bail!("real nodes need root: namespaces, mounts and cgroups are made for them");
    }
    if paths::state().starts_with("/var/lib") || paths::state().starts_with("/run") {
        bail!("real nodes have a /run and a /var/lib of their own: use a checkout outside {}", paths::state().display());
    }
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    let packages = PACKAGES.join(" ");
    let by_hand = format!("missing: {}; on Debian: apt-get install {packages}", missing.join(", "));
    if linux_namespaces::run(Command::new("apt-get").arg("--version")).is_err() {
        bail!("real nodes need programs that are not there; {by_hand}");
    }
    crate::go::print_progress(&format!("installing {packages} …"));
    linux_namespaces::run(Command::new("apt-get").args(["update", "-q"])).with_context(|| by_hand.clone())?;
    let mut install = Command::new("apt-get");
    install.env("DEBIAN_FRONTEND", "noninteractive").args(["install", "-qy", "--no-install-recommends"]).args(PACKAGES);
    linux_namespaces::run(&mut install).with_context(|| by_hand.clone())?;
    match self::missing().as_slice() {
        [] => Ok(()),
        still => bail!("{} not there although the packages are installed: {packages}", still.join(", ")),
    }
}

/// Debian's packages that hold [`NEEDED`].
const PACKAGES: [&str; 9] = [
    "containerd",
    "runc",
    "containernetworking-plugins",
    "iptables",
    "nftables",
    "conntrack",
    "iproute2",
    "procps",
    "mmdebstrap",
];
const NEEDED: [&str; 11] = [
    "containerd",
    "ctr",
    "runc",
    "/usr/lib/cni/bridge",
    "iptables",
    "nft",
    "conntrack",
    "ip",
    "sysctl",
    "nsenter",
    "mmdebstrap",
];

fn missing() -> Vec<&'static str> {
    let found = |name: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        name.starts_with('/') && Path::new(name).is_file()
            || std::env::split_paths(&path).any(|dir| dir.join(name).is_file())
    };
    NEEDED.into_iter().filter(|name| !found(name)).collect()
}
