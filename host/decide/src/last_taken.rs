//! A class as it was when its last plan was taken as a whole. While an edit of the class is not taken, what runs is kept, repaired and
//! scaled by that one, so that no part of the edit is applied. Knows no plugin and no client.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::observe::Class;
use crate::pass::{Stage, Stopped};
use atomix_model::contract::Unsupported;
use atomix_model::crd::Database;
use atomix_model::fault::Fault;
use atomix_model::limits;
use atomix_model::object::Live;

/// The spec of a class as the status records it; None if it is too long for a status.
pub fn recorded(class: &Live) -> Option<String> {
    let spec = class.body.get("spec").map_or_else(|| "{}".to_owned(), Value::to_string);
    (spec.len() <= limits::CLASS_SPEC_RECORDED_BYTES_MAX).then_some(spec)
}

/// The class as the plan that runs was made from it; None if it is the same now, or not recorded.
pub fn of(database: &Database, class: &Class) -> Option<Class> {
    let plan = database.status.as_ref()?.plan.as_ref()?;
    let spec: Value = serde_json::from_str(plan.class_spec.as_ref()?).ok()?;
    if !spec.is_object() || spec == class.spec() {
        return None;
    }
    let mut live = Live::clone(&class.live);
    live.uid.clone_from(&plan.class_uid);
    live.body["spec"] = spec;
    live.body["metadata"]["generation"] = json!(plan.class_generation);
    Some(Class { live: Arc::new(live), ..class.clone() })
}

/// Whether a pass that could not go on may do so with the class as it was last taken: the newest one is refused, waits for something, or
/// the plugin fails on it.
pub fn may_go_on(stopped: &Stopped) -> bool {
    match stopped.fault {
        Fault::User { .. } | Fault::Refused { .. } | Fault::Waiting { .. } | Fault::Plugin { .. } => {
            matches!(*stopped.after, Stage::Observed(_) | Stage::Planned(_) | Stage::Admitted(_))
        }
        _ => false,
    }
}

/// Whether running storage cannot take what it was asked for last, by what it does not take of that and of what it was asked for before. It
/// can where nothing is asked for that was not, and where something of before is taken back: then there is no better one to go on with.
pub fn is_kept(newest: &[Unsupported], before: &[Unsupported]) -> bool {
    let in_all = |change: &Unsupported, all: &[Unsupported]| {
        all.iter().any(|other| (&change.field, &change.wanted) == (&other.field, &other.wanted))
    };
    before.iter().all(|change| in_all(change, newest)) && newest.iter().any(|change| !in_all(change, before))
}

#[cfg(test)]
mod tests {
    use super::*;
    use atomix_model::crd::database::{ClassInUse, PlanInUse};
    use atomix_model::crd::{DatabaseSpec, DatabaseStatus};

    fn class(spec: Value) -> Class {
        let body = json!({"metadata": {"name": "c", "generation": 7}, "spec": spec});
        let live = Live { namespace: "n".into(), name: "c".into(), uid: "new".into(), version: 9, body };
        Class { in_use: ClassInUse::default(), version: String::new(), live: Arc::new(live), fallback: false }
    }

    fn database(class_spec: Option<&str>) -> Database {
        let mut database = Database::new("d", DatabaseSpec::default());
        let class_spec = class_spec.map(str::to_owned);
        let plan = PlanInUse { class_uid: "old".into(), class_generation: 3, class_spec, ..PlanInUse::default() };
        database.status = Some(DatabaseStatus { plan: Some(plan), ..DatabaseStatus::default() });
        database
    }

    #[test]
    fn the_class_is_remembered_as_the_plan_that_runs_was_made_from_it() {
        let newest = class(json!({"replicas": 3}));
        let text = recorded(&class(json!({"replicas": 1})).live);
        let last = of(&database(text.as_deref()), &newest).expect("it is another");
        assert_eq!((last.spec(), last.live.uid.as_str(), last.live.generation()), (json!({"replicas": 1}), "old", 3));
        assert_eq!(recorded(&last.live), text, "it stays recorded as it is");
        for none in [None, Some(r#"{"replicas":3}"#), Some("{"), Some("[]"), Some("3")] {
            assert!(of(&database(none), &newest).is_none(), "{none:?}");
        }
    }

    #[test]
    fn a_long_spec_is_not_recorded() {
        let long = |count: usize| recorded(&class(json!({ "a": "x".repeat(count) })).live);
        let most = limits::CLASS_SPEC_RECORDED_BYTES_MAX - r#"{"a":""}"#.len();
        assert!(long(most).is_some());
        assert_eq!(long(most + 1), None);
        assert_eq!(recorded(&Live { body: json!({}), ..Live::clone(&class(json!({})).live) }).as_deref(), Some("{}"));
    }

    #[test]
    fn what_is_taken_of_neither_is_no_edit() {
        let change = |field: &str, wanted: &str| Unsupported {
            field: field.into(),
            wanted: wanted.into(),
            kept: "1".into(),
            why: "so".into(),
        };
        let (replicas, volume) = (change("spec.replicas", "3"), change("spec.volume", "2Gi"));
        let (none, one, both) = (&[][..], &[replicas.clone()][..], &[replicas.clone(), volume][..]);
        assert!(is_kept(one, none) && is_kept(both, one));
        assert!(!is_kept(one, one) && !is_kept(none, one) && !is_kept(one, both));
        assert!(!is_kept(&[change("spec.replicas", "5")], one), "what was asked for before is taken back");
    }

    #[test]
    fn only_what_a_class_may_be_to_blame_for_goes_on_without_it() {
        let stopped = |fault: Fault| Stopped::after(crate::pass::Observed::default(), fault);
        let text = || "in words".to_owned();
        assert!(may_go_on(&stopped(Fault::Refused { message: text() })));
        assert!(may_go_on(&stopped(Fault::Plugin { message: text() })));
        assert!(!may_go_on(&stopped(Fault::Unseen { message: text() })));
        assert!(!may_go_on(&stopped(Fault::Held { plan: text(), message: text() })));
        let early = Stopped::after(crate::pass::Start::default(), Fault::Refused { message: text() });
        assert!(!may_go_on(&early), "there is no class yet");
    }
}
