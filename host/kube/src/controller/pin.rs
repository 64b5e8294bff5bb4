//! The revision of its plugin that a Database names by an annotation: it plans the database, whatever serves others. Knows no client.

use std::sync::Arc;

use super::Context;
use crate::catalog::{Plugin, title};
use atomix_model::condition::Reason;
use atomix_model::crd::Database;
use atomix_model::fault::Fault;
use atomix_model::names;

/// The revision to plan a database with: the one that it names, else the one that serves. Where the one that it names cannot be had, the one
/// that planned what runs goes on, and why.
pub(super) fn revision(
    database: &Database,
    serving: Arc<Plugin>,
    ctx: &Context,
) -> Result<(Arc<Plugin>, Option<Fault>), Fault> {
    let Some(value) = named(database) else { return Ok((serving, None)) };
    let name = serving.revision.descriptor().name.clone();
    let kind = &database.spec.storage_class.kind;
    let fault = match ctx.catalog.named(&name, value) {
        Ok(plugin) if plugin.class_kind(kind).is_some() => return Ok((plugin.into(), None)),
        Ok(plugin) => {
            let message = format!("{} serves no kind {kind}; {} does", title(&plugin.revision), title(&serving.revision));
            Fault::user(Reason::RevisionNotKept, message)
        }
        Err((Reason::Loading, message)) => Fault::waiting(Reason::Loading, message),
        Err((reason, message)) => Fault::user(reason, message),
    };
    match runs(database, &name, ctx) {
        Some(plugin) if plugin.class_kind(kind).is_some() => Ok((plugin.into(), Some(fault))),
        _ => Err(fault),
    }
}

/// Why a database is planned by another revision than the one that serves: it says so.
pub(super) fn outdated(database: &Database, plugin: &Plugin, ctx: &Context) -> Option<(Reason, String)> {
    let value = named(database)?;
    let serving = ctx.catalog.serving(&database.spec.storage_class.kind)?;
    let digest = plugin.revision.digest();
    if serving.revision.digest() == digest || !names::names_revision(value, digest) {
        return None;
    }
    let message = format!(
        "{} plans this database, and not {}, which serves, since its annotation {} says so",
        title(&plugin.revision),
        title(&serving.revision),
        names::REVISION
    );
    Some((Reason::Pinned, message))
}

fn named(database: &Database) -> Option<&str> {
    database.metadata.annotations.as_ref()?.get(names::REVISION).map(String::as_str)
}

/// The revision that planned what runs, if anything does.
fn runs(database: &Database, plugin: &str, ctx: &Context) -> Option<Plugin> {
    let planned = database.status.as_ref().filter(|status| status.plan.is_some())?.plugin.as_ref()?;
    ctx.catalog.revision(plugin, &planned.digest).filter(|_| planned.name == plugin)
}
