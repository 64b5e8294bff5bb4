//! When StoragePlugins are reported, and what is counted for them; what a report says is the catalog's.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use tokio::sync::watch;

use super::run::Signals;
use super::triggers::spec;
use super::{Context, gauges};
use crate::catalog::{self, Counts, Reported, Reporter};
use atomix_model::crd::StoragePlugin;
use atomix_model::crd::database::PluginInUse;
use atomix_model::limits;
use atomix_model::object::{Kind, Objects as _, State};

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
        let planned = planned_by(&ctx);
        let counts = |name: &str, of: &[String]| Counts {
            databases: count(kinds.iter().filter(|kind| of.contains(kind)).count()),
            classes: classes(&ctx, of),
            by_digest: planned.get(name).cloned().unwrap_or_default(),
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

/// Waits until the plugins are seen as they are at this moment, and those that were found good before are loaded. A leader begins with
/// this: what the one before it made of a newer revision is not to be undone.
pub(super) async fn are_current(ctx: &Context) {
    let mut pause = limits::RETRY_AFTER_MIN / 8;
    loop {
        ctx.catalog.known_loaded().await;
        match catalog::stamps_now(&ctx.client, &ctx.options.namespace).await {
            Ok(now) if now == ctx.catalog.stamps() => break,
            Ok(_) => {} // on its way
            Err(error) => tracing::warn!(%error, "plugins cannot be listed; trying again"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(limits::WATCH_RETRY_AFTER_MAX);
    }
    ctx.catalog.known_loaded().await;
}

/// By plugin and digest: the version of each revision that planned what databases run, and how many.
fn planned_by(ctx: &Context) -> BTreeMap<String, BTreeMap<String, (String, i32)>> {
    let mut plugins: BTreeMap<String, BTreeMap<String, (String, i32)>> = BTreeMap::new();
    for object in ctx.databases.state() {
        let plugin = object.data.pointer("/status/plugin").cloned();
        let Some(PluginInUse { name, version, digest }) = plugin.and_then(|it| serde_json::from_value(it).ok()) else {
            continue;
        };
        plugins.entry(name).or_default().entry(digest).or_insert((version, 0)).1 += 1;
    }
    plugins
}

/// How many class objects of these kinds there are, once all are listed.
fn classes(ctx: &Context, kinds: &[String]) -> Option<i32> {
    let caches = &ctx.caches;
    let listed = |kind: &Kind| (caches.state(kind) != State::Starting).then(|| caches.all(kind).len());
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
