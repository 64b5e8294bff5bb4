//! The admission policy that keeps us from overwriting what is foreign, and whether it is in force.

use crate::cache::{Caches, Key, Kind, State};

/// The policy and its binding: kinds to watch, each for the one object named like the controller.
pub fn kinds() -> [Kind; 2] {
    ["ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"].map(|kind| Kind {
        group: "admissionregistration.k8s.io".into(),
        version: "v1".into(),
        kind: kind.into(),
        plural: if kind.ends_with("Binding") { "validatingadmissionpolicybindings" } else { "validatingadmissionpolicies" }
            .into(),
    })
}

/// Whether both were seen to be there, and the binding denies.
pub fn in_force(caches: &Caches, name: &str) -> bool {
    let [policy, binding] = kinds();
    let find = |kind: &Kind| caches.find(kind, &Key::new("", name)).filter(|_| caches.state(kind) == State::Synced);
    let denies = find(&binding).and_then(|live| live.body.pointer("/spec/validationActions").cloned());
    find(&policy).is_some()
        && denies.and_then(|actions| actions.as_array().cloned()).is_some_and(|actions| actions.iter().any(|a| a == "Deny"))
}
