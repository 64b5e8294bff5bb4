//! One task a kind that keeps its cache true, started and stopped as plugins come and go. A kind that the API does not serve
//! is waited for, not polled; one that may not be watched is tried again, less and less often.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::{StreamExt, pin_mut};
use kube::api::{Api, DynamicObject};
use kube::core::{ApiResource, DynamicResourceScope, GroupVersionKind};
use kube::runtime::WatchStreamExt;
use kube::runtime::utils::{Backoff, ResetTimerBackoff};
use kube::runtime::watcher::{self, Event, ExponentialBackoff, watcher};
use kube::{Client, Error, Resource};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use crate::tasks;
use atomix_model::limits;
use atomix_model::object::Objects as _;

use super::packed::Packed;
use super::raw_object::RawObject;
use super::{Caches, Store};
use atomix_model::object::{Kind, Live, State, Trim};

/// What a watch has to say to those who act on it.
#[derive(Clone, Debug)]
pub enum Change {
    /// An object came, changed in what is kept of it, or went.
    Object(Kind, Arc<Packed>),
    /// The state of a kind's watch is another.
    State(Kind),
}

/// Starts and stops one watch for each kind, as kinds are wanted or not.
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
    /// Wakes a task that waits until a watch that failed is tried again.
    again: Arc<Notify>,
    task: JoinHandle<()>,
}

/// Which objects of a kind are watched, and which of their fields are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The fields that are kept of each object; all others are dropped as they arrive.
    pub trim: Trim,
    /// Label selector; empty for all objects.
    pub selector: &'static str,
    /// The one namespace to watch; all of them without it.
    pub namespace: Option<String>,
    /// Name of the one object to watch; all objects of the kind if it is none.
    pub name: Option<String>,
}

impl Wanted {
    /// All objects that carry a database's label, in one namespace or in all.
    pub fn of_databases(trim: Trim, namespace: Option<String>) -> Wanted {
        Wanted { trim, selector: atomix_model::names::SELECTOR, namespace, name: None }
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

    /// Rights may be others: watches that fail are tried again at once.
    pub fn try_again(&self) {
        let running = self.running.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let fails = |kind: &Kind| matches!(self.caches.state(kind), State::Failing(_));
        running.iter().filter(|(kind, _)| fails(kind)).for_each(|(_, watch)| watch.again.notify_one());
    }

    fn start(&self, kind: Kind, wanted: Wanted) -> Running {
        self.caches.lock().insert(kind.clone(), Store::new(wanted.trim.clone()));
        let (defined, again) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let api = raw_api(&self.client, &kind, wanted.namespace.as_deref());
        let (caches, changes) = (self.caches.clone(), self.changes.clone());
        let follow = Follow { api, caches, changes, defined: defined.clone(), again: again.clone(), kind };
        let task = tasks::vital("watch", follow.run(wanted.clone()));
        Running { wanted, defined, again, task }
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
    api_of(client, kind, namespace)
}

/// The same, for watches: lists are read object by object.
pub fn raw_api(client: &Client, kind: &Kind, namespace: Option<&str>) -> Api<RawObject> {
    api_of(client, kind, namespace)
}

/// How objects are listed and watched.
pub fn watcher_config() -> watcher::Config {
    watcher::Config::default().page_size(limits::LIST_PAGE)
}

fn api_of<K>(client: &Client, kind: &Kind, namespace: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = ApiResource, Scope = DynamicResourceScope>,
{
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
        .with_min_delay(limits::WATCH_RETRY_AFTER_MIN)
        .with_max_delay(limits::WATCH_RETRY_AFTER_MAX)
        .with_factor(2.0)
        .with_jitter()
        .without_max_times();
    ByTime(ResetTimerBackoff::new(ExponentialBackoff::from(pauses), limits::WATCH_RETRY_AFTER_MAX * 4))
}

/// A backoff that time alone resets. A watch says [`Event::Init`] before each list, so that one reset by whatever goes well would have a
/// list that fails asked for several times a second, for ever.
struct ByTime<B: Backoff>(ResetTimerBackoff<B>);

impl<B: Backoff> Iterator for ByTime<B> {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.0.next()
    }
}

impl<B: Backoff> Backoff for ByTime<B> {
    fn reset(&mut self) {}
}

/// Pauses between looks for a kind whose definition has just come.
const DEFINED_LOOKS: [Duration; 4] =
    [Duration::from_millis(50), Duration::from_millis(200), Duration::from_millis(750), Duration::from_secs(3)];

struct Follow {
    api: Api<RawObject>,
    caches: Arc<Caches>,
    changes: mpsc::Sender<Change>,
    defined: Arc<Notify>,
    again: Arc<Notify>,
    kind: Kind,
}

impl Follow {
    async fn run(self, wanted: Wanted) {
        let mut config = watcher_config();
        if !wanted.selector.is_empty() {
            config = config.labels(wanted.selector);
        }
        if let Some(name) = &wanted.name {
            config = config.fields(&format!("metadata.name={name}"));
        }
        let mut looks = DEFINED_LOOKS.iter();
        'anew: loop {
            let started = Instant::now();
            let events = watcher(self.api.clone(), config.clone()).backoff(backoff());
            pin_mut!(events);
            let mut listed = Vec::new();
            loop {
                let event = tokio::select! {
                    event = events.next() => event,
                    () = self.again.notified() => continue 'anew,
                };
                let Some(event) = event else { break };
                match event {
                    Ok(event) => self.take(event, &mut listed).await,
                    Err(error) if status_code(&error) == Some(404) => break,
                    Err(error) => {
                        if self.failing(&error, started).await {
                            continue 'anew; // a watch that goes on again says nothing of it; the end of a list does
                        }
                    }
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

    async fn take(&self, event: Event<RawObject>, listed: &mut Vec<Arc<Packed>>) {
        match event {
            Event::Init => {
                listed.clear();
                if let Some(store) = self.caches.lock().get_mut(&self.kind) {
                    store.since_list = Some(BTreeSet::new());
                }
            }
            Event::InitApply(object) => {
                let Some(live) = self.trimmed(&object) else { return };
                listed.push(Arc::new(Packed::of(&live, listed.last().map(|before| &**before))));
            }
            Event::InitDone => {
                let listed = std::mem::take(listed);
                let changed = self.caches.lock().get_mut(&self.kind).map(|store| store.replace(listed));
                for packed in changed.unwrap_or_default() {
                    self.say(Change::Object(self.kind.clone(), packed)).await;
                }
                self.state(State::Synced).await;
            }
            Event::Apply(object) => {
                if self.is_held(&object) {
                    return; // most often the answer to our own write
                }
                let Some(live) = self.trimmed(&object) else { return };
                let changed = self.caches.lock().get_mut(&self.kind).and_then(|store| store.put(Arc::new(live)));
                if let Some(packed) = changed {
                    self.say(Change::Object(self.kind.clone(), packed)).await;
                }
            }
            Event::Delete(object) => {
                let Some(live) = self.trimmed(&object) else { return };
                let key = live.key();
                if let Some(store) = self.caches.lock().get_mut(&self.kind) {
                    if store.removed.get(&key).is_some_and(|uid| *uid == live.uid) {
                        store.removed.remove(&key);
                    }
                    if store.find(&key.namespace, &key.name).is_some_and(|held| *held.packed.uid == *live.uid) {
                        store.take(&key.namespace, &key.name);
                    }
                }
                self.say(Change::Object(self.kind.clone(), Arc::new(Packed::of(&live, None)))).await;
            }
        }
    }

    /// Whether this version of an object is held, or a newer one.
    fn is_held(&self, object: &RawObject) -> bool {
        let meta = object.meta();
        let (Some(uid), Some(version)) = (&meta.uid, &meta.resource_version) else { return false };
        let (Some(name), Ok(version)) = (&meta.name, version.parse::<u64>()) else { return false };
        let stores = self.caches.lock();
        let held = stores.get(&self.kind).and_then(|store| store.find(meta.namespace.as_deref().unwrap_or_default(), name));
        held.is_some_and(|held| *held.packed.uid == **uid && held.packed.version >= version)
    }

    fn trimmed(&self, object: &RawObject) -> Option<Live> {
        let trim = self.caches.lock().get(&self.kind)?.trim.clone();
        trim.live(&self.kind, object.value())
    }

    /// Takes in that a watch failed. Answers whether a cache that was whole does not count as such any more.
    async fn failing(&self, error: &watcher::Error, started: Instant) -> bool {
        let synced = self.caches.state(&self.kind) == State::Synced;
        tracing::debug!(kind = %self.kind.kind, %error, "watch failed; trying again");
        let patient = !synced && started.elapsed() < limits::RIGHTS_GRACE;
        if !patient && (!synced || status_code(error) == Some(403)) {
            self.state(State::Failing(error.to_string())).await;
            return synced;
        }
        false
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_well_before_each_failure_makes_no_pause_shorter() {
        let mut backoff = backoff();
        let pauses: Vec<_> = (0..20)
            .map(|_| {
                backoff.reset(); // as a stream does at each item, and a watch says that it lists before each list
                backoff.next().expect("it is tried for ever")
            })
            .collect();
        assert!(pauses[0] < limits::WATCH_RETRY_AFTER_MIN * 2, "{pauses:?}");
        assert!(pauses[10..].iter().all(|pause| *pause >= limits::WATCH_RETRY_AFTER_MAX), "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause <= limits::WATCH_RETRY_AFTER_MAX * 2), "{pauses:?}");
    }
}
