//! A plugin's newest revision and the one that planned what runs: which of the two plans is written. Knows no client.

use std::sync::Arc;

use super::{Context, Memory, admissible, causes};
use crate::catalog::Plugin;
use atomix_decide::admission::Admitted;
use atomix_decide::intent;
use atomix_decide::objects;
use atomix_decide::observe::{self, Class};
use atomix_decide::pass::Planned;
use atomix_model::contract::{Plan, Request};
use atomix_model::crd::Database;
use atomix_model::fault::Fault;

/// A plan that may be written, and the revision that made it.
pub(super) struct Candidate {
    pub(super) plugin: Arc<Plugin>,
    pub(super) admitted: Admitted,
}

/// The plan that is to be written, and what was planned along with it.
pub(super) struct Chosen {
    pub(super) candidate: Candidate,
    pub(super) planned: Planned,
    /// Why it is not the newest revision's, if it is not.
    pub(super) held: Option<Fault>,
}

/// The newest revision's plan, or that of the revision that planned what runs, if the newest would disturb it and that was
/// not accepted. What is repaired and edited goes on by the latter. It is remembered for as long as this process runs;
/// without it [`objects::held`] decides.
pub(super) async fn choose(
    (newest, planned): (Candidate, Planned),
    request: &Request,
    (database, class): (&Database, &Class),
    ctx: &Context,
    memory: &Memory,
) -> Chosen {
    let Some(Kept { plan, running, message }) = kept(&newest, request, (database, class), ctx).await else {
        return Chosen { candidate: newest, planned, held: None };
    };
    let (states, health) = causes::look(database, &running.plugin, &plan, ctx, memory);
    let held = Fault::Held { plan: newest.admitted.hash, message };
    Chosen { candidate: running, planned: Planned { states, health, notes: plan.notes, ..planned }, held: Some(held) }
}

/// What is written instead of a newest plan that is held.
pub(super) struct Kept {
    pub(super) plan: Plan,
    pub(super) running: Candidate,
    /// Why the newest is held, and how to let it.
    pub(super) message: String,
}

/// The plan of the revision that planned what runs, if the newest revision's is held for it.
pub(super) async fn kept(
    newest: &Candidate,
    request: &Request,
    (database, class): (&Database, &Class),
    ctx: &Context,
) -> Option<Kept> {
    let (plan, running) = by_the_one_that_runs(newest, request, database, class, ctx).await?;
    let message = objects::held_back(&newest.admitted, &running.admitted, intent::accepted(database))?;
    Some(Kept { plan, running, message })
}

/// The revision that planned what runs, if it is another than this one of the plugin, is remembered, and serves the class's kind.
pub(super) fn revision_that_runs(database: &Database, class: &Class, newest: &Plugin, ctx: &Context) -> Option<Arc<Plugin>> {
    let planned = database.status.as_ref().filter(|status| status.plan.is_some())?.plugin.as_ref()?;
    let revision = &newest.revision;
    let is_another = planned.name == revision.descriptor().name && planned.digest != revision.digest();
    let plugin = ctx.catalog.revision(&planned.name, &planned.digest).filter(|_| is_another)?;
    plugin.class_kind(&class.in_use.kind).is_some().then(|| Arc::new(plugin))
}

/// What the revision that planned what runs plans now, if it is another than the newest, and can.
async fn by_the_one_that_runs(
    newest: &Candidate,
    request: &Request,
    database: &Database,
    class: &Class,
    ctx: &Context,
) -> Option<(Plan, Candidate)> {
    let status = database.status.as_ref()?;
    let planned = objects::planned_otherwise(status, &newest.admitted, newest.plugin.revision.digest())?;
    let plugin = ctx.catalog.revision(&planned.name, &planned.digest)?;
    let descriptor = plugin.revision.descriptor();
    let per_cluster = request.database.partitions_per_cluster;
    let request =
        observe::observe(database, class, per_cluster, descriptor, &ctx.caches, &ctx.options.cluster_domain).ok()?;
    let (revision, copy) = (plugin.revision.clone(), request.clone());
    let plan = tokio::task::spawn_blocking(move || revision.plan(&copy)).await.ok()?.ok()?.ok()?;
    let admitted = admissible(&plan, &request, database, &plugin, ctx).ok()?;
    Some((plan, Candidate { plugin: plugin.into(), admitted }))
}
