//! A plan that is about to be written: what of it must be recorded before its first object, and why it may not be written.
//! Knows no client; time is an argument.

use std::collections::BTreeSet;
use std::time::Instant;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::jiff::Timestamp;

use crate::admission::{self, Admitted};
use crate::last_taken;
use crate::objects::{self, Owner, Standing};
use crate::observe;
use crate::plan_churn::PlanChurn;
use atomix_model::condition::Reason;
use atomix_model::contract::{self, PartitionState};
use atomix_model::crd::database::{DatabaseStatus, PlanInUse};
use atomix_model::crd::{Database, Partition};
use atomix_model::fault::Fault;
use atomix_model::names;
use atomix_model::object::{Key, Kind, Live, Objects, State};

/// An admitted plan beside what it was made from.
#[derive(Clone, Copy, Debug)]
pub struct Intent<'a> {
    /// As it was seen, with the status that was written last.
    pub database: &'a Database,
    /// The class that the plan was made from.
    pub class: &'a Live,
    /// The plan.
    pub admitted: &'a Admitted,
    /// Digest of the plugin revision that made it.
    pub digest: &'a str,
}

/// The objects that a plan would change although nothing was edited, each with a field; none if something was.
pub type ChangesByItself = Option<Vec<(String, String)>>;

impl Intent<'_> {
    /// The database as the owner of objects.
    pub fn owner(&self) -> Owner<'_> {
        Owner::of(self.database)
    }

    /// The plan, as the status records it.
    pub fn plan(&self) -> PlanInUse {
        PlanInUse {
            hash: self.admitted.hash.clone(),
            generation: self.database.metadata.generation.unwrap_or_default(),
            class_uid: self.class.uid.clone(),
            class_generation: self.class.generation(),
            partitions: Some(self.database.spec.partitions),
            class_spec: last_taken::recorded(self.class),
        }
    }

    /// All kinds that were ever written for the database, and those that are about to be.
    pub fn kinds(&self) -> BTreeSet<Kind> {
        let before = self.database.status.iter().flat_map(|status| &status.kinds).cloned();
        before.chain(admission::kinds(self.admitted)).collect()
    }

    /// Looks up what is live of the plan and of every kind ever written.
    ///
    /// # Errors
    /// A kind whose cache is not whole.
    pub fn standing(&self, objects: &dyn Objects, now: Timestamp) -> Result<Standing, Fault> {
        Standing::of(objects, &self.owner(), self.admitted, &self.kinds(), now)
    }

    /// Whether the plan was made from an older database or class than the one that is recorded. That was made from a later
    /// edit, unless the status was written by hand: the API server has to be read.
    pub fn is_behind(&self) -> bool {
        self.running().is_some_and(|running| objects::is_older(&self.plan(), running))
    }

    /// Checks whether the plan may be written.
    ///
    /// # Errors
    /// It is held, it cannot be written as a whole, or it changes too often by itself.
    pub fn clear(&self, standing: &Standing, churn: &mut PlanChurn, now: Instant) -> Result<ChangesByItself, Fault> {
        let (plan, owner, running) = (self.plan(), self.owner(), self.running());
        let accepted = accepted(self.database);
        if let Some(message) = standing.held(self.admitted, running, &plan, accepted) {
            return Err(Fault::Held { plan: plan.hash, message });
        }
        if let Some(message) = standing.cannot_change(self.admitted, &owner) {
            return Err(Fault::user(Reason::ChangeNotTaken, message));
        }
        let planned_by = self.database.status.as_ref().and_then(|status| status.plugin.as_ref());
        let is_another = running.is_some_and(|running| running.hash != plan.hash);
        let by_itself = is_another
            && accepted != Some(&self.admitted.hash)
            && running.is_some_and(|running| !objects::is_edited(running, &plan))
            && planned_by.is_some_and(|planned| planned.digest == self.digest);
        let changed = by_itself.then(|| standing.changed(self.admitted, &owner));
        match &changed {
            Some(changed) => churn.may_be_written(changed, now)?,
            None if is_another => *churn = PlanChurn::default(), // something was edited
            None => {}
        }
        Ok(changed)
    }

    fn running(&self) -> Option<&PlanInUse> {
        self.database.status.as_ref()?.plan.as_ref()
    }
}

/// Hash of the plan that was accepted.
pub fn accepted(database: &Database) -> Option<&str> {
    database.metadata.annotations.as_ref()?.get(names::ACCEPT).map(String::as_str)
}

/// Whether a status holds already what must not be lost once the first object is written.
pub fn is_recorded(before: &DatabaseStatus, after: &DatabaseStatus) -> bool {
    let must_not_be_lost = |status: &DatabaseStatus| {
        let DatabaseStatus { plan, kinds, storage_class, partitions_per_cluster, pod_labels, .. } = status.clone();
        (plan, kinds, storage_class, partitions_per_cluster, pod_labels)
    };
    must_not_be_lost(before) == must_not_be_lost(after)
}

/// What is there of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// How many of the database's Partitions.
    pub partitions: i32,
    /// The first object of the plan that is not.
    pub missing: Option<String>,
}

/// Looks for what is there of a plan.
pub fn found(objects: &dyn Objects, owner: &Owner, admitted: &Admitted) -> Found {
    let all = objects.of_database(&Kind::of::<Partition>(), owner.namespace, owner.name);
    let there = all.iter().filter(|live| live.owner() == Some(owner.uid) && !live.terminating()).count();
    Found { partitions: i32::try_from(there).unwrap_or(i32::MAX), missing: objects::first_missing(objects, owner, admitted) }
}

/// Takes partitions for not ready whose Service, which every plan has, is not there or somebody else's: no program reaches them.
pub fn without_service(states: &mut [PartitionState], objects: &dyn Objects, owner: &Owner) {
    let kind = Kind::of::<Service>();
    if objects.state(&kind) != State::Synced {
        return; // what is there is not known
    }
    for state in states.iter_mut().filter(|state| state.ready) {
        let name = observe::partition_name(owner.name, state.id);
        let live = objects.find(&kind, &Key::new(owner.namespace, &name));
        if live.is_none_or(|live| live.owner() != Some(owner.uid)) {
            let message = format!("its members are ready, but Service {name} is not there or belongs to somebody else");
            state.ready = false;
            state.problem = Some(contract::Reason { code: Reason::NotFound.to_string(), message });
        }
    }
}
