//! The few lines that are the product: one database at a time is brought to what its user asked for. Knows no gRPC.

mod group;
mod memory;
mod report;
mod run;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kube::api::DynamicObject;
use kube::runtime::controller::Action;
use kube::runtime::reflector::Store;
use kube::{Client, ResourceExt};

use crate::admit::{self, Admitted, partition_kind};
use crate::apply::{self, Applied, Target};
use crate::cache::{Caches, Key, Kind};
use crate::catalog::{Catalog, Plugin};
use crate::crd::Database;
use crate::crd::database::{PlanInUse, PluginInUse};
use crate::fault::Fault;
use crate::leader::Leading;
use crate::limits;
use crate::names;
use crate::observe::{self, Class};
use crate::status::Outcome;
use crate::telemetry::{Metrics, Planned, Reconciled};
use crate::wit::{Plan, Refusal, Request};

pub use memory::Memories;
use memory::{Failing, Memory};
pub use run::{Options, Progress, run};

/// What every reconcile may use.
pub struct Context {
    client: Client,
    options: Options,
    caches: Arc<Caches>,
    catalog: Arc<Catalog>,
    leading: Leading,
    databases: Store<DynamicObject>,
    memories: Memories,
    events: kube::runtime::events::Recorder,
    metrics: Arc<Metrics>,
    /// Databases by namespace and by the labels that their objects carry.
    labels: Mutex<std::collections::BTreeMap<Key, String>>,
    /// Wakes the task that starts and ends watches, when a database names a kind that may not be watched yet.
    watches_wanted: tokio::sync::Notify,
}

/// Brings one database to what its user asked for: resolve, observe, plan, admit, apply. Assumes that whatever was tried before
/// may have failed halfway.
async fn converge(database: &Database, ctx: &Context, memory: &mut Memory, outcome: &mut Outcome) -> Result<(), Fault> {
    let (plugin, class) = resolve(database, ctx, outcome)?;
    let request = observe(database, &class, &plugin, ctx, outcome)?; //          reads
    let plan = plan(&plugin, request.clone(), ctx, memory, outcome).await?; //        thinks
    group::tell(&plugin, &class, memory, outcome).await; //                      thinks, once a class
    let admitted = admit(&plan, &request, database, &plugin, ctx)?; //           checks
    let applied = write(database, &class, &admitted, ctx, memory, outcome).await?; // writes
    outcome.faults.extend(applied.faults);
    Ok(())
}

/// Finds the class that the database uses and the plugin that serves its kind.
fn resolve(database: &Database, ctx: &Context, outcome: &mut Outcome) -> Result<(Arc<Plugin>, Class), Fault> {
    let wanted = &database.spec.storage_class;
    if database.namespace().as_deref() == Some(&ctx.options.namespace) && !ctx.options.allow_own_namespace {
        let message = format!(
            "databases in the controller's own namespace {} are refused, since plugins are installed there; use another namespace or start the controller with --allow-own-namespace",
            ctx.options.namespace
        );
        return Err(Fault::user("NamespaceRefused", message));
    }
    if wanted.group != crate::crd::STORAGE_GROUP {
        let message =
            format!("spec.storageClass.group is {:?}; storage classes live in {}", wanted.group, crate::crd::STORAGE_GROUP);
        return Err(Fault::user("ClassGroupUnknown", message));
    }
    let plugin = ctx.catalog.serving(&wanted.kind).ok_or_else(|| {
        Fault::waiting("NoPlugin", format!("no plugin serves kind {}; {}", wanted.kind, ctx.catalog.alternatives()))
    })?;
    let descriptor = plugin.revision.descriptor();
    outcome.plugin_refused = ctx.catalog.refusal(&descriptor.name);
    let kind = plugin.class_kind(&wanted.kind).ok_or_else(|| Fault::waiting("NoPlugin", "the plugin is being replaced"))?;
    let class = observe::class(database, kind, &ctx.caches)?;
    outcome.class = Some(class.in_use.clone());
    outcome.fallback = class.fallback;
    outcome.plugin = Some(PluginInUse {
        name: descriptor.name.clone(),
        version: descriptor.version.clone(),
        digest: plugin.revision.digest().to_owned(),
    });
    Ok((plugin.clone(), class))
}

fn observe(
    database: &Database,
    class: &Class,
    plugin: &Plugin,
    ctx: &Context,
    outcome: &mut Outcome,
) -> Result<Request, Fault> {
    observe::synced(&ctx.caches, &partition_kind())?;
    for kind in &outcome.kinds {
        if crate::cache::State::Starting == ctx.caches.state(kind) {
            ctx.watches_wanted.notify_one(); // a kind of an earlier plan, whose plugin may be gone
            observe::synced(&ctx.caches, kind)?;
        }
    }
    let per_cluster = observe::partitions_per_cluster(database, class);
    outcome.per_cluster = i32::try_from(per_cluster).ok();
    outcome.pod_labels = Some(observe::pod_labels(database));
    observe::observe(database, class, per_cluster, plugin.revision.descriptor(), &ctx.caches, &ctx.options.cluster_domain)
}

/// Asks the plugin, off the async threads. One that failed is not asked the same again until a pause is over.
async fn plan(
    plugin: &Plugin,
    request: Request,
    ctx: &Context,
    memory: &mut Memory,
    outcome: &mut Outcome,
) -> Result<Plan, Fault> {
    let stamp = (plugin.revision.digest().to_owned(), outcome.generation);
    if let Some(fault) = memory.failing.as_ref().and_then(|failing| failing.still(&stamp, Instant::now())) {
        return Err(fault);
    }
    let revision = plugin.revision.clone();
    let started = Instant::now();
    let answer = tokio::task::spawn_blocking(move || revision.plan(&request)).await;
    let answer = answer.map_err(|stopped| Fault::Plugin { message: format!("the call was cut short: {stopped}") })?;
    let result = match &answer {
        Ok(Ok(_)) => Planned::Plan,
        Ok(Err(_)) => Planned::Refusal,
        Err(_) => Planned::Broken,
    };
    ctx.metrics.planned(&plugin.revision.descriptor().name, result, started.elapsed());
    match answer {
        Ok(Ok(plan)) => {
            memory.failing = None;
            outcome.states = Some(plan.partitions.clone());
            outcome.unsupported = plan.unsupported.clone();
            outcome.notes = plan.notes.clone();
            Ok(plan)
        }
        Ok(Err(Refusal::Invalid(errors))) => {
            let class = outcome
                .class
                .as_ref()
                .map_or_else(String::new, |class| format!("{} {}/{}", class.kind, class.namespace, class.name));
            Err(Fault::invalid(&class, &errors))
        }
        Ok(Err(Refusal::Waiting(reason))) => Err(Fault::from_reason(reason)),
        Err(fault) => {
            let fault = Fault::Plugin { message: fault.to_string() };
            memory.failing = Some(Failing::again(memory.failing.take(), stamp, fault.clone(), Instant::now()));
            Err(fault)
        }
    }
}

fn admit(plan: &Plan, request: &Request, database: &Database, plugin: &Plugin, ctx: &Context) -> Result<Admitted, Fault> {
    let controller = format!("{}.{}", ctx.options.namespace, ctx.options.name);
    admit::admit(plan, request, database, plugin.revision.descriptor(), &plugin.grants, &controller).map_err(|why| {
        let title = crate::catalog::title(&plugin.revision);
        ctx.metrics.planned(&plugin.revision.descriptor().name, Planned::NotAdmitted, Duration::ZERO);
        Fault::Plugin { message: format!("the plan of {title} is not admitted: {why}") }
    })
}

/// Records what was decided, then writes. What is recorded first: the class in use, how partitions share clusters, all kinds
/// that are about to be written, and the plan; so that a crash at any write loses none of it.
async fn write(
    database: &Database,
    class: &Class,
    admitted: &Admitted,
    ctx: &Context,
    memory: &mut Memory,
    outcome: &mut Outcome,
) -> Result<Applied, Fault> {
    let (namespace, name, uid) =
        (database.namespace().unwrap_or_default(), database.name_any(), database.uid().unwrap_or_default());
    let target = Target {
        client: &ctx.client,
        caches: &ctx.caches,
        namespace: &namespace,
        database: &name,
        owner: &uid,
        metrics: &ctx.metrics,
        guarded: apply::guard::in_force(&ctx.caches, names::MANAGER),
    };
    let before = database.status.clone().unwrap_or_default();
    let mut kinds: BTreeSet<Kind> = before.kinds.iter().cloned().collect();
    let standing = target.standing(admitted, &kinds.iter().cloned().chain(admit::kinds(admitted)).collect())?;
    let now = PlanInUse {
        hash: admitted.hash.clone(),
        generation: database.metadata.generation.unwrap_or_default(),
        class_uid: class.live.uid.clone(),
        class_generation: class.live.generation(),
    };
    let accepted = database.annotations().get(names::ACCEPT).map(String::as_str);
    outcome.partitions = report::partitions_there(ctx, &namespace, &name, &uid);
    if let Some(message) = standing.held(admitted, before.plan.as_ref(), &now, accepted) {
        return Err(Fault::Held { plan: admitted.hash.clone(), message });
    }
    kinds.extend(admit::kinds(admitted));
    outcome.kinds = kinds.into_iter().collect();
    outcome.plan = Some(now);
    report::record(database, ctx, memory, outcome).await?;
    let applied = apply::apply(&target, &mut memory.applied, admitted, &standing).await;
    outcome.partitions = report::partitions_there(ctx, &namespace, &name, &uid);
    Ok(applied)
}

/// One pass over one database, and when to look again.
async fn reconcile(object: Arc<DynamicObject>, ctx: Arc<Context>) -> Result<Action, Infallible> {
    let Some(_pass) = ctx.leading.pass() else { return Ok(Action::await_change()) }; // who begins to lead is woken for all
    let Some(mut database) = report::parsed(&object, &ctx).await else { return Ok(Action::await_change()) };
    if database.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change()); // Kubernetes removes what it owns; writing would fight that
    }
    let memory = ctx.memories.of(&database.uid().unwrap_or_default());
    let mut memory = memory.lock().await;
    memory.refresh(&mut database);
    let mut outcome = Outcome {
        generation: database.metadata.generation.unwrap_or_default(),
        wanted: database.spec.partitions,
        kinds: database.status.as_ref().map(|status| status.kinds.clone()).unwrap_or_default(),
        partitions: database.status.as_ref().map_or(0, |status| status.partitions),
        ..Outcome::default()
    };
    let started = Instant::now();
    if let Err(fault) = converge(&database, &ctx, &mut memory, &mut outcome).await {
        if fault.reason() == "Starting" {
            return Ok(Action::await_change()); // the end of the listing wakes us
        }
        outcome.faults.insert(0, fault);
    }
    ctx.metrics.reconciled(result(outcome.faults.first()), started.elapsed());
    memory.refresh(&mut database);
    let again = report::report(&database, &ctx, &mut memory, &outcome).await;
    Ok(next(again, memory.retry(&outcome.faults, Instant::now())))
}

fn result(fault: Option<&Fault>) -> Reconciled {
    match fault {
        None => Reconciled::Settled,
        Some(Fault::User { .. }) => Reconciled::User,
        Some(Fault::Waiting { .. }) => Reconciled::Waiting,
        Some(Fault::Plugin { .. }) => Reconciled::Plugin,
        Some(Fault::Held { .. }) => Reconciled::Held,
        Some(Fault::Cluster { .. }) => Reconciled::Cluster,
    }
}

fn next(report: Option<Duration>, retry: Option<Duration>) -> Action {
    match report.into_iter().chain(retry).min() {
        Some(pause) => Action::requeue(pause.clamp(Duration::from_millis(10), limits::PLUGIN_RETRY_AFTER_MAX)),
        None => Action::await_change(),
    }
}
