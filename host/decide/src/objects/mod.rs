//! A database's objects: what is live of its plan, what is to be written and removed, and what that would disturb. Knows no client.

pub mod admission_policy;
mod backoff;
mod competing_writes;
mod decision;
mod effects;
mod replacement;
pub mod stalled_rollout;
mod waiting_rollout;
mod writing;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;

use crate::admission::{self, Admitted, Stamped};
use crate::diff::check_applied;
use crate::observe;
use atomix_model::crd::Partition;
use atomix_model::crd::database::PlanInUse;
use atomix_model::fault::Fault;
use atomix_model::limits;
use atomix_model::names;
use atomix_model::object::{Key, Kind, Live, Objects, State};

pub use backoff::Backoff;
pub use competing_writes::CompetingWrites;
pub use decision::{
    Decision, Owner, Quiet, decide, held, held_back, is_change, is_edited, is_older, orphans, planned_otherwise,
};
pub use effects::Effects;
pub use replacement::pods;
pub use writing::{Removal, Writing};

/// What is remembered between passes over one database; losing it costs at most one apply per object.
#[derive(Debug, Default)]
pub struct Memory(BTreeMap<Kind, BTreeMap<String, Remembered>>);

/// What is remembered of an object.
#[derive(Debug, Default)]
struct Remembered {
    quiet: Option<Box<Quiet>>,
    /// What the API did not take last.
    refused: Option<Box<Refusal>>,
    /// What was written last, and how often the same again.
    competing: Option<CompetingWrites>,
}

/// A manifest that the API server did not take. No event reports when it would: a policy goes, a port of a node becomes
/// free.
#[derive(Clone, Debug)]
struct Refusal {
    /// Its hash, and the version of what it met.
    tried: (String, u64),
    message: String,
    times: u32,
    until: Instant,
}

impl Memory {
    /// Forgets objects that the plan does not hold.
    pub fn retain(&mut self, admitted: &Admitted) {
        let held: BTreeSet<_> = admitted.objects.iter().map(|object| (&object.kind, &object.name)).collect();
        self.0.retain(|kind, objects| {
            objects.retain(|name, _| held.contains(&(kind, name)));
            !objects.is_empty()
        });
    }

    /// What was remembered of an object that an apply left as it was.
    pub fn quiet(&self, object: &Stamped) -> Option<&Quiet> {
        self.of(object)?.quiet.as_deref()
    }

    /// The row of repetitions that goes on if this object is written now.
    pub fn competing_writes(&self, object: &Stamped, now: Instant) -> CompetingWrites {
        let before = self.of(object).and_then(|remembered| remembered.competing.clone());
        CompetingWrites::continued(before, &object.hash, now)
    }

    /// The API took an object. `before` is what was live, `after` what is now, where both are known.
    pub fn written(
        &mut self,
        object: &Stamped,
        writes: CompetingWrites,
        live: (Option<&Live>, Option<&Live>),
        now: Instant,
    ) -> bool {
        let remembered = self.of_mut(object);
        remembered.refused = None;
        remembered.competing = Some(writes.written(now));
        match live {
            (Some(before), Some(after)) if before.version == after.version => {
                remembered.quiet = Some(Quiet::of(&object.hash, after).into());
                false
            }
            _ => true,
        }
    }

    /// Faults to report for objects that another client writes too.
    pub fn competing_writers(&self, now: Instant) -> Vec<Fault> {
        let message = |(kind, name, remembered): (&Kind, &String, &Remembered)| {
            remembered.competing.as_ref()?.message(kind, name, now)
        };
        self.all().filter_map(message).map(|message| Fault::Contested { message }).collect()
    }

    /// When something that has to wait may be written, or ends being reported, although no event may come until then.
    pub fn again(&self, now: Instant) -> Option<Duration> {
        let again = |(_, _, remembered): (&Kind, &String, &Remembered)| {
            let refused = remembered.refused.as_ref().and_then(|refusal| refusal.until.checked_duration_since(now));
            let competing = remembered.competing.as_ref().and_then(|writes| writes.next_check(now));
            refused.filter(|pause| !pause.is_zero()).into_iter().chain(competing).min()
        };
        self.all().filter_map(again).min()
    }

    /// The API server's refusal of this manifest, if it met the same object a short while ago.
    pub fn refused(&self, object: &Stamped, tried: &(String, u64), now: Instant) -> Option<Fault> {
        let before = self.of(object)?.refused.as_ref()?;
        let is_same = before.tried == *tried && now < before.until;
        is_same.then(|| Fault::Refused { message: before.message.clone() })
    }

    /// The API did not take this manifest, having met this version of the object: it is not tried again for a while.
    pub fn refuse(&mut self, object: &Stamped, tried: (String, u64), message: String, now: Instant) -> Fault {
        let refused = &mut self.of_mut(object).refused;
        let before = refused.as_ref().filter(|before| before.tried == tried);
        let times = before.map_or(0, |before| before.times.saturating_add(1));
        let pause = limits::REFUSED_AGAIN_AFTER.saturating_mul(2_u32.saturating_pow(times)).min(limits::RETRY_AFTER_MAX);
        *refused = Some(Refusal { tried, message: message.clone(), times, until: now + pause }.into());
        Fault::Refused { message }
    }

    fn of(&self, object: &Stamped) -> Option<&Remembered> {
        self.0.get(&object.kind)?.get(&object.name)
    }

    fn of_mut(&mut self, object: &Stamped) -> &mut Remembered {
        self.0.entry(object.kind.clone()).or_default().entry(object.name.clone()).or_default()
    }

    fn all(&self) -> impl Iterator<Item = (&Kind, &String, &Remembered)> {
        self.0.iter().flat_map(|(kind, objects)| objects.iter().map(move |(name, remembered)| (kind, name, remembered)))
    }
}

/// What the caches hold of a plan, and what they hold besides.
pub struct Standing {
    live: Vec<Option<Arc<Live>>>,
    /// Objects that are written with a mark meanwhile; see `replacement` and `waiting_rollout`.
    marked: Vec<Option<Stamped>>,
    /// When something that waits is written although nothing happens.
    waits: Option<Duration>,
    /// The database's pods, if its plugin watches them.
    pods: Vec<Arc<Live>>,
    orphans: Vec<(Kind, Arc<Live>)>,
    /// Kinds of earlier plans whose caches are not whole, and why: nothing of them is removed.
    unsynced: Vec<(Kind, String)>,
}

impl Standing {
    /// Looks up what is live of a plan and of every kind ever written for the database.
    ///
    /// # Errors
    /// A kind of the plan whose cache is being filled anew: everything of it would look missing.
    pub fn of(
        objects: &dyn Objects,
        owner: &Owner,
        admitted: &Admitted,
        kinds: &BTreeSet<Kind>,
        now: Timestamp,
    ) -> Result<Standing, Fault> {
        for kind in admission::kinds(admitted) {
            observe::synced(objects, &kind)?;
        }
        let find = |object: &Stamped| objects.find(&object.kind, &Key::new(owner.namespace, &object.name));
        let label = names::database_label(owner.namespace, owner.name);
        let (mut all, mut unsynced) = (Vec::new(), Vec::new());
        for kind in kinds {
            match objects.state(kind) {
                State::Synced => {}
                State::Absent => continue,   // the kind is gone, and its objects with it
                State::Starting => continue, // the end of the listing starts the next pass
                State::Failing(why) => {
                    unsynced.push((kind.clone(), why));
                    continue;
                }
            }
            let label = if *kind == Kind::of::<Partition>() { owner.name } else { &label };
            all.extend(objects.of_database(kind, owner.namespace, label).into_iter().map(|live| (kind.clone(), live)));
        }
        let live: Vec<_> = admitted.objects.iter().map(find).collect();
        let pods = objects.of_database(&pods(), owner.namespace, &label);
        let mut waits = None;
        let marked = |(object, live): (&Stamped, &Option<Arc<Live>>)| {
            let waiting = waiting_rollout::wait(object, live.as_deref(), &pods, now);
            waits = waiting.as_ref().map(|waiting| waiting.left).into_iter().chain(waits).min();
            let waiting = waiting.map(|waiting| waiting.object);
            waiting.or_else(|| replacement::mark_replacement(object, live.as_deref(), &pods))
        };
        Ok(Standing {
            marked: admitted.objects.iter().zip(&live).map(marked).collect(),
            waits,
            live,
            pods,
            orphans: decision::orphans(admitted, all, owner.uid),
            unsynced,
        })
    }

    /// The objects of the plan as they are to be written now, each with what is live of it.
    pub fn pairs<'a>(&'a self, admitted: &'a Admitted) -> impl Iterator<Item = (&'a Stamped, Option<&'a Live>)> {
        let objects = admitted.objects.iter().zip(&self.marked).map(|(object, marked)| marked.as_ref().unwrap_or(object));
        objects.zip(self.live.iter().map(Option::as_deref))
    }

    /// When something that waits for members that are away is written as planned although nothing happens.
    pub fn waits(&self) -> Option<Duration> {
        self.waits
    }

    /// Live objects that the plan no longer holds.
    pub fn orphans(&self) -> &[(Kind, Arc<Live>)] {
        &self.orphans
    }

    /// The database's pods, if its plugin watches them.
    pub fn pods(&self) -> &[Arc<Live>] {
        &self.pods
    }

    /// Kinds of earlier plans whose caches are not whole, and why.
    pub fn unsynced(&self) -> &[(Kind, String)] {
        &self.unsynced
    }

    /// Whether the plan changes something that is there already: what then is refused is refused as a whole.
    pub fn changes(&self, admitted: &Admitted, owner: &Owner) -> bool {
        self.pairs(admitted).any(|(object, live)| is_change(object, live, owner))
    }

    /// Whether something would be written or removed now.
    pub fn acts(&self, admitted: &Admitted, owner: &Owner, memory: &Memory, now: Instant) -> bool {
        let acts = |(object, live): (&Stamped, Option<&Live>)| {
            let tried = (object.hash.clone(), live.map_or(0, |live| live.version));
            let written = matches!(decide(object, live, owner, memory.quiet(object)), Decision::Write(_) | Decision::Adopt);
            written && memory.refused(object, &tried, now).is_none() && !memory.competing_writes(object, now).must_wait(now)
        };
        !self.orphans.is_empty() || self.pairs(admitted).any(acts)
    }

    /// The objects that the plan would change, and a field of each.
    pub fn changed(&self, admitted: &Admitted, owner: &Owner) -> Vec<(String, String)> {
        let changes = |(object, live): &(&Stamped, Option<&Live>)| is_change(object, *live, owner);
        let title = |(object, live): (&Stamped, Option<&Live>)| {
            let difference = live.and_then(|live| check_applied(&object.manifest, &live.body).err());
            let field = difference.map(|difference| difference.path).filter(|path| !path.contains(names::HASH));
            (format!("{} {}", object.kind.kind, object.name), field.unwrap_or_default())
        };
        let mut changed: Vec<_> = self.pairs(admitted).filter(changes).map(title).collect();
        if !self.orphans.is_empty() {
            changed.push(("objects that it no longer holds".to_owned(), String::new()));
        }
        changed
    }

    /// Why the plan cannot be written as a whole, if an object that is there holds an immutable field.
    pub fn cannot_change(&self, admitted: &Admitted, owner: &Owner) -> Option<String> {
        decision::cannot_change(admitted, &self.live, owner)
    }

    /// Whether the plan is held, and what it would do; see [`held`].
    pub fn held(
        &self,
        admitted: &Admitted,
        running: Option<&PlanInUse>,
        now: &PlanInUse,
        accepted: Option<&str>,
    ) -> Option<String> {
        decision::held(admitted, running, now, accepted, &self.live, &self.orphans)
    }
}

/// The first object of the plan that is not there.
pub fn first_missing(objects: &dyn Objects, owner: &Owner, admitted: &Admitted) -> Option<String> {
    let is_there = |object: &&Stamped| objects.find(&object.kind, &Key::new(owner.namespace, &object.name)).is_some();
    let missing = admitted.objects.iter().find(|object| !is_there(object))?;
    Some(format!("{} {}", missing.kind.kind, missing.name))
}

/// Whether nothing of a kind is left of the database, and its plan holds none: then it need not be watched any more.
pub fn is_rid_of(objects: &dyn Objects, owner: &Owner, kind: &Kind, admitted: &Admitted) -> bool {
    let label = names::database_label(owner.namespace, owner.name);
    let is_planned = admitted.objects.iter().any(|object| object.kind == *kind);
    let is_whole = || objects.state(kind) == State::Synced;
    !is_planned && is_whole() && objects.of_database(kind, owner.namespace, &label).is_empty()
}
