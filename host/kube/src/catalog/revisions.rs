//! Revisions that may serve, each kept as an immutable ConfigMap of the controller's namespace: what served serves on after a restart,
//! whatever became of the ConfigMap that brought it.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::core::PartialObjectMeta;
use kube::{Api, Client, Resource, ResourceExt};
use tokio::sync::mpsc;

use super::config_maps::{by_plugin, bytes_of, follow, unpacked};
use atomix_controller_io::api_client::said;
use atomix_model::crd::StoragePlugin;
use atomix_model::names::{DIGEST, REVISION_LABEL, VERSION};

/// A revision that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // its fields explain themselves
pub struct Kept {
    /// Name of the ConfigMap.
    pub config_map: String,
    pub uid: String,
    pub plugin: String,
    /// SHA-256 of its bytes, in hexadecimal, as the ConfigMap says: what is read is compared with it.
    pub digest: String,
    pub version: String,
    /// When it was made, in seconds.
    pub created: i64,
}

/// All revisions that are kept, by plugin and newest first, after something has changed.
pub type KeptEvent = BTreeMap<String, Vec<Kept>>;

/// A revision that is to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // its fields explain themselves
pub struct ToKeep {
    pub plugin: String,
    pub digest: String,
    pub version: String,
    /// Its bytes as the ConfigMap that brings it holds them, so that they fit here too.
    pub packed: Arc<[u8]>,
}

/// The ConfigMaps that keep revisions.
#[derive(Clone)]
pub struct RevisionStore {
    client: Client,
    namespace: String,
}

impl RevisionStore {
    /// Those of a namespace, the controller's own.
    pub fn new(client: Client, namespace: &str) -> RevisionStore {
        RevisionStore { client, namespace: namespace.to_owned() }
    }

    /// Follows which revisions are kept, and sends all of them after each change. Of their bytes it holds none.
    pub async fn watch(self, kept: mpsc::Sender<KeptEvent>) {
        let maps: Api<PartialObjectMeta<ConfigMap>> = Api::namespaced(self.client.clone(), &self.namespace);
        follow(maps, REVISION_LABEL, described, kept, |all| {
            let mut plugins = by_plugin(all, |kept| &kept.plugin);
            plugins
                .values_mut()
                .for_each(|all| all.sort_by(|a, b| (b.created, &b.config_map).cmp(&(a.created, &a.config_map))));
            plugins
        })
        .await
    }

    /// The bytes of a revision, packed as they were; or what is wrong with its ConfigMap.
    ///
    /// # Errors
    /// The API server did not answer with it.
    pub async fn read(&self, kept: &Kept) -> kube::Result<Result<Vec<u8>, String>> {
        Ok(bytes_of(&self.api().get(&kept.config_map).await?))
    }

    /// Keeps a revision for as long as the StoragePlugin of this name and UID is there.
    ///
    /// # Errors
    /// The API server did not take it, or something else has its name.
    pub async fn keep(&self, revision: &ToKeep, owner: (&str, &str)) -> Result<(), String> {
        let map = config_map(revision, owner);
        let failed = |error: kube::Error| format!("ConfigMap {} could not be created: {}", map.name_any(), said(&error));
        match self.api().create(&PostParams::default(), &map).await {
            Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {}
            other => return other.map(|_| ()).map_err(failed),
        }
        match self.api().get_opt(&map.name_any()).await.map_err(failed)? {
            Some(there) if keeps(&there, revision) => Ok(()),
            Some(there) => Err(format!("ConfigMap {} is there and is not this revision; delete it", there.name_any())),
            None => Err(format!("ConfigMap {} is on its way out", map.name_any())),
        }
    }

    /// Lets go of a revision, unless another has its name by now.
    ///
    /// # Errors
    /// The API server did not do it.
    pub async fn let_go(&self, kept: &Kept) -> kube::Result<()> {
        let only = Preconditions { uid: Some(kept.uid.clone()), resource_version: None };
        let params = DeleteParams { preconditions: Some(only), ..DeleteParams::default() };
        match self.api().delete(&kept.config_map, &params).await {
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            other => other.map(|_| ()),
        }
    }

    fn api(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}

/// Name of the ConfigMap that keeps a revision.
pub fn config_map_name(plugin: &str, digest: &str) -> String {
    format!("atomix-revision-{plugin}-{}", digest.get(..12).unwrap_or(digest))
}

fn config_map(revision: &ToKeep, (name, uid): (&str, &str)) -> ConfigMap {
    let ToKeep { plugin, digest, version, packed } = revision.clone();
    let is_gzip = packed.starts_with(&[0x1f, 0x8b]);
    let key = if is_gzip { "plugin.wasm.gz" } else { "plugin.wasm" };
    let owner = OwnerReference {
        api_version: StoragePlugin::api_version(&()).into_owned(),
        kind: StoragePlugin::kind(&()).into_owned(),
        name: name.to_owned(),
        uid: uid.to_owned(),
        ..OwnerReference::default()
    };
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(config_map_name(&plugin, &digest)),
            labels: Some([(REVISION_LABEL.to_owned(), plugin)].into()),
            annotations: Some([(DIGEST.to_owned(), digest), (VERSION.to_owned(), version)].into()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        immutable: Some(true),
        binary_data: Some([(key.to_owned(), ByteString(packed.to_vec()))].into()),
        ..ConfigMap::default()
    }
}

/// Whether a ConfigMap keeps a revision, by its bytes and by what it says itself.
fn keeps(map: &ConfigMap, revision: &ToKeep) -> bool {
    let said = described(map);
    let bytes = bytes_of(map).and_then(|packed| unpacked(&packed));
    said.digest == revision.digest
        && said.plugin == revision.plugin
        && bytes.is_ok_and(|bytes| atomix_sandbox::digest_of(&bytes) == revision.digest)
}

/// What a ConfigMap keeps, by what it says itself.
fn described(map: &impl ResourceExt) -> Kept {
    let annotation = |name: &str| map.annotations().get(name).cloned().unwrap_or_default();
    Kept {
        config_map: map.name_any(),
        uid: map.uid().unwrap_or_default(),
        plugin: map.labels().get(REVISION_LABEL).cloned().unwrap_or_default(),
        digest: annotation(DIGEST),
        version: annotation(VERSION),
        created: map.creation_timestamp().map_or(0, |time| time.0.as_second()),
    }
}
