//! Loads plugins beside each other: each ConfigMap's bytes once, bytes that are new in a process of their own first, and revisions that
//! were kept. Knows no role and no database; [`super::Catalog::settle`] decides what becomes of what was loaded.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};

use super::config_maps::{self, Source};
use super::revisions::{Kept, RevisionStore};
use super::trial_process::{Trial, Tried};
use super::{Catalog, Entry, Refused};
use atomix_model::{limits, names};
use atomix_sandbox::{self, Revision, Sandbox};

/// What loading a ConfigMap's bytes came to.
pub type Loaded = Result<Revision, Refused>;

/// All loading that is under way, and what it came to.
pub struct Loading {
    tools: Tools,
    tasks: JoinSet<(Bytes, String, Loaded)>,
    jobs: BTreeMap<Bytes, Job>,
}

/// Which bytes of a plugin, which is named first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Bytes {
    /// Those of the ConfigMap that brings it.
    Newest(String),
    /// Those of a revision that is kept, by their digest.
    Kept(String, String),
}

/// What loading needs. Cheap to clone.
#[derive(Clone)]
struct Tools {
    sandbox: Sandbox,
    trial: Trial,
    /// Places for trials under narrow limits, and under wide ones.
    places: [Arc<Semaphore>; 2],
}

/// The loading of bytes.
struct Job {
    /// Stamp of the ConfigMap that is being loaded, or was; of a kept one its UID.
    stamp: String,
    /// Whether the bytes are known to be good, so that nobody has to wait long.
    is_known: bool,
    /// SHA-256 of the bytes, if they could be read.
    digest: Option<String>,
    task: AbortHandle,
    loaded: Option<Loaded>,
}

impl Loading {
    /// Nothing yet. `trial` loads bytes that are new.
    pub fn new(sandbox: Sandbox, trial: Trial) -> Self {
        let places = TRIALS.map(|limits| Arc::new(Semaphore::new(limits.at_once)));
        let tools = Tools { sandbox, trial, places };
        Self { tools, tasks: JoinSet::new(), jobs: BTreeMap::new() }
    }

    /// Begins to load what a ConfigMap holds now, and ends the loading of what it held before. `is_known` tells of a digest whether its
    /// bytes were found good before, also before the controller's start: these are not tried again.
    pub async fn want(&mut self, catalog: &Catalog, name: &str, source: &Source, is_known: impl Fn(&str) -> bool) {
        let key = Bytes::Newest(name.to_owned());
        if self.jobs.get(&key).is_some_and(|job| job.stamp == source.stamp) {
            return;
        }
        self.forget_newest(name);
        let Entry { serving, before, refused, .. } = catalog.entry(name);
        let (tools, stamp, owned, task_key) = (self.tools.clone(), source.stamp.clone(), name.to_owned(), key.clone());
        let (is_known, digest, task) = match unpacked(source).await {
            Err(refused) => (true, None, self.tasks.spawn(async move { (task_key, stamp, Err(refused)) })),
            Ok(bytes) => {
                let served = serving.into_iter().chain(before).map(|plugin| plugin.revision.clone());
                let served = served.into_iter().find(|revision| revision.digest() == bytes.digest);
                let refused =
                    refused.filter(|refused| refused.is_for_good && refused.digest.as_ref() == Some(&bytes.digest));
                let (is_known, digest) = (is_known(&bytes.digest), bytes.digest.clone());
                let load = async move {
                    let loaded = match (served, refused) {
                        (Some(revision), _) => Ok(revision),
                        (None, Some(refused)) => Err(Refused { stamp: stamp.clone(), ..refused }),
                        (None, None) => tools.load(&owned, &stamp, bytes, is_known).await,
                    };
                    (task_key, stamp, loaded)
                };
                (is_known, Some(digest), self.tasks.spawn(load))
            }
        };
        self.jobs.insert(key, Job { stamp: source.stamp.clone(), is_known, digest, task, loaded: None });
    }

    /// Begins to load these revisions of a plugin, which are kept, and forgets all others of it.
    pub fn want_kept(&mut self, store: &RevisionStore, name: &str, wanted: &[Kept]) {
        self.retain(|bytes, job| match bytes {
            Bytes::Kept(plugin, digest) if plugin == name => {
                wanted.iter().any(|kept| kept.digest == *digest && kept.uid == job.stamp)
            }
            _ => true,
        });
        for kept in wanted {
            let key = Bytes::Kept(name.to_owned(), kept.digest.clone());
            if self.jobs.contains_key(&key) {
                continue;
            }
            let (tools, store, kept, task_key) = (self.tools.clone(), store.clone(), kept.clone(), key.clone());
            let (stamp, digest) = (kept.uid.clone(), Some(kept.digest.clone()));
            let task = self.tasks.spawn(async move { (task_key, kept.uid.clone(), tools.load_kept(&store, &kept).await) });
            self.jobs.insert(key, Job { stamp, is_known: true, digest, task, loaded: None });
        }
    }

    /// Ends the loading of a plugin whose ConfigMap is gone.
    pub fn forget_newest(&mut self, name: &str) {
        self.retain(|bytes, _| !matches!(bytes, Bytes::Newest(plugin) if plugin == name));
    }

    fn retain(&mut self, keep: impl Fn(&Bytes, &Job) -> bool) {
        self.jobs.retain(|bytes, job| {
            let keep = keep(bytes, job);
            if !keep {
                job.task.abort();
            }
            keep
        });
    }

    /// Waits until something has been loaded or refused. Never ends while nothing is being loaded.
    pub async fn next(&mut self) {
        loop {
            match self.tasks.join_next().await {
                Some(Ok((bytes, stamp, loaded))) => {
                    if let Some(job) = self.jobs.get_mut(&bytes).filter(|job| job.stamp == stamp) {
                        job.loaded = Some(loaded);
                        return;
                    }
                }
                Some(Err(_)) => {} // it was aborted
                None => std::future::pending().await,
            }
        }
    }

    /// What the loading of a plugin's newest bytes came to; None while it goes on.
    pub fn loaded(&self, name: &str) -> Option<Loaded> {
        self.jobs.get(&Bytes::Newest(name.to_owned()))?.loaded.clone()
    }

    /// Digest of a plugin's newest bytes, whether they are loaded or not.
    pub fn newest_digest(&self, name: &str) -> Option<&str> {
        self.jobs.get(&Bytes::Newest(name.to_owned()))?.digest.as_deref()
    }

    /// The revisions of a plugin that were kept, and are loaded.
    pub fn kept(&self, name: &str) -> Vec<Revision> {
        let of_plugin = |bytes: &Bytes| matches!(bytes, Bytes::Kept(plugin, _) if plugin == name);
        let jobs = self.jobs.iter().filter(|(bytes, _)| of_plugin(bytes));
        jobs.filter_map(|(_, job)| job.loaded.clone()?.ok()).collect()
    }

    /// Whether all that is known to be good is loaded.
    pub fn is_known_loaded(&self) -> bool {
        self.jobs.values().all(|job| job.loaded.is_some() || !job.is_known)
    }
}

/// A plugin's bytes as they are loaded, and their SHA-256 in hexadecimal.
struct Unpacked {
    plain: Arc<[u8]>,
    digest: String,
}

/// The bytes that a ConfigMap holds.
async fn unpacked(source: &Source) -> Result<Unpacked, Refused> {
    let refuse = |message: String| Refused { stamp: source.stamp.clone(), digest: None, message, is_for_good: false };
    let packed = source.bytes.clone().map_err(refuse)?;
    let unpacked =
        blocking(move || config_maps::unpacked(&packed).map(|plain| (atomix_sandbox::digest_of(&plain), plain))).await;
    let (digest, plain) = unpacked.map_err(|message| refuse(format!("ConfigMap {}: {message}", source.name)))?;
    if let Some(pinned) = source.pinned.as_deref().filter(|pinned| *pinned != digest) {
        let message = format!(
            "ConfigMap {} holds a plugin of digest {digest}, and its annotation {} allows {:?} alone",
            source.name,
            names::DIGEST,
            pinned.chars().take(digest.len()).collect::<String>(),
        );
        return Err(Refused { digest: Some(digest), ..refuse(message) });
    }
    Ok(Unpacked { plain: plain.into(), digest })
}

impl Tools {
    /// Checks, tries unless they `are_known` to be good, and loads bytes.
    async fn load(self, name: &str, stamp: &str, bytes: Unpacked, are_known: bool) -> Loaded {
        let Unpacked { plain, digest } = bytes;
        let blame = |fault: atomix_sandbox::PluginFault| Refused {
            stamp: stamp.to_owned(),
            digest: Some(digest.clone()),
            message: fault.to_string(),
            is_for_good: true,
        };
        let (hint, checked) = (name.to_owned(), plain.clone());
        blocking(move || atomix_sandbox::check(&hint, &checked)).await.map_err(blame)?;
        if !are_known {
            self.try_out(&plain).await.map_err(|what| blame(atomix_sandbox::blamed(name, &plain, what)))?;
        }
        let (hint, sandbox) = (name.to_owned(), self.sandbox);
        blocking(move || sandbox.load(&hint, &plain)).await.map_err(blame)
    }

    /// Loads a revision that is kept, which was found good before it was.
    async fn load_kept(self, store: &RevisionStore, kept: &Kept) -> Loaded {
        let mut pause = limits::RETRY_AFTER_MIN;
        let bytes = loop {
            match store.read(kept).await {
                Ok(bytes) => break bytes,
                Err(error) => {
                    tracing::warn!(%error, config_map = kept.config_map, "a revision could not be read; trying again")
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(limits::RETRY_AFTER_MAX);
        };
        let source = Source {
            pinned: None,
            name: kept.config_map.clone(),
            plugin: kept.plugin.clone(),
            stamp: kept.uid.clone(),
            created: kept.created,
            bytes: bytes.map(Into::into),
        };
        let loaded = match unpacked(&source).await {
            Ok(bytes) if bytes.digest == kept.digest => self.load(&kept.plugin, &kept.uid, bytes, true).await,
            Ok(Unpacked { digest, .. }) => {
                let message = format!("its bytes have digest {digest}, not {}", kept.digest);
                Err(Refused { stamp: kept.uid.clone(), digest: Some(digest), message, is_for_good: true })
            }
            Err(refused) => Err(refused),
        };
        if let Err(refused) = &loaded {
            tracing::warn!(config_map = kept.config_map, why = refused.message, "a revision that was kept cannot be used");
        }
        loaded
    }

    /// Has the bytes loaded by another process: under narrow limits, and under wide ones where these are exceeded.
    async fn try_out(&self, bytes: &[u8]) -> Result<(), atomix_sandbox::Wrong> {
        match self.try_under(bytes, 0).await {
            Tried::Exceeds(_) => self.try_under(bytes, 1).await.verdict(),
            tried => tried.verdict(),
        }
    }

    /// The same under one of [`TRIALS`], again and again while no process can be had.
    async fn try_under(&self, bytes: &[u8], which: usize) -> Tried {
        let mut pause = limits::RETRY_AFTER_MIN;
        loop {
            let place = self.places[which].acquire().await;
            match self.trial.run(bytes, &TRIALS[which]).await {
                Ok(tried) => return tried,
                Err(error) => tracing::warn!(%error, "a plugin could not be tried; trying again"),
            }
            drop(place);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(limits::PLUGIN_RETRY_AFTER_MAX);
        }
    }
}

/// The limits of the first trial, and of the last.
const TRIALS: [limits::Trial; 2] = [limits::TRIAL_FIRST, limits::TRIAL_LAST];

/// Runs what takes a while off the async threads. A task that is aborted meanwhile leaves it to end by itself.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => std::future::pending().await, // the runtime ends
        },
    }
}
