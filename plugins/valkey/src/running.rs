//! What a running partition cannot change, its volumes, as remembered on its own objects.

use atomix_sdk::{ClaimTemplate, Plan, Seen, Value, json, text};

use crate::class::ValkeyClass;

/// The annotation on StatefulSets, ConfigMap and volume claims that remembers what a partition was started with.
pub const ANNOTATION: &str = "valkey.storage.cloud.atomix.io/running";
/// Where it is read.
pub const POINTER: &str = "/metadata/annotations/valkey.storage.cloud.atomix.io~1running";

/// What a partition was started with.
#[derive(Clone, Debug)]
pub struct Running {
    /// Volume of each server.
    pub claim: Option<ClaimTemplate>,
    /// The annotation's text. It is written back as it was read: a claim template cannot be changed in any letter.
    pub text: String,
}

impl Running {
    /// Reads the annotation; None if it holds nothing that makes sense.
    fn read(text: String) -> Option<Self> {
        let said: Value = serde_json::from_str(&text).ok()?;
        Some(Self { claim: ClaimTemplate::remembered(Some(said.get("claim")?)), text })
    }
}

/// The partitions that run or did so on volumes that were kept, and what new ones start with.
pub struct Partitions {
    known: Vec<Option<Running>>, // by number, from 1
    fresh: Running,
}

impl Partitions {
    /// Reads what is remembered of each partition.
    pub fn of(seen: &Seen<ValkeyClass>) -> Self {
        let known = seen.remembered(&["StatefulSet", "ConfigMap", "PersistentVolumeClaim"], POINTER, Running::read);
        let claim = seen.pods.claim();
        let text = text(&json!({"claim": claim.as_ref().map(ClaimTemplate::json)}));
        Self { known, fresh: Running { claim, text } }
    }

    /// What a partition runs with, or starts with.
    pub fn running(&self, partition: u32) -> &Running {
        self.known.get(partition as usize).and_then(Option::as_ref).unwrap_or(&self.fresh)
    }

    /// Names what the class asks for and the partitions cannot take.
    pub fn note_what_stays(&self, seen: &Seen<ValkeyClass>, plan: Plan) -> Plan {
        let claims = seen.partitions.iter().map(|partition| {
            (format!("{}-{}", seen.database.name, partition.id), self.running(partition.id).claim.as_ref())
        });
        plan.claims_kept(self.fresh.claim.as_ref(), claims)
    }
}
