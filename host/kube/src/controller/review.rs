//! The review of a class or a Database before it is written: why its plugin refuses it, and what would follow from an edit.
//! Writes nothing. Whatever is not known yet is no error: conditions report it afterwards.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use serde_json::Value;
use tokio::sync::Semaphore;

use super::hold::{self, Candidate};
use super::{Context, Found, admissible, class_and_plugin, request};
use crate::catalog::Plugin;
use crate::webhook::admission_review::{Answers, Verdict, Wanted};
use atomix_decide::admission;
use atomix_decide::objects::Effects;
use atomix_decide::objects::Owner;
use atomix_decide::objects::Standing;
use atomix_decide::observe::{Class, keep_what_runs};
use atomix_decide::{last_taken, misfit};
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
        (GROUP, "Database") => database(ctx, &wanted.object, Some(&wanted.old_object).filter(|old| old.is_object())).await,
        ("autoscaling", "Scale") => match scaled(ctx, wanted) {
            Some((object, before)) => database(ctx, &object, Some(&before)).await,
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
    let class = |body: &Value| {
        let name = body.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
        Arc::new(Live { namespace: wanted.namespace.clone(), name, uid: String::new(), version: 0, body: body.clone() })
    };
    let (edited, before) = (class(&wanted.object), class(&wanted.old_object));
    let databases = ctx.databases.state().into_iter().filter_map(|object| Some(parsed(&object.value())?.0));
    let of_class = |database: &Database| {
        let stays = database.metadata.deletion_timestamp.is_none();
        stays && database.spec.storage_class.kind == wanted.kind.kind && uses(database, &edited)
    };
    let mut users: Vec<Database> = databases.filter(of_class).collect();
    users.sort_by_key(|database| (database.namespace(), database.name_any())); // the same words for the same edit
    let (mut effects, mut concerned, mut refused) = (Effects::default(), 0, Vec::new());
    for database in users.iter().take(limits::REVIEW_DATABASES_MAX) {
        let Foreseen { effects: of_one, warnings, errors, not_taken, .. } = foresee(ctx, database, Some(&edited)).await;
        let title = format!("Database {}/{}", database.namespace().unwrap_or_default(), database.name_any());
        let not_taken_before = match not_taken.is_empty() {
            true => Vec::new(),
            false => foresee(ctx, database, Some(&before)).await.not_taken,
        };
        if last_taken::is_kept(&not_taken, &not_taken_before) {
            refused.extend(not_taken.into_iter().map(|change| (title.clone(), change)));
        } else {
            let warning = |change: &Unsupported| format!("{title}: {} {}", change.field, stays(change));
            verdict.warnings.extend(not_taken.iter().map(warning));
        }
        let warnings = warnings.into_iter().chain(errors.iter().map(|error| format!("{}: {}", error.path, error.message)));
        verdict.warnings.extend(warnings.map(|warning| format!("{title}: {warning}")));
        concerned += usize::from(of_one != Effects::default());
        effects = effects.and(of_one);
    }
    verdict.warnings.truncate(limits::REVIEW_WARNINGS_MAX);
    if !refused.is_empty() {
        return Verdict { errors: cannot_be_taken(refused), ..verdict };
    }
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

/// A Database is judged with its class; `before` is what it was, if it is edited.
async fn database(ctx: &Context, object: &Value, before: Option<&Value>) -> Verdict {
    let Some((database, misfits)) = parsed(object) else { return Verdict::default() };
    let Foreseen { effects, mut warnings, errors, not_taken } = foresee(ctx, &database, None).await;
    let not_taken = [misfits, not_taken].concat();
    if let Some(consequence) = consequence(effects, 1).filter(|_| before.is_some()) {
        warnings.insert(0, format!("this {consequence}"));
    }
    let before = match before.and_then(parsed).filter(|_| !not_taken.is_empty()) {
        Some((before, misfits)) => [misfits, foresee(ctx, &before, None).await.not_taken].concat(),
        None => not_taken.clone(), // a new one on data that were kept
    };
    let (new, old) = match last_taken::is_kept(&not_taken, &before) {
        true => (not_taken, Vec::new()),
        false => (Vec::new(), not_taken),
    };
    warnings.extend(old.iter().map(|change| format!("{} {}", change.field, stays(change))));
    warnings.truncate(limits::REVIEW_WARNINGS_MAX);
    let (of_database, of_class): (Vec<_>, Vec<_>) =
        errors.into_iter().partition(|error| error.path.starts_with(OF_DATABASE));
    warnings.extend(of_class.iter().map(|error| format!("the class is not accepted: {}: {}", error.path, error.message)));
    let refused = new.into_iter().map(|change| FieldError { message: stays(&change), path: change.field });
    let errors = of_database.into_iter().chain(refused);
    let errors = errors.map(|error| FieldError { path: error.path.replacen(OF_DATABASE, "", 1), ..error });
    Verdict { errors: errors.collect(), warnings }
}

/// What paths to fields of the Database begin with where fields of its class are meant without.
const OF_DATABASE: &str = "database.";

/// What becomes of a field that cannot be changed.
fn stays(change: &Unsupported) -> String {
    format!("stays {}, not {}: {}", change.kept, change.wanted, change.why)
}

/// Why a class cannot be edited so: each field and reason once, with the first Databases that run otherwise.
fn cannot_be_taken(changes: Vec<(String, Unsupported)>) -> Vec<FieldError> {
    let mut found: Vec<(Unsupported, Vec<String>)> = Vec::new();
    for (title, change) in changes {
        match found.iter_mut().find(|(other, _)| (&other.field, &other.kept) == (&change.field, &change.kept)) {
            Some((_, titles)) => titles.push(title),
            None => found.push((change, vec![title])),
        }
    }
    found.truncate(limits::REVIEW_WARNINGS_MAX);
    let error = |(change, titles): (Unsupported, Vec<String>)| {
        let more = match titles.len() {
            1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        let message = format!(
            "{}{more} cannot take this: it {}; nothing of the edit is applied. A class of another name can have it",
            titles[0],
            stays(&change)
        );
        FieldError { path: change.field, message }
    };
    found.into_iter().map(error).collect()
}

/// The Database that is being scaled: as it would be, and as it is.
fn scaled(ctx: &Context, scale: &Wanted) -> Option<(Value, Value)> {
    let name = scale.object.pointer("/metadata/name")?.as_str()?;
    let database = ctx.databases.get(&ObjectRef::new_with(name, super::triggers::resource()).within(&scale.namespace))?;
    let before = database.value();
    let mut object = before.clone();
    object["spec"]["partitions"] = scale.object.pointer("/spec/replicas")?.clone();
    Some((object, before))
}

/// A Database, with what of its spec is not taken.
fn parsed(object: &Value) -> Option<(Database, Vec<Unsupported>)> {
    misfit::read(object.clone()).ok()
}

/// What would follow for one database.
#[derive(Default)]
struct Foreseen {
    effects: Effects,
    warnings: Vec<String>,
    errors: Vec<FieldError>,
    /// What running storage would not take of the database and its class.
    not_taken: Vec<Unsupported>,
}

/// Plans for a database as it would be, with its class as it would be.
async fn foresee(ctx: &Context, database: &Database, edited: Option<&Arc<Live>>) -> Foreseen {
    let mut database = database.clone();
    let mut foreseen = Foreseen { not_taken: keep_what_runs(&mut database), ..Foreseen::default() };
    let mut found = class_and_plugin(&database, ctx);
    if found.as_ref().is_err_and(|fault| fault.reason() == Reason::ClassNotFound) {
        tokio::time::sleep(limits::REVIEW_CLASS_WAIT).await;
        found = class_and_plugin(&database, ctx);
    }
    let (plugin, mut class) = match found {
        Ok(Found { plugin, class, .. }) => (plugin, class),
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
    foreseen.not_taken.extend(plan.unsupported.iter().cloned());
    match admissible(&plan, &request, &database, &plugin, ctx) {
        Ok(admitted) => {
            let newest = Candidate { plugin, admitted };
            let kept = hold::kept(&newest, &request, (&database, &class), ctx).await;
            let written = kept.map_or(newest, |kept| kept.running);
            if foreseen.not_taken.is_empty() {
                foreseen.effects = effects(ctx, &database, &written.admitted); // else another plan than this is written
            }
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
    let standing = Standing::of(&ctx.caches, &owner, admitted, &kinds, Timestamp::now());
    standing.map(|standing| standing.effects(admitted)).unwrap_or_default()
}

/// What an edit does, as the end of a sentence that begins with "this"; None if nothing is disturbed.
fn consequence(effects: Effects, databases: usize) -> Option<String> {
    let counted = |count: i64, what: &str| if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") };
    let Effects { restarted, in_turn, when_deleted, removed, at_once } = effects;
    let pace = match in_turn {
        _ if at_once => String::new(),
        0 | 1 => ", one at a time".to_owned(),
        sets => format!(", one at a time in each of {sets} workloads"),
    };
    let of = counted(i64::try_from(databases).unwrap_or(i64::MAX), "database");
    let when = if when_deleted == 1 { " once it is deleted" } else { " once they are deleted" };
    let parts = [("removes", removed, ""), ("restarts", restarted, &*pace), ("changes", when_deleted, when)];
    let parts = parts.into_iter().filter(|(_, count, _)| *count > 0);
    let parts: Vec<_> = parts.map(|(does, count, how)| format!("{does} {} of {of}{how}", counted(count, "pod"))).collect();
    (!parts.is_empty()).then(|| parts.join(" and "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_is_counted_in_words() {
        let of = |effects, databases| consequence(effects, databases).unwrap_or_default();
        let none = Effects::default();
        let restarts = |restarted, in_turn| Effects { restarted, in_turn, ..none };
        assert_eq!(of(restarts(3, 1), 1), "restarts 3 pods of 1 database, one at a time");
        let together = restarts(6, 2).and(restarts(3, 1));
        assert_eq!(of(together, 3), "restarts 9 pods of 3 databases, one at a time in each of 3 workloads");
        assert_eq!(of(Effects { at_once: true, ..restarts(1, 0) }, 1), "restarts 1 pod of 1 database");
        assert_eq!(of(Effects { removed: 2, ..none }, 1), "removes 2 pods of 1 database");
        let both = Effects { removed: 1, ..restarts(3, 1) };
        assert_eq!(of(both, 1), "removes 1 pod of 1 database and restarts 3 pods of 1 database, one at a time");
        assert_eq!(of(Effects { when_deleted: 2, ..none }, 1), "changes 2 pods of 1 database once they are deleted");
        assert_eq!(of(none, 3), "");
    }
}
