//! The admission policy that keeps us from overwriting what is foreign: whether it is in force, and which refusals are its own.

use atomix_model::condition::Reason;
use atomix_model::names;
use atomix_model::object::{Key, Kind, Objects, State};
use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};

/// Name of the policy and of its binding in `deploy/`.
pub const NAME: &str = names::MANAGER;

/// The policy and its binding: kinds to watch, each for the one object of that [`NAME`].
pub fn kinds() -> [Kind; 2] {
    [Kind::of::<ValidatingAdmissionPolicy>(), Kind::of::<ValidatingAdmissionPolicyBinding>()]
}

/// Whether both were seen to be there, and the binding denies.
pub fn in_force(objects: &dyn Objects) -> bool {
    let [policy, binding] = kinds();
    let find = |kind: &Kind| objects.find(kind, &Key::new("", NAME)).filter(|_| objects.state(kind) == State::Synced);
    let denies = find(&binding).and_then(|live| live.body.pointer("/spec/validationActions").cloned());
    find(&policy).is_some()
        && denies.and_then(|actions| actions.as_array().cloned()).is_some_and(|actions| actions.iter().any(|a| a == "Deny"))
}

/// Why the policy refused a request, if it did. `cause` is the message of one of the causes in a Status's details: there the
/// API server writes the policy, its binding and the text of the policy's `messageExpression`, and nothing that a user or a
/// plugin wrote comes before that text's code. (An admission policy can choose among four of a Status's own reasons,
/// `Forbidden` among them, which is not precise enough.)
pub fn refusal(cause: &str) -> Option<Reason> {
    let text = cause.strip_prefix("ValidatingAdmissionPolicy '")?.strip_prefix(NAME)?;
    let text = text.strip_prefix("' with binding '")?.strip_prefix(NAME)?;
    let (code, _) = text.strip_prefix("' denied request: ")?.split_once(": ")?;
    Some(Reason::of(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_policys_own_refusal_is_one_and_its_code_says_why() {
        let own = "ValidatingAdmissionPolicy 'atomix-controller' with binding 'atomix-controller' denied request: ";
        let code = |text: &str| refusal(&format!("{own}{text}"));
        assert_eq!(code("NameTaken: ConfigMap a/b is there already and belongs to no Database"), Some(Reason::NameTaken));
        assert_eq!(code("KindRefused: NameTaken: a/b"), Some(Reason::Other("KindRefused".to_owned())));
        for other in [
            "",
            "NameTaken: ConfigMap a/b is there already",
            "ValidatingAdmissionPolicy 'theirs' with binding 'theirs' denied request: NameTaken: a/b",
            "ValidatingAdmissionPolicy 'atomix-controller-2' with binding 'atomix-controller' denied request: NameTaken: a/b",
            "ValidatingAdmissionPolicy 'theirs' with binding 'theirs' denied request: ValidatingAdmissionPolicy \
             'atomix-controller' with binding 'atomix-controller' denied request: NameTaken: a/b",
            "ValidatingAdmissionPolicy 'atomix-controller' with binding 'atomix-controller' denied request: NameTaken",
        ] {
            assert_eq!(refusal(other), None, "{other}");
        }
    }
}
