//! Records what was decided in the Database's status, then applies it. Knows no plugin's inside.

use std::time::Instant;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::DynamicObject;

use super::hold::Candidate;
use super::{Context, Memory, With, causes, report};
use crate::apply::{self, Target};
use atomix_controller_io::api_client::said;
use atomix_decide::intent::{self, ChangesByItself, Intent};
use atomix_decide::objects::{self, Owner, Standing, admission_policy};
use atomix_decide::pass::{Admitted, Applied, Pass, Recorded, Stopped};
use atomix_model::condition::Reason;
use atomix_model::contract::{PartitionState, Unsupported};
use atomix_model::crd::Database;
use atomix_model::fault::Fault;
use atomix_model::object::Kind;

/// A plan that may be written, and what has been found out on the way.
pub(super) struct Prepared<'a> {
    admitted: Admitted,
    standing: Standing,
    changes_by_itself: ChangesByItself,
    write: Write<'a>,
}

/// The writing of one admitted plan.
pub(super) struct Write<'a> {
    database: &'a Database,
    with: With<'a>,
    chosen: Candidate,
    ctx: &'a Context,
    planned_by: String,
    /// What the plugin says of each partition, whether its Service is there or not.
    states: Vec<PartitionState>,
}

impl<'a> Prepared<'a> {
    /// Checks whether a plan may be written. Writes nothing.
    pub(super) async fn of(
        database: &'a Database,
        with: With<'a>,
        mut admitted: Admitted,
        chosen: Candidate,
        ctx: &'a Context,
        memory: &mut Memory,
    ) -> Result<Prepared<'a>, Stopped> {
        let (descriptor, class_in_use) = (chosen.plugin.revision.descriptor(), &with.newest.in_use);
        let planned_by = format!(
            "plugin {} {} of {} {}/{}",
            descriptor.name, descriptor.version, class_in_use.kind, class_in_use.namespace, class_in_use.name
        );
        let states = admitted.planned.states.clone();
        intent::without_service(&mut admitted.planned.states, &ctx.caches, &Owner::of(database));
        let write = Write { database, with, chosen, ctx, planned_by, states };
        match write.clear(memory).await {
            Ok((standing, changes_by_itself)) => Ok(Prepared { admitted, standing, changes_by_itself, write }),
            Err(fault) => Err(Stopped::after(admitted, fault)),
        }
    }

    /// Changes that running storage cannot make.
    pub(super) fn unsupported(&self) -> &[Unsupported] {
        &self.admitted.planned.unsupported
    }

    /// This plan, which takes the place of another, since running storage cannot make what that one asks for.
    pub(super) fn instead_of(mut self, other: Prepared<'_>) -> Prepared<'a> {
        self.admitted.planned.unsupported = other.admitted.planned.unsupported;
        self
    }

    /// This plan, which is written since that of the newest class, or of the plugin's newest revision, cannot be.
    pub(super) fn since(mut self, newest_fails: Fault) -> Prepared<'a> {
        self.admitted.newest_fails = Some(newest_fails);
        self
    }

    /// Records the class in use, how partitions share clusters, all kinds that are about to be written, and the plan: a crash at any
    /// later write loses none of it.
    pub(super) async fn record(self, memory: &mut Memory) -> Result<(Recorded, Standing, Write<'a>), Stopped> {
        let Prepared { admitted, standing, changes_by_itself, write } = self;
        let intent = write.intent();
        let (plan, kinds) = (intent.plan(), intent.kinds().into_iter().collect());
        let pass = Pass { stage: Box::new(Recorded { admitted, plan, kinds }.into()), stopped: None };
        let written = report::record(write.database, write.ctx, memory, &pass).await;
        let recorded = (*pass.stage).into_recorded().expect("it is what it was made of");
        let is_written = match written {
            Ok(is_written) => is_written,
            Err(fault) => return Err(Stopped::after(recorded.admitted, fault)),
        };
        if let Some(changed) = changes_by_itself {
            memory.changes.written(&crate::catalog::title(&write.chosen.plugin.revision), changed, Instant::now());
        }
        let acts = || standing.acts(&write.chosen.admitted, &intent.owner(), &memory.applied, Instant::now());
        if !is_written
            && acts()
            && let Err(fault) = write.confirm(memory).await
        {
            return Err(Stopped::after(recorded.admitted, fault));
        }
        Ok((recorded, standing, write))
    }
}

impl Write<'_> {
    /// Writes the objects that differ, then removes what the plan no longer holds.
    pub(super) async fn apply(&self, mut recorded: Recorded, standing: &Standing, memory: &mut Memory) -> Applied {
        let (admitted, ctx) = (&self.chosen.admitted, self.ctx);
        let applied = apply::apply(&self.target(), &mut memory.applied, admitted, standing).await;
        let owner = Owner::of(self.database);
        let found = intent::found(&ctx.caches, &owner, admitted);
        recorded.admitted.planned.states.clone_from(&self.states);
        intent::without_service(&mut recorded.admitted.planned.states, &ctx.caches, &owner);
        let mut kinds = recorded.kinds.clone();
        kinds.retain(|kind| !objects::is_rid_of(&ctx.caches, &owner, kind, admitted));
        Applied {
            recorded,
            partitions: found.partitions,
            missing: found.missing,
            kinds,
            rollout: causes::rollout(self.database, &self.chosen.plugin, ctx),
            faults: memory.changes.fault(Instant::now()).into_iter().chain(applied.faults).collect(),
            look_again: applied.again,
        }
    }

    /// Checks whether the plan may be written.
    async fn clear(&self, memory: &mut Memory) -> Result<(Standing, ChangesByItself), Fault> {
        let intent = self.intent();
        let standing = intent.standing(&self.ctx.caches, Timestamp::now())?;
        if intent.is_behind() {
            self.confirm(memory).await?;
        }
        let changes_by_itself = intent.clear(&standing, &mut memory.changes, Instant::now())?;
        apply::dry_run(&self.target(), &mut memory.applied, &self.chosen.admitted, &standing).await?;
        Ok((standing, changes_by_itself))
    }

    fn intent(&self) -> Intent<'_> {
        let (admitted, digest) = (&self.chosen.admitted, self.chosen.plugin.revision.digest());
        Intent { database: self.database, class: &self.with.class.live, admitted, digest }
    }

    fn target(&self) -> Target<'_> {
        let ctx = self.ctx;
        Target {
            client: &ctx.client,
            caches: &ctx.caches,
            owner: Owner::of(self.database),
            planned_by: &self.planned_by,
            grants: &self.chosen.plugin.grants,
            metrics: &ctx.metrics,
            guarded: admission_policy::in_force(&ctx.caches),
        }
    }

    /// Reads the database and its class from the API server, to compare them with the caches. These may be older than what
    /// the leader before this one acted on, and then what it did would be undone.
    async fn confirm(&self, memory: &Memory) -> Result<(), Fault> {
        let Write { database, with: With { newest: class, .. }, ctx, chosen: Candidate { plugin, .. }, .. } = self;
        let there = |what: String, found: kube::Result<Option<kube::core::PartialObjectMeta<DynamicObject>>>| match found {
            Ok(found) => Ok(found.filter(|found| found.metadata.deletion_timestamp.is_none())),
            Err(error) => {
                let message = format!("could not look up {what}: {}", said(&error));
                Err(Fault::Cluster { reason: Reason::ApiUnavailable, message })
            }
        };
        let unseen = |what: &str| Fault::Unseen { message: format!("{what} is another by now than the one that is seen") };
        let name = database.name_any();
        let databases =
            atomix_controller_io::cache::api(&ctx.client, &Kind::of::<Database>(), database.namespace().as_deref());
        let found = there(format!("Database {name}"), databases.get_metadata_opt(&name).await)?;
        let same = found.is_some_and(|found| {
            let newest = Some(memory.newest(database)); // its status may record more than its generation shows
            found.metadata.uid == database.metadata.uid && found.metadata.resource_version == newest
        });
        if !same {
            return Err(unseen("the Database"));
        }
        let Some(kind) = plugin.class_kind(&class.in_use.kind) else { return Err(unseen("the plugin")) };
        let classes = atomix_controller_io::cache::api(&ctx.client, &Kind::from(kind), Some(&class.live.namespace));
        let title = format!("{} {}", class.in_use.kind, class.in_use.name);
        let found = there(title.clone(), classes.get_metadata_opt(&class.live.name).await)?;
        let same = found.is_some_and(|found| {
            found.metadata.uid.as_ref() == Some(&class.live.uid)
                && found.metadata.generation.unwrap_or(0) == class.live.generation()
        });
        if same { Ok(()) } else { Err(unseen(&title)) }
    }
}
