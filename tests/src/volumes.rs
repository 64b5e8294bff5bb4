//! Volumes: on real nodes in one folder that every node sees, so that a pod finds its data on whichever node it comes up. Knows no
//! namespaces.
//!
//! A claim of the default class, or of another of the same provisioner, gets a `local` volume at once, with a folder of its own and no
//! tie to one node. Such a volume is given to the pod's `fsGroup` by the kubelet, as volumes of real storage are. A volume that was
//! claimed once is kept.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::PostParams;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use serde_json::json;

/// Where nodes see the folder.
pub const AT: &str = "/run/volumes";
const CLASS: &str = "shared";
/// The provisioner of the volumes' classes.
pub const PROVISIONER: &str = "atomix.test/shared";
/// The annotation by which Kubernetes names, on a claim, the provisioner that makes its volume.
const WHOSE: &str = "volume.kubernetes.io/storage-provisioner";

/// Creates the default storage class.
pub async fn create_class(client: kube::Client) -> Result<()> {
    let class = serde_json::from_value(json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": PROVISIONER,
        "reclaimPolicy": "Retain",
        "volumeBindingMode": "Immediate",
    }))?;
    let classes: Api<StorageClass> = Api::all(client);
    classes.create(&PostParams::default(), &class).await.context("could not create the storage class")?;
    Ok(())
}

/// Makes a volume for each claim, in `folder` of this machine, for as long as it is awaited. A request that the API server
/// does not answer is sent again; a folder that cannot be made is an error.
pub async fn provision(client: kube::Client, folder: PathBuf) -> Result<()> {
    let claims: Api<PersistentVolumeClaim> = Api::all(client.clone());
    let volumes: Api<PersistentVolume> = Api::all(client);
    let changes = watcher(claims, watcher::Config::default()).default_backoff().applied_objects();
    let claimed = changes.filter_map(|change| std::future::ready(change.ok())).map(Ok); // watched again after a pause
    let make = |claim: PersistentVolumeClaim| {
        let (volumes, folder) = (&volumes, &folder);
        async move {
            let unbound = claim.spec.as_ref().is_some_and(|spec| spec.volume_name.is_none());
            if unbound && claim.annotations().get(WHOSE).is_some_and(|provisioner| provisioner == PROVISIONER) {
                let volume = volume(&claim, folder)?;
                while !there(volumes.create(&PostParams::default(), &volume).await) {
                    tokio::time::sleep(AGAIN).await;
                }
            }
            Ok(())
        }
    };
    claimed.try_for_each_concurrent(AT_ONCE, make).await
}

/// How many volumes are made at a time.
const AT_ONCE: usize = 8;
/// How long until a volume that could not be created is tried again.
const AGAIN: Duration = Duration::from_millis(200);

/// Whether there is such a volume now: one that is being bound is there already.
fn there(created: kube::Result<PersistentVolume>) -> bool {
    match created {
        Ok(_) => true,
        Err(kube::Error::Api(status)) => status.code == 409,
        Err(_) => false,
    }
}

fn volume(claim: &PersistentVolumeClaim, folder: &Path) -> Result<PersistentVolume> {
    let (namespace, name) = (claim.namespace().unwrap_or_default(), claim.name_any());
    let uid = claim.uid().unwrap_or_default();
    let id = format!("{namespace}-{name}-{}", uid.get(..8).unwrap_or(&uid));
    let dir = folder.join(&id);
    fs::create_dir_all(&dir).with_context(|| format!("could not make {}", dir.display()))?;
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o770))?; // its group is set by the pod's fsGroup
    let spec = claim.spec.as_ref().context("a claim has a spec")?;
    let wanted = spec.resources.as_ref().and_then(|resources| resources.requests.clone()).unwrap_or_default();
    let volume = serde_json::from_value(json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": id},
        "spec": {
            "capacity": wanted,
            "accessModes": spec.access_modes,
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": spec.storage_class_name,
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": namespace, "name": name, "uid": uid},
            "local": {"path": format!("{AT}/{id}")},
            // Every node has the folder.
            "nodeAffinity": {"required": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]}]},
            ]}},
        },
    }));
    volume.context("the volume is well-formed")
}
