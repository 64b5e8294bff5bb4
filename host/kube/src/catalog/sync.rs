//! Brings the catalog in line with the cluster: plugins are loaded as their ConfigMaps come, change and go, are kept before they serve, and
//! may write what their ClusterRoles grant. Knows no database.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::rbac::v1::ClusterRole;
use tokio::sync::{Notify, mpsc, watch};

use super::keeping::{self, Keeping};
use super::{Catalog, Found, Kept, KeptEvent, Loading, Recorded, Reporter, RevisionStore, Source, SourceEvent, ToKeep};
use atomix_controller_io::cache::Caches;
use atomix_controller_io::leader::Leadership;
use atomix_controller_io::metrics::Metrics;
use atomix_model::crd::StoragePlugin;
use atomix_model::grants::Grants;
use atomix_model::limits;
use atomix_model::object::{Key, Kind, Objects as _, State};

/// The loop that brings the catalog in line with the cluster.
#[allow(missing_docs)] // its fields explain themselves
pub struct CatalogSync {
    pub catalog: Arc<Catalog>,
    /// Where roles and StoragePlugins are seen.
    pub caches: Arc<Caches>,
    /// Namespace of the plugins' ConfigMaps: the controller's own.
    pub namespace: String,
    /// Where plugins are counted.
    pub metrics: Arc<Metrics>,
    /// Where revisions are kept.
    pub store: RevisionStore,
    /// Only the leader keeps revisions.
    pub leading: Leadership,
    /// A role or a StoragePlugin changed, or this replica begins to lead.
    pub changed: Arc<Notify>,
    /// Becomes true once it is known which plugins there are.
    pub listed: watch::Sender<bool>,
    /// Becomes true once those that were known at the start are loaded, or refused.
    pub loaded: watch::Sender<bool>,
}

/// What is seen of plugins in ConfigMaps; None before they are listed.
#[derive(Default)]
struct Seen {
    sources: Option<SourceEvent>,
    kept: Option<KeptEvent>,
}

impl CatalogSync {
    /// Goes on for as long as `sources` and `kept` come. Sends after each round which kinds of class another revision serves than before,
    /// or none.
    pub async fn run(
        self,
        mut loading: Loading,
        mut keeping: Keeping,
        mut sources: mpsc::Receiver<SourceEvent>,
        mut kept: mpsc::Receiver<KeptEvent>,
        settled: mpsc::Sender<BTreeSet<String>>,
    ) {
        let mut seen = Seen::default();
        loop {
            tokio::select! {
                event = sources.recv() => match event {
                    Some(event) => seen.sources = Some(event),
                    None => return,
                },
                event = kept.recv() => match event {
                    Some(event) => seen.kept = Some(event),
                    None => return,
                },
                () = self.changed.notified() => {}
                () = loading.next() => {}
                () = keeping.next() => {}
            }
            let is_starting = |kind: Kind| self.caches.state(&kind) == State::Starting;
            let (Some(sources), Some(kept)) = (&seen.sources, &seen.kept) else { continue };
            if is_starting(Kind::of::<ClusterRole>()) || is_starting(Kind::of::<StoragePlugin>()) {
                continue;
            }
            self.listed.send_replace(true);
            let changed = self.settle((&mut loading, &mut keeping), sources, kept).await;
            self.catalog.is_loading_known.send_replace(!loading.is_known_loaded());
            if loading.is_known_loaded() {
                self.loaded.send_replace(true);
            }
            let _ = settled.send(changed).await;
        }
    }

    /// Puts into the catalog what became of each plugin.
    async fn settle(
        &self,
        (loading, keeping): (&mut Loading, &mut Keeping),
        sources: &SourceEvent,
        kept: &KeptEvent,
    ) -> BTreeSet<String> {
        let mut changed = BTreeSet::new();
        let recorded = self.recorded();
        for name in
            self.catalog.names().into_iter().filter(|name| !sources.contains_key(name) && !recorded.contains_key(name))
        {
            changed.extend(self.catalog.forget(&name));
            loading.forget_newest(&name);
            loading.want_kept(&self.store, &name, &[]);
            keeping.forget(&name);
            self.metrics.forget_plugin(&name);
        }
        let names: BTreeSet<&String> = sources.keys().chain(recorded.keys()).collect();
        let mut order: Vec<_> = names
            .into_iter()
            .map(|name| {
                let sources = sources.get(name).cloned().unwrap_or_default();
                let recorded = recorded.get(name).cloned().unwrap_or_default();
                // Who serves a kind keeps it; of others, who came first.
                ((recorded.digest.is_none(), sources.first().map(|source| source.created)), name, sources, recorded)
            })
            .collect();
        order.sort_by_key(|(place, ..)| *place);
        for (_, name, sources, recorded) in order {
            let kept = kept.get(name).cloned().unwrap_or_default();
            changed.extend(self.settle_one((loading, keeping), name, sources, recorded, kept).await);
        }
        changed
    }

    async fn settle_one(
        &self,
        (loading, keeping): (&mut Loading, &mut Keeping),
        name: &str,
        sources: Vec<Source>,
        recorded: Recorded,
        kept: Vec<Kept>,
    ) -> BTreeSet<String> {
        keeping.saw(name, &kept);
        match sources.first() {
            Some(source) => loading.want(&self.catalog, name, source, |digest| recorded.is_known_good(digest)).await,
            None => loading.forget_newest(name),
        }
        self.catalog.is_loading_known.send_replace(!loading.is_known_loaded()); // before its stamp is seen
        let loaded = self.catalog.loaded_digests(name);
        let wanted = keeping::wanted(&kept, &recorded, |digest| {
            loaded.contains(digest) || loading.newest_digest(name) == Some(digest)
        });
        let kept_loaded = loading.kept(name);
        loading.want_kept(&self.store, name, &wanted);
        let role = self.caches.find(&Kind::of::<ClusterRole>(), &Key::new("", format!("atomix-plugin-{name}")));
        let found = Found {
            loaded: loading.loaded(name),
            grants: role.map(|role| Grants::of(&role.body)),
            not_kept: keeping.trouble(name),
            sources: sources.clone(),
            recorded: recorded.clone(),
            kept: kept.clone(),
            kept_loaded,
        };
        let changed = self.catalog.settle(name, found);
        if let Some(_pass) = self.leading.begin_pass() {
            if let Some(revision) = self.to_keep(name, sources.first(), loading) {
                keeping.keep(revision);
            }
            let spared = self.catalog.loaded_digests(name).into_iter().chain(loading.newest_digest(name).map(str::to_owned));
            keeping.let_go(keeping::superfluous(&kept, &recorded, &spared.collect(), limits::REVISIONS_REMEMBERED));
        }
        changed
    }

    /// The revision that is to be kept, if its bytes are at hand.
    fn to_keep(&self, name: &str, source: Option<&Source>, loading: &Loading) -> Option<ToKeep> {
        let plugin = self.catalog.to_keep(name)?;
        let digest = plugin.revision.digest();
        let packed = source?.bytes.clone().ok().filter(|_| loading.newest_digest(name) == Some(digest))?;
        let version = plugin.revision.descriptor().version.clone();
        Some(ToKeep { plugin: name.to_owned(), digest: digest.to_owned(), version, packed })
    }

    /// What StoragePlugins say, by name.
    fn recorded(&self) -> BTreeMap<String, Recorded> {
        let all = self.caches.all(&Kind::of::<StoragePlugin>());
        let own = all.into_iter().filter(|live| live.namespace == self.namespace && !live.terminating());
        own.map(|live| (live.name.clone(), Reporter::recorded(&live))).collect()
    }
}
