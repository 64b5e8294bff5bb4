//! Which revisions of a plugin are kept, and the keeping itself: beside everything else, again and again while it fails.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::task::JoinSet;

use super::revisions::{Kept, RevisionStore, ToKeep};
use super::{Recorded, Reporter};
use atomix_controller_io::api_client::said;
use atomix_controller_io::leader::Leadership;
use atomix_model::limits;

/// All revisions that are being kept or let go.
pub struct Keeping {
    store: RevisionStore,
    reporter: Reporter,
    leading: Leadership,
    tasks: JoinSet<Done>,
    /// By the name of the plugin.
    jobs: BTreeMap<String, Job>,
    /// UIDs of those that are being let go.
    letting_go: BTreeSet<String>,
}

struct Job {
    digest: String,
    /// How long the next try waits.
    pause: Duration,
    /// Whether a try is under way, or waits, or has gone well and is not seen yet.
    is_running: bool,
    /// Why the last one failed.
    trouble: Option<String>,
}

enum Done {
    Kept { plugin: String, digest: String, result: Result<(), String> },
    LetGo { uid: String },
}

impl Keeping {
    /// Nothing yet.
    pub fn new(store: RevisionStore, reporter: Reporter, leading: Leadership) -> Keeping {
        Keeping { store, reporter, leading, tasks: JoinSet::new(), jobs: BTreeMap::new(), letting_go: BTreeSet::new() }
    }

    /// Begins to keep a revision, unless that goes on already. After a failure it waits, longer each time.
    pub fn keep(&mut self, revision: ToKeep) {
        let ToKeep { plugin, digest, .. } = revision.clone();
        let job = self.jobs.entry(plugin).or_insert_with(|| Job::of(&digest));
        if job.digest != digest {
            *job = Job::of(&digest);
        }
        if std::mem::replace(&mut job.is_running, true) {
            return;
        }
        let (store, reporter, leading, pause) = (self.store.clone(), self.reporter.clone(), self.leading.clone(), job.pause);
        job.pause = (pause * 2).clamp(limits::RETRY_AFTER_MIN, limits::RETRY_AFTER_MAX);
        self.tasks.spawn(async move {
            tokio::time::sleep(pause).await;
            let result = match leading.begin_pass() {
                Some(_pass) => keep(&store, &reporter, &revision).await,
                None => Err("another replica leads".to_owned()),
            };
            Done::Kept { plugin: revision.plugin, digest: revision.digest, result }
        });
    }

    /// Takes in which revisions of a plugin are seen to be kept: one that goes later is kept again.
    pub fn saw(&mut self, plugin: &str, kept: &[Kept]) {
        let is_seen = |job: &Job| kept.iter().any(|kept| kept.digest == job.digest);
        if self.jobs.get(plugin).is_some_and(is_seen) {
            self.jobs.remove(plugin);
        }
    }

    /// Forgets a plugin that is gone.
    pub fn forget(&mut self, plugin: &str) {
        self.jobs.remove(plugin);
    }

    /// Lets go of revisions.
    pub fn let_go(&mut self, superfluous: Vec<Kept>) {
        for kept in superfluous {
            if !self.letting_go.insert(kept.uid.clone()) {
                continue;
            }
            let (store, reporter, leading) = (self.store.clone(), self.reporter.clone(), self.leading.clone());
            self.tasks.spawn(async move {
                if let Some(_pass) = leading.begin_pass()
                    && let Err(error) = let_go(&store, &reporter, &kept).await
                {
                    tracing::warn!(%error, config_map = kept.config_map, "a revision that nobody needs could not be deleted");
                }
                Done::LetGo { uid: kept.uid }
            });
        }
    }

    /// Waits until something has been kept, or could not be. Never ends while nothing is under way.
    pub async fn next(&mut self) {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(Done::Kept { plugin, digest, result })) => {
                    if let Some(job) = self.jobs.get_mut(&plugin).filter(|job| job.digest == digest) {
                        job.is_running = result.is_ok();
                        job.trouble = result.err();
                        if let Some(why) = &job.trouble {
                            tracing::warn!(plugin, why, "a revision could not be kept; trying again");
                        }
                    }
                    return;
                }
                Some(Ok(Done::LetGo { uid })) => {
                    self.letting_go.remove(&uid);
                }
                Some(Err(_)) => {} // the runtime ends
                None => std::future::pending().await,
            }
        }
    }

    /// Why the newest revision of a plugin could not be kept, if the last try failed.
    pub fn trouble(&self, plugin: &str) -> Option<String> {
        self.jobs.get(plugin)?.trouble.clone()
    }
}

impl Job {
    fn of(digest: &str) -> Job {
        Job { digest: digest.to_owned(), pause: Duration::ZERO, is_running: false, trouble: None }
    }
}

async fn keep(store: &RevisionStore, reporter: &Reporter, revision: &ToKeep) -> Result<(), String> {
    let failed = |error: kube::Error| format!("StoragePlugin {} could not be created: {}", revision.plugin, said(&error));
    let uid = reporter.uid(&revision.plugin).await.map_err(failed)?;
    store.keep(revision, (&revision.plugin, &uid)).await
}

/// Lets go of a revision, unless the API server itself says that it serves or that databases run what it planned: what was seen may be
/// old.
async fn let_go(store: &RevisionStore, reporter: &Reporter, kept: &Kept) -> kube::Result<()> {
    let recorded = reporter.recorded_now(&kept.plugin).await?;
    if recorded.digest.as_ref() == Some(&kept.digest) || recorded.is_wanted(&kept.digest) {
        return Ok(());
    }
    store.let_go(kept).await
}

/// The revisions that have to be loaded, unless they `are_loaded`: the one that served last, the one that is to serve by an annotation, and
/// those that planned what databases run or that databases name.
pub fn wanted(kept: &[Kept], recorded: &Recorded, are_loaded: impl Fn(&str) -> bool) -> Vec<Kept> {
    let served = |kept: &&Kept| recorded.digest.as_ref() == Some(&kept.digest);
    let mut wanted: Vec<&Kept> = kept.iter().filter(|kept| recorded.is_wanted(&kept.digest) && !served(kept)).collect();
    wanted.sort_by_key(|kept| !recorded.pins(&kept.digest));
    let all = kept.iter().find(served).into_iter().chain(wanted.into_iter().take(limits::REVISIONS_REMEMBERED));
    all.filter(|kept| !are_loaded(&kept.digest)).cloned().collect()
}

/// The revisions that nobody needs: not those that are `spared`, nor that databases run or somebody names, nor the newest.
pub fn superfluous(kept: &[Kept], recorded: &Recorded, spared: &BTreeSet<String>, newest: usize) -> Vec<Kept> {
    let is_needed = |kept: &&Kept| {
        spared.contains(&kept.digest) || recorded.digest.as_ref() == Some(&kept.digest) || recorded.is_wanted(&kept.digest)
    };
    kept.iter().skip(newest).filter(|kept| !is_needed(kept)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(digests: &[&str]) -> Vec<Kept> {
        let of = |digest: &&str| Kept {
            config_map: format!("atomix-revision-web-{digest}"),
            uid: format!("uid of {digest}"),
            plugin: "web".to_owned(),
            digest: (*digest).to_owned(),
            version: "0.1.0".to_owned(),
            created: 0,
        };
        digests.iter().map(of).collect()
    }

    fn recorded(served: &str, in_use: &[&str]) -> Recorded {
        let in_use = in_use.iter().map(|digest| (*digest).to_owned()).collect();
        Recorded { digest: Some(served.to_owned()), in_use, ..Recorded::default() }
    }

    fn digests(kept: Vec<Kept>) -> Vec<String> {
        kept.into_iter().map(|kept| kept.digest).collect()
    }

    #[test]
    fn what_served_and_what_databases_run_is_loaded() {
        let all = kept(&["f", "e", "d", "c", "b", "a"]);
        let none = |_: &str| false;
        assert_eq!(digests(wanted(&all, &recorded("f", &["f"]), none)), ["f"]);
        assert_eq!(digests(wanted(&all, &recorded("a", &["c"]), none)), ["a", "c"]);
        assert_eq!(digests(wanted(&all, &recorded("a", &["c"]), |digest| digest == "a")), ["c"]);
        let most = wanted(&all, &recorded("f", &["a", "b", "c", "d", "e"]), none);
        assert_eq!(digests(most), ["f", "e", "d", "c"], "no more than are remembered");
        assert!(wanted(&[], &recorded("f", &["f"]), none).is_empty(), "what is not kept cannot be loaded");
    }

    #[test]
    fn what_nobody_needs_is_let_go() {
        let all = kept(&["f", "e", "d", "c", "b", "a"]);
        let spared = |digests: &[&str]| digests.iter().map(|digest| (*digest).to_owned()).collect();
        assert_eq!(digests(superfluous(&all, &recorded("f", &[]), &spared(&[]), 3)), ["c", "b", "a"]);
        assert_eq!(digests(superfluous(&all, &recorded("a", &["c"]), &spared(&[]), 3)), ["b"]);
        assert_eq!(digests(superfluous(&all, &recorded("f", &[]), &spared(&["b"]), 3)), ["c", "a"]);
        assert!(superfluous(&all, &recorded("f", &[]), &spared(&[]), 6).is_empty());
    }
}
