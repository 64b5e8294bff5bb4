//! The ConfigMaps that bring plugins, in the controller's own namespace: who may write there may install code.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::Read;
use std::sync::Arc;

use flate2::read::GzDecoder;
use futures::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ListParams;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use atomix_model::names::PLUGIN_LABEL;
use atomix_model::{limits, names};

/// A ConfigMap that brings a plugin.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // its fields explain themselves
pub struct Source {
    pub name: String,
    /// Name of the plugin, as labelled.
    pub plugin: String,
    /// UID and resourceVersion: another content has another stamp.
    pub stamp: String,
    /// The digest that the bytes must have, if an annotation says so.
    pub pinned: Option<String>,
    /// When it was created, in seconds; of two for one plugin the older counts.
    pub created: i64,
    /// The plugin's bytes as they stand there, or what is wrong with the ConfigMap.
    pub bytes: Result<Arc<[u8]>, String>,
}

/// All ConfigMaps that bring plugins, after something has changed.
pub type SourceEvent = BTreeMap<String, Vec<Source>>;

/// Follows the labelled ConfigMaps of a namespace and sends all of them, by plugin and oldest first, after each change.
pub async fn watch(client: Client, namespace: String, sources: mpsc::Sender<SourceEvent>) {
    let api: Api<ConfigMap> = Api::namespaced(client, &namespace);
    follow(api, PLUGIN_LABEL, source, sources, |all| {
        let mut plugins = by_plugin(all, |source| &source.plugin);
        plugins.values_mut().for_each(|sources| sources.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name))));
        plugins
    })
    .await
}

/// Follows the objects that carry a label, of each only what `of` makes of it, and sends what `event` makes of all after each change.
/// Nothing is sent while a list is under way.
pub(super) async fn follow<K, T: Clone, E>(
    api: Api<K>,
    label: &str,
    of: impl Fn(&K) -> T,
    events: mpsc::Sender<E>,
    event: impl Fn(Vec<T>) -> E,
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let changes = watcher(api, watcher::Config::default().labels(label)).backoff(atomix_controller_io::cache::backoff());
    pin_mut!(changes);
    let mut known: BTreeMap<String, T> = BTreeMap::new();
    let mut is_listed = false;
    while let Some(change) = changes.next().await {
        match change {
            Ok(Event::Init) => (known, is_listed) = (BTreeMap::new(), false),
            Ok(Event::InitApply(object)) | Ok(Event::Apply(object)) => {
                known.insert(object.name_any(), of(&object));
            }
            Ok(Event::Delete(object)) => {
                known.remove(&object.name_any());
            }
            Ok(Event::InitDone) => is_listed = true,
            Err(error) => {
                tracing::warn!(%error, label, "ConfigMaps cannot be watched; trying again");
                continue;
            }
        }
        if is_listed && events.send(event(known.values().cloned().collect())).await.is_err() {
            return;
        }
    }
}

/// Sorts by plugin.
pub(super) fn by_plugin<T>(all: Vec<T>, plugin: impl Fn(&T) -> &String) -> BTreeMap<String, Vec<T>> {
    let mut plugins: BTreeMap<String, Vec<T>> = BTreeMap::new();
    for one in all {
        plugins.entry(plugin(&one).clone()).or_default().push(one);
    }
    plugins
}

/// What a ConfigMap brings. One whose label is no plugin's name is reported under a name that is made of it: no StoragePlugin could have
/// the label's.
fn source(map: &ConfigMap) -> Source {
    let text = |field: Option<&str>| field.unwrap_or_default().to_owned();
    let label = text(map.labels().get(PLUGIN_LABEL).map(String::as_str));
    let is_name = names::is_label(&label) && label.len() <= limits::PLUGIN_NAME_CHARS_MAX;
    let misnamed = || {
        format!(
            "label {PLUGIN_LABEL} of ConfigMap {} is {label:?}; at most {} lower case letters, digits and dashes are expected, the name that \
             the plugin gives itself",
            map.name_any(),
            limits::PLUGIN_NAME_CHARS_MAX
        )
    };
    Source {
        name: map.name_any(),
        bytes: if is_name { bytes_of(map).map(Into::into) } else { Err(misnamed()) },
        plugin: if is_name { label.clone() } else { names::object_name(&label, &[&label]) },
        stamp: stamp(&map.metadata),
        pinned: map.annotations().get(names::DIGEST).cloned(),
        created: map.metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second()),
    }
}

/// UID and resourceVersion.
fn stamp(meta: &ObjectMeta) -> String {
    format!("{}/{}", meta.uid.as_deref().unwrap_or_default(), meta.resource_version.as_deref().unwrap_or_default())
}

/// Names of the ConfigMaps that bring plugins at this moment, each with what identifies its content.
///
/// # Errors
/// The API server did not list them.
pub async fn stamps_now(client: &Client, namespace: &str) -> kube::Result<BTreeMap<String, String>> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let all = api.list_metadata(&ListParams::default().labels(PLUGIN_LABEL)).await?;
    Ok(all.items.iter().map(|map| (map.name_any(), stamp(&map.metadata))).collect())
}

/// The one key that holds the plugin.
pub(super) fn bytes_of(map: &ConfigMap) -> Result<Vec<u8>, String> {
    let data = map.binary_data.iter().flatten();
    let found: Vec<_> = data.filter(|(key, _)| matches!(key.as_str(), "plugin.wasm" | "plugin.wasm.gz")).collect();
    match found.as_slice() {
        [(_, bytes)] => Ok(bytes.0.clone()),
        [] => Err(format!(
            "ConfigMap {} holds no plugin: binaryData has neither plugin.wasm nor plugin.wasm.gz; `atomix-controller plugin pack` makes one",
            map.name_any()
        )),
        _ => Err(format!("ConfigMap {} holds both plugin.wasm and plugin.wasm.gz; leave one", map.name_any())),
    }
}

/// Decompresses a plugin if it is gzip (told by its first bytes), up to the limit of a plugin's size.
pub fn unpacked(bytes: &[u8]) -> Result<Vec<u8>, String> {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Ok(bytes.to_vec());
    }
    let mut plain = Vec::new();
    let max = limits::PLUGIN_BYTES_MAX as u64;
    let read = GzDecoder::new(bytes).take(max + 1).read_to_end(&mut plain);
    match read {
        Err(error) => Err(format!("the plugin is not whole gzip: {error}")),
        Ok(_) if plain.len() as u64 > max => {
            Err(format!("the plugin is over {max} bytes when decompressed, which is the limit"))
        }
        Ok(_) => Ok(plain),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        packed.write_all(bytes).unwrap();
        packed.finish().unwrap()
    }

    #[test]
    fn a_label_that_is_no_name_is_told_of_under_one() {
        for label in ["Foo", "a.b", "-", &"a".repeat(41), ""] {
            let mut map = ConfigMap::default();
            map.metadata.name = Some("map".into());
            map.metadata.labels = Some([(PLUGIN_LABEL.to_owned(), label.to_owned())].into());
            let source = source(&map);
            assert!(names::is_label(&source.plugin), "{label:?} became {:?}", source.plugin);
            assert!(source.bytes.unwrap_err().contains(&format!("{label:?}; at most 40 lower case letters")));
        }
    }

    #[test]
    fn gzip_is_told_by_its_first_bytes() {
        assert_eq!(unpacked(b"\0asm").unwrap(), b"\0asm");
        assert_eq!(unpacked(&gzip(b"\0asm")).unwrap(), b"\0asm");
    }

    #[test]
    fn what_grows_beyond_the_limit_is_refused_while_it_grows() {
        let bomb = gzip(&vec![0; limits::PLUGIN_BYTES_MAX + 1]);
        assert!(bomb.len() < 100_000);
        assert!(unpacked(&bomb).unwrap_err().contains("limit"));
        assert!(unpacked(&gzip(b"x")[..12]).unwrap_err().contains("not whole"));
    }
}
