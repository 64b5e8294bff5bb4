//! What a running cluster cannot change, as remembered on its own objects. Reads annotations only: live replica counts can drift.
//!
//! [`Remembered`] is what a plugin remembers of a cluster beside its volumes. [`Clusters`] are those that run, or did so on
//! volumes that were kept, and what new ones start with.

use std::fmt::Display;

use serde_json::Value;

use crate::claim::kept;
use crate::{ClaimTemplate, Live, Plan, Seen, set, text};

/// What a plugin remembers of each cluster, beside the volumes of its members, which are remembered always.
///
/// ```
/// use atomix_sdk::{Remembered, Value, json};
///
/// struct Started {
///     replicas: u64,
/// }
///
/// impl Remembered for Started {
///     const ANNOTATION: &str = "web.storage.cloud.atomix.io/running";
///     const POINTER: &str = "/metadata/annotations/web.storage.cloud.atomix.io~1running";
///     const KINDS: &[&str] = &["StatefulSet", "PersistentVolumeClaim"];
///
///     fn read(annotation: &Value) -> Option<Self> {
///         Some(Self { replicas: annotation["replicas"].as_u64()? })
///     }
///
///     fn written(&self) -> Value {
///         json!({"replicas": self.replicas})
///     }
/// }
/// ```
pub trait Remembered: Sized {
    /// The annotation: the plugin's name, and `.storage.cloud.atomix.io/running`.
    const ANNOTATION: &'static str;
    /// Where it is read; a plugin reads this of each of [`Remembered::KINDS`], together with [`crate::CLUSTER_LABEL`].
    const POINTER: &'static str;
    /// Kinds of objects that carry it. The first that makes sense counts, in this order.
    const KINDS: &'static [&'static str];

    /// Reads the annotation; None if it makes no sense.
    fn read(annotation: &Value) -> Option<Self>;

    /// What [`Remembered::read`] reads: an object without a field `claim`, which the volumes have.
    fn written(&self) -> Value;
}

/// What a cluster was started with.
pub struct Running<R> {
    /// What the plugin remembers of it.
    pub with: R,
    /// Volume of each member; None if data live and die with the pod.
    pub claim: Option<ClaimTemplate>,
    /// The annotation's text. It is written back as it was read: a claim template cannot be changed in any letter.
    text: String,
}

impl<R: Remembered> Running<R> {
    fn read(text: String) -> Option<Self> {
        let annotation: Value = serde_json::from_str(&text).ok()?;
        Some(Self { with: R::read(&annotation)?, claim: ClaimTemplate::remembered(annotation.get("claim")), text })
    }

    fn fresh(with: R, claim: Option<ClaimTemplate>) -> Self {
        let mut annotation = with.written();
        set(&mut annotation, "claim", claim.as_ref().map_or(Value::Null, |claim| claim.json().clone()));
        Self { with, claim, text: text(&annotation) }
    }

    /// The annotation and its text, for [`crate::Members::memory`].
    pub fn memory(&self) -> Option<(&'static str, &str)> {
        Some((R::ANNOTATION, &self.text))
    }
}

/// The clusters that run or did so on volumes that were kept, and what new ones start with.
pub struct Clusters<R> {
    known: Vec<Option<Running<R>>>, // by number, from 1
    fresh: Running<R>,
}

impl<R: Remembered> Clusters<R> {
    /// Reads what is remembered of each cluster. `fresh` returns what a new one starts with, given what the first of those
    /// that are known was started with.
    pub fn of<C>(seen: &Seen<C>, fresh: impl FnOnce(Option<&R>) -> R) -> Self {
        let mut known = seen.remembered(R::KINDS, R::POINTER, Running::read);
        for (cluster, running) in known.iter_mut().enumerate() {
            // Of a cluster whose data went with its volumes, what other objects remember counts no more.
            let keeps = |kinds: &[&str]| kinds.iter().any(|kind| has(seen.objects(kind), cluster));
            *running = running.take().filter(|it| it.claim.is_none() || keeps(&["StatefulSet", "PersistentVolumeClaim"]));
        }
        let with = fresh(known.iter().flatten().next().map(|first| &first.with));
        Self { known, fresh: Running::fresh(with, seen.pods.claim()) }
    }

    /// What a cluster runs with, or starts with.
    pub fn running(&self, cluster: u32) -> &Running<R> {
        self.known.get(cluster as usize).and_then(Option::as_ref).unwrap_or(&self.fresh)
    }

    /// What a new cluster starts with.
    pub fn fresh(&self) -> &R {
        &self.fresh.with
    }

    /// What clusters keep although a new one would start with something else: the value, and the names of the clusters that keep it.
    pub fn kept<C, T: PartialEq>(&self, seen: &Seen<C>, in_use: &[u32], of: impl Fn(&R) -> T) -> Vec<(T, String)> {
        let name = |cluster: u32| format!("{}-{cluster}", seen.database.name);
        kept(&of(&self.fresh.with), in_use.iter().map(|&cluster| (name(cluster), of(&self.running(cluster).with))))
    }

    /// Names the numbers of members that clusters keep.
    pub fn replicas_kept<C, T>(&self, seen: &Seen<C>, in_use: &[u32], of: impl Fn(&R) -> T, mut plan: Plan) -> Plan
    where
        T: PartialEq + Display,
    {
        for (replicas, names) in self.kept(seen, in_use, &of) {
            let why =
                format!("the members of a cluster are fixed once it has started (here {names}); create another database");
            plan = plan.not_taken("spec.replicas", of(&self.fresh.with), replicas, why);
        }
        plan
    }

    /// Names the volumes that clusters keep.
    pub fn claims_kept<C>(&self, seen: &Seen<C>, in_use: &[u32], plan: Plan) -> Plan {
        let (wanted, claims) = (self.fresh.claim.as_ref(), seen.objects("PersistentVolumeClaim"));
        let claim = |&cluster: &u32| {
            let kept = self.running(cluster).claim.clone();
            let kept = kept.map(|kept| kept.with_class_of(claims, cluster, wanted));
            (format!("{}-{cluster}", seen.database.name), kept)
        };
        // What is not started yet, be it that claims are in its way, keeps nothing.
        let starts = |cluster: &&u32| has(seen.objects("StatefulSet"), **cluster as usize);
        plan.claims_kept(wanted, in_use.iter().filter(starts).map(claim))
    }
}

/// Whether one of these objects is of a cluster.
fn has(objects: &[Live], cluster: usize) -> bool {
    objects.iter().any(|live| live.cluster() == Some(cluster))
}
