//! What an administrator granted a plugin: the rules of its ClusterRole.

use k8s_openapi::api::rbac::v1::PolicyRule;
use serde_json::Value;

use crate::contract::ObjectKind;

/// The rules of the ClusterRole `atomix-plugin-<name>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Grants(Vec<PolicyRule>);

impl Grants {
    /// Reads the rules of a ClusterRole; what cannot be read grants nothing.
    pub fn of(role: &Value) -> Grants {
        let rules = role.get("rules").cloned().and_then(|rules| serde_json::from_value(rules).ok());
        Grants(rules.unwrap_or_default())
    }

    /// Whether objects of the kind may be written: that is create and patch.
    pub fn writes(&self, kind: &ObjectKind) -> bool {
        ["create", "patch"].iter().all(|verb| self.may(verb, &kind.group, &kind.plural))
    }

    /// Whether a verb is granted for a resource. Rules bound to single names or to paths do not count.
    pub fn may(&self, verb: &str, group: &str, plural: &str) -> bool {
        let has = |list: &[String], item: &str| list.iter().any(|entry| entry == "*" || entry == item);
        self.0.iter().any(|rule| {
            rule.resource_names.as_ref().is_none_or(Vec::is_empty)
                && has(&rule.verbs, verb)
                && has(rule.api_groups.as_deref().unwrap_or_default(), group)
                && has(rule.resources.as_deref().unwrap_or_default(), plural)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_rule_for_one_name_grants_nothing() {
        let rules = json!({"rules": [{"apiGroups": [""], "resources": ["services"], "verbs": ["create", "patch"], "resourceNames": ["a"]}]});
        assert!(!Grants::of(&rules).may("create", "", "services"));
    }

    #[test]
    fn only_what_is_listed_is_granted() {
        let rules = json!({"rules": [{"apiGroups": ["apps"], "resources": ["statefulsets"], "verbs": ["create", "patch"]}]});
        let grants = Grants::of(&rules);
        assert!(grants.may("patch", "apps", "statefulsets"));
        assert!(!grants.may("delete", "apps", "statefulsets"));
        assert!(!grants.may("patch", "apps", "deployments"));
        assert!(!grants.may("patch", "", "statefulsets"));
        assert!(!Grants::of(&json!({"rules": "no list"})).may("patch", "", "services"));
    }
}
