//! Puts the parts of the controller together, and starts the passes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use futures::{StreamExt, future, stream};
use kube::Client;
use kube::runtime::events::{Recorder, Reporter as EventReporter};
use kube::runtime::{applier, controller, reflector};
use tokio::sync::{Notify, mpsc, watch};

use super::triggers::{DatabaseRef, Triggers, resource};
use super::{Context, Memories, plugins, reconcile, watch_set};
use crate::catalog::{self, Catalog, CatalogSync, Keeping, Loading, Reporter, RevisionStore, Trial};
use crate::webhook::admission_review::Reviewer;
use atomix_controller_io::cache::{Caches, Events, Watches};
use atomix_controller_io::leader::{Leadership, Loop, Moment};
use atomix_controller_io::metrics::Metrics;
use atomix_controller_io::tasks;
use atomix_model::{limits, names};
use atomix_sandbox::Sandbox;

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

/// How far a controller has come since its start: each becomes true once.
#[derive(Default)]
pub struct Progress {
    /// It has listed the plugins. Compiling them may take seconds more.
    pub listed: watch::Sender<bool>,
    /// They are loaded, and the databases are listed: it works.
    pub loaded: watch::Sender<bool>,
    /// Answers reviews of what would follow from a write.
    pub reviewer: Reviewer,
}

/// Runs the controller until `stop` resolves: it watches and loads plugins in any case, and reconciles while it is
/// `leading`. `trial` loads a plugin's bytes that are new; `progress` is set as it comes along.
#[allow(clippy::too_many_arguments)] // the parts of one program, each once
pub async fn run(
    client: Client,
    options: Options,
    trial: Trial,
    catalog: Arc<Catalog>,
    leading: Leadership,
    metrics: Arc<Metrics>,
    progress: Progress,
    stop: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let caches = Arc::new(Caches::default());
    let (changes_in, changes) = mpsc::channel(limits::CHANGES_WAITING);
    let (queue_in, mut queue_out) = mpsc::channel::<DatabaseRef>(limits::CHANGES_WAITING);
    let (news_in, news) = mpsc::channel(limits::CHANGES_WAITING);
    let watches = Arc::new(Watches::new(client.clone(), caches.clone(), changes_in));
    let writer = reflector::store::Writer::new(resource());
    let store = writer.as_reader();
    let reporter = EventReporter { controller: names::MANAGER.to_owned(), instance: Some(options.identity.clone()) };
    let ctx = Arc::new(Context {
        events: Recorder::new(client.clone(), reporter),
        catalog,
        leading,
        current_term: AtomicU64::new(0),
        databases: store.clone(),
        memories: Memories::default(),
        watches_wanted: Notify::new(),
        client: client.clone(),
        caches,
        event_cache: Events::new(client.clone(), news_in),
        options,
        metrics,
    });
    let _ = progress.reviewer.set(super::review::reviewer(ctx.clone()));
    let signals = Arc::new(Signals::default());
    let triggers = Arc::new(Triggers::new(ctx.clone(), queue_in, signals.clone()));
    watches.want(watch_set::wanted(&ctx));
    let (sources_in, sources) = mpsc::channel(limits::SOURCES_WAITING);
    let (settled_in, settled) = mpsc::channel(1);
    let store_of_revisions = RevisionStore::new(client.clone(), &ctx.options.namespace);
    let catalog_sync = CatalogSync {
        catalog: ctx.catalog.clone(),
        caches: ctx.caches.clone(),
        namespace: ctx.options.namespace.clone(),
        metrics: ctx.metrics.clone(),
        store: store_of_revisions.clone(),
        leading: ctx.leading.clone(),
        changed: signals.roles_changed.clone(),
        listed: watch::Sender::default(),
        loaded: watch::Sender::default(),
    };
    let (mut plugins_listed, mut plugins_loaded) = (catalog_sync.listed.subscribe(), catalog_sync.loaded.subscribe());
    let reporter = Reporter { client: client.clone(), caches: ctx.caches.clone(), namespace: ctx.options.namespace.clone() };
    let loading = Loading::new(Sandbox::new()?, trial);
    let keeping = Keeping::new(store_of_revisions.clone(), reporter, ctx.leading.clone());
    let (kept_in, kept) = mpsc::channel(limits::SOURCES_WAITING);
    let background = [
        tasks::vital("sources", catalog::watch_sources(client.clone(), ctx.options.namespace.clone(), sources_in)),
        tasks::vital("changes", triggers.clone().receive(changes)),
        tasks::vital("news", triggers.clone().receive_events(news)),
        tasks::vital("definitions", watch_set::definitions(client.clone(), watches.clone())),
        tasks::vital("report", plugins::report(ctx.clone(), signals.clone(), progress.loaded.subscribe())),
        tasks::vital("rights", watch_set::rights(signals.clone(), watches.clone())),
        tasks::vital("rewatch", watch_set::follow(ctx.clone(), watches.clone())),
        tasks::vital("lead", triggers.clone().lead()),
        tasks::vital("settled", after_settling(triggers.clone(), watches, settled, plugins_loaded.clone())),
        tasks::vital("revisions", store_of_revisions.watch(kept_in)),
        tasks::vital("plugins", catalog_sync.run(loading, keeping, sources, kept, settled_in)),
    ];
    let databases = triggers.clone().databases(writer);
    let queue_out = stream::poll_fn(move |cx| queue_out.poll_recv(cx));
    let queue = stream::select(progress_ticks(ctx.leading.clone()), stream::select(databases, queue_out));
    let queue = queue.map(Ok::<_, std::convert::Infallible>);
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
    background.into_iter().for_each(|task| task.abort());
    Ok(())
}

/// Notifications from one part of the controller to another; they carry no data.
#[derive(Default)]
pub(super) struct Signals {
    /// A ClusterRole or a StoragePlugin changed, or this replica begins to lead: plugins may be loaded or kept, or may write something else.
    pub(super) roles_changed: Arc<Notify>,
    /// A ClusterRole changed: what could not be watched perhaps can.
    pub(super) rights_changed: Notify,
    /// The status of a StoragePlugin may have changed.
    pub(super) report: Notify,
}

/// Acts whenever another revision serves a kind of class, or none.
async fn after_settling(
    triggers: Arc<Triggers>,
    watches: Arc<Watches>,
    mut settled: mpsc::Receiver<BTreeSet<String>>,
    loaded: watch::Receiver<bool>,
) {
    let ctx = triggers.ctx.clone();
    while let Some(changed) = settled.recv().await {
        if *loaded.borrow() {
            // Not before all that served are back: each would have the watches of shared kinds begin anew.
            watches.want(watch_set::wanted(&ctx));
        }
        if !changed.is_empty() {
            let concerned = |kind: &str| changed.contains(kind) || ctx.catalog.serving(kind).is_none();
            triggers.trigger_where(|spec, _| concerned(&spec.storage_class.kind)).await;
        }
        triggers.signals.report.notify_one();
    }
}

/// Yields nothing; records that the queue of passes is still being polled.
fn progress_ticks<T>(leading: Leadership) -> impl futures::Stream<Item = T> {
    let mut ticks = tokio::time::interval(limits::LOOP_ROUND_MAX);
    stream::poll_fn(move |task| {
        while ticks.poll_tick(task).is_ready() {
            leading.loop_ran(Loop::Queue, Moment::now());
        }
        std::task::Poll::Pending
    })
}

fn controller_config() -> controller::Config {
    controller::Config::default().concurrency(limits::RECONCILES_AT_ONCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_queue_that_is_not_polled_any_more_counts_as_stuck() {
        let (leading, most) = (Leadership::default(), limits::PASS_STILL_MAX + std::time::Duration::from_secs(1));
        let mut queue = std::pin::pin!(progress_ticks::<()>(leading.clone()));
        assert_eq!(leading.check_progress(Moment::now() + most), Ok(()), "plugins are loaded first");
        assert!(
            tokio::time::timeout(std::time::Duration::from_millis(100), queue.next()).await.is_err(),
            "it brings nothing"
        );
        let still = leading.check_progress(Moment::now() + most).unwrap_err();
        assert!(still.starts_with("the queue of databases has stood still for 60"), "{still}");
    }
}
