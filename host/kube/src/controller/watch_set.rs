//! Which kinds are watched, and what of each object is kept: what plugins and databases need, and no more.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};

use super::Context;
use super::run::Signals;
use super::triggers::kinds_written;
use crate::catalog;
use atomix_controller_io::cache::{Wanted, Watches};
use atomix_decide::objects::{admission_policy, pods, stalled_rollout};
use atomix_decide::status;
use atomix_model::crd::{Partition, StoragePlugin};
use atomix_model::object::{Kind, Trim};

/// Makes the watches those that are wanted, whenever a database may need others.
pub(super) async fn follow(ctx: Arc<Context>, watches: Arc<Watches>) {
    loop {
        ctx.watches_wanted.notified().await;
        watches.want(wanted(&ctx));
    }
}

/// Has watches that fail tried again, whenever roles change. What a role grants is in effect a moment later.
pub(super) async fn rights(signals: Arc<Signals>, watches: Arc<Watches>) {
    loop {
        signals.rights_changed.notified().await;
        watches.try_again();
    }
}

/// Notifies the watches of definitions that come or change. Their metadata is enough.
pub(super) async fn definitions(client: Client, watches: Arc<Watches>) {
    let api: Api<PartialObjectMeta<CustomResourceDefinition>> = Api::all(client);
    let events = watcher(api, watcher::Config::default()).backoff(atomix_controller_io::cache::backoff());
    futures::pin_mut!(events);
    while let Some(event) = events.next().await {
        if let Ok(Event::Apply(definition) | Event::InitApply(definition)) = event
            && let Some((plural, group)) = definition.name_any().split_once('.')
        {
            watches.defined(group, plural);
        }
    }
}

/// The watches that plugins and databases need.
pub(super) fn wanted(ctx: &Context) -> BTreeMap<Kind, Wanted> {
    let mut wanted: BTreeMap<Kind, Wanted> = BTreeMap::new();
    let scope = || ctx.options.scope.clone();
    let own = Some(ctx.options.namespace.clone());
    let status = || Trim::whole(["/status".to_owned()]);
    wanted.insert(Kind::of::<Partition>(), Wanted::of_databases(status(), scope()));
    wanted.insert(Kind::of::<StoragePlugin>(), Wanted::all(status(), own));
    wanted.insert(
        Kind::of::<ClusterRole>(),
        Wanted { selector: catalog::ROLE_SELECTOR, ..Wanted::all(Trim::whole([]), None) },
    );
    for kind in admission_policy::kinds() {
        wanted.insert(kind, Wanted { name: Some(admission_policy::NAME.to_owned()), ..Wanted::all(Trim::whole([]), None) });
    }
    for object in ctx.databases.state() {
        for kind in kinds_written(&object) {
            wanted.entry(kind).or_insert_with(|| Wanted::of_databases(Trim::whole([]), scope()));
        }
    }
    for plugin in ctx.catalog.remembered() {
        let descriptor = plugin.revision.descriptor();
        for kind in &descriptor.class_kinds {
            wanted.insert(Kind::from(kind), Wanted::all(Trim::whole([]), scope()));
        }
        for (kind, whole) in descriptor.emits.iter().map(|k| (k, true)).chain(descriptor.watches.iter().map(|k| (k, false)))
        {
            let trim = Trim { whole, reads: kind.reads.iter().cloned().collect() };
            let entry = wanted.entry(Kind::from(kind)).or_insert_with(|| Wanted::of_databases(Trim::default(), scope()));
            entry.trim.merge(&trim);
        }
    }
    let (of_sets, of_pods) = stalled_rollout::reads();
    let mut sets =
        wanted.iter_mut().filter(|(kind, _)| stalled_rollout::is_set(kind)).map(|(_, set)| set.trim.merge(&of_sets));
    if sets.by_ref().count() > 0 {
        let entry = wanted.entry(pods()).or_insert_with(|| Wanted::of_databases(Trim::default(), scope()));
        entry.trim.merge(&of_pods);
    }
    for (kind, wanted) in &mut wanted {
        wanted.trim.reads.extend(status::reads(kind).iter().map(|pointer| (*pointer).to_owned()));
    }
    wanted
}
