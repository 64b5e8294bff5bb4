//! The controller as a user's cluster runs it: `deploy/atomix-controller.yaml`, word for word, on real nodes. Knows no database.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};

use crate::controller::NAMESPACE;
use crate::controlplane::ControlPlane;
use crate::fixture::ControllerLog;
use crate::guard::Guarded;
use crate::kubectl::Kubectl;
use crate::{assets, dist, images, oldclients};

/// Plugins of storage that runs here.
pub const PLUGINS: [&str; 4] = ["raft", "etcd", "valkey", "redis"];
/// How long the rollout may take on a busy machine.
const ROLLOUT: &str = "--timeout=120s";

/// Images of the controller, of what databases run, and of old clients. Where it is measured, the controller is the one that is handed out;
/// for tests it would be built a second time, so they have it as it was built for this machine.
pub fn images() -> Result<Vec<PathBuf>> {
    let controller = if cfg!(debug_assertions) { dist::image_of_this_machine()? } else { dist::image()? };
    let mut all = vec![controller, oldclients::clients()?];
    all.extend(storage()?);
    Ok(all)
}

/// Images of the controller as it was built for this machine, and of what databases run: for use by hand, so that it is not
/// built twice.
pub fn images_of_this_machine() -> Result<Vec<PathBuf>> {
    let mut all = vec![dist::image_of_this_machine()?];
    all.extend(storage()?);
    Ok(all)
}

/// Images of what databases run.
fn storage() -> Result<Vec<PathBuf>> {
    let programs = assets::build_for_real_nodes()?;
    let etcd = [("etcd", programs.program("etcd")), ("etcdctl", programs.program("etcdctl"))];
    let mut all = Vec::new();
    for name in ["quay.io/coreos/etcd:v3.6.8", "quay.io/coreos/etcd:v3.6.8-again"] {
        all.push(images::of_programs(name, &etcd)?); // the second for a class that is edited
    }
    let debian = images::debian("trixie", &["valkey-server", "redis-server"])?;
    for name in ["valkey/valkey:8.1", "valkey/valkey:8.1-again", "redis:7.2"] {
        all.push(images::of_root(name, &debian)?); // Debian 13 has Valkey 8.1 and Redis 8.0
    }
    all.extend(oldclients::nodes()?);
    Ok(all)
}

/// The controller's Deployment.
#[derive(Debug)]
pub struct DeployedController {
    plane: Arc<ControlPlane>,
}

impl DeployedController {
    /// Runs the commands of the README, and returns when the rollout is through.
    pub async fn install(plane: Arc<ControlPlane>) -> Result<DeployedController> {
        let file = dist::file("atomix-controller.yaml").display().to_string();
        Kubectl::new(&plane).run(["create", "-f", &file]).await?;
        let deployed = DeployedController { plane };
        deployed.rolled_out().await?;
        Ok(deployed)
    }

    /// Waits until all replicas are there and ready.
    pub async fn rolled_out(&self) -> Result<()> {
        let done = self.kubectl().run(["rollout", "status", "deployment/atomix-controller", ROLLOUT]).await;
        let Err(error) = done else { return Ok(()) };
        let pods = self.kubectl().run(["describe", "pods", "-l", LABEL]).await.unwrap_or_default();
        Err(error).context(format!("{pods}\n{}", self.log_of_each_replica(20).await))
    }

    /// Lets ports of 127.0.0.1 lead to ports of its Service: pairs of both.
    pub async fn forward(&self, ports: [(u16, u16); 2]) -> Result<[Guarded; 2]> {
        let address =
            self.kubectl().run(["get", "service", "atomix-controller", "-o", "jsonpath={.spec.clusterIP}"]).await?;
        let [first, second] = ports.map(|(here, there)| self.plane.forward(here, &format!("{address}:{there}")));
        Ok([first?, second?])
    }

    /// kubectl in the controller's namespace.
    pub fn kubectl(&self) -> Kubectl {
        Kubectl::new(&self.plane).namespace(NAMESPACE)
    }

    /// Names of its pods.
    pub async fn pods(&self) -> Result<Vec<String>> {
        let names = self.kubectl().run(["get", "pods", "-l", LABEL, "-o", "jsonpath={.items[*].metadata.name}"]).await?;
        Ok(names.split_whitespace().map(str::to_owned).collect())
    }
}

impl ControllerLog for DeployedController {
    async fn log_of_each_replica(&self, lines: usize) -> String {
        let tail = format!("--tail={lines}");
        let log = self.kubectl().run(["logs", "-l", LABEL, "--prefix", &tail]).await;
        log.unwrap_or_else(|error| format!("{error:#}"))
    }
}

const LABEL: &str = "app.kubernetes.io/name=atomix-controller";
