//! What Kubernetes reports of objects in Events, watched namespace by namespace and only while somebody asks: a cluster in which nothing is
//! unexplained has no such watch. Knows no database and no cause.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use futures::{StreamExt, pin_mut};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::DynamicObject;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::watch::{api, backoff};
use crate::tasks;
use atomix_model::object::{Key, Kind, Told};
use atomix_model::{limits, message_text};

/// What is watched of a namespace: warnings, and all about claims, whose causes are reported as if they were none.
const WATCHED: [&str; 2] = ["type=Warning", "type!=Warning,involvedObject.kind=PersistentVolumeClaim"];

/// The namespaces whose Events are watched.
pub struct Events {
    client: Client,
    news: mpsc::Sender<String>,
    namespaces: Arc<Mutex<BTreeMap<String, Namespace>>>,
}

struct Namespace {
    /// Names of the databases for which Events are watched.
    askers: BTreeSet<String>,
    told: Store,
    opened: Instant,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Events {
    /// No watch yet. The namespace in which something new was told is sent to `news`.
    pub fn new(client: Client, news: mpsc::Sender<String>) -> Events {
        Events { client, news, namespaces: Arc::default() }
    }

    /// What was told in the namespace of `asker` so far, which is watched from now on until [`Events::leave`]; None if too many
    /// others are.
    pub fn ask(&self, asker: &Key) -> Option<Vec<Told>> {
        let mut namespaces = lock(&self.namespaces);
        if !namespaces.contains_key(&asker.namespace) {
            if namespaces.len() >= limits::EVENT_NAMESPACES_MAX {
                let oldest = namespaces.iter().min_by_key(|(_, namespace)| namespace.opened)?;
                if oldest.1.opened.elapsed() < limits::EVENT_NAMESPACE_KEPT {
                    return None;
                }
                let oldest = oldest.0.clone();
                namespaces.remove(&oldest);
            }
            let tasks = WATCHED.map(|fields| self.follow(asker.namespace.clone(), fields)).into();
            let namespace = Namespace { askers: BTreeSet::new(), told: Store::default(), opened: Instant::now(), tasks };
            namespaces.insert(asker.namespace.clone(), namespace);
        }
        let namespace = namespaces.get_mut(&asker.namespace)?;
        namespace.askers.insert(asker.name.clone());
        Some(namespace.told.0.values().cloned().collect())
    }

    /// One that asks no more. The last one ends the watch.
    pub fn leave(&self, asker: &Key) {
        let mut namespaces = lock(&self.namespaces);
        let Some(namespace) = namespaces.get_mut(&asker.namespace) else { return };
        namespace.askers.remove(&asker.name);
        if namespace.askers.is_empty() {
            namespaces.remove(&asker.namespace);
        }
    }

    /// Names of those who ask in a namespace.
    pub fn askers(&self, namespace: &str) -> Vec<String> {
        let namespaces = lock(&self.namespaces);
        namespaces.get(namespace).map(|namespace| namespace.askers.iter().cloned().collect()).unwrap_or_default()
    }

    fn follow(&self, namespace: String, fields: &'static str) -> JoinHandle<()> {
        let api = api(&self.client, &event_kind(), Some(&namespace));
        let (namespaces, sender) = (self.namespaces.clone(), self.news.clone());
        tasks::vital("events", async move {
            let events = watcher(api, watcher::Config::default().fields(fields)).backoff(backoff());
            pin_mut!(events);
            let (mut listing, mut news) = (false, false);
            while let Some(event) = events.next().await {
                match event {
                    Ok(Event::Init) => (listing, news) = (true, false),
                    Ok(Event::InitApply(event) | Event::Apply(event)) => {
                        let told = told(&event);
                        let mut namespaces = lock(&namespaces);
                        let Some(store) = namespaces.get_mut(&namespace).map(|namespace| &mut namespace.told) else {
                            continue;
                        };
                        news |= told.is_some_and(|told| store.put(told));
                    }
                    Ok(Event::InitDone) => listing = false,
                    Ok(Event::Delete(_)) => {} // they go after an hour; the absence of Events means nothing
                    Err(error) => tracing::debug!(%error, namespace, "Events cannot be watched; trying again"),
                }
                if news && !listing {
                    news = false;
                    let _ = sender.send(namespace.clone()).await; // no reader: the controller is stopping
                }
            }
        })
    }
}

fn lock(namespaces: &Mutex<BTreeMap<String, Namespace>>) -> MutexGuard<'_, BTreeMap<String, Namespace>> {
    namespaces.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn event_kind() -> Kind {
    Kind { group: String::new(), version: "v1".into(), kind: "Event".into(), plural: "events".into() }
}

/// An Event, as far as it can be read; one that makes no sense is none.
fn told(event: &DynamicObject) -> Option<Told> {
    let text = |pointer: &str| event.data.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
    let time = |pointer: &str| text(pointer)?.parse::<Timestamp>().ok();
    let times = ["/series/lastObservedTime", "/lastTimestamp", "/eventTime", "/firstTimestamp"];
    let message = text("/message").unwrap_or_default();
    let message = message.strip_prefix("(combined from similar events): ").unwrap_or(message); // as client-go puts repetitions together
    Some(Told {
        kind: text("/involvedObject/kind")?.to_owned(),
        name: text("/involvedObject/name")?.to_owned(),
        uid: text("/involvedObject/uid").unwrap_or_default().to_owned(),
        reason: text("/reason")?.to_owned(),
        message: message_text::line(message, limits::EVENT_MESSAGE_CHARS_MAX),
        warning: text("/type") == Some("Warning"),
        last: times.into_iter().filter_map(time).max()?,
    })
}

/// What was told, by object, reason and what it says.
#[derive(Default)]
struct Store(BTreeMap<(String, String, String, String), Told>);

impl Store {
    /// Takes an Event in; answers whether it is news rather than a repetition.
    fn put(&mut self, told: Told) -> bool {
        let key = (told.uid.clone(), told.name.clone(), told.reason.clone(), message_text::of_any(&told.message));
        if let Some(known) = self.0.get_mut(&key) {
            known.last = known.last.max(told.last);
            return false;
        }
        if self.0.len() >= limits::EVENTS_KEPT_MAX {
            let oldest = self.0.iter().min_by_key(|(_, told)| told.last).map(|(key, told)| (key.clone(), told.last));
            match oldest {
                Some((key, last)) if last < told.last => self.0.remove(&key),
                _ => return false,
            };
        }
        self.0.insert(key, told);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(message: &str, last: &str) -> DynamicObject {
        let data = json!({"type": "Warning", "reason": "FailedCreate", "message": message, "lastTimestamp": null, "eventTime": last,
            "involvedObject": {"kind": "Thing", "name": "a", "uid": "u"}});
        DynamicObject { types: None, metadata: Default::default(), data }
    }

    #[test]
    fn what_is_told_again_is_no_news_and_keeps_its_first_words() {
        let mut store = Store::default();
        let mut put = |message, last| store.put(told(&event(message, last)).unwrap());
        assert!(put("create Pod a-0 failed: quota", "2026-01-01T00:00:00Z"));
        assert!(!put("create Pod a-1 failed: quota", "2026-01-01T00:10:00Z"));
        assert!(put("create Pod a-1 failed: denied", "2026-01-01T00:10:00Z"));
        let first = store.0.values().find(|told| told.message.ends_with("quota")).unwrap();
        assert_eq!(first.message, "create Pod a-0 failed: quota");
        assert_eq!(first.last, "2026-01-01T00:10:00Z".parse().unwrap());
    }

    #[test]
    fn a_store_is_bounded_and_an_event_without_an_object_is_none() {
        let mut store = Store::default();
        for number in 0..limits::EVENTS_KEPT_MAX + 10 {
            let last = format!("2026-01-01T{:02}:{:02}:{:02}Z", number / 3600, number / 60 % 60, number % 60);
            let mut told = told(&event("again", &last)).unwrap();
            told.uid = number.to_string();
            store.put(told);
        }
        assert_eq!(store.0.len(), limits::EVENTS_KEPT_MAX);
        assert!(store.0.keys().all(|(uid, ..)| uid.parse::<usize>().unwrap() >= 10), "the oldest go");
        assert!(told(&DynamicObject { types: None, metadata: Default::default(), data: json!({"reason": "X"}) }).is_none());
    }
}
