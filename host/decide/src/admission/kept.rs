//! What a database's workloads read and bind already. A class may no longer say it where running storage cannot follow the edit: what is
//! kept then is admitted as it stands, and nothing beyond. Knows no plugin.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{items, template_pointer, text};
use atomix_model::contract::Descriptor;
use atomix_model::crd::Database;
use atomix_model::names;
use atomix_model::object::{Kind, Objects};

/// What live workloads of one database hold; of objects that somebody else owns nothing counts.
#[derive(Default)]
pub struct Kept {
    /// Kinds and names of what pods read: Secrets and ConfigMaps.
    read: BTreeSet<(&'static str, String)>,
    /// Specs of claim templates.
    claims: Vec<Value>,
}

impl Kept {
    /// Looks at the workloads of the kinds that a plugin writes.
    pub fn of(descriptor: &Descriptor, database: &Database, objects: &dyn Objects) -> Kept {
        let namespace = database.metadata.namespace.as_deref().unwrap_or_default();
        let label = names::database_label(namespace, database.metadata.name.as_deref().unwrap_or_default());
        let uid = database.metadata.uid.as_deref().unwrap_or_default();
        let mut kept = Kept::default();
        for kind in descriptor.emits.iter().map(Kind::from) {
            let Some(pointer) = template_pointer(&kind.group, &kind.kind) else { continue };
            for live in objects
                .of_database(&kind, namespace, &label)
                .iter()
                .filter(|live| !uid.is_empty() && live.owner() == Some(uid))
            {
                kept.add(&live.body, pointer);
            }
        }
        kept
    }

    pub(super) fn add(&mut self, workload: &Value, pointer: &str) {
        let pods = workload.pointer(pointer).and_then(|template| template.get("spec")).unwrap_or(&Value::Null);
        let read = read(pods).into_iter().filter(|(_, name)| !name.is_empty());
        self.read.extend(read.map(|(kind, name)| (kind, name.to_owned())));
        let spec = workload.get("spec").unwrap_or(&Value::Null);
        let claims = items(spec, "volumeClaimTemplates").into_iter().filter_map(|(_, template)| template.get("spec"));
        self.claims.extend(claims.cloned());
    }

    /// Whether pods of the database read this object already.
    pub(super) fn reads(&self, kind: &str, name: &str) -> bool {
        self.read.iter().any(|(there, named)| *there == kind && named == name)
    }

    /// Whether claims of the database have this in their spec already.
    pub(super) fn claims(&self, field: &str, value: &Value) -> bool {
        self.claims.iter().any(|spec| spec.get(field) == Some(value))
    }
}

/// Secrets and ConfigMaps that pods of this spec read, by volume or by variable.
fn read(spec: &Value) -> Vec<(&'static str, &str)> {
    let mut found = Vec::new();
    let volumes = items(spec, "volumes").into_iter().map(|(_, volume)| volume);
    for volume in volumes {
        found.push(("Secret", text(volume, "/secret/secretName")));
        found.push(("ConfigMap", text(volume, "/configMap/name")));
        let projected = volume.get("projected").unwrap_or(&Value::Null);
        for (_, source) in items(projected, "sources") {
            found.push(("Secret", text(source, "/secret/name")));
            found.push(("ConfigMap", text(source, "/configMap/name")));
        }
    }
    for (_, container) in ["initContainers", "containers"].into_iter().flat_map(|list| items(spec, list)) {
        for (_, variable) in items(container, "env") {
            found.push(("Secret", text(variable, "/valueFrom/secretKeyRef/name")));
            found.push(("ConfigMap", text(variable, "/valueFrom/configMapKeyRef/name")));
        }
        for (_, source) in items(container, "envFrom") {
            found.push(("Secret", text(source, "/secretRef/name")));
            found.push(("ConfigMap", text(source, "/configMapRef/name")));
        }
    }
    found
}
