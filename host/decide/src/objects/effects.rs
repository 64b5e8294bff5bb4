//! What writing a plan would do to what runs, counted, for the warning before an edit. Pure: knows no client.

use serde_json::Value;

use super::{Standing, stalled_rollout};
use crate::admission::{self, Admitted};
use atomix_model::names;
use atomix_model::object::{Kind, Live};

/// What would happen to the pods of a database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Pods that would be made anew.
    pub restarted: i64,
    /// Workloads of which they are, where those restart one pod after the other.
    pub in_turn: i64,
    /// Pods that would be made anew once somebody deletes them.
    pub when_deleted: i64,
    /// Pods that would go.
    pub removed: i64,
    /// Whether pods of one workload would be made anew all at once.
    pub at_once: bool,
}

impl Effects {
    /// Both together.
    pub fn and(self, other: Effects) -> Effects {
        Effects {
            restarted: self.restarted + other.restarted,
            in_turn: self.in_turn + other.in_turn,
            when_deleted: self.when_deleted + other.when_deleted,
            removed: self.removed + other.removed,
            at_once: self.at_once || other.at_once,
        }
    }
}

impl Standing {
    /// What writing the plan would do to what is there.
    pub fn effects(&self, admitted: &Admitted) -> Effects {
        let mut effects = Effects::default();
        for (object, live) in admitted.objects.iter().zip(&self.live) {
            let (Some(live), true) = (live, object.template.is_some()) else { continue };
            let (wanted, there) = (replicas(&object.manifest), replicas(&live.body));
            if live.annotation(names::TEMPLATE_HASH).is_some_and(|applied| !object.has_template(applied)) {
                let pods = wanted.min(there);
                let waits = object.manifest.pointer("/spec/updateStrategy/type").is_some_and(|type_| type_ == "OnDelete");
                match (waits, stalled_rollout::is_set(&object.kind)) {
                    (true, _) => effects.when_deleted += pods,
                    (false, is_set) => {
                        effects.restarted += pods;
                        effects.in_turn += i64::from(is_set && pods > 0);
                        effects.at_once |= !is_set;
                    }
                }
            }
            effects.removed += (there - wanted).max(0);
        }
        let makes_pods = |kind: &Kind| admission::template_pointer(&kind.group, &kind.kind).is_some();
        let gone = self.orphans.iter().filter(|(kind, _)| makes_pods(kind));
        effects.removed += gone.map(|(_, live): &(Kind, std::sync::Arc<Live>)| replicas(&live.body)).sum::<i64>();
        effects
    }
}

/// How many pods a workload asks for; one if it names no number.
fn replicas(workload: &Value) -> i64 {
    workload.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1)
}
