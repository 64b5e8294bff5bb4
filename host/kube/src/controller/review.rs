//! The review of a class or a Database before it is written: why its plugin refuses it, and what would follow from an edit.
//! Writes nothing. Whatever is not known yet is no error: conditions report it afterwards.

use std::sync::Arc;

use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use serde_json::Value;
use tokio::sync::Semaphore;

use super::hold::{self, Candidate};
use super::{Context, admissible, class_and_plugin, request};
use crate::catalog::Plugin;
use crate::webhook::admission_review::{Answers, Verdict, Wanted};
use atomix_decide::admission;
use atomix_decide::objects::Effects;
use atomix_decide::objects::Owner;
use atomix_decide::objects::Standing;
use atomix_decide::observe::{Class, keep_what_runs};
use atomix_model::condition::Reason;
use atomix_model::contract::{FieldError, Refusal, Unsupported};
use atomix_model::crd::{Database, GROUP, STORAGE_GROUP};
use atomix_model::fault::Fault;
use atomix_model::limits;
use atomix_model::object::Live;

/// Answers reviews from the catalog and the caches.
pub(super) fn reviewer(ctx: Arc<Context>) -> Box<Answers> {
    let places = Arc::new(Semaphore::new(limits::REVIEWS_MAX));
    Box::new(move |wanted| {
        let (ctx, places) = (ctx.clone(), places.clone());
        Box::pin(async move {
            let Ok(_place) = places.try_acquire() else { return Verdict::default() }; // nothing may wait for a review
            review(&ctx, &wanted).await
        })
    })
}

async fn review(ctx: &Context, wanted: &Wanted) -> Verdict {
    let goes = wanted.object.pointer("/metadata/deletionTimestamp").is_some();
    let elsewhere = ctx.options.scope.as_ref().is_some_and(|scope| *scope != wanted.namespace);
    if goes || elsewhere || wanted.object.get("spec") == wanted.old_object.get("spec") {
        return Verdict::default();
    }
    match (wanted.kind.group.as_str(), wanted.kind.kind.as_str()) {
        (GROUP, "Database") => database(ctx, &wanted.object, wanted.operation == "UPDATE").await,
        ("autoscaling", "Scale") => match scaled(ctx, wanted) {
            Some(object) => database(ctx, &object, true).await,
            None => Verdict::default(),
        },
        (STORAGE_GROUP, kind) => match ctx.catalog.serving(kind) {
            Some(plugin) => class(ctx, wanted, &plugin).await,
            None => Verdict::default(),
        },
        _ => Verdict::default(),
    }
}

/// A class is judged by its plugin; an edit of one concerns all databases that use it.
async fn class(ctx: &Context, wanted: &Wanted, plugin: &Plugin) -> Verdict {
    let (revision, kind) = (plugin.revision.clone(), wanted.kind.kind.clone());
    let spec = wanted.object.get("spec").cloned().unwrap_or_else(|| serde_json::json!({}));
    let answer = tokio::task::spawn_blocking(move || revision.validate(&kind, &spec)).await;
    let mut verdict = Verdict::default();
    match answer {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(errors))) => return Verdict { errors, ..Verdict::default() },
        Ok(Err(fault)) => verdict.warnings.push(fault.to_string()),
        Err(_) => return verdict, // the controller stops
    }
    if wanted.operation != "UPDATE" {
        return verdict;
    }
    let edited = Arc::new(Live {
        namespace: wanted.namespace.clone(),
        name: wanted.object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned(),
        uid: String::new(),
        version: 0,
        body: wanted.object.clone(),
    });
    let databases = ctx.databases.state().into_iter().filter_map(|object| parsed(&serde_json::to_value(&*object).ok()?));
    let users: Vec<Database> = databases
        .filter(|database| database.spec.storage_class.kind == wanted.kind.kind && uses(database, &edited))
        .collect();
    let (mut effects, mut concerned) = (Effects::default(), 0);
    for database in users.iter().take(limits::REVIEW_DATABASES_MAX) {
        let Foreseen { effects: of_one, warnings, errors } = foresee(ctx, database.clone(), Some(&edited)).await;
        let warnings = warnings.into_iter().chain(errors.iter().map(|error| format!("{}: {}", error.path, error.message)));
        let title = format!("Database {}/{}", database.namespace().unwrap_or_default(), database.name_any());
        verdict.warnings.extend(warnings.map(|warning| format!("{title}: {warning}")));
        concerned += usize::from(of_one != Effects::default());
        effects.restarted += of_one.restarted;
        effects.removed += of_one.removed;
        effects.at_once |= of_one.at_once;
    }
    verdict.warnings.truncate(limits::REVIEW_WARNINGS_MAX);
    if let Some(consequence) = consequence(effects, concerned) {
        let more = match users.len() > limits::REVIEW_DATABASES_MAX {
            true => format!(" (of the first {} of {} that use it)", limits::REVIEW_DATABASES_MAX, users.len()),
            false => String::new(),
        };
        verdict.warnings.insert(0, format!("this {consequence}{more}"));
    }
    verdict
}

/// Whether a database uses this class, by its status.
fn uses(database: &Database, class: &Live) -> bool {
    let in_use = database.status.as_ref().and_then(|status| status.storage_class.as_ref());
    in_use.is_some_and(|in_use| in_use.name == class.name && in_use.namespace == class.namespace)
}

async fn database(ctx: &Context, object: &Value, is_edit: bool) -> Verdict {
    let Some(database) = parsed(object) else { return Verdict::default() };
    let Foreseen { effects, mut warnings, errors } = foresee(ctx, database, None).await;
    if let Some(consequence) = consequence(effects, 1).filter(|_| is_edit) {
        warnings.insert(0, format!("this {consequence}"));
    }
    warnings.truncate(limits::REVIEW_WARNINGS_MAX);
    let (of_database, of_class): (Vec<_>, Vec<_>) =
        errors.into_iter().partition(|error| error.path.starts_with("database."));
    warnings.extend(of_class.iter().map(|error| format!("the class is not accepted: {}: {}", error.path, error.message)));
    let errors = of_database.into_iter().map(|error| FieldError { path: error.path.replacen("database.", "", 1), ..error });
    Verdict { errors: errors.collect(), warnings }
}

/// The Database that is being scaled, as it would be.
fn scaled(ctx: &Context, scale: &Wanted) -> Option<Value> {
    let name = scale.object.pointer("/metadata/name")?.as_str()?;
    let database = ctx.databases.get(&ObjectRef::new_with(name, super::triggers::resource()).within(&scale.namespace))?;
    let mut object = serde_json::to_value(&*database).ok()?;
    object["spec"]["partitions"] = scale.object.pointer("/spec/replicas")?.clone();
    Some(object)
}

fn parsed(object: &Value) -> Option<Database> {
    serde_json::from_value(object.clone()).ok()
}

/// What would follow for one database.
#[derive(Default)]
struct Foreseen {
    effects: Effects,
    warnings: Vec<String>,
    errors: Vec<FieldError>,
}

/// Plans for a database as it would be, with its class as it would be.
async fn foresee(ctx: &Context, mut database: Database, edited: Option<&Arc<Live>>) -> Foreseen {
    let mut foreseen = Foreseen::default();
    let kept = keep_what_runs(&mut database);
    let mut changes_not_taken = |changes: &[Unsupported]| {
        let warnings = changes.iter().map(|it| format!("{} stays {}, not {}: {}", it.field, it.kept, it.wanted, it.why));
        foreseen.warnings.extend(warnings);
    };
    changes_not_taken(&kept);
    let (plugin, mut class) = match class_and_plugin(&database, ctx) {
        Ok(found) => found,
        Err(fault) => {
            if fault.reason() != Reason::Starting {
                foreseen.warnings.push(fault.message().to_owned());
            }
            return foreseen;
        }
    };
    if let Some(edited) = edited {
        class = Class { live: edited.clone(), ..class };
    }
    let Ok(request) = request(&database, &plugin, &class, ctx) else { return foreseen }; // not seen yet
    let (revision, copy) = (plugin.revision.clone(), request.clone());
    let plan = match tokio::task::spawn_blocking(move || revision.plan(&copy)).await {
        Ok(Ok(Ok(plan))) => plan,
        Ok(Ok(Err(Refusal::Invalid(errors)))) => {
            foreseen.errors = errors;
            return foreseen;
        }
        Ok(Err(fault)) => {
            foreseen.warnings.push(fault.to_string());
            return foreseen;
        }
        Ok(Ok(Err(Refusal::Waiting(_)))) | Err(_) => return foreseen,
    };
    changes_not_taken(&plan.unsupported);
    match admissible(&plan, &request, &database, &plugin, ctx) {
        Ok(admitted) => {
            let newest = Candidate { plugin, admitted };
            let kept = hold::kept(&newest, &request, (&database, &class), ctx).await;
            let written = kept.map_or(newest, |kept| kept.running);
            foreseen.effects = effects(ctx, &database, &written.admitted);
        }
        Err(fault @ Fault::Plugin { .. }) => foreseen.warnings.push(fault.message().to_owned()),
        Err(_) => {}
    }
    foreseen
}

fn effects(ctx: &Context, database: &Database, admitted: &admission::Admitted) -> Effects {
    let owner = Owner { adopts: None, ..Owner::of(database) };
    let before = database.status.iter().flat_map(|status| &status.kinds).cloned();
    let kinds = before.chain(admission::kinds(admitted)).collect();
    Standing::of(&ctx.caches, &owner, admitted, &kinds).map(|standing| standing.effects(admitted)).unwrap_or_default()
}

/// What an edit does, as the end of a sentence that begins with "this"; None if nothing is disturbed.
fn consequence(effects: Effects, databases: usize) -> Option<String> {
    let counted = |count: i64, what: &str| if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") };
    let Effects { restarted, removed, at_once } = effects;
    let of = counted(i64::try_from(databases).unwrap_or(i64::MAX), "database");
    let pace = if at_once { "" } else { ", one at a time" };
    match (restarted, removed) {
        (0, 0) => None,
        (_, 0) => Some(format!("restarts {} of {of}{pace}", counted(restarted, "pod"))),
        (0, _) => Some(format!("removes {} of {of}", counted(removed, "pod"))),
        _ => Some(format!("removes {} and restarts {} of {of}{pace}", counted(removed, "pod"), counted(restarted, "pod"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_is_counted_in_words() {
        let of = |restarted, removed, at_once, databases| consequence(Effects { restarted, removed, at_once }, databases);
        assert_eq!(of(9, 0, false, 3).as_deref(), Some("restarts 9 pods of 3 databases, one at a time"));
        assert_eq!(of(1, 0, true, 1).as_deref(), Some("restarts 1 pod of 1 database"));
        assert_eq!(of(0, 2, false, 1).as_deref(), Some("removes 2 pods of 1 database"));
        assert_eq!(of(3, 1, false, 1).as_deref(), Some("removes 1 pod and restarts 3 pods of 1 database, one at a time"));
        assert_eq!(of(0, 0, false, 3), None);
    }
}
