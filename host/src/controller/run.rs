//! The watches that call the reconcile: which kinds are watched, and which databases a change concerns.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use futures::{StreamExt, future, stream};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ApiResource, DynamicObject};
use kube::core::{GroupVersionKind, PartialObjectMeta};
use kube::runtime::controller;
use kube::runtime::events::{Recorder, Reporter as EventReporter};
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{WatchStreamExt, applier};
use kube::{Api, Client, ResourceExt};
use tokio::sync::{Notify, mpsc, watch};

use super::report::database_kind;
use super::{Context, Memories, reconcile};
use crate::admit::partition_kind;
use crate::apply::guard;
use crate::cache::{Caches, Change, Key, Kind, Live, State, Trim, Wanted, Watches, api};
use crate::catalog::{self, Catalog, Counts, Grants, Reporter, SourceEvent};
use crate::crd::DatabaseSpec;
use crate::leader::Leading;
use crate::sandbox::Sandbox;
use crate::telemetry::{DatabasePhase, Metrics, PluginPhase};
use crate::{limits, names, observe};

/// How the controller is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// The controller's namespace: plugins are installed there.
    pub namespace: String,
    /// The controller's name.
    pub name: String,
    /// DNS domain of the cluster.
    pub cluster_domain: String,
    /// Deal only with databases of this namespace.
    pub scope: Option<String>,
    /// Whether databases in the controller's own namespace are served.
    pub allow_own_namespace: bool,
    /// Which replica this is: named in Events.
    pub identity: String,
}

type DatabaseRef = ObjectRef<DynamicObject>;

/// How far a controller has come since its start: each becomes true once.
#[derive(Debug, Default)]
pub struct Progress {
    /// It sees which plugins there are. Compiling them may take seconds more.
    pub listed: watch::Sender<bool>,
    /// They are loaded, and the databases are listed: it works.
    pub loaded: watch::Sender<bool>,
}

/// Runs the controller until `stop` resolves: it watches and loads plugins in any case, and reconciles while it is `leading`.
/// `progress` says how far it has come.
pub async fn run(
    client: Client,
    options: Options,
    catalog: Arc<Catalog>,
    leading: Leading,
    metrics: Arc<Metrics>,
    progress: Progress,
    stop: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let caches = Arc::new(Caches::default());
    let (changes_in, changes) = mpsc::channel(limits::CHANGES_WAITING);
    let (wake, mut woken) = mpsc::channel::<DatabaseRef>(limits::CHANGES_WAITING);
    let watches = Arc::new(Watches::new(client.clone(), caches.clone(), changes_in));
    let writer = reflector::store::Writer::new(resource());
    let store = writer.as_reader();
    let reporter = EventReporter { controller: names::MANAGER.to_owned(), instance: Some(options.identity.clone()) };
    let ctx = Arc::new(Context {
        events: Recorder::new(client.clone(), reporter),
        catalog,
        leading,
        databases: store.clone(),
        memories: Memories::default(),
        labels: Mutex::default(),
        watches_wanted: Notify::new(),
        client: client.clone(),
        caches,
        options,
        metrics,
    });
    let desk = Arc::new(Desk { ctx: ctx.clone(), watches, wake, roles_changed: Notify::new(), report: Notify::new() });
    desk.want();
    let (sources_in, sources) = mpsc::channel(limits::SOURCES_WAITING);
    let plugins = Progress::default();
    let (mut plugins_listed, mut plugins_loaded) = (plugins.listed.subscribe(), plugins.loaded.subscribe());
    let background = vec![
        tokio::spawn(catalog::follow_sources(client.clone(), ctx.options.namespace.clone(), sources_in)),
        tokio::spawn(desk.clone().hear(changes)),
        tokio::spawn(desk.clone().definitions()),
        tokio::spawn(desk.clone().report(progress.loaded.subscribe())),
        tokio::spawn(desk.clone().rewatch()),
        tokio::spawn(desk.clone().lead()),
    ];
    let loading = tokio::spawn(desk.clone().plugins(Sandbox::new()?, sources, plugins));
    let databases = desk.clone().databases(writer);
    let queue =
        stream::select(databases, stream::poll_fn(move |cx| woken.poll_recv(cx))).map(Ok::<_, std::convert::Infallible>);
    let passes = applier(
        |object, ctx| Box::pin(reconcile(object, ctx)),
        |_, error, _| match *error {},
        ctx.clone(),
        store.clone(),
        queue,
        controller_config(),
    );
    let serve = async {
        let _ = plugins_listed.wait_for(|listed| *listed).await;
        progress.listed.send_replace(true);
        let _ = plugins_loaded.wait_for(|loaded| *loaded).await;
        let listed = async {
            let _ = store.wait_until_ready().await;
            progress.loaded.send_replace(true);
        };
        let work = passes.for_each(|_| future::ready(()));
        future::join(listed, work).await;
    };
    tokio::select! { () = serve => {}, () = stop => {} }
    background.into_iter().chain([loading]).for_each(|task| task.abort());
    Ok(())
}

/// Where changes arrive and are sorted by whom they concern.
struct Desk {
    ctx: Arc<Context>,
    watches: Arc<Watches>,
    wake: mpsc::Sender<DatabaseRef>,
    /// A ClusterRole of a plugin changed.
    roles_changed: Notify,
    /// A StoragePlugin's story may have changed.
    report: Notify,
}

impl Desk {
    /// Hears what the caches have to say, and wakes the databases concerned.
    async fn hear(self: Arc<Self>, mut changes: mpsc::Receiver<Change>) {
        while let Some(change) = changes.recv().await {
            match change {
                Change::Object(kind, _) | Change::State(kind) if kind == catalog::role_kind() => {
                    self.roles_changed.notify_one()
                }
                Change::Object(kind, _) | Change::State(kind) if kind == Reporter::kind() => self.report.notify_one(),
                Change::Object(kind, live) if kind.group == crate::crd::STORAGE_GROUP => {
                    self.wake_users(&kind, &live).await;
                    self.report.notify_one();
                }
                Change::Object(_, live) => self.wake_owner(&live).await,
                Change::State(kind) => {
                    self.report.notify_one();
                    self.wake_where(|spec, kinds| spec.storage_class.kind == kind.kind || kinds(&kind)).await
                }
            }
        }
    }

    /// Loads plugins as their ConfigMaps and roles come, change and go.
    async fn plugins(self: Arc<Self>, sandbox: Sandbox, mut sources: mpsc::Receiver<SourceEvent>, progress: Progress) {
        let mut known = SourceEvent::new();
        let mut listed = false;
        loop {
            tokio::select! {
                event = sources.recv() => match event {
                    Some(event) => {
                        let gone = known.into_keys().filter(|name| !event.contains_key(name)).map(|name| (name, Vec::new()));
                        known = gone.chain(event.clone()).collect();
                        listed = true;
                    }
                    None => return,
                },
                () = self.roles_changed.notified() => {}
            }
            if !listed || self.ctx.caches.state(&catalog::role_kind()) == State::Starting {
                continue;
            }
            progress.listed.send_replace(true);
            let mut order: Vec<_> = known.clone().into_iter().collect();
            order.sort_by_key(|(_, sources)| sources.first().map(|source| source.created)); // who came first keeps its kinds
            let mut changed = BTreeSet::new();
            for (name, sources) in order {
                let role = self.ctx.caches.find(&catalog::role_kind(), &Key::new("", format!("atomix-plugin-{name}")));
                let grants = role.map(|role| Grants::of(&role.body));
                let (catalog, sandbox) = (self.ctx.catalog.clone(), sandbox.clone());
                let settled = tokio::task::spawn_blocking(move || catalog.settle(&sandbox, &name, sources, grants)).await;
                changed.extend(settled.unwrap_or_default());
            }
            known.retain(|name, sources| {
                if sources.is_empty() {
                    self.ctx.metrics.forget_plugin(name);
                }
                !sources.is_empty()
            });
            self.want();
            if !changed.is_empty() {
                let catalog = self.ctx.catalog.clone();
                let concerned = |kind: &str| changed.contains(kind) || catalog.serving(kind).is_none();
                self.wake_where(|spec, _| concerned(&spec.storage_class.kind)).await;
            }
            self.report.notify_one();
            progress.loaded.send_replace(true);
        }
    }

    /// Tells the watches of definitions that come or change. Their metadata is enough.
    async fn definitions(self: Arc<Self>) {
        let api: Api<PartialObjectMeta<CustomResourceDefinition>> = Api::all(self.ctx.client.clone());
        let events = watcher(api, watcher::Config::default()).default_backoff();
        futures::pin_mut!(events);
        while let Some(event) = events.next().await {
            if let Ok(Event::Apply(definition) | Event::InitApply(definition)) = event
                && let Some((plural, group)) = definition.name_any().split_once('.')
            {
                self.watches.defined(group, plural);
            }
        }
    }

    /// Keeps StoragePlugins true, at a quiet pace.
    async fn report(self: Arc<Self>, mut loaded: watch::Receiver<bool>) {
        let ctx = &self.ctx;
        let reporter =
            Reporter { client: ctx.client.clone(), caches: ctx.caches.clone(), namespace: ctx.options.namespace.clone() };
        let _ = loaded.wait_for(|loaded| *loaded).await;
        loop {
            self.report.notified().await;
            tokio::time::sleep(limits::REPORT_PAUSE).await;
            if ctx.caches.state(&Reporter::kind()) != State::Synced {
                continue; // its end of listing notifies
            }
            self.gauge();
            let Some(pass) = ctx.leading.pass() else { continue }; // who begins to lead notifies
            let kinds: Vec<_> =
                ctx.databases.state().iter().filter_map(|object| spec(object)).map(|spec| spec.storage_class.kind).collect();
            let counts = |_: &str, of: &[String]| Counts {
                databases: count(kinds.iter().filter(|kind| of.contains(kind)).count()),
                classes: self.classes(of),
            };
            if let Err(error) = reporter.report(&ctx.catalog, counts, Timestamp::now()).await {
                tracing::debug!(%error, "StoragePlugins not written; trying again");
                drop(pass);
                tokio::time::sleep(limits::RETRY_AFTER_MIN).await;
                self.report.notify_one();
            }
        }
    }

    /// Counts plugins and databases by phase.
    fn gauge(&self) {
        let plugins = self.ctx.catalog.phases();
        for (phase, word) in
            [(PluginPhase::Serving, "Serving"), (PluginPhase::Refused, "Refused"), (PluginPhase::Removed, "Removed")]
        {
            self.ctx.metrics.plugins(phase, plugins.iter().filter(|it| **it == word).count());
        }
        let databases: Vec<_> = self.ctx.databases.state().iter().map(|object| database_phase(object)).collect();
        for phase in DatabasePhase::ALL {
            self.ctx.metrics.databases(phase, databases.iter().filter(|it| **it == phase).count());
        }
    }

    /// Wakes everyone whenever this replica begins to lead: what happened while it stood by was only watched.
    async fn lead(self: Arc<Self>) {
        let mut term = 0;
        loop {
            term = self.ctx.leading.next_term(term).await;
            self.report.notify_one();
            for object in self.ctx.databases.state() {
                let _ = self.wake.send(ObjectRef::from_obj_with(&*object, resource())).await;
            }
        }
    }

    async fn rewatch(self: Arc<Self>) {
        loop {
            self.ctx.watches_wanted.notified().await;
            self.want();
        }
    }

    /// The databases themselves, as a stream of those that came or changed.
    fn databases(
        self: Arc<Self>,
        writer: reflector::store::Writer<DynamicObject>,
    ) -> impl futures::Stream<Item = DatabaseRef> {
        let api = api(&self.ctx.client, &database_kind(), self.ctx.options.scope.as_deref());
        let events = watcher(api, watcher::Config::default())
            .default_backoff()
            .modify(|object| object.metadata.managed_fields = None)
            .reflect(writer);
        events.filter_map(move |event| {
            let desk = self.clone();
            async move {
                match event {
                    Ok(Event::Apply(object) | Event::InitApply(object)) => {
                        desk.know(&object);
                        desk.report.notify_one();
                        Some(ObjectRef::from_obj_with(&object, resource()))
                    }
                    Ok(Event::Delete(object)) => {
                        desk.forget(&object);
                        desk.ctx.memories.forget(&object.uid().unwrap_or_default());
                        desk.report.notify_one();
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

    /// Remembers by which labels a database's objects are told.
    fn know(&self, object: &DynamicObject) {
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let mut labels = self.ctx.labels.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let label = names::database_label(&namespace, &name);
        labels.insert(Key::new(&namespace, label), name.clone());
        labels.insert(Key::new(&namespace, &name), name);
    }

    fn forget(&self, object: &DynamicObject) {
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let mut labels = self.ctx.labels.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        labels.remove(&Key::new(&namespace, names::database_label(&namespace, &name)));
        labels.remove(&Key::new(&namespace, &name));
    }

    /// Makes the watches those that plugins and databases need.
    fn want(&self) {
        let ctx = &self.ctx;
        let mut wanted: BTreeMap<Kind, Wanted> = BTreeMap::new();
        let scope = || ctx.options.scope.clone();
        let own = Some(ctx.options.namespace.clone());
        let status = || Trim::whole(["/status".to_owned()]);
        wanted.insert(partition_kind(), Wanted::of_databases(status(), scope()));
        wanted.insert(Reporter::kind(), Wanted::all(status(), own));
        wanted
            .insert(catalog::role_kind(), Wanted { selector: catalog::ROLE_SELECTOR, ..Wanted::all(Trim::whole([]), None) });
        for kind in guard::kinds() {
            wanted.insert(kind, Wanted { name: Some(names::MANAGER.to_owned()), ..Wanted::all(Trim::whole([]), None) });
        }
        for object in ctx.databases.state() {
            for kind in kinds_written(&object) {
                wanted.entry(kind).or_insert_with(|| Wanted::of_databases(Trim::whole([]), scope()));
            }
        }
        for plugin in ctx.catalog.all() {
            let descriptor = plugin.revision.descriptor();
            for kind in &descriptor.class_kinds {
                wanted.insert(observe::class_kind(kind), Wanted::all(Trim::whole([]), scope()));
            }
            for (kind, whole) in
                descriptor.emits.iter().map(|k| (k, true)).chain(descriptor.watches.iter().map(|k| (k, false)))
            {
                let trim = Trim { whole, reads: kind.reads.iter().cloned().collect() };
                let entry =
                    wanted.entry(observe::kind(kind)).or_insert_with(|| Wanted::of_databases(Trim::default(), scope()));
                entry.trim.merge(&trim);
            }
        }
        self.watches.want(wanted);
    }

    fn class_kinds(&self, names: &[String]) -> Vec<Kind> {
        let plugins = self.ctx.catalog.all();
        let kinds = plugins.iter().flat_map(|plugin| &plugin.revision.descriptor().class_kinds);
        kinds.filter(|kind| names.contains(&kind.kind)).map(observe::class_kind).collect()
    }

    /// How many class objects of these kinds there are, once all are listed.
    fn classes(&self, kinds: &[String]) -> Option<i32> {
        let caches = &self.ctx.caches;
        let listed = |kind: &Kind| (caches.state(kind) != State::Starting).then(|| caches.all(kind).len());
        self.class_kinds(kinds).iter().map(listed).sum::<Option<usize>>().map(count)
    }

    /// Wakes the database that an object belongs to.
    async fn wake_owner(&self, live: &Live) {
        let name = live.database_label().and_then(|label| {
            let labels = self.ctx.labels.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            labels.get(&Key::new(&live.namespace, label)).cloned()
        });
        if let Some(name) = name {
            let _ = self.wake.send(ObjectRef::new_with(&name, resource()).within(&live.namespace)).await;
        }
    }

    /// Wakes the databases that use a class, or would if it were there.
    async fn wake_users(&self, kind: &Kind, class: &Live) {
        for object in self.ctx.databases.state() {
            let Some(wanted) = spec(&object).map(|spec| spec.storage_class) else { continue };
            let here = wanted.namespace.as_deref() == Some(&class.namespace)
                || object.namespace().as_deref() == Some(&class.namespace);
            if wanted.kind == kind.kind && wanted.name == class.name && here {
                let _ = self.wake.send(ObjectRef::from_obj_with(&*object, resource())).await;
            }
        }
    }

    /// Wakes the databases that a test picks, by their spec and by whether objects of a kind were written for them.
    async fn wake_where(&self, pick: impl Fn(&DatabaseSpec, &dyn Fn(&Kind) -> bool) -> bool) {
        for object in self.ctx.databases.state() {
            let serving = spec(&object).and_then(|spec| self.ctx.catalog.serving(&spec.storage_class.kind));
            let touches = |kind: &Kind| {
                let descriptor = serving.as_ref().map(|plugin| plugin.revision.descriptor());
                let reads =
                    descriptor.into_iter().flat_map(|d| d.emits.iter().chain(&d.watches)).any(|k| observe::kind(k) == *kind);
                reads || *kind == partition_kind() || kinds_written(&object).contains(kind)
            };
            if spec(&object).is_some_and(|spec| pick(&spec, &touches)) {
                let _ = self.wake.send(ObjectRef::from_obj_with(&*object, resource())).await;
            }
        }
    }
}

fn database_phase(object: &DynamicObject) -> DatabasePhase {
    match object.data.pointer("/status/phase").and_then(serde_json::Value::as_str) {
        Some("Ready" | "ChangeNotTaken") => DatabasePhase::Ready,
        Some("Degraded") => DatabasePhase::Degraded,
        None | Some("Progressing") => DatabasePhase::Progressing,
        Some(_) => DatabasePhase::Blocked,
    }
}

fn kinds_written(object: &DynamicObject) -> Vec<Kind> {
    let kinds = object.data.pointer("/status/kinds").cloned();
    kinds.and_then(|kinds| serde_json::from_value(kinds).ok()).unwrap_or_default()
}

fn spec(object: &DynamicObject) -> Option<DatabaseSpec> {
    object.data.get("spec").cloned().and_then(|spec| serde_json::from_value(spec).ok())
}

fn resource() -> ApiResource {
    let kind = database_kind();
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(&kind.group, &kind.version, &kind.kind), &kind.plural)
}

fn controller_config() -> controller::Config {
    controller::Config::default().concurrency(limits::RECONCILES_AT_ONCE)
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
