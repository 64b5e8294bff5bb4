//! The storage plugin of the model: which objects a database needs, by each of its revisions. Written as a table, so that
//! what a database should end as is known without the functions under test.

use atomix_model::contract::{ClassKind, Descriptor, ObjectKind, PartitionState, Plan, PlannedObject, Reason, Request};
use atomix_model::crd::Partition;
use atomix_model::crd::database::PluginInUse;
use atomix_model::object::Kind;
use serde_json::{Value, json};

/// A revision of the plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Revision {
    /// The one that is installed first.
    First,
    /// It emits a kind less, and another setting; no pod restarts.
    Trimmed,
    /// Its pod template is another.
    Disturbing,
    /// It gives no plan.
    Failing,
}

/// What one plan is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Facts {
    /// The revision that planned.
    pub revision: Revision,
    /// Partitions of the database.
    pub partitions: u8,
    /// The image that the class asks for.
    pub image: u8,
}

/// A place for one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)] // the kinds explain themselves
pub enum Slot {
    FirstPartition,
    SecondPartition,
    ConfigMap,
    Claim,
    Guard,
    Set,
}

/// All places.
pub const SLOTS: [Slot; 6] =
    [Slot::FirstPartition, Slot::SecondPartition, Slot::ConfigMap, Slot::Claim, Slot::Guard, Slot::Set];

impl Slot {
    /// Its number among all.
    pub fn index(self) -> usize {
        self as usize
    }

    /// The kind of what is there.
    pub fn kind(self) -> Kind {
        let (group, kind, plural) = match self {
            Slot::FirstPartition | Slot::SecondPartition => return Kind::of::<Partition>(),
            Slot::ConfigMap => ("", "ConfigMap", "configmaps"),
            Slot::Claim => ("", "PersistentVolumeClaim", "persistentvolumeclaims"),
            Slot::Guard => ("policy", "PodDisruptionBudget", "poddisruptionbudgets"),
            Slot::Set => ("apps", "StatefulSet", "statefulsets"),
        };
        Kind { group: group.into(), version: "v1".into(), kind: kind.into(), plural: plural.into() }
    }

    /// The name of what is there.
    pub fn name(self) -> &'static str {
        match self {
            Slot::FirstPartition => "d-1",
            Slot::SecondPartition => "d-2",
            _ => "d",
        }
    }

    /// The place of an object.
    pub fn of(kind: &Kind, name: &str) -> Option<Slot> {
        SLOTS.into_iter().find(|slot| slot.kind() == *kind && slot.name() == name)
    }
}

impl Facts {
    /// The places that a plan fills.
    pub fn fills(self, slot: Slot) -> bool {
        match slot {
            Slot::SecondPartition => self.partitions > 1,
            Slot::Guard => self.revision != Revision::Trimmed,
            _ => true,
        }
    }

    /// What distinguishes one pod template from another.
    pub fn template(self) -> (u8, bool) {
        (self.image, self.revision == Revision::Disturbing)
    }
}

impl Revision {
    /// As a status names it.
    pub fn in_use(self) -> PluginInUse {
        let digest = format!("{self:?}").to_lowercase();
        PluginInUse { name: "shelves".into(), version: "1".into(), digest }
    }

    /// The revision that a status names.
    pub fn of(digest: &str) -> Option<Revision> {
        let all = [Revision::First, Revision::Trimmed, Revision::Disturbing, Revision::Failing];
        all.into_iter().find(|revision| revision.in_use().digest == digest)
    }

    /// Whether it emits the kind of a place.
    pub fn emits(self, slot: Slot) -> bool {
        slot != Slot::Guard || self != Revision::Trimmed
    }

    /// The plugin's description of itself.
    pub fn descriptor(self) -> Descriptor {
        let emits = [Slot::ConfigMap, Slot::Claim, Slot::Guard, Slot::Set].into_iter().filter(|slot| self.emits(*slot));
        let kind = |slot: Slot| {
            let Kind { group, version, kind, plural } = slot.kind();
            ObjectKind { group, version, kind, plural, reads: Vec::new() }
        };
        Descriptor {
            name: self.in_use().name,
            version: self.in_use().version,
            class_kinds: vec![class_kind()],
            emits: emits.map(kind).collect(),
            watches: Vec::new(),
        }
    }

    /// The plan; none if the call fails.
    pub fn plan(self, request: &Request) -> Option<Plan> {
        if self == Revision::Failing {
            return None;
        }
        let image = request.class.spec["image"].as_u64().unwrap_or(0);
        let facts = Facts {
            revision: self,
            partitions: u8::try_from(request.database.partitions).unwrap_or(u8::MAX),
            image: u8::try_from(image).unwrap_or(u8::MAX),
        };
        let objects = [Slot::ConfigMap, Slot::Claim, Slot::Guard, Slot::Set].into_iter().filter(|slot| facts.fills(*slot));
        let objects = objects.map(|slot| PlannedObject {
            id: format!("{slot:?}"),
            manifest: manifest(slot, facts, &request.database.database_label),
        });
        let runs = request.observed.iter().any(|seen| seen.kind == "StatefulSet");
        let problem = || Reason { code: "MembersNotReady".into(), message: "no member runs".into() };
        let state = |id: u32| PartitionState { id, ready: runs, endpoints: Vec::new(), problem: (!runs).then(problem) };
        Some(Plan {
            objects: objects.collect(),
            partitions: request.partitions.iter().map(|partition| state(partition.id)).collect(),
            unsupported: Vec::new(),
            notes: Vec::new(),
        })
    }
}

/// The kind of class that the plugin serves.
pub fn class_kind() -> ClassKind {
    ClassKind {
        kind: "ShelfStorageClass".into(),
        plural: "shelfstorageclasses".into(),
        short_names: Vec::new(),
        versions: vec!["v1".into()],
        spec_schema: json!({"type": "object"}),
        columns: Vec::new(),
    }
}

fn manifest(slot: Slot, facts: Facts, label: &str) -> Value {
    let Kind { group, version, kind, .. } = slot.kind();
    let api_version = if group.is_empty() { version } else { format!("{group}/{version}") };
    let labels = json!({"app": "atomix", "database": label});
    let mut manifest = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": slot.name()}});
    match slot {
        Slot::ConfigMap => {
            let setting = if facts.revision == Revision::Trimmed { "short" } else { "long" };
            manifest["data"] = json!({"image": facts.image.to_string(), "setting": setting});
        }
        Slot::Claim => {
            manifest["spec"] = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
        }
        Slot::Guard => manifest["spec"] = json!({"maxUnavailable": 1, "selector": {"matchLabels": labels}}),
        Slot::Set => {
            let (image, other) = facts.template();
            let image = format!("shelf:{image}{}", if other { "-next" } else { "" });
            manifest["spec"] = json!({
                "replicas": facts.partitions,
                "serviceName": "d",
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {
                    "automountServiceAccountToken": false,
                    "containers": [{"name": "shelf", "image": image}],
                    "volumes": [{"name": "settings", "configMap": {"name": "d"}}],
                }},
            });
        }
        Slot::FirstPartition | Slot::SecondPartition => {}
    }
    manifest
}
