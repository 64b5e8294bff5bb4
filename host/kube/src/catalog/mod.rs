//! Which plugin serves which kind of class: ConfigMap → loaded plugin → kept revision → what serves, and what it may write. Knows no
//! database and no gRPC; `controller` tells it what changed and asks it who serves.

mod config_maps;
mod keeping;
mod loading;
mod plugin_status;
mod revisions;
mod sync;
mod trial_process;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, RwLock};

use tokio::sync::watch;

use atomix_model::condition::{PluginPhase, Reason};
use atomix_model::contract::{ClassKind, ObjectKind};
use atomix_model::grants::Grants;
use atomix_model::{limits, names};
use atomix_sandbox::Revision;

pub use config_maps::{Source, SourceEvent, stamps_now, unpacked, watch as watch_sources};
pub use keeping::Keeping;
pub use loading::{Loaded, Loading};
pub use plugin_status::{Counts, Reported, Reporter};
pub use revisions::{Kept, KeptEvent, RevisionStore, ToKeep, config_map_name};
pub use sync::CatalogSync;
pub use trial_process::{Trial, Tried, load_under_limits};

/// Selects the roles that say what plugins may write; by the same label they aggregate into the controller's.
pub const ROLE_SELECTOR: &str = "storage.cloud.atomix.io/aggregate-to-controller=true";

/// A plugin that serves.
#[derive(Clone)]
pub struct Plugin {
    /// The revision that is called.
    pub revision: Revision,
    /// What its ClusterRole lets it write.
    pub grants: Grants,
    /// The ConfigMap that it came from.
    pub config_map: String,
}

/// What is known of one plugin name.
#[derive(Clone, Default)]
struct Entry {
    sources: Vec<Source>,
    serving: Option<Arc<Plugin>>,
    /// Revisions that do not serve, and that single databases may be planned by: a database whose newest plan is held goes on with the one
    /// that planned what runs, and one that names a revision gets it. What served last comes first.
    before: Vec<Arc<Plugin>>,
    /// The newest revision, which does not serve since another one is pinned; it is one of those above.
    pinned_out: Option<Arc<Plugin>>,
    /// A revision that may serve as soon as it is kept and its StoragePlugin lists it.
    candidate: Option<Arc<Plugin>>,
    /// All revisions that are kept, newest first.
    kept: Vec<Kept>,
    /// Why the candidate could not be kept up to now.
    not_kept: Option<String>,
    /// Why the newest bytes do not serve, or may write nothing.
    refused: Option<Refused>,
    /// Whether the newest bytes are being loaded.
    is_loading: bool,
    /// What its StoragePlugin says.
    recorded: Recorded,
}

/// What the StoragePlugin of a plugin says of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Digest of the revision that served last.
    pub digest: Option<String>,
    /// Class kinds that it served last.
    pub kinds: Vec<String>,
    /// Digests of all revisions that it lists: each was found good by this controller.
    pub listed: BTreeSet<String>,
    /// Those of them that planned what databases run, or that databases name.
    pub in_use: BTreeSet<String>,
    /// The annotation that says which revision is to serve, whatever newer bytes there are.
    pub pinned: Option<String>,
}

impl Recorded {
    /// Whether the bytes of a digest were found good. Only the controller writes the status that says so; what a ConfigMap says of
    /// itself counts for nothing.
    pub fn is_known_good(&self, digest: &str) -> bool {
        self.digest.as_deref() == Some(digest) || self.listed.contains(digest)
    }

    /// Whether a digest is that of the revision that is to serve, whatever newer bytes there are.
    pub fn pins(&self, digest: &str) -> bool {
        self.pinned.as_ref().is_some_and(|pinned| names::names_revision(pinned, digest))
    }

    /// Whether databases run what a revision planned, or somebody names it.
    fn is_wanted(&self, digest: &str) -> bool {
        self.in_use.contains(digest) || self.pins(digest)
    }

    /// Whether the newest revision may serve, if it is of this digest.
    fn lets_serve(&self, digest: &str) -> bool {
        self.pinned.is_none() || self.pins(digest)
    }
}

/// What the cluster holds of one plugin.
#[derive(Default)]
pub struct Found {
    /// Its ConfigMaps, oldest first.
    pub sources: Vec<Source>,
    /// What loading the oldest came to; None while it goes on.
    pub loaded: Option<Loaded>,
    /// What its ClusterRole grants, if there is one.
    pub grants: Option<Grants>,
    /// What its StoragePlugin says.
    pub recorded: Recorded,
    /// All revisions that are kept, newest first.
    pub kept: Vec<Kept>,
    /// Those of them that were loaded since the start.
    pub kept_loaded: Vec<Revision>,
    /// Why the newest could not be kept up to now, if it was tried.
    pub not_kept: Option<String>,
}

/// Bytes that were refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Refused {
    /// What identifies the ConfigMap's content.
    stamp: String,
    /// Digest of the bytes, where it came so far.
    digest: Option<String>,
    /// Why, and by whom it can be mended.
    message: String,
    /// Whether the same bytes would be refused again, whatever else changes.
    is_for_good: bool,
}

/// All plugins, by name.
#[derive(Default)]
pub struct Catalog {
    plugins: RwLock<BTreeMap<String, Entry>>,
    /// Whether bytes of one of them are being loaded.
    is_loading: watch::Sender<bool>,
    /// Whether bytes of one of them are being loaded that were found good before.
    is_loading_known: watch::Sender<bool>,
}

impl Catalog {
    /// The plugin that serves a kind of class.
    pub fn serving(&self, kind: &str) -> Option<Arc<Plugin>> {
        let entries = self.plugins.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        entries.values().filter_map(|entry| entry.serving.clone()).find(|plugin| plugin.class_kind(kind).is_some())
    }

    /// The plugin that understands a protocol: the full name of the message by which a group of the old gRPC API asks for storage.
    pub fn for_protocol(&self, message: &str) -> Option<Arc<Plugin>> {
        self.all().into_iter().find(|plugin| plugin.understands(message))
    }

    /// Waits until no plugin's bytes are being loaded.
    pub async fn loaded(&self) {
        let _ = self.is_loading.subscribe().wait_for(|is_loading| !is_loading).await; // it lives as long as `self`
    }

    /// Waits until no bytes are being loaded that were found good before.
    pub async fn known_loaded(&self) {
        let _ = self.is_loading_known.subscribe().wait_for(|is_loading| !is_loading).await; // it lives as long as `self`
    }

    /// Names of the ConfigMaps that are seen to bring plugins, each with what identifies its content.
    pub fn stamps(&self) -> BTreeMap<String, String> {
        let entries = self.plugins.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        let sources = entries.values().flat_map(|entry| &entry.sources);
        sources.map(|source| (source.name.clone(), source.stamp.clone())).collect()
    }

    /// Names of plugins and the protocols that they understand, sorted.
    pub fn protocols(&self) -> Vec<(String, String)> {
        let plugins = self.all().into_iter();
        let pairs = plugins.flat_map(|plugin| {
            let name = &plugin.revision.descriptor().name;
            plugin.revision.protocols().iter().map(|protocol| (name.clone(), protocol.clone())).collect::<Vec<_>>()
        });
        let mut pairs: Vec<_> = pairs.collect();
        pairs.sort();
        pairs
    }

    /// A revision that serves, or that single databases may be planned by, under the grants of the one that serves.
    pub fn revision(&self, plugin: &str, digest: &str) -> Option<Plugin> {
        self.entry(plugin).revision(|it| it == digest)
    }

    /// The same of the revision that the value of [`names::REVISION`] names.
    ///
    /// # Errors
    /// It is not loaded: [`Reason::Loading`] if it will be, [`Reason::RevisionNotKept`] with what may be named instead.
    pub fn named(&self, plugin: &str, value: &str) -> Result<Plugin, (Reason, String)> {
        let entry = self.entry(plugin);
        entry.revision(|digest| names::names_revision(value, digest)).ok_or_else(|| entry.not_named(value))
    }

    /// All revisions that serve, or that single databases may be planned by.
    pub fn remembered(&self) -> Vec<Arc<Plugin>> {
        let entries = self.entries().into_values();
        entries.flat_map(|entry| entry.serving.into_iter().chain(entry.before)).collect()
    }

    /// All plugins that serve, by name.
    pub fn all(&self) -> Vec<Arc<Plugin>> {
        let entries = self.plugins.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        entries.values().filter_map(|entry| entry.serving.clone()).collect()
    }

    /// What became of each plugin, in a word: the phase of its StoragePlugin.
    pub fn phases(&self) -> Vec<PluginPhase> {
        self.entries().values().map(plugin_status::phase).collect()
    }

    /// Why the newest bytes of a plugin do not serve, if they don't.
    pub fn refusal(&self, plugin: &str) -> Option<String> {
        let entries = self.plugins.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        entries.get(plugin)?.refused.as_ref().map(|refused| refused.message.clone())
    }

    /// Why an older revision of a plugin serves than its newest bytes, or one that nothing brings any more, with the reason in a word.
    pub fn outdated(&self, plugin: &str) -> Option<(Reason, String)> {
        let entries = self.plugins.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        entries.get(plugin)?.outdated()
    }

    /// The revision of a plugin that waits to be kept, or that serves without being kept.
    pub fn to_keep(&self, plugin: &str) -> Option<Arc<Plugin>> {
        let entry = self.entry(plugin);
        let is_kept = |plugin: &Arc<Plugin>| entry.kept.iter().any(|kept| kept.digest == plugin.revision.digest());
        entry.candidate.or(entry.serving).filter(|plugin| !is_kept(plugin))
    }

    /// Digests of the revisions of a plugin that are loaded.
    pub fn loaded_digests(&self, plugin: &str) -> BTreeSet<String> {
        let Entry { serving, before, .. } = self.entry(plugin);
        serving.into_iter().chain(before).map(|plugin| plugin.revision.digest().to_owned()).collect()
    }

    /// Forgets a plugin of which the cluster holds nothing any more. Answers the kinds of class that it served.
    pub fn forget(&self, plugin: &str) -> BTreeSet<String> {
        let mut entries = self.plugins.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        let removed = entries.remove(plugin);
        self.is_loading.send_replace(entries.values().any(|entry| entry.is_loading));
        removed.and_then(|entry| entry.serving).map(|plugin| plugin.kinds()).unwrap_or_default()
    }

    /// Names of all plugins that are known.
    pub fn names(&self) -> BTreeSet<String> {
        self.entries().into_keys().collect()
    }

    /// For a kind that no plugin serves: which kinds exist, and which plugins could not be loaded.
    pub fn alternatives(&self) -> String {
        let entries = self.plugins.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        let kinds: BTreeSet<_> = entries
            .values()
            .filter_map(|entry| entry.serving.as_ref())
            .flat_map(|plugin| plugin.revision.descriptor().class_kinds.iter().map(|kind| kind.kind.clone()))
            .collect();
        let kinds = match kinds.len() {
            0 => "no plugin serves any kind".to_owned(),
            _ => format!("kinds served: {}", kinds.into_iter().collect::<Vec<_>>().join(", ")),
        };
        let idle = || entries.iter().filter(|(_, entry)| entry.serving.is_none());
        let loading: Vec<_> = idle()
            .filter(|(_, entry)| entry.is_loading || entry.candidate.is_some())
            .map(|(name, _)| name.as_str())
            .collect();
        let kinds = match loading.len() {
            0 => kinds,
            _ => format!("{kinds}; plugins that are being loaded: {}", loading.join(", ")),
        };
        let broken: Vec<_> = idle().filter(|(_, entry)| entry.refused.is_some()).map(|(name, _)| name.as_str()).collect();
        let more = match broken.len().saturating_sub(limits::PLUGINS_NAMED_MAX) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        match broken.len() {
            0 => kinds,
            _ => format!(
                "{kinds}; plugins that are refused, each with its reason in `kubectl get storageplugins -A -o wide`: {}{more}",
                broken[..broken.len().min(limits::PLUGINS_NAMED_MAX)].join(", ")
            ),
        }
    }

    /// Takes in what is there of a plugin now. Answers the kinds of class for which something is another now.
    ///
    /// A role that grants less is in effect at once, also for a revision that serves on because newer bytes were refused or are gone. A
    /// revision serves once it is kept and listed; one that served when the controller was another process serves on.
    pub fn settle(&self, name: &str, found: Found) -> BTreeSet<String> {
        let Found { sources, loaded, grants, recorded, kept, kept_loaded, not_kept } = found;
        let before = self.entry(name);
        let granted = grants.clone().unwrap_or_default();
        let of = |revision: &Revision| Plugin {
            revision: revision.clone(),
            grants: granted.clone(),
            config_map: config_map_name(name, revision.digest()),
        };
        let last_good = kept_loaded.iter().find(|revision| Some(revision.digest()) == recorded.digest.as_deref());
        let narrowed = before.serving.as_deref().map(|plugin| Plugin { grants: granted.clone(), ..plugin.clone() });
        let loaded_before = before.serving.iter().chain(&before.before).map(|plugin| &plugin.revision);
        let pinned = loaded_before.chain(&kept_loaded).find(|revision| recorded.pins(revision.digest()));
        let pinned =
            pinned.filter(|revision| recorded.is_known_good(revision.digest()) && self.claimed(name, revision).is_none());
        let serving = pinned.map(of).or(narrowed).or_else(|| last_good.map(of));
        let mut after = Entry {
            sources,
            serving: serving.map(Arc::new),
            before: before.before.clone(),
            pinned_out: None,
            candidate: None,
            kept,
            not_kept,
            refused: before.refused.clone(),
            is_loading: false,
            recorded,
        };
        let may_plan = |plugin: &Plugin, after: &Entry| {
            let digest = plugin.revision.digest();
            let served = after.serving.as_ref().map(|serving| serving.revision.digest());
            after.may_be_named(digest) || [served, after.recorded.digest.as_deref()].contains(&Some(digest))
        };
        let mut pinned_out = None;
        match (after.sources.first(), loaded) {
            (None, _) => after.refused = None,
            (Some(source), Some(loaded)) => match loaded.and_then(|revision| self.admit(name, source, revision, grants)) {
                Ok(plugin) if !may_plan(&plugin, &after) => (after.candidate, after.refused) = (Some(plugin), None),
                Ok(plugin) if after.recorded.lets_serve(plugin.revision.digest()) => {
                    (after.serving, after.refused) = (Some(plugin), None);
                }
                Ok(plugin) => (pinned_out, after.refused) = (Some(plugin), None),
                Err(refused) => after.refused = Some(refused),
            },
            (Some(_), None) => (after.refused, after.is_loading) = (None, true),
        }
        if let (Some(second), None) = (after.sources.get(1), &after.refused) {
            let message = format!(
                "ConfigMap {} is ignored: ConfigMap {} is older and brings a plugin of the same name; delete one of the two",
                second.name, after.sources[0].name
            );
            after.refused = Some(Refused { stamp: second.stamp.clone(), digest: None, message, is_for_good: false });
        }
        for revision in kept_loaded.iter().rev() {
            remember(&mut after, Some(Arc::new(of(revision)))); // the newest may serve at once
        }
        remember(&mut after, before.serving.clone());
        let serves = |plugin: &&Arc<Plugin>| {
            after.serving.as_ref().is_some_and(|it| it.revision.digest() == plugin.revision.digest())
        };
        after.pinned_out = pinned_out.filter(|plugin| !serves(&plugin));
        let pinned_out = after.pinned_out.clone();
        remember(&mut after, pinned_out);
        forget_oldest(&mut after);
        let changed = changed_kinds(before.serving.as_deref(), after.serving.as_deref());
        let digests = |entry: &Entry| -> BTreeSet<String> {
            entry.before.iter().map(|plugin| plugin.revision.digest().to_owned()).collect()
        };
        let told =
            before.outdated() != after.outdated() || before.refused != after.refused || digests(&before) != digests(&after); // one that a database names may have come
        let kinds = after.serving.as_deref().or(before.serving.as_deref()).map(Plugin::kinds).unwrap_or_default();
        let mut entries = self.plugins.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        entries.insert(name.to_owned(), after);
        self.is_loading.send_replace(entries.values().any(|entry| entry.is_loading));
        drop(entries);
        if told { changed.into_iter().chain(kinds).collect() } else { changed }
    }

    /// Whether a revision that was loaded may serve: it is who its ConfigMap says, nobody else serves its kinds, and its role grants what
    /// it writes.
    fn admit(
        &self,
        name: &str,
        source: &Source,
        revision: Revision,
        grants: Option<Grants>,
    ) -> Result<Arc<Plugin>, Refused> {
        let blame = |message: String| Refused {
            stamp: source.stamp.clone(),
            digest: Some(revision.digest().to_owned()),
            message: format!("{}: {message}", title(&revision)),
            is_for_good: false,
        };
        let descriptor = revision.descriptor();
        if descriptor.name != name {
            return Err(blame(format!(
                "it calls itself {:?}, but ConfigMap {} is labelled {:?}; the two must be equal",
                descriptor.name, source.name, name
            )));
        }
        if let Some((what, other)) = self.claimed(name, &revision) {
            let message = format!(
                "{what} is already served by plugin {other}, which came first, and stays with it until its StoragePlugin is deleted"
            );
            return Err(blame(message));
        }
        let role = format!("atomix-plugin-{name}");
        let grants = grants.ok_or_else(|| {
            blame(format!(
                "its ClusterRole {role} does not exist, so it may write nothing; `atomix-controller plugin pack` prints it"
            ))
        })?;
        let missing: Vec<_> = descriptor.emits.iter().filter(|kind| !grants.writes(kind)).map(resource).collect();
        if !missing.is_empty() {
            let missing = missing.join(", ");
            return Err(blame(format!(
                "ClusterRole {role} does not let it create and patch {missing}; only what is granted there is written"
            )));
        }
        Ok(Arc::new(Plugin { revision, grants, config_map: source.name.clone() }))
    }

    /// A class kind or a protocol of a revision that another plugin serves, or served last, in words, and that plugin.
    fn claimed(&self, name: &str, revision: &Revision) -> Option<(String, String)> {
        let entries = self.plugins.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        let kinds = || revision.descriptor().class_kinds.iter().map(|class| &class.kind);
        entries.iter().filter(|(other, _)| *other != name).find_map(|(other, entry)| {
            let serves = |kind: &&String| match &entry.serving {
                Some(plugin) => plugin.class_kind(kind).is_some(),
                None => entry.recorded.kinds.contains(kind),
            };
            let kind = kinds().find(serves).map(|kind| format!("class kind {kind}"));
            let understands = |protocol: &&String| entry.serving.as_ref().is_some_and(|plugin| plugin.understands(protocol));
            let protocol = || revision.protocols().iter().find(understands).map(|it| format!("protocol {it}"));
            Some((kind.or_else(protocol)?, other.clone()))
        })
    }

    fn entry(&self, name: &str) -> Entry {
        self.plugins.read().unwrap_or_else(|poisoned| poisoned.into_inner()).get(name).cloned().unwrap_or_default()
    }

    fn entries(&self) -> BTreeMap<String, Entry> {
        self.plugins.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }
}

impl Entry {
    fn revision(&self, is_wanted: impl Fn(&str) -> bool) -> Option<Plugin> {
        let serving = self.serving.as_ref()?;
        let found = [serving].into_iter().chain(&self.before).find(|plugin| is_wanted(plugin.revision.digest()))?;
        Some(Plugin { grants: serving.grants.clone(), ..(**found).clone() })
    }

    /// Whether a revision is kept and was found good, so that it may serve, or plan for databases that name it.
    fn may_be_named(&self, digest: &str) -> bool {
        self.recorded.listed.contains(digest) && self.kept.iter().any(|kept| kept.digest == digest)
    }

    /// Why the revision that an annotation names is not there.
    fn not_named(&self, value: &str) -> (Reason, String) {
        let known: Vec<&Kept> = self.kept.iter().filter(|kept| self.may_be_named(&kept.digest)).collect();
        let named = format!("the annotation {} names revision {:?}", names::REVISION, shortened(value));
        if known.iter().any(|kept| names::names_revision(value, &kept.digest)) {
            return (Reason::Loading, format!("{named}, which is being loaded"));
        }
        let known: Vec<String> = known.iter().map(|kept| format!("{} ({})", short(&kept.digest), kept.version)).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let message = format!(
            "{named}, which is not kept; kept are: {known}; at least {} characters of a digest name a revision",
            names::REVISION_CHARACTERS_MIN
        );
        (Reason::RevisionNotKept, message)
    }

    /// Why the revision that is to serve by an annotation does not.
    fn not_pinned(&self) -> Option<(Reason, String)> {
        let value = self.recorded.pinned.as_ref()?;
        let serving = self.serving.as_ref();
        if serving.is_some_and(|serving| self.recorded.pins(serving.revision.digest())) {
            return None;
        }
        let candidate = self.candidate.as_ref().filter(|candidate| self.recorded.pins(candidate.revision.digest()));
        if self.is_loading || candidate.is_some() {
            return None; // it may be that one
        }
        Some(self.not_named(value))
    }

    fn outdated(&self) -> Option<(Reason, String)> {
        let serving = self.serving.as_ref()?;
        match &self.refused {
            Some(refused) => Some((Reason::Refused, refused.message.clone())),
            None if self.sources.is_empty() => Some((
                Reason::Removed,
                format!(
                    "the ConfigMap of {} was deleted; it serves on until StoragePlugin {} is deleted too",
                    title(&serving.revision),
                    serving.revision.descriptor().name
                ),
            )),
            None => {
                let newest = self.pinned_out.as_ref()?;
                let (serving, newest) = (title(&serving.revision), title(&newest.revision));
                Some((
                    Reason::Pinned,
                    format!(
                        "{serving} serves, and not {newest}, since the annotation {} of its StoragePlugin says so",
                        names::REVISION
                    ),
                ))
            }
        }
    }
}

impl Plugin {
    /// What the plugin says of a class kind, if it serves it.
    pub fn class_kind(&self, kind: &str) -> Option<&ClassKind> {
        self.revision.descriptor().class_kinds.iter().find(|class| class.kind == kind)
    }

    /// The kinds of objects that it emits or watches.
    pub fn object_kinds(&self) -> Vec<&ObjectKind> {
        let descriptor = self.revision.descriptor();
        descriptor.emits.iter().chain(&descriptor.watches).collect()
    }

    fn understands(&self, protocol: &str) -> bool {
        self.revision.protocols().iter().any(|it| it == protocol)
    }

    fn kinds(&self) -> BTreeSet<String> {
        self.revision.descriptor().class_kinds.iter().map(|kind| kind.kind.clone()).collect()
    }
}

/// Puts a revision that served until now before those of earlier.
fn remember(entry: &mut Entry, served: Option<Arc<Plugin>>) {
    let Some(digest) = entry.serving.as_ref().map(|plugin| plugin.revision.digest().to_owned()) else { return };
    entry.before.retain(|plugin| plugin.revision.digest() != digest);
    let Some(served) = served.filter(|served| served.revision.digest() != digest) else { return };
    entry.before.retain(|plugin| plugin.revision.digest() != served.revision.digest());
    entry.before.insert(0, served);
}

/// Forgets what served longest ago, and what databases run last of all: of that the newest that are kept stay.
fn forget_oldest(entry: &mut Entry) {
    let Entry { before, kept, recorded, .. } = entry;
    let newest = |digest: &str| kept.iter().position(|kept| kept.digest == digest && recorded.in_use.contains(digest));
    before.sort_by_key(|plugin| newest(plugin.revision.digest()).unwrap_or(usize::MAX));
    before.truncate(limits::REVISIONS_REMEMBERED);
}

/// A revision in words: its name, version and the start of its digest.
pub fn title(revision: &Revision) -> String {
    let descriptor = revision.descriptor();
    format!("plugin {} {} ({})", descriptor.name, descriptor.version, short(revision.digest()))
}

/// As much of a digest as people read.
fn short(digest: &str) -> &str {
    digest.get(..names::REVISION_CHARACTERS_MIN).unwrap_or(digest)
}

/// What somebody wrote where a digest should be, at most as long as one.
fn shortened(value: &str) -> String {
    value.chars().take(names::DIGEST_CHARACTERS).collect()
}

/// Kinds of class that another revision, or none, or for the first time one serves now.
fn changed_kinds(before: Option<&Plugin>, after: Option<&Plugin>) -> BTreeSet<String> {
    let same = match (before, after) {
        (Some(before), Some(after)) => before.revision.digest() == after.revision.digest() && before.grants == after.grants,
        (None, None) => true,
        _ => false,
    };
    if same { BTreeSet::new() } else { before.into_iter().chain(after).flat_map(Plugin::kinds).collect() }
}

fn resource(kind: &ObjectKind) -> String {
    if kind.group.is_empty() { kind.plural.clone() } else { format!("{}.{}", kind.plural, kind.group) }
}
