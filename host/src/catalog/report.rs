//! Tells the story of each plugin in a StoragePlugin object.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::{Catalog, Entry};
use crate::cache::{Caches, Key, Kind, api};
use crate::crd::plugin::StoragePluginStatus;
use crate::crd::{STORAGE_GROUP, STORAGE_VERSION};
use crate::names;

/// Keeps the StoragePlugins of one namespace true.
pub struct Reporter {
    /// Client of the controller.
    pub client: Client,
    /// Where StoragePlugins are read from.
    pub caches: Arc<Caches>,
    /// The controller's namespace.
    pub namespace: String,
}

/// What is counted beside a plugin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Class objects of its kinds; none while these are being listed.
    pub classes: Option<i32>,
    /// Databases that use it.
    pub databases: i32,
}

impl Reporter {
    /// The kind StoragePlugin.
    pub fn kind() -> Kind {
        Kind {
            group: STORAGE_GROUP.into(),
            version: STORAGE_VERSION.into(),
            kind: "StoragePlugin".into(),
            plural: "storageplugins".into(),
        }
    }

    /// Writes what differs. `counts` answers by plugin name and the kinds that it serves. Errors are logged and come back, so
    /// that the caller tries again.
    pub async fn report(
        &self,
        catalog: &Catalog,
        counts: impl Fn(&str, &[String]) -> Counts,
        now: Timestamp,
    ) -> kube::Result<()> {
        for (name, entry) in catalog.entries() {
            let live = self.caches.find(&Reporter::kind(), &Key::new(&self.namespace, &name));
            if live.is_none() && entry.sources.is_empty() {
                continue; // removed, and its memory too
            }
            let before = live.as_ref().and_then(|live| live.body.get("status").cloned());
            let before: StoragePluginStatus =
                before.and_then(|status| serde_json::from_value(status).ok()).unwrap_or_default();
            let kinds: Vec<_> = match &entry.serving {
                Some(plugin) => plugin.kinds().into_iter().collect(),
                None => before.kinds.clone(),
            };
            let after = status(&entry, kinds.clone(), counts(&name, &kinds), &before, now);
            if live.is_none() {
                self.write(&name, None).await?;
            }
            if after != before {
                self.write(&name, Some(&after)).await?;
                tracing::info!(plugin = name, phase = after.phase, message = after.message, "plugin");
            }
        }
        Ok(())
    }

    async fn write(&self, name: &str, status: Option<&StoragePluginStatus>) -> kube::Result<()> {
        let kind = Reporter::kind();
        let api = api(&self.client, &kind, Some(&self.namespace));
        let mut object =
            json!({"apiVersion": format!("{}/{}", kind.group, kind.version), "kind": kind.kind, "metadata": {"name": name}});
        let params = PatchParams::apply(names::MANAGER).force();
        let written = match status {
            Some(status) => {
                object["status"] = json!(status);
                api.patch_status(name, &params, &Patch::Apply(&object)).await?
            }
            None => {
                object["spec"] = json!({});
                api.patch(name, &params, &Patch::Apply(&object)).await?
            }
        };
        if let Ok(written) = serde_json::to_value(written) {
            self.caches.wrote(&kind, written);
        }
        Ok(())
    }
}

/// What became of a plugin, in a word.
pub(super) fn phase(entry: &Entry) -> &'static str {
    match (&entry.serving, &entry.refused) {
        _ if entry.sources.is_empty() => "Removed",
        (_, Some(_)) => "Refused",
        (Some(_), None) => "Serving",
        (None, None) => "Loading",
    }
}

fn status(
    entry: &Entry,
    kinds: Vec<String>,
    counts: Counts,
    before: &StoragePluginStatus,
    now: Timestamp,
) -> StoragePluginStatus {
    let (serving, refused) = (entry.serving.as_ref(), entry.refused.as_ref());
    let phase = phase(entry);
    let digest = serving.map(|plugin| plugin.revision.digest().to_owned());
    let since = match serving {
        Some(_) if digest == before.digest && before.since.is_some() => before.since.clone(),
        Some(_) => Some(Time(now)),
        None => None,
    };
    let message = match (phase, refused) {
        ("Removed", _) => Some("its ConfigMap was deleted; what runs is left as it is".to_owned()),
        (_, Some(refused)) => Some(refused.message.clone()),
        _ => None,
    };
    let mut conditions = crate::status::Conditions::of(&before.conditions, None, now);
    match (serving, phase) {
        (Some(plugin), _) => conditions.set("Ready", true, "Serving", format!("{} serves", super::title(&plugin.revision))),
        (None, _) => conditions.set("Ready", false, phase, message.clone().unwrap_or_default()),
    }
    match refused {
        Some(refused) => conditions.set("Degraded", true, "Refused", refused.message.clone()),
        None => conditions.set("Degraded", false, "AsExpected", String::new()),
    }
    StoragePluginStatus {
        phase: phase.to_owned(),
        version: serving.map(|plugin| plugin.revision.descriptor().version.clone()),
        short_digest: digest.as_ref().map(|digest| digest.chars().take(12).collect()),
        digest,
        refused_digest: refused.and_then(|refused| refused.digest.clone()),
        message,
        contract: serving.map(|plugin| plugin.revision.contract().to_owned()),
        config_map: entry.sources.first().map(|source| source.name.clone()),
        kinds,
        classes: counts.classes.unwrap_or(before.classes),
        databases: counts.databases,
        since,
        conditions: conditions.into_vec(),
    }
}
