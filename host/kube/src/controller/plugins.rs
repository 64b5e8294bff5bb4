//! When StoragePlugins are reported, and what is counted for them; what a report says is the catalog's.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::ListParams;
use tokio::sync::watch;

use super::run::Signals;
use super::triggers::spec;
use super::{Context, gauges};
use crate::catalog::{self, Counts, Reported, Reporter};
use atomix_controller_io::cache;
use atomix_model::crd::StoragePlugin;
use atomix_model::crd::database::PluginInUse;
use atomix_model::object::{Key, Kind, Live, Objects as _, State};
use atomix_model::{limits, names};

/// Keeps StoragePlugins true, at a quiet pace.
pub(super) async fn report(ctx: Arc<Context>, signals: Arc<Signals>, mut loaded: watch::Receiver<bool>) {
    let reporter =
        Reporter { client: ctx.client.clone(), caches: ctx.caches.clone(), namespace: ctx.options.namespace.clone() };
    let _ = loaded.wait_for(|loaded| *loaded).await;
    let mut pause = limits::RETRY_AFTER_MIN;
    loop {
        signals.report.notified().await;
        tokio::time::sleep(limits::REPORT_PAUSE).await;
        if ctx.caches.state(&Kind::of::<StoragePlugin>()) != State::Synced {
            continue; // its end of listing notifies
        }
        gauges::set(&ctx);
        let Some(pass) = ctx.begin_pass() else { continue }; // who begins to lead notifies
        let kinds: Vec<_> =
            ctx.databases.state().iter().filter_map(|object| spec(object)).map(|spec| spec.storage_class.kind).collect();
        let (planned, named) = (planned_by(&ctx), named_by(&ctx));
        let counts = |name: &str, of: &[String]| Counts {
            databases: count(kinds.iter().filter(|kind| of.contains(kind)).count()),
            classes: classes(&ctx, of),
            by_digest: planned.get(name).cloned().unwrap_or_default(),
            by_name: named.get(name).cloned().unwrap_or_default(),
        };
        let Reported { is_written, has_failed } = reporter.report(&ctx.catalog, counts, Timestamp::now()).await;
        drop(pass);
        if is_written {
            signals.roles_changed.notify_one(); // what is listed now may serve; an own write comes back without waking anybody
        }
        if has_failed {
            let signals = signals.clone();
            tokio::spawn(async move {
                tokio::time::sleep(pause).await;
                signals.report.notify_one();
            });
            pause = (pause * 2).min(limits::RETRY_AFTER_MAX);
        } else {
            pause = limits::RETRY_AFTER_MIN;
        }
    }
}

/// Waits until plugins and classes are seen as they are at this moment, and the revisions that were found good before are loaded. A leader
/// begins with this: what the one before it made of a newer revision or class is not to be undone.
pub(super) async fn are_current(ctx: &Context) {
    let mut pause = limits::RETRY_AFTER_MIN / 8;
    loop {
        match plugins_are_current(ctx).await {
            Ok(true) => match classes_are_current(ctx).await {
                Ok(true) => return,
                Ok(false) => {} // on their way
                Err(error) => tracing::warn!(%error, "classes cannot be listed; trying again"),
            },
            Ok(false) => {} // on their way
            Err(error) => tracing::warn!(%error, "plugins cannot be listed; trying again"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(limits::WATCH_RETRY_AFTER_MAX);
    }
}

/// Whether the ConfigMaps that bring plugins are seen as a listing has them; what they bring and was found good before is loaded then.
async fn plugins_are_current(ctx: &Context) -> kube::Result<bool> {
    ctx.catalog.known_loaded().await;
    let now = catalog::stamps_now(&ctx.client, &ctx.options.namespace).await?;
    let are_seen = now == ctx.catalog.stamps();
    ctx.catalog.known_loaded().await;
    Ok(are_seen)
}

/// Whether the classes of all kinds that are served and can be watched are seen as a listing has them.
async fn classes_are_current(ctx: &Context) -> kube::Result<bool> {
    let plugins = ctx.catalog.all();
    for kind in plugins.iter().flat_map(|plugin| &plugin.revision.descriptor().class_kinds).map(Kind::from) {
        match ctx.caches.state(&kind) {
            State::Synced => {}
            State::Starting => return Ok(false),
            State::Absent | State::Failing(_) => continue, // no database is planned by what is not seen
        }
        let api = cache::api(&ctx.client, &kind, ctx.options.scope.as_deref());
        let listed = match api.list_metadata(&ListParams::default()).await {
            Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => continue, // its watch finds that out too
            listed => listed?,
        };
        let version = |meta: &Option<String>| meta.as_deref().and_then(|it| it.parse::<u64>().ok()).unwrap_or_default();
        let now: BTreeMap<Key, u64> = listed
            .items
            .iter()
            .map(|class| {
                (Key::new(class.namespace().unwrap_or_default(), class.name_any()), version(&class.resource_version()))
            })
            .collect();
        let newest = version(&listed.metadata.resource_version);
        let is_seen =
            |(key, version): (&Key, &u64)| ctx.caches.find(&kind, key).is_some_and(|live| live.version >= *version);
        let is_gone = |live: &Live| !now.contains_key(&live.key()) && live.version <= newest;
        if !now.iter().all(is_seen) || ctx.caches.all(&kind).iter().any(|live| is_gone(live)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// By plugin and digest: the version of each revision that planned what databases run, and how many.
fn planned_by(ctx: &Context) -> BTreeMap<String, BTreeMap<String, (String, i32)>> {
    let mut plugins: BTreeMap<String, BTreeMap<String, (String, i32)>> = BTreeMap::new();
    for object in ctx.databases.state() {
        let Some(PluginInUse { name, version, digest }) = object.field(&["status", "plugin"]) else { continue };
        plugins.entry(name).or_default().entry(digest).or_insert((version, 0)).1 += 1;
    }
    plugins
}

/// By plugin and value of the annotation that names a revision: how many databases have it.
fn named_by(ctx: &Context) -> BTreeMap<String, BTreeMap<String, i32>> {
    let mut plugins: BTreeMap<String, BTreeMap<String, i32>> = BTreeMap::new();
    for object in ctx.databases.state() {
        let value: Option<String> = object.field(&["metadata", "annotations", names::REVISION]);
        let value = value.filter(|value| value.len() <= names::DIGEST_CHARACTERS);
        let Some((value, spec)) = value.zip(spec(&object)) else { continue };
        if let Some(plugin) = ctx.catalog.serving(&spec.storage_class.kind) {
            let name = plugin.revision.descriptor().name.clone();
            *plugins.entry(name).or_default().entry(value).or_insert(0) += 1;
        }
    }
    plugins
}

/// How many class objects of these kinds there are, once all are listed.
fn classes(ctx: &Context, kinds: &[String]) -> Option<i32> {
    let caches = &ctx.caches;
    let listed = |kind: &Kind| (caches.state(kind) != State::Starting).then(|| caches.count(kind));
    class_kinds(ctx, kinds).iter().map(listed).sum::<Option<usize>>().map(count)
}

fn class_kinds(ctx: &Context, names: &[String]) -> Vec<Kind> {
    let plugins = ctx.catalog.all();
    let kinds = plugins.iter().flat_map(|plugin| &plugin.revision.descriptor().class_kinds);
    kinds.filter(|kind| names.contains(&kind.kind)).map(Kind::from).collect()
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
