//! Writes the status of each plugin into a StoragePlugin object.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::json;

use super::{Catalog, Entry, Recorded};
use atomix_controller_io::cache::{Caches, api};
use atomix_model::condition::{ConditionType, PluginPhase, Reason};
use atomix_model::crd::StoragePlugin;
use atomix_model::crd::plugin::{RevisionStatus, StoragePluginStatus};
use atomix_model::object::Objects as _;
use atomix_model::object::{Key, Kind, Live};
use atomix_model::{limits, names};

/// Writes the StoragePlugins of one namespace.
#[derive(Clone)]
#[allow(missing_docs)] // its fields explain themselves
pub struct Reporter {
    pub client: Client,
    /// Where StoragePlugins are read from.
    pub caches: Arc<Caches>,
    pub namespace: String,
}

/// What is counted beside a plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Class objects of its kinds; none while these are being listed.
    pub classes: Option<i32>,
    /// Databases that use it.
    pub databases: i32,
    /// Databases by the revision that planned what they run: version and number, by digest.
    pub by_digest: BTreeMap<String, (String, i32)>,
    /// Databases by the revision that their annotation [`names::REVISION`] names: number, by its value.
    pub by_name: BTreeMap<String, i32>,
}

impl Counts {
    /// How many databases name the revision of a digest.
    fn pinned(&self, digest: &str) -> i32 {
        self.by_name.iter().filter(|(value, _)| names::names_revision(value, digest)).map(|(_, number)| number).sum()
    }
}

/// What came of a report.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)] // its fields explain themselves
pub struct Reported {
    /// Whether a status was written.
    pub is_written: bool,
    /// Whether one could not be, so that it is to be tried again.
    pub has_failed: bool,
}

impl Reporter {
    /// Writes what differs. `counts` answers by plugin name and the kinds that it serves. One that cannot be written holds up no other.
    pub async fn report(&self, catalog: &Catalog, counts: impl Fn(&str, &[String]) -> Counts, now: Timestamp) -> Reported {
        let mut reported = Reported::default();
        for (name, entry) in catalog.entries() {
            match self.report_one(&name, &entry, &counts, now).await {
                Ok(is_written) => reported.is_written |= is_written,
                Err(error) => {
                    tracing::warn!(%error, plugin = name, "the StoragePlugin could not be written; trying again");
                    reported.has_failed = true;
                }
            }
        }
        reported
    }

    async fn report_one(
        &self,
        name: &str,
        entry: &Entry,
        counts: impl Fn(&str, &[String]) -> Counts,
        now: Timestamp,
    ) -> kube::Result<bool> {
        let live = self.caches.find(&Kind::of::<StoragePlugin>(), &Key::new(&self.namespace, name));
        if live.is_none() && entry.sources.is_empty() {
            return Ok(false); // removed, and its memory too
        }
        let before = live.as_deref().map(status_of).unwrap_or_default();
        let kinds: Vec<_> = match &entry.serving {
            Some(plugin) => plugin.kinds().into_iter().collect(),
            None => before.kinds.clone(),
        };
        let generation = match &live {
            Some(live) => live.generation(),
            None => self.write(name, None).await?.metadata.generation.unwrap_or_default(),
        };
        let after = status(entry, kinds.clone(), counts(name, &kinds), &before, (generation, now));
        let differs = after != before;
        if differs {
            self.write(name, Some(&after)).await?;
            tracing::info!(plugin = name, phase = after.phase, message = after.message, "plugin");
        }
        Ok(differs)
    }

    /// What a StoragePlugin says of its plugin.
    pub fn recorded(live: &Live) -> Recorded {
        Recorded::of(status_of(live), live.annotation(names::REVISION))
    }

    /// The same as the API server has it at this moment; nothing if the StoragePlugin is not there.
    ///
    /// # Errors
    /// The API server did not answer.
    pub async fn recorded_now(&self, name: &str) -> kube::Result<Recorded> {
        let api: kube::Api<StoragePlugin> = kube::Api::namespaced(self.client.clone(), &self.namespace);
        let found = api.get_opt(name).await?;
        let of = |plugin: StoragePlugin| {
            let pinned = plugin.metadata.annotations.as_ref().and_then(|all| all.get(names::REVISION)).map(String::as_str);
            Recorded::of(plugin.status.unwrap_or_default(), pinned)
        };
        Ok(found.map(of).unwrap_or_default())
    }

    /// UID of the StoragePlugin of a plugin, which is made if it is not there.
    ///
    /// # Errors
    /// The API server did not make it.
    pub async fn uid(&self, name: &str) -> kube::Result<String> {
        match self.caches.find(&Kind::of::<StoragePlugin>(), &Key::new(&self.namespace, name)) {
            Some(live) if !live.terminating() => Ok(live.uid.clone()),
            _ => Ok(self.write(name, None).await?.metadata.uid.unwrap_or_default()),
        }
    }

    async fn write(&self, name: &str, status: Option<&StoragePluginStatus>) -> kube::Result<DynamicObject> {
        let kind = Kind::of::<StoragePlugin>();
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
        if let Ok(written) = serde_json::to_value(&written) {
            self.caches.wrote(&kind, written);
        }
        Ok(written)
    }
}

impl Recorded {
    fn of(status: StoragePluginStatus, pinned: Option<&str>) -> Recorded {
        let StoragePluginStatus { digest, kinds, revisions, .. } = status;
        let is_in_use = |it: &&RevisionStatus| it.databases > 0 || it.pinned > 0;
        let in_use = revisions.iter().filter(is_in_use).map(|it| it.digest.clone()).collect();
        let listed = revisions.into_iter().map(|it| it.digest).collect();
        Recorded { digest, kinds, listed, in_use, pinned: pinned.map(str::to_owned) }
    }
}

/// The status of a StoragePlugin; nothing if it cannot be read.
fn status_of(live: &Live) -> StoragePluginStatus {
    let status = live.body.get("status").cloned();
    status.and_then(|status| serde_json::from_value(status).ok()).unwrap_or_default()
}

/// What became of a plugin.
pub(super) fn phase(entry: &Entry) -> PluginPhase {
    match &entry.refused {
        _ if entry.sources.is_empty() => PluginPhase::Removed,
        _ if entry.is_loading || entry.candidate.is_some() => PluginPhase::Loading,
        Some(_) => PluginPhase::Refused,
        None => match entry.not_pinned() {
            Some((Reason::Loading, _)) => PluginPhase::Loading,
            Some(_) => PluginPhase::RevisionNotKept,
            None if entry.pinned_out.is_some() => PluginPhase::Pinned,
            None => PluginPhase::Serving, // bytes that are loaded and not refused serve
        },
    }
}

fn status(
    entry: &Entry,
    kinds: Vec<String>,
    counts: Counts,
    before: &StoragePluginStatus,
    (generation, now): (i64, Timestamp),
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
        (PluginPhase::Removed, _) => Some(match entry.outdated() {
            Some((_, message)) => message,
            None if before.digest.is_none() && before.revisions.is_empty() => {
                "its ConfigMap was deleted, and nothing runs by it; delete this StoragePlugin".to_owned()
            }
            None => "its ConfigMap was deleted; what runs is left as it is".to_owned(),
        }),
        (_, Some(refused)) => Some(refused.message.clone()),
        (PluginPhase::Loading, _) if entry.not_kept.is_some() => entry
            .not_kept
            .as_ref()
            .map(|why| format!("newer bytes serve once they are kept; {why}; trying again, what served before serves on")),
        (PluginPhase::RevisionNotKept | PluginPhase::Loading, _) if entry.not_pinned().is_some() => {
            entry.not_pinned().map(|(_, message)| format!("{message}; what served before serves on"))
        }
        (PluginPhase::Pinned, _) => entry.outdated().map(|(_, message)| message),
        (PluginPhase::Loading, _) if serving.is_some() => {
            Some("newer bytes are being loaded; what served before serves on".to_owned())
        }
        (PluginPhase::Loading, _) => Some("its bytes are being loaded".to_owned()),
        _ => None,
    };
    let mut conditions = atomix_decide::status::Conditions::of(&before.conditions, Some(generation), now);
    match (serving, phase) {
        (Some(plugin), _) => {
            conditions.set(ConditionType::Ready, true, Reason::Serving, format!("{} serves", super::title(&plugin.revision)))
        }
        (None, _) => conditions.set(ConditionType::Ready, false, phase.reason(), message.clone().unwrap_or_default()),
    }
    match (refused, phase) {
        (Some(refused), _) => conditions.set(ConditionType::Degraded, true, Reason::Refused, refused.message.clone()),
        (None, PluginPhase::Removed) if serving.is_some() => {
            conditions.set(ConditionType::Degraded, true, Reason::Removed, message.clone().unwrap_or_default())
        }
        (None, PluginPhase::RevisionNotKept) => {
            conditions.set(ConditionType::Degraded, true, Reason::RevisionNotKept, message.clone().unwrap_or_default())
        }
        (None, _) => conditions.set(ConditionType::Degraded, false, Reason::AsExpected, String::new()),
    }
    atomix_decide::status::kstatus::plugin(&mut conditions, phase, message.as_deref());
    StoragePluginStatus {
        observed_generation: Some(generation),
        phase: phase.to_string(),
        version: serving.map(|plugin| plugin.revision.descriptor().version.clone()),
        short_digest: digest.as_ref().map(|digest| digest.chars().take(12).collect()),
        digest: digest.or_else(|| before.digest.clone().filter(|digest| is_kept(entry, digest))),
        refused_digest: refused.and_then(|refused| refused.digest.clone()),
        message,
        contract: serving.map(|plugin| plugin.revision.contract().to_owned()),
        config_map: entry.sources.first().map(|source| source.name.clone()),
        kinds,
        classes: counts.classes.unwrap_or(before.classes),
        databases: counts.databases,
        revisions: revisions(entry, &counts, before, since.as_ref()),
        since,
        conditions: conditions.into_vec(),
    }
}

fn is_kept(entry: &Entry, digest: &str) -> bool {
    entry.kept.iter().any(|kept| kept.digest == digest)
}

/// The revisions that were found good: what serves first, what is about to serve, then what served last. Those that are loaded and may
/// serve are listed, those that databases run, and of those that were listed before the ones that are kept; a ConfigMap that merely says
/// that it keeps one is not.
fn revisions(entry: &Entry, counts: &Counts, before: &StoragePluginStatus, since: Option<&Time>) -> Vec<RevisionStatus> {
    let serving = entry.serving.as_ref().map(|plugin| plugin.revision.digest());
    let candidate = entry.candidate.as_ref().map(|plugin| plugin.revision.digest());
    let listed = before.revisions.iter().filter(|revision| is_kept(entry, &revision.digest));
    let listed = listed.map(|revision| (revision.digest.as_str(), &revision.version));
    let run = counts.by_digest.iter().map(|(digest, (version, _))| (digest.as_str(), version));
    let loaded = entry.serving.iter().chain(&entry.candidate).chain(&entry.before);
    let loaded = loaded.map(|plugin| (plugin.revision.digest(), &plugin.revision.descriptor().version));
    let digests: BTreeMap<&str, &String> = listed.chain(run).chain(loaded).collect();
    let of = |(digest, version): (&str, &String)| {
        let known = before.revisions.iter().find(|revision| revision.digest == digest);
        let since = since.filter(|_| serving == Some(digest)).cloned();
        RevisionStatus {
            digest: digest.to_owned(),
            version: version.clone(),
            databases: counts.by_digest.get(digest).map_or(0, |(_, databases)| *databases),
            pinned: counts.pinned(digest),
            since: since.or_else(|| known.and_then(|revision| revision.since.clone())),
            config_map: entry.kept.iter().find(|kept| kept.digest == digest).map(|kept| kept.config_map.clone()),
        }
    };
    let mut all: Vec<_> = digests.into_iter().map(of).collect();
    all.sort_by_key(|revision| {
        let digest = Some(revision.digest.as_str());
        (digest != serving, digest != candidate, std::cmp::Reverse(revision.since.clone()))
    });
    all.truncate(limits::REVISIONS_LISTED_MAX);
    all
}
