//! Which change starts a pass over which database: a change of itself, of its class, of its plugin, of its objects, or an
//! Event of Kubernetes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use futures::StreamExt;
use kube::ResourceExt;
use kube::api::ApiResource;
use kube::core::GroupVersionKind;
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::watcher::{Event, watcher};
use tokio::sync::mpsc;

use super::Context;
use super::run::Signals;
use atomix_controller_io::cache::{Change, Packed, RawObject, backoff, raw_api, watcher_config};
use atomix_controller_io::leader::{Loop, Moment};
use atomix_model::crd::{Database, DatabaseSpec, Partition, StoragePlugin};
use atomix_model::object::{Key, Kind};
use atomix_model::{limits, names};
use k8s_openapi::api::rbac::v1::ClusterRole;

/// A database in the queue of passes.
pub(super) type DatabaseRef = ObjectRef<RawObject>;

/// Sorts changes by the databases that they concern.
pub(super) struct Triggers {
    pub(super) ctx: Arc<Context>,
    /// Databases to pass over.
    pub(super) queue: mpsc::Sender<DatabaseRef>,
    pub(super) signals: Arc<Signals>,
    /// Names of databases by namespace and by the labels that their objects carry.
    labels: Mutex<BTreeMap<Key, String>>,
}

impl Triggers {
    pub(super) fn new(ctx: Arc<Context>, queue: mpsc::Sender<DatabaseRef>, signals: Arc<Signals>) -> Triggers {
        Triggers { ctx, queue, signals, labels: Mutex::default() }
    }

    /// Receives the changes in the caches, and triggers the databases concerned.
    pub(super) async fn receive(self: Arc<Self>, mut changes: mpsc::Receiver<Change>) {
        loop {
            self.ctx.leading.loop_ran(Loop::Changes, Moment::now());
            let change = match tokio::time::timeout(limits::LOOP_ROUND_MAX, changes.recv()).await {
                Ok(Some(change)) => change,
                Ok(None) => return,
                Err(_) => continue,
            };
            match change {
                Change::Object(kind, _) | Change::State(kind) if kind == Kind::of::<ClusterRole>() => {
                    self.signals.roles_changed.notify_one();
                    self.signals.rights_changed.notify_one();
                }
                Change::State(kind) if kind == Kind::of::<StoragePlugin>() => {
                    self.signals.roles_changed.notify_one(); // plugins are loaded once it is known which bytes served
                    self.signals.report.notify_one();
                }
                Change::Object(kind, _) if kind == Kind::of::<StoragePlugin>() => {
                    self.signals.roles_changed.notify_one(); // once it is deleted, so is what it records
                    self.signals.report.notify_one();
                }
                Change::Object(kind, class) if kind.group == atomix_model::crd::STORAGE_GROUP => {
                    self.trigger_users(&kind, &class.key()).await;
                    self.signals.report.notify_one();
                }
                Change::Object(_, object) => self.trigger_owner(&object).await,
                Change::State(kind) => {
                    self.signals.report.notify_one();
                    self.trigger_where(|spec, kinds| spec.storage_class.kind == kind.kind || kinds(&kind)).await
                }
            }
        }
    }

    /// Triggers the databases in a namespace that read its Events, when there is a new one.
    pub(super) async fn receive_events(self: Arc<Self>, mut news: mpsc::Receiver<String>) {
        while let Some(namespace) = news.recv().await {
            for name in self.ctx.event_cache.askers(&namespace) {
                let _ = self.queue.send(ObjectRef::new_with(&name, resource()).within(&namespace)).await;
            }
        }
    }

    /// Triggers all databases whenever this replica begins to lead: what happened while it stood by was only watched.
    pub(super) async fn lead(self: Arc<Self>) {
        let mut term = 0;
        loop {
            term = self.ctx.leading.next_term(term).await;
            super::plugins::are_current(&self.ctx).await;
            self.ctx.current_term.store(term, Ordering::Release);
            self.signals.roles_changed.notify_one(); // revisions are kept by the leader
            self.signals.report.notify_one();
            for object in self.ctx.databases.state() {
                let _ = self.queue.send(ObjectRef::from_obj_with(&*object, resource())).await;
            }
        }
    }

    /// The databases themselves, as a stream of those that came or changed.
    pub(super) fn databases(
        self: Arc<Self>,
        writer: reflector::store::Writer<RawObject>,
    ) -> impl futures::Stream<Item = DatabaseRef> {
        let api = raw_api(&self.ctx.client, &Kind::of::<Database>(), self.ctx.options.scope.as_deref());
        let events = watcher(api, watcher_config()).backoff(backoff()).reflect(writer);
        events.filter_map(move |event| {
            let triggers = self.clone();
            async move {
                match event {
                    Ok(Event::Apply(object) | Event::InitApply(object)) => {
                        triggers.remember(&object);
                        triggers.signals.report.notify_one();
                        Some(ObjectRef::from_obj_with(&object, resource()))
                    }
                    Ok(Event::Delete(object)) => {
                        triggers.forget(&object);
                        triggers.ctx.memories.forget(&object.uid().unwrap_or_default());
                        triggers.signals.report.notify_one();
                        None
                    }
                    Ok(Event::InitDone) => {
                        triggers.forget_deleted(); // those that went while there was no watch
                        None
                    }
                    Ok(_) => None,
                    Err(error) => {
                        tracing::debug!(%error, "databases cannot be watched; trying again");
                        None
                    }
                }
            }
        })
    }

    /// Remembers by which labels a database's objects are recognised.
    fn remember(&self, object: &RawObject) {
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let mut labels = self.labels.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let label = names::database_label(&namespace, &name);
        labels.insert(Key::new(&namespace, label), name.clone());
        labels.insert(Key::new(&namespace, &name), name);
    }

    fn forget(&self, object: &RawObject) {
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let mut labels = self.labels.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        labels.remove(&Key::new(&namespace, names::database_label(&namespace, &name)));
        labels.remove(&Key::new(&namespace, &name));
        self.ctx.event_cache.leave(&Key::new(&namespace, &name));
    }

    /// Forgets all databases that a listing does not hold.
    fn forget_deleted(&self) {
        let there = self.ctx.databases.state();
        let uids: BTreeSet<_> = there.iter().filter_map(|object| object.uid()).collect();
        self.ctx.memories.retain(|uid| uids.contains(uid));
        let names: BTreeSet<_> =
            there.iter().map(|object| Key::new(object.namespace().unwrap_or_default(), object.name_any())).collect();
        let mut gone = BTreeSet::new();
        let mut labels = self.labels.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        labels.retain(|label, name| {
            let key = Key::new(&label.namespace, name.as_str());
            let is_there = names.contains(&key);
            if !is_there {
                gone.insert(key);
            }
            is_there
        });
        drop(labels);
        gone.iter().for_each(|key| self.ctx.event_cache.leave(key));
    }

    /// Triggers the database that an object belongs to.
    async fn trigger_owner(&self, object: &Packed) {
        let namespace = object.key().namespace;
        let name = object.database_label().and_then(|label| {
            let labels = self.labels.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            labels.get(&Key::new(&namespace, label)).cloned()
        });
        if let Some(name) = name {
            let _ = self.queue.send(ObjectRef::new_with(&name, resource()).within(&namespace)).await;
        }
    }

    /// Triggers the databases that use a class, or would if it were there.
    async fn trigger_users(&self, kind: &Kind, class: &Key) {
        for object in self.ctx.databases.state() {
            let Some(wanted) = spec(&object).map(|spec| spec.storage_class) else { continue };
            let here = wanted.namespace.as_deref() == Some(&class.namespace)
                || object.namespace().as_deref() == Some(&class.namespace);
            if wanted.kind == kind.kind && wanted.name == class.name && here {
                let _ = self.queue.send(ObjectRef::from_obj_with(&*object, resource())).await;
            }
        }
    }

    /// Triggers the databases that a test picks, by their spec and by whether objects of a kind were written for them.
    pub(super) async fn trigger_where(&self, pick: impl Fn(&DatabaseSpec, &dyn Fn(&Kind) -> bool) -> bool) {
        for object in self.ctx.databases.state() {
            let serving = spec(&object).and_then(|spec| self.ctx.catalog.serving(&spec.storage_class.kind));
            let touches = |kind: &Kind| {
                let descriptor = serving.as_ref().map(|plugin| plugin.revision.descriptor());
                let reads =
                    descriptor.into_iter().flat_map(|d| d.emits.iter().chain(&d.watches)).any(|k| Kind::from(k) == *kind);
                reads || *kind == Kind::of::<Partition>() || kinds_written(&object).contains(kind)
            };
            if spec(&object).is_some_and(|spec| pick(&spec, &touches)) {
                let _ = self.queue.send(ObjectRef::from_obj_with(&*object, resource())).await;
            }
        }
    }
}

/// Kinds that were written for a database, from its status.
pub(super) fn kinds_written(object: &RawObject) -> Vec<Kind> {
    object.field(&["status", "kinds"]).unwrap_or_default()
}

/// A database's spec; None if it cannot be read.
pub(super) fn spec(object: &RawObject) -> Option<DatabaseSpec> {
    object.field(&["spec"])
}

pub(super) fn resource() -> ApiResource {
    let kind = Kind::of::<Database>();
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(&kind.group, &kind.version, &kind.kind), &kind.plural)
}
