//! The order of one plan's writes: which object comes next, given what came of those before, and what is removed at the end. Knows no
//! client.

use super::Standing;
use crate::admission::{Admitted, Stamped};
use crate::objects::Owner;
use atomix_model::condition::Reason;
use atomix_model::crd::Partition;
use atomix_model::fault::Fault;
use atomix_model::grants::Grants;
use atomix_model::names;
use atomix_model::object::{Kind, Live};

/// What came of the writes of one plan up to now.
#[derive(Clone, Debug, Default)]
pub struct Writing {
    /// Whether the plan changes something that is there already.
    changes: bool,
    /// Objects written.
    pub written: usize,
    /// What went wrong, object by object.
    pub faults: Vec<Fault>,
    /// Names of what pods mount and what could not be written.
    failed: Vec<String>,
    stopped: bool,
}

impl Writing {
    /// Nothing is written yet.
    pub fn of(standing: &Standing, admitted: &Admitted, owner: &Owner) -> Writing {
        Writing { changes: standing.changes(admitted, owner), ..Writing::default() }
    }

    /// Whether an object is left out: its pods would run with what belongs to another owner.
    pub fn skips(&self, object: &Stamped) -> bool {
        self.failed.iter().any(|name| object.mounts(name))
    }

    /// An object was written.
    pub fn wrote(&mut self) {
        self.written += 1;
    }

    /// An object could not be written. An edit whose first object is refused is not applied at all, and an API server that
    /// does not answer gets no more requests.
    pub fn failed(&mut self, object: &Stamped, fault: Fault) {
        let refused = self.changes && self.written == 0 && matches!(fault, Fault::Refused { .. });
        self.stopped |= refused || matches!(fault, Fault::Cluster { reason: Reason::ApiUnavailable, .. });
        self.faults.push(fault);
        if ["configmaps", "persistentvolumeclaims"].contains(&object.kind.plural.as_str()) {
            self.failed.push(object.name.clone());
        }
    }

    /// Whether no more is written or removed.
    pub fn has_stopped(&self) -> bool {
        self.stopped
    }

    /// Whether the next pass may decide otherwise, although no event starts it: the plan was made before what was written
    /// was there, and the watch brings no change that the answer to a write has shown already.
    pub fn looks_again(&self) -> bool {
        self.written > 0
    }

    /// Whether what the plan no longer holds may be removed: everything else is as planned.
    pub fn may_prune(&self) -> bool {
        !self.stopped && self.faults.is_empty()
    }
}

/// The removal of an object that is there, and what must still be true of it then.
#[derive(Clone, Copy, Debug)]
pub struct Removal<'a> {
    /// Its kind.
    pub kind: &'a Kind,
    /// The object as it was seen: another object of its name is left alone.
    pub live: &'a Live,
    /// Whether any other version of it is left alone, too.
    pub this_version: bool,
}

impl Removal<'_> {
    /// The UID that the object must have.
    pub fn uid(&self) -> &str {
        &self.live.uid
    }

    /// The version that it must have, if it counts.
    pub fn version(&self) -> Option<u64> {
        self.this_version.then_some(self.live.version)
    }
}

impl Standing {
    /// What is removed since the plan no longer holds it, in this order; as faults, what cannot be looked for and what may not be removed.
    pub fn removals(&self, owner: &Owner, grants: &Grants, planned_by: &str) -> Vec<Result<Removal<'_>, Fault>> {
        let not_pruned = |message| Err(Fault::Cluster { reason: Reason::NotPruned, message });
        let unsynced = self.unsynced().iter().map(|(kind, why)| {
            not_pruned(format!(
                "objects of kind {} that an earlier plan made cannot be looked for, so none of them is removed: {why}; they are known by \
                 the label database={}",
                kind.kind,
                names::database_label(owner.namespace, owner.name)
            ))
        });
        let orphans = self.orphans().iter().map(|(kind, live)| {
            if *kind == Kind::of::<Partition>() || grants.may("delete", &kind.group, &kind.plural) {
                return Ok(Removal { kind, live, this_version: false });
            }
            not_pruned(format!(
                "{} {} of an earlier plan is left: no rule of the ClusterRole of {planned_by} lets it delete {}; add the verb delete, or \
                 remove the object",
                kind.kind,
                live.name,
                kind.resource()
            ))
        });
        unsynced.chain(orphans).collect()
    }
}
