//! Which plugin serves which kind of class: ConfigMap → loaded plugin, last known good, and what it may write. Knows no database
//! and no gRPC; `controller` tells it what changed and asks it who serves.

mod grants;
mod report;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, RwLock};

use crate::cache::Kind;
use crate::sandbox::{Revision, Sandbox};
use crate::wit::{ClassKind, ObjectKind};

pub use grants::Grants;
pub use report::{Counts, Reporter};
pub use source::{PLUGIN_LABEL, Source, SourceEvent, follow as follow_sources, unpacked};

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
    /// Why the newest bytes do not serve.
    refused: Option<Refused>,
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
}

/// All plugins.
#[derive(Default)]
pub struct Catalog(RwLock<BTreeMap<String, Entry>>);

impl Catalog {
    /// The plugin that serves a kind of class.
    pub fn serving(&self, kind: &str) -> Option<Arc<Plugin>> {
        let entries = self.0.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        entries.values().filter_map(|entry| entry.serving.clone()).find(|plugin| plugin.class_kind(kind).is_some())
    }

    /// The plugin that understands a protocol: the full name of the message by which a group of the old gRPC API asks for storage.
    pub fn for_protocol(&self, message: &str) -> Option<Arc<Plugin>> {
        self.all().into_iter().find(|plugin| plugin.understands(message))
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

    /// All plugins that serve, by name.
    pub fn all(&self) -> Vec<Arc<Plugin>> {
        let entries = self.0.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        entries.values().filter_map(|entry| entry.serving.clone()).collect()
    }

    /// What became of each plugin, in a word: the phase of its StoragePlugin.
    pub fn phases(&self) -> Vec<&'static str> {
        self.entries().values().map(report::phase).collect()
    }

    /// Why the newest bytes of a plugin do not serve, if they don't.
    pub fn refusal(&self, plugin: &str) -> Option<String> {
        let entries = self.0.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        entries.get(plugin)?.refused.as_ref().map(|refused| refused.message.clone())
    }

    /// For a kind that no plugin serves: which kinds exist, and which plugins could not be loaded.
    pub fn alternatives(&self) -> String {
        let entries = self.0.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        let kinds: BTreeSet<_> = entries
            .values()
            .filter_map(|entry| entry.serving.as_ref())
            .flat_map(|plugin| plugin.revision.descriptor().class_kinds.iter().map(|kind| kind.kind.clone()))
            .collect();
        let kinds = match kinds.len() {
            0 => "no plugin is installed that serves any kind".to_owned(),
            _ => format!("kinds served: {}", kinds.into_iter().collect::<Vec<_>>().join(", ")),
        };
        let broken = entries.iter().filter(|(_, entry)| entry.serving.is_none());
        let broken: Vec<_> =
            broken.filter_map(|(name, entry)| Some(format!("{name}: {}", entry.refused.as_ref()?.message))).collect();
        if broken.is_empty() { kinds } else { format!("{kinds}; plugins that could not be loaded: {}", broken.join("; ")) }
    }

    /// Takes in ConfigMaps as they are now and a ClusterRole lookup, and loads what is new. Answers the kinds of class whose
    /// plugin is another now. Compiles: call it where that may take a while.
    pub fn settle(&self, sandbox: &Sandbox, name: &str, sources: Vec<Source>, grants: Option<Grants>) -> BTreeSet<String> {
        let before = self.entry(name);
        let mut after = Entry { sources, ..before.clone() };
        match after.sources.first() {
            None => (after.serving, after.refused) = (None, None),
            Some(source) => match self.load(sandbox, name, source, &before, grants) {
                Ok(plugin) => (after.serving, after.refused) = (Some(plugin), None),
                Err(refused) => after.refused = Some(refused),
            },
        }
        if let (Some(second), None) = (after.sources.get(1), &after.refused) {
            let message = format!(
                "ConfigMap {} is ignored: ConfigMap {} is older and brings a plugin of the same name; delete one of the two",
                second.name, after.sources[0].name
            );
            after.refused = Some(Refused { stamp: second.stamp.clone(), digest: None, message });
        }
        let changed = changed_kinds(before.serving.as_deref(), after.serving.as_deref());
        let told = before.refused != after.refused;
        let kinds = after.serving.as_deref().or(before.serving.as_deref()).map(Plugin::kinds).unwrap_or_default();
        let mut entries = self.0.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        entries.insert(name.to_owned(), after);
        if told { changed.into_iter().chain(kinds).collect() } else { changed }
    }

    fn load(
        &self,
        sandbox: &Sandbox,
        name: &str,
        source: &Source,
        before: &Entry,
        grants: Option<Grants>,
    ) -> Result<Arc<Plugin>, Refused> {
        let refuse = |digest: Option<String>, message: String| Refused { stamp: source.stamp.clone(), digest, message };
        let bytes = source.bytes.as_deref().map_err(|message| refuse(None, message.clone()))?;
        let bytes =
            source::unpacked(bytes).map_err(|message| refuse(None, format!("ConfigMap {}: {message}", source.name)))?;
        let digest = crate::sandbox::digest_of(&bytes);
        let same = before.serving.as_ref().filter(|plugin| plugin.revision.digest() == digest);
        let revision = match same {
            Some(plugin) => plugin.revision.clone(),
            None => sandbox.load(name, &bytes).map_err(|fault| refuse(Some(digest.clone()), fault.to_string()))?,
        };
        let blame = |message: String| refuse(Some(digest.clone()), format!("{}: {message}", title(&revision)));
        let descriptor = revision.descriptor();
        if descriptor.name != name {
            return Err(blame(format!(
                "it calls itself {:?}, but ConfigMap {} is labelled {:?}; the two must be equal",
                descriptor.name, source.name, name
            )));
        }
        if let Some((what, other)) = self.claimed(name, &revision) {
            return Err(blame(format!("{what} is already served by plugin {other}, which came first")));
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

    /// A class kind or a protocol of a revision that another plugin serves, in words, and that plugin.
    fn claimed(&self, name: &str, revision: &Revision) -> Option<(String, String)> {
        let entries = self.0.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        let others = entries.iter().filter(|(other, _)| *other != name);
        others.filter_map(|(other, entry)| Some((other, entry.serving.as_ref()?))).find_map(|(other, plugin)| {
            let mut kinds = revision.descriptor().class_kinds.iter().map(|class| &class.kind);
            let kind = kinds.find(|kind| plugin.class_kind(kind).is_some()).map(|kind| format!("class kind {kind}"));
            let protocol =
                || revision.protocols().iter().find(|it| plugin.understands(it)).map(|it| format!("protocol {it}"));
            Some((kind.or_else(protocol)?, other.clone()))
        })
    }

    fn entry(&self, name: &str) -> Entry {
        self.0.read().unwrap_or_else(|poisoned| poisoned.into_inner()).get(name).cloned().unwrap_or_default()
    }

    fn entries(&self) -> BTreeMap<String, Entry> {
        self.0.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }
}

impl Plugin {
    /// What the plugin says of a class kind, if it serves it.
    pub fn class_kind(&self, kind: &str) -> Option<&ClassKind> {
        self.revision.descriptor().class_kinds.iter().find(|class| class.kind == kind)
    }

    fn understands(&self, protocol: &str) -> bool {
        self.revision.protocols().iter().any(|it| it == protocol)
    }

    fn kinds(&self) -> BTreeSet<String> {
        self.revision.descriptor().class_kinds.iter().map(|kind| kind.kind.clone()).collect()
    }
}

/// A revision in words: its name, version and the start of its digest.
pub fn title(revision: &Revision) -> String {
    let descriptor = revision.descriptor();
    format!("plugin {} {} ({})", descriptor.name, descriptor.version, revision.digest().get(..12).unwrap_or_default())
}

/// The kind of the roles that say what plugins may write.
pub fn role_kind() -> Kind {
    Kind {
        group: "rbac.authorization.k8s.io".into(),
        version: "v1".into(),
        kind: "ClusterRole".into(),
        plural: "clusterroles".into(),
    }
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
