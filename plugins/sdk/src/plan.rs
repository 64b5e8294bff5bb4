//! A plan under construction, which keeps what the controller demands of every plan, so that a plugin need not.

use std::fmt::Display;

use serde_json::Value;

use crate::memory::forget;
use crate::{PartitionState, Reason, json, text, types};

/// The objects that there should be, and the state of each partition.
#[derive(Default)]
pub struct Plan {
    objects: Vec<types::Object>,
    partitions: Vec<PartitionState>,
    unsupported: Vec<types::UnsupportedChange>,
    notes: Vec<types::Note>,
}

impl Plan {
    /// An empty plan.
    pub fn new() -> Self {
        Self::default()
    }

    /// An object to write, after those before it. `id` is its stable name within the plan, e.g. `members-1`. A pod template in it
    /// gets `automountServiceAccountToken: false`, unless it sets that itself.
    pub fn object(mut self, id: impl Into<String>, mut manifest: Value) -> Self {
        without_token(&mut manifest);
        self.objects.push(types::Object { id: id.into(), manifest: text(&manifest) });
        forget(manifest);
        self
    }

    /// The state of a partition; one for each partition of the request, by id.
    pub fn partition(mut self, state: PartitionState) -> Self {
        self.partitions.push(state);
        self
    }

    /// A change that the running storage cannot make: path within the class, value asked for, value kept, and why.
    pub fn not_taken(mut self, field: &str, wanted: impl Display, kept: impl Display, why: impl Into<String>) -> Self {
        let (wanted, kept) = (wanted.to_string(), kept.to_string());
        self.unsupported.push(types::UnsupportedChange { field: field.to_owned(), wanted, kept, why: why.into() });
        self
    }

    /// Something that a person should know.
    pub fn note(mut self, reason: Reason) -> Self {
        self.notes.push(types::Note { warning: false, reason });
        self
    }

    /// Something that a person should look at.
    pub fn warn(mut self, reason: Reason) -> Self {
        self.notes.push(types::Note { warning: true, reason });
        self
    }

    pub(crate) fn into_wire(self) -> types::StoragePlan {
        let Self { objects, partitions, unsupported, notes } = self;
        types::StoragePlan { objects, partitions, unsupported, notes }
    }
}

/// Storage needs no access to the API server; without this every pod would carry a token for it.
fn without_token(manifest: &mut Value) {
    let pod: &[&str] = match manifest.get("kind").and_then(Value::as_str) {
        Some("Pod") => &["spec"],
        Some("CronJob") => &["spec", "jobTemplate", "spec", "template", "spec"],
        _ => &["spec", "template", "spec"],
    };
    let spec = pod.iter().try_fold(manifest, |inner, field| inner.get_mut(*field));
    if let Some(Value::Object(spec)) = spec.filter(|spec| spec.get("containers").is_some()) {
        spec.entry("automountServiceAccountToken").or_insert(json!(false));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_get_no_token_unless_asked_for() {
        let pods = json!({"containers": []});
        let spec = |manifest: Value, pointer: &str| {
            let plan = Plan::new().object("it", manifest).into_wire();
            let manifest: Value = serde_json::from_str(&plan.objects[0].manifest).expect("a manifest is JSON");
            manifest.pointer(pointer).cloned()
        };
        let template = "/spec/template/spec/automountServiceAccountToken";
        assert_eq!(spec(json!({"kind": "StatefulSet", "spec": {"template": {"spec": pods}}}), template), Some(json!(false)));
        let asked = json!({"containers": [], "automountServiceAccountToken": true});
        assert_eq!(spec(json!({"kind": "Deployment", "spec": {"template": {"spec": asked}}}), template), Some(json!(true)));
        assert_eq!(spec(json!({"kind": "Pod", "spec": pods}), "/spec/automountServiceAccountToken"), Some(json!(false)));
        let cron = json!({"kind": "CronJob", "spec": {"jobTemplate": {"spec": {"template": {"spec": pods}}}}});
        assert_eq!(spec(cron, "/spec/jobTemplate/spec/template/spec/automountServiceAccountToken"), Some(json!(false)));
        assert_eq!(spec(json!({"kind": "Service", "spec": {"ports": []}}), template), None);
    }
}
