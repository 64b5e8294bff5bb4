//! The pass over one database, which is brought to what its user asked for. Knows no gRPC.

mod causes;
mod gauges;
mod group;
mod hold;
mod memory;
mod pin;
mod plugins;
mod report;
mod review;
mod run;
mod triggers;
mod watch_set;
mod write;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kube::runtime::controller::Action;
use kube::runtime::reflector::Store;
use kube::{Client, ResourceExt};

use crate::catalog::{Catalog, Plugin};
use atomix_controller_io::cache::{Caches, Events, RawObject};
use atomix_controller_io::leader::{Leadership, RunningPass};
use atomix_controller_io::metrics::{Metrics, Planned as PlanResult, Reconciled};
use atomix_decide::admission::{self, Kept};
use atomix_decide::intent;
use atomix_decide::last_taken;
use atomix_decide::objects::Owner;
use atomix_decide::observe::{self, Class};
use atomix_decide::pass::{Admitted, Applied, Observed, Pass, Planned, Resolved, Start, Stopped};
use atomix_model::condition::Reason;
use atomix_model::contract::{Plan, Refusal, Request};
use atomix_model::crd::database::{ClassInUse, PluginInUse};
use atomix_model::crd::{Database, Partition};
use atomix_model::fault::Fault;
use atomix_model::limits;
use atomix_model::names;
use atomix_model::object::Kind;
use atomix_model::object::Objects as _;

use hold::{Candidate, Chosen};
pub use memory::Memories;
use memory::{Memory, Stamp};
pub use run::{Options, Progress, run};
use write::Prepared;

/// What every reconcile may use.
pub struct Context {
    client: Client,
    options: Options,
    caches: Arc<Caches>,
    /// Kubernetes' Events in namespaces where something is unexplained.
    event_cache: Events,
    catalog: Arc<Catalog>,
    leading: Leadership,
    /// The last term in which this replica saw plugins as they are; see [`plugins::are_current`].
    current_term: AtomicU64,
    databases: Store<RawObject>,
    memories: Memories,
    events: kube::runtime::events::Recorder,
    metrics: Arc<Metrics>,
    /// Triggers the task that starts and ends watches, when a database names a kind that may not be watched yet.
    watches_wanted: tokio::sync::Notify,
}

impl Context {
    /// Begins what only the leader does, once it has seen in this term which plugins there are.
    fn begin_pass(&self) -> Option<RunningPass> {
        self.leading.begin_pass().filter(|pass| pass.term() <= self.current_term.load(Ordering::Acquire))
    }
}

/// Brings one database to what its user asked for. Assumes that whatever was tried before may have failed halfway.
async fn converge(database: &Database, start: Start, ctx: &Context, memory: &mut Memory) -> Result<Applied, Stopped> {
    let (resolved, Found { plugin, class, not_pinned }) = resolve(database, start, ctx)?;
    let with = With { plugin: &plugin, newest: &class, class: &class };
    let newest = prepare(database, resolved.clone(), with, ctx, memory).await;
    let last = last_taken::of(database, &class);
    let prepared = match &last {
        Some(class) => keep(newest, database, resolved.clone(), With { class, ..with }, ctx, memory).await,
        None => newest,
    };
    let before = hold::revision_that_runs(database, &class, &plugin, ctx);
    let prepared = match (prepared, &before) {
        (Err(stopped), Some(plugin)) if matches!(stopped.fault, Fault::Plugin { .. }) => {
            go_on_before(stopped, database, resolved, With { plugin, ..with }, ctx, memory).await?
        }
        (prepared, _) => prepared?,
    };
    let prepared = match not_pinned {
        Some(fault) => prepared.since(fault),
        None => prepared,
    };
    let (recorded, standing, write) = prepared.record(memory).await?; // writes the status
    Ok(write.apply(recorded, &standing, memory).await) //               writes objects
}

/// The plugin and the class that are planned with.
#[derive(Clone, Copy)]
struct With<'a> {
    plugin: &'a Arc<Plugin>,
    /// The class as it is.
    newest: &'a Class,
    /// The class to plan from: the newest, or as it was last taken.
    class: &'a Class,
}

/// All steps before the first write.
async fn prepare<'a>(
    database: &'a Database,
    resolved: Resolved,
    with: With<'a>,
    ctx: &'a Context,
    memory: &mut Memory,
) -> Result<Prepared<'a>, Stopped> {
    let (observed, request) = observe(database, resolved, with, ctx)?; //               reads
    let (planned, plan) = plan(database, observed, with, &request, ctx, memory).await?; // thinks
    let (admitted, chosen) = admit(database, (planned, plan), with, &request, ctx, memory).await?; // checks
    Prepared::of(database, with, admitted, chosen, ctx, memory).await
}

/// What is written where the class was edited since it was last taken as a whole: the plan of the newest, if what runs can take all of
/// it; else that of the class as it was.
async fn keep<'a>(
    newest: Result<Prepared<'a>, Stopped>,
    database: &'a Database,
    resolved: Resolved,
    last: With<'a>,
    ctx: &'a Context,
    memory: &mut Memory,
) -> Result<Prepared<'a>, Stopped> {
    let goes_on = match &newest {
        Ok(prepared) => !prepared.unsupported().is_empty(),
        Err(stopped) => last_taken::may_go_on(stopped),
    };
    if !goes_on {
        return newest;
    }
    match (newest, prepare(database, resolved, last, ctx, memory).await) {
        (Ok(newest), Ok(last)) if last_taken::is_kept(newest.unsupported(), last.unsupported()) => {
            Ok(last.instead_of(newest))
        }
        (Err(stopped), Ok(last)) => Ok(last.since(stopped.fault)),
        (newest, _) => newest,
    }
}

/// What is written where the plugin's newest revision fails: what the one before it plans, which planned what runs.
async fn go_on_before<'a>(
    failed: Stopped,
    database: &'a Database,
    resolved: Resolved,
    before: With<'a>,
    ctx: &'a Context,
    memory: &mut Memory,
) -> Result<Prepared<'a>, Stopped> {
    let resolved = Resolved { plugin: in_use(before.plugin), ..resolved };
    match prepare(database, resolved, before, ctx, memory).await {
        Ok(prepared) => {
            let goes_on = crate::catalog::title(&before.plugin.revision);
            let message =
                format!("{}; {goes_on}, which planned what runs, goes on with this database", failed.fault.message());
            Ok(prepared.since(Fault::Plugin { message }))
        }
        Err(_) => Err(failed),
    }
}

/// The class that a database uses, and the revision of the plugin that serves its kind.
struct Found {
    plugin: Arc<Plugin>,
    class: Class,
    /// Why it is not the revision that the database names, if it is not.
    not_pinned: Option<Fault>,
}

/// Finds the class that the database uses and the plugin that serves its kind.
fn resolve(database: &Database, start: Start, ctx: &Context) -> Result<(Resolved, Found), Stopped> {
    let found = match class_and_plugin(database, ctx) {
        Ok(found) => found,
        Err(fault) => return Err(Stopped::after(start, fault)),
    };
    let Found { plugin, class, .. } = &found;
    let outdated = ctx.catalog.outdated(&plugin.revision.descriptor().name);
    let resolved = Resolved {
        start,
        class: class.in_use.clone(),
        class_uid: class.live.uid.clone(),
        fallback: class.fallback,
        plugin: in_use(plugin),
        plugin_outdated: pin::outdated(database, plugin, ctx).or(outdated),
    };
    Ok((resolved, found))
}

fn class_and_plugin(database: &Database, ctx: &Context) -> Result<Found, Fault> {
    let wanted = &database.spec.storage_class;
    if database.namespace().as_deref() == Some(&ctx.options.namespace) && !ctx.options.allow_own_namespace {
        let message = format!(
            "databases in the controller's own namespace {} are refused, since plugins are installed there; use another namespace or start the controller with --allow-own-namespace",
            ctx.options.namespace
        );
        return Err(Fault::user(Reason::NamespaceRefused, message));
    }
    if !["", atomix_model::crd::STORAGE_GROUP].contains(&wanted.group.as_str()) {
        let message = format!(
            "spec.storageClass.group is {:?}; storage classes live in {}",
            wanted.group,
            atomix_model::crd::STORAGE_GROUP
        );
        return Err(Fault::user(Reason::ClassGroupUnknown, message));
    }
    let serving = ctx.catalog.serving(&wanted.kind).ok_or_else(|| {
        Fault::waiting(Reason::NoPlugin, format!("no plugin serves kind {}; {}", wanted.kind, ctx.catalog.alternatives()))
    })?;
    let (plugin, not_pinned) = pin::revision(database, serving, ctx)?;
    let kind =
        plugin.class_kind(&wanted.kind).ok_or_else(|| Fault::waiting(Reason::NoPlugin, "the plugin is being replaced"))?;
    let class = observe::class(database, kind, &ctx.caches)?;
    Ok(Found { plugin, class, not_pinned })
}

fn in_use(plugin: &Plugin) -> PluginInUse {
    let descriptor = plugin.revision.descriptor();
    PluginInUse {
        name: descriptor.name.clone(),
        version: descriptor.version.clone(),
        digest: plugin.revision.digest().to_owned(),
    }
}

/// Looks up what the plan may depend on.
fn observe(
    database: &Database,
    resolved: Resolved,
    With { plugin, class, .. }: With<'_>,
    ctx: &Context,
) -> Result<(Observed, Request), Stopped> {
    match request(database, plugin, class, ctx) {
        Ok(request) => {
            let per_cluster = i32::try_from(request.database.partitions_per_cluster).unwrap_or(i32::MAX);
            let planned_from = (class.live.uid.clone(), class.live.generation());
            Ok((Observed { resolved, planned_from, per_cluster, pod_labels: observe::pod_labels(database) }, request))
        }
        Err(fault) => Err(Stopped::after(resolved, fault)),
    }
}

fn request(database: &Database, plugin: &Plugin, class: &Class, ctx: &Context) -> Result<Request, Fault> {
    observe::synced(&ctx.caches, &Kind::of::<Partition>())?;
    for kind in database.status.iter().flat_map(|status| &status.kinds) {
        if atomix_model::object::State::Starting == ctx.caches.state(kind) {
            ctx.watches_wanted.notify_one(); // a kind of an earlier plan, whose plugin may be gone
            observe::synced(&ctx.caches, kind)?;
        }
    }
    let per_cluster = observe::partitions_per_cluster(database, class);
    observe::observe(database, class, per_cluster, plugin.revision.descriptor(), &ctx.caches, &ctx.options.cluster_domain)
}

/// Calls the plugin for a plan, and judges by it the state of what runs. After a failure the same call is not made again
/// until a pause is over.
async fn plan(
    database: &Database,
    observed: Observed,
    with: With<'_>,
    request: &Request,
    ctx: &Context,
    memory: &mut Memory,
) -> Result<(Planned, Plan), Stopped> {
    let With { plugin, class, .. } = with;
    let stamp = Stamp::of(&observed);
    let answer = match memory.still_failing(&stamp, Instant::now()) {
        Some(fault) => Err(fault),
        None => {
            let answer = match validate(with, &stamp, memory).await {
                Ok(()) => call(plugin, class, request.clone(), ctx).await,
                Err(fault) => Err(fault),
            };
            memory.called(stamp, answer.as_ref().err(), Instant::now());
            answer
        }
    };
    let plan = match answer {
        Ok(plan) => plan,
        Err(fault) => return Err(Stopped::after(observed, fault)),
    };
    let (states, health) = causes::look(database, plugin, &plan, ctx, memory);
    let planned = Planned {
        observed,
        states,
        health,
        unsupported: plan.unsupported.clone(),
        notes: plan.notes.clone(),
        group: Some(group::of(plugin, class, memory).await),
    };
    Ok((planned, plan))
}

/// Asks the plugin whether it accepts the class: once for each edit of it and each revision, as the webhook may not have been asked. A class
/// as it was last taken was accepted then.
async fn validate(With { plugin, newest, class }: With<'_>, stamp: &Stamp, memory: &mut Memory) -> Result<(), Fault> {
    let asked =
        memory.validated.as_ref().is_some_and(|asked| (&asked.digest, &asked.class) == (&stamp.digest, &stamp.class));
    if asked || !Arc::ptr_eq(&newest.live, &class.live) {
        return Ok(());
    }
    let (revision, kind, spec) = (plugin.revision.clone(), class.in_use.kind.clone(), class.spec());
    let answer = tokio::task::spawn_blocking(move || revision.validate(&kind, &spec)).await;
    match answer.map_err(|stopped| Fault::Plugin { message: format!("the call was cut short: {stopped}") })? {
        Ok(Ok(())) => {
            memory.validated = Some(stamp.clone());
            Ok(())
        }
        Ok(Err(errors)) => Err(Fault::invalid(&title(class), &errors)),
        Err(fault) => Err(Fault::Plugin { message: fault.to_string() }),
    }
}

/// Kind, namespace and name of a class, for people.
fn title(Class { in_use: ClassInUse { kind, namespace, name, .. }, .. }: &Class) -> String {
    format!("{kind} {namespace}/{name}")
}

/// One call of the plugin, off the async threads, counted and timed.
async fn call(plugin: &Plugin, class: &Class, request: Request, ctx: &Context) -> Result<Plan, Fault> {
    let revision = plugin.revision.clone();
    let started = Instant::now();
    let answer = tokio::task::spawn_blocking(move || revision.plan(&request)).await;
    let answer = answer.map_err(|stopped| Fault::Plugin { message: format!("the call was cut short: {stopped}") })?;
    let result = match &answer {
        Ok(Ok(_)) => PlanResult::Plan,
        Ok(Err(_)) => PlanResult::Refusal,
        Err(_) => PlanResult::Broken,
    };
    ctx.metrics.planned(&plugin.revision.descriptor().name, result, started.elapsed());
    match answer {
        Ok(Ok(plan)) => Ok(plan),
        Ok(Err(Refusal::Invalid(errors))) => Err(Fault::invalid(&title(class), &errors)),
        Ok(Err(Refusal::Waiting(reason))) => Err(Fault::from_reason(reason)),
        Err(fault) => Err(Fault::Plugin { message: fault.to_string() }),
    }
}

/// Checks the newest revision's plan, and chooses between it and that of the revision that planned what runs.
async fn admit(
    database: &Database,
    (mut planned, plan): (Planned, Plan),
    with: With<'_>,
    request: &Request,
    ctx: &Context,
    memory: &Memory,
) -> Result<(Admitted, Candidate), Stopped> {
    let admitted = match admissible(&plan, request, database, with.plugin, ctx) {
        Ok(admitted) => admitted,
        Err(fault) => {
            intent::without_service(&mut planned.states, &ctx.caches, &Owner::of(database));
            return Err(Stopped::after(planned, fault));
        }
    };
    let newest = Candidate { plugin: with.plugin.clone(), admitted };
    let Chosen { candidate, planned, held } =
        hold::choose((newest, planned), request, (database, with.class), ctx, memory).await;
    let found = intent::found(&ctx.caches, &Owner::of(database), &candidate.admitted);
    let (plugin, newest_fails) = (in_use(&candidate.plugin), None);
    let (partitions, missing) = (found.partitions, found.missing);
    Ok((Admitted { planned, plugin, held, newest_fails, partitions, missing }, candidate))
}

fn admissible(
    plan: &Plan,
    request: &Request,
    database: &Database,
    plugin: &Plugin,
    ctx: &Context,
) -> Result<admission::Admitted, Fault> {
    let controller = format!("{}.{}", ctx.options.namespace, ctx.options.name);
    let descriptor = plugin.revision.descriptor();
    let kept = Kept::of(descriptor, database, &ctx.caches);
    admission::admit(plan, request, database, descriptor, &plugin.grants, &controller, &kept).map_err(|why| {
        let title = crate::catalog::title(&plugin.revision);
        ctx.metrics.planned(&plugin.revision.descriptor().name, PlanResult::NotAdmitted, Duration::ZERO);
        Fault::Plugin { message: format!("the plan of {title} is not admitted: {why}") }
    })
}

/// One pass over one database, and when to look again.
async fn reconcile(object: Arc<RawObject>, ctx: Arc<Context>) -> Result<Action, Infallible> {
    let Some(_pass) = ctx.begin_pass() else { return Ok(Action::await_change()) }; // a new leader passes over all databases
    let Some((mut database, mut not_taken)) = report::parsed(&object, &ctx).await else { return Ok(Action::await_change()) };
    if database.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change()); // Kubernetes removes what it owns; writing would fight that
    }
    let memory = ctx.memories.of(&database.uid().unwrap_or_default());
    let mut memory = memory.lock().await;
    memory.refresh(&mut database);
    not_taken.extend(observe::keep_what_runs(&mut database));
    let start = Start {
        generation: database.metadata.generation.unwrap_or_default(),
        partitions: database.spec.partitions,
        selector: names::selector(&database.namespace().unwrap_or_default(), &database.name_any()),
        not_taken,
    };
    let started = Instant::now();
    let pass = Pass::from(converge(&database, start, &ctx, &mut memory).await);
    if matches!(pass.stopped, Some(Fault::Unseen { .. })) {
        return Ok(Action::requeue(limits::RETRY_AFTER_MAX)); // what is not seen yet starts a pass when it comes
    }
    if pass.states().is_none() {
        causes::leave(&database, &ctx); // nothing is known to be missing
    }
    ctx.metrics.reconciled(result(pass.faults().next()), started.elapsed());
    memory.record(&pass);
    memory.refresh(&mut database);
    let again = report::report(&database, &ctx, &mut memory, &pass).await;
    let now = Instant::now();
    Ok(next(again.into_iter().chain(memory.again(now)).min(), memory.retry(&pass, now)))
}

fn result(fault: Option<&Fault>) -> Reconciled {
    match fault {
        None => Reconciled::Settled,
        Some(Fault::User { .. } | Fault::Refused { .. }) => Reconciled::User,
        Some(Fault::Waiting { .. } | Fault::Unseen { .. }) => Reconciled::Waiting,
        Some(Fault::Plugin { .. } | Fault::Unsettled { .. }) => Reconciled::Plugin,
        Some(Fault::Held { .. }) => Reconciled::Held,
        Some(Fault::Cluster { .. } | Fault::Contested { .. }) => Reconciled::Cluster,
    }
}

fn next(report: Option<Duration>, retry: Option<Duration>) -> Action {
    match report.into_iter().chain(retry).min() {
        Some(pause) => Action::requeue(pause.clamp(Duration::from_millis(10), limits::PLUGIN_RETRY_AFTER_MAX)),
        None => Action::await_change(),
    }
}
