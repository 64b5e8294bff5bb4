//! An edit is applied as a whole or not at all: before the first of several writes, the others are sent to the API server with `dryRun`. A
//! plan that only makes new objects, repairs drift, or writes one object needs no dry run.

use std::time::Instant;

use kube::Error;
use kube::api::{Patch, PatchParams};

use super::{Target, fault, foreign, is_taken};
use atomix_controller_io::cache::api;
use atomix_decide::admission::{Admitted, Stamped};
use atomix_decide::diff::with_live_spelling;
use atomix_decide::objects::{Decision, Memory, Standing, decide, is_change};
use atomix_model::fault::Fault;
use atomix_model::names;
use atomix_model::object::Live;

/// Checks by dry run whether all objects of a plan that differ would be accepted, but for the first, whose refusal leaves
/// everything as it is anyway.
///
/// # Errors
/// The first refusal; nothing is written.
pub async fn dry_run(
    target: &Target<'_>,
    memory: &mut Memory,
    admitted: &Admitted,
    standing: &Standing,
) -> Result<(), Fault> {
    if !standing.changes(admitted, &target.owner) {
        return Ok(());
    }
    let quiet = |object: &Stamped| memory.quiet(object);
    let differs = |(object, live): &(&Stamped, Option<&Live>)| {
        matches!(decide(object, *live, &target.owner, quiet(object)), Decision::Write(_) | Decision::Adopt)
    };
    let later: Vec<_> = standing.pairs(admitted).filter(differs).skip(1).collect();
    for (object, live) in later {
        if live.is_none() || is_change(object, live, &target.owner) {
            send_dry_run(target, memory, object, live).await?;
        }
    }
    Ok(())
}

async fn send_dry_run(target: &Target<'_>, memory: &mut Memory, object: &Stamped, live: Option<&Live>) -> Result<(), Fault> {
    let tried = (object.hash.clone(), live.map_or(0, |live| live.version));
    if let Some(refused) = memory.refused(object, &tried, Instant::now()) {
        return Err(refused);
    }
    let manifest = live.map_or_else(|| object.manifest.clone(), |live| with_live_spelling(&live.body, &object.manifest));
    let params = PatchParams::apply(names::MANAGER).force().dry_run();
    let api = api(target.client, &object.kind, Some(target.owner.namespace));
    let error = match api.patch(&object.name, &params, &Patch::Apply(&manifest)).await {
        Ok(_) => return Ok(()),
        // A webhook without dry run decides at the write itself.
        Err(Error::Api(status)) if status.code == 400 && status.message.contains("dry run") => return Ok(()),
        Err(Error::Api(status)) if is_taken(&status) => return Ok(()), // reported when it is written
        Err(error) => error,
    };
    let title = format!("{} {}", object.kind.kind, object.name);
    // What is invalid together with another owner's fields is refused for that before it is seen whose it is.
    if live.is_none()
        && foreign(&api, &object.name, target.owner.uid).await.map_err(|error| fault("look up", &title, &error))?
    {
        return Ok(()); // reported when it is written
    }
    let refused = fault("apply", &title, &error);
    let Fault::Refused { message } = refused else { return Err(refused) };
    let message = format!("{message}; {} planned it so; nothing of the change is applied", target.planned_by);
    Err(memory.refuse(object, tried, message, Instant::now()))
}
