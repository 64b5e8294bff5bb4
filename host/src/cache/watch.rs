//! One task a kind that keeps its cache true, started and stopped as plugins come and go. A kind that the API does not serve
//! is waited for, not polled; one that may not be watched is tried again, at most once a minute after a while.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::{StreamExt, pin_mut};
use kube::api::{Api, DynamicObject};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::WatchStreamExt;
use kube::runtime::utils::{Backoff, ResetTimerBackoff};
use kube::runtime::watcher::{self, Event, ExponentialBackoff, watcher};
use kube::{Client, Error};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use crate::limits;

use super::{Caches, Kind, Live, State, Store, Trim};

/// What a watch has to say to those who act on it.
#[derive(Clone, Debug)]
pub enum Change {
    /// An object came, changed in what is kept of it, or went.
    Object(Kind, Arc<Live>),
    /// The state of a kind's watch is another.
    State(Kind),
}

/// The running watches.
pub struct Watches {
    client: Client,
    caches: Arc<Caches>,
    changes: mpsc::Sender<Change>,
    running: Mutex<BTreeMap<Kind, Running>>,
}

struct Running {
    wanted: Wanted,
    /// Wakes a task that waits for the kind's definition.
    defined: Arc<Notify>,
    task: JoinHandle<()>,
}

/// What is wanted of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// What is kept of each object.
    pub trim: Trim,
    /// Label selector; empty for all objects.
    pub selector: &'static str,
    /// The one namespace to watch; all of them without it.
    pub namespace: Option<String>,
    /// The one object to watch.
    pub name: Option<String>,
}

impl Wanted {
    /// All objects that carry a database's label, in one namespace or in all.
    pub fn of_databases(trim: Trim, namespace: Option<String>) -> Wanted {
        Wanted { trim, selector: crate::names::SELECTOR, namespace, name: None }
    }

    /// All objects, in one namespace or in all.
    pub fn all(trim: Trim, namespace: Option<String>) -> Wanted {
        Wanted { trim, selector: "", namespace, name: None }
    }
}

impl Watches {
    /// No watch yet. Changes are sent to `changes`; when its reader is slow, the watches wait.
    pub fn new(client: Client, caches: Arc<Caches>, changes: mpsc::Sender<Change>) -> Watches {
        Watches { client, caches, changes, running: Mutex::default() }
    }

    /// Makes the running watches those wanted: starts what is missing, ends what nobody wants, starts anew what must keep more.
    pub fn want(&self, wanted: BTreeMap<Kind, Wanted>) {
        let mut running = self.running.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        running.retain(|kind, watch| {
            let kept = wanted.get(kind).is_some_and(|wanted| *wanted == watch.wanted);
            if !kept {
                watch.task.abort();
                if !wanted.contains_key(kind) {
                    self.caches.lock().remove(kind);
                }
            }
            kept
        });
        for (kind, wanted) in wanted {
            running.entry(kind.clone()).or_insert_with(|| self.start(kind, wanted));
        }
    }

    /// A definition came or changed: tasks that wait for a kind of it look again.
    pub fn defined(&self, group: &str, plural: &str) {
        let running = self.running.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        for (_, watch) in running.iter().filter(|(kind, _)| kind.group == group && kind.plural == plural) {
            watch.defined.notify_one();
        }
    }

    fn start(&self, kind: Kind, wanted: Wanted) -> Running {
        self.caches.lock().insert(kind.clone(), Store::new(wanted.trim.clone()));
        let defined = Arc::new(Notify::new());
        let api = api(&self.client, &kind, wanted.namespace.as_deref());
        let follow =
            Follow { api, caches: self.caches.clone(), changes: self.changes.clone(), defined: defined.clone(), kind };
        let task = tokio::spawn(follow.run(wanted.clone()));
        Running { wanted, defined, task }
    }
}

impl Drop for Watches {
    fn drop(&mut self) {
        let running = self.running.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner());
        running.values().for_each(|watch| watch.task.abort());
    }
}

/// The API of a kind, in one namespace or in all.
pub fn api(client: &Client, kind: &Kind, namespace: Option<&str>) -> Api<DynamicObject> {
    let gvk = GroupVersionKind::gvk(&kind.group, &kind.version, &kind.kind);
    let resource = ApiResource::from_gvk_with_plural(&gvk, &kind.plural);
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

/// How a watch that fails is tried again: soon, then less and less often, and soon again after it has held.
pub fn backoff() -> impl Backoff {
    let pauses = backon::ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(limits::RETRY_AFTER_MAX)
        .with_factor(2.0)
        .with_jitter()
        .without_max_times();
    ResetTimerBackoff::new(ExponentialBackoff::from(pauses), limits::RETRY_AFTER_MAX * 2)
}

/// Pauses between looks for a kind whose definition has just come.
const DEFINED_LOOKS: [Duration; 4] =
    [Duration::from_millis(50), Duration::from_millis(200), Duration::from_millis(750), Duration::from_secs(3)];

struct Follow {
    api: Api<DynamicObject>,
    caches: Arc<Caches>,
    changes: mpsc::Sender<Change>,
    defined: Arc<Notify>,
    kind: Kind,
}

impl Follow {
    async fn run(self, wanted: Wanted) {
        let mut config = watcher::Config::default();
        if !wanted.selector.is_empty() {
            config = config.labels(wanted.selector);
        }
        if let Some(name) = &wanted.name {
            config = config.fields(&format!("metadata.name={name}"));
        }
        let mut looks = DEFINED_LOOKS.iter();
        loop {
            let started = Instant::now();
            let events = watcher(self.api.clone(), config.clone()).backoff(backoff());
            pin_mut!(events);
            let mut listed = Vec::new();
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => self.take(event, &mut listed).await,
                    Err(error) if status_code(&error) == Some(404) => break,
                    Err(error) => self.failing(&error, started).await,
                }
            }
            // Not served. After a definition came, the API server takes a moment; else its coming is waited for.
            match looks.next() {
                Some(pause) => tokio::time::sleep(*pause).await,
                None => {
                    self.state(State::Absent).await;
                    self.defined.notified().await;
                    looks = DEFINED_LOOKS.iter();
                }
            }
        }
    }

    async fn take(&self, event: Event<DynamicObject>, listed: &mut Vec<Arc<Live>>) {
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(object) => listed.extend(self.trimmed(object)),
            Event::InitDone => {
                for live in self.replace(std::mem::take(listed)) {
                    self.say(Change::Object(self.kind.clone(), live)).await;
                }
                self.state(State::Synced).await;
            }
            Event::Apply(object) => {
                let Some(live) = self.trimmed(object) else { return };
                let changed = self.caches.lock().get_mut(&self.kind).is_some_and(|store| store.put(live.clone()));
                if changed {
                    self.say(Change::Object(self.kind.clone(), live)).await;
                }
            }
            Event::Delete(object) => {
                let Some(live) = self.trimmed(object) else { return };
                let key = live.key();
                if let Some(store) = self.caches.lock().get_mut(&self.kind) {
                    if store.removed.get(&key).is_some_and(|uid| *uid == live.uid) {
                        store.removed.remove(&key);
                    }
                    if store.objects.get(&key).is_some_and(|held| held.uid == live.uid) {
                        store.take(&key);
                    }
                }
                self.say(Change::Object(self.kind.clone(), live)).await;
            }
        }
    }

    /// Makes the cache what a list says; answers what differs from before. Newer versions from our own writes stay.
    fn replace(&self, listed: Vec<Arc<Live>>) -> Vec<Arc<Live>> {
        let mut stores = self.caches.lock();
        let Some(store) = stores.get_mut(&self.kind) else { return Vec::new() };
        let mut gone = std::mem::take(&mut store.objects);
        let mut changed = Vec::new();
        store.labelled.clear();
        store.removed.clear();
        for live in listed {
            let before = gone.remove(&live.key());
            let newer = before.as_ref().filter(|held| held.uid == live.uid && held.version > live.version).cloned();
            let live = newer.unwrap_or(live);
            if before.is_none_or(|held| !held.same_as(&live)) {
                changed.push(live.clone());
            }
            store.put(live);
        }
        changed.extend(gone.into_values()); // one that we wrote after the list was made comes again by its own event
        changed
    }

    fn trimmed(&self, object: DynamicObject) -> Option<Arc<Live>> {
        let trim = self.caches.lock().get(&self.kind)?.trim.clone();
        let mut value = object.data;
        let meta = serde_json::to_value(object.metadata).ok()?;
        if !value.is_object() {
            value = serde_json::json!({});
        }
        value["metadata"] = meta;
        trim.live(&self.kind, value).map(Arc::new)
    }

    async fn failing(&self, error: &watcher::Error, started: Instant) {
        let synced = self.caches.state(&self.kind) == State::Synced;
        tracing::debug!(kind = %self.kind.kind, %error, "watch failed; trying again");
        let patient = !synced && started.elapsed() < limits::RIGHTS_GRACE;
        if !patient && (!synced || status_code(error) == Some(403)) {
            self.state(State::Failing(error.to_string())).await;
        }
    }

    async fn state(&self, state: State) {
        let changed = match self.caches.lock().get_mut(&self.kind) {
            Some(store) if store.state != state => {
                store.state = state;
                true
            }
            _ => false,
        };
        if changed {
            self.say(Change::State(self.kind.clone())).await;
        }
    }

    async fn say(&self, change: Change) {
        let _ = self.changes.send(change).await; // no reader: the controller is stopping
    }
}

/// The HTTP status of an API's refusal of a watch.
fn status_code(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::InitialListFailed(Error::Api(status))
        | watcher::Error::WatchStartFailed(Error::Api(status))
        | watcher::Error::WatchFailed(Error::Api(status)) => Some(status.code),
        watcher::Error::WatchError(status) => Some(status.code),
        _ => None,
    }
}
