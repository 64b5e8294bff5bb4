//! What is to be written and removed, and what that would disturb. Pure: knows no client.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use crate::admit::{self, Admitted, Stamped};
use crate::cache::{Kind, Live};
use crate::contain::contained;
use crate::crd::database::PlanInUse;
use crate::names;

/// What to do about one object.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// It is as it should be.
    Leave,
    /// It is written, because.
    Write(String),
    /// The name belongs to somebody else; says to whom.
    Taken(String),
    /// It is on its way out; its going wakes us.
    Going,
}

/// An apply that changed nothing: the object is left alone while it looks the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quiet {
    /// UID of the live object.
    pub uid: String,
    /// Hash of the manifest applied.
    pub hash: String,
    /// Digest of the live object without its status.
    pub digest: String,
}

impl Quiet {
    /// Remembers that applying a manifest of this hash left this object as it was.
    pub fn of(hash: &str, live: &Live) -> Quiet {
        Quiet { uid: live.uid.clone(), hash: hash.to_owned(), digest: digest(live) }
    }
}

/// Decides about one object: `live` is what the cache holds under its name, `owner` the UID of the database.
pub fn decide(desired: &Stamped, live: Option<&Live>, owner: &str, quiet: Option<&Quiet>) -> Decision {
    let Some(live) = live else { return Decision::Write("it is missing".to_owned()) };
    if desired.once {
        return Decision::Leave;
    }
    match live.owner() {
        Some(uid) if uid == owner => {}
        Some(_) => return Decision::Taken("an earlier database of the same name".to_owned()),
        None => return Decision::Taken("somebody else".to_owned()),
    }
    if live.terminating() {
        return Decision::Going;
    }
    if live.annotation(names::HASH) != Some(&desired.hash) {
        return Decision::Write("the plan has changed".to_owned());
    }
    let Err(difference) = contained(&desired.manifest, &live.body) else {
        return Decision::Leave;
    };
    if quiet.is_some_and(|quiet| *quiet == Quiet::of(&desired.hash, live)) {
        return Decision::Leave;
    }
    Decision::Write(format!("it has drifted: {difference}"))
}

/// Live objects of the database that its plan no longer holds. Volume claims are never among them.
pub fn orphans(admitted: &Admitted, live: Vec<(Kind, Arc<Live>)>, owner: &str) -> Vec<(Kind, Arc<Live>)> {
    let wanted: BTreeSet<_> =
        admitted.objects.iter().map(|object| (&object.kind.group, &object.kind.kind, &object.name)).collect();
    let orphan = |(kind, live): &(Kind, Arc<Live>)| {
        let kept = kind.group.is_empty() && kind.plural == "persistentvolumeclaims";
        let ours = live.owner() == Some(owner) && !live.terminating();
        ours && !kept && !wanted.contains(&(&kind.group, &kind.kind, &live.name))
    };
    live.into_iter().filter(orphan).collect()
}

/// Whether a plan is held: it is another than the one that runs although nobody edited the database or its class, it would
/// delete, shrink or restart a workload, and nobody has accepted it. Says what it would do.
pub fn held(
    admitted: &Admitted,
    running: Option<&PlanInUse>,
    now: &PlanInUse,
    accepted: Option<&str>,
    live: &[Option<Arc<Live>>],
    orphans: &[(Kind, Arc<Live>)],
) -> Option<String> {
    let running = running?;
    let edited = running.generation != now.generation
        || running.class_uid != now.class_uid
        || running.class_generation != now.class_generation;
    if edited || running.hash == admitted.hash || accepted == Some(&admitted.hash) {
        return None;
    }
    let deeds = disturbances(admitted, live, orphans);
    if deeds.is_empty() {
        return None;
    }
    Some(format!(
        "the plugin's new plan would {}, and neither the database nor its class was edited; to let it, set the annotation {}={} on the database",
        deeds.join(", "),
        names::ACCEPT,
        admitted.hash
    ))
}

fn disturbances(admitted: &Admitted, live: &[Option<Arc<Live>>], orphans: &[(Kind, Arc<Live>)]) -> Vec<String> {
    let makes_pods = |kind: &Kind| admit::template_pointer(&kind.group, &kind.kind).is_some();
    let deleted = orphans
        .iter()
        .filter(|(kind, _)| makes_pods(kind))
        .map(|(kind, live)| format!("delete {} {}", kind.kind, live.name));
    let changed = admitted.objects.iter().zip(live).filter_map(|(object, live)| {
        let (template, live) = (object.template.as_deref()?, live.as_ref()?);
        if live.annotation(names::TEMPLATE_HASH).is_some_and(|applied| applied != template) {
            return Some(format!("restart the pods of {} {}", object.kind.kind, object.name));
        }
        let replicas = |root: &Value| root.pointer("/spec/replicas").and_then(Value::as_i64);
        let (wanted, found) = (replicas(&object.manifest)?, replicas(&live.body)?);
        (wanted < found).then(|| format!("shrink {} {} from {found} to {wanted} pods", object.kind.kind, object.name))
    });
    deleted.chain(changed).collect()
}

fn digest(live: &Live) -> String {
    let mut body = live.body.clone();
    if let Some(fields) = body.as_object_mut() {
        fields.remove("status");
    }
    names::hash_json(&body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Trim;
    use serde_json::json;

    fn kind() -> Kind {
        Kind { group: "apps".into(), version: "v1".into(), kind: "StatefulSet".into(), plural: "statefulsets".into() }
    }

    fn desired(image: &str) -> Stamped {
        let template = json!({"spec": {"containers": [{"name": "c", "image": image}]}});
        let mut manifest = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "s", "namespace": "n", "labels": {},
            "ownerReferences": [{"apiVersion": "cloud.atomix.io/v1beta3", "kind": "Database", "name": "d", "uid": "u"}]},
            "spec": {"replicas": 3, "template": template}});
        let (hash, template) = (names::hash_json(&manifest), names::hash_json(&template));
        manifest["metadata"]["annotations"] = json!({(names::HASH): hash, (names::TEMPLATE_HASH): template});
        Stamped { kind: kind(), name: "s".into(), manifest, hash, template: Some(template), once: false }
    }

    fn live(of: &Stamped, change: impl FnOnce(&mut Value)) -> Arc<Live> {
        let mut object = of.manifest.clone();
        object["metadata"]["uid"] = json!("live");
        object["metadata"]["resourceVersion"] = json!("7");
        change(&mut object);
        Arc::new(Trim::whole([]).live(&kind(), object).unwrap())
    }

    fn plan(object: Stamped, hash: &str) -> Admitted {
        Admitted::for_tests(vec![object], hash)
    }

    fn running(hash: &str, generation: i64) -> PlanInUse {
        PlanInUse { hash: hash.into(), generation, class_uid: "c".into(), class_generation: 1 }
    }

    #[test]
    fn what_is_as_it_should_be_is_left() {
        let it = desired("a");
        assert_eq!(decide(&it, Some(&live(&it, |_| {})), "u", None), Decision::Leave);
    }

    #[test]
    fn what_has_drifted_is_written_and_what_others_add_is_not() {
        let it = desired("a");
        let drifted = live(&it, |object| object["spec"]["replicas"] = json!(1));
        assert!(matches!(decide(&it, Some(&drifted), "u", None), Decision::Write(why) if why.contains("replicas")));
        let added = live(&it, |object| object["metadata"]["labels"]["theirs"] = json!("x"));
        assert_eq!(decide(&it, Some(&added), "u", None), Decision::Leave);
    }

    #[test]
    fn a_difference_that_an_apply_did_not_mend_is_left_while_it_looks_the_same() {
        let it = desired("a");
        let stubborn = live(&it, |object| object["spec"]["replicas"] = json!(1));
        let quiet = Quiet::of(&it.hash, &stubborn);
        assert_eq!(decide(&it, Some(&stubborn), "u", Some(&quiet)), Decision::Leave);
        let other = live(&it, |object| object["spec"]["replicas"] = json!(2));
        assert!(matches!(decide(&it, Some(&other), "u", Some(&quiet)), Decision::Write(_)));
    }

    #[test]
    fn what_belongs_to_another_is_never_written() {
        let it = desired("a");
        let foreign = live(&it, |object| object["metadata"]["ownerReferences"] = json!([]));
        assert!(matches!(decide(&it, Some(&foreign), "u", None), Decision::Taken(_)));
        assert!(matches!(decide(&it, Some(&live(&it, |_| {})), "a younger database", None), Decision::Taken(_)));
        let leaving = live(&it, |object| object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"));
        assert_eq!(decide(&it, Some(&leaving), "u", None), Decision::Going);
    }

    #[test]
    fn a_plan_that_changed_by_itself_and_restarts_pods_is_held_until_accepted_or_edited() {
        let (old, new) = (desired("a"), desired("b"));
        let standing = [Some(live(&old, |_| {}))];
        let admitted = plan(new, "new");
        let held_with =
            |before: &PlanInUse, accept| held(&admitted, Some(before), &running("new", 1), accept, &standing, &[]);
        assert!(held_with(&running("old", 1), None).unwrap().contains("restart the pods of StatefulSet s"));
        assert_eq!(held_with(&running("old", 1), Some("new")), None, "accepted");
        assert_eq!(held_with(&running("old", 0), None), None, "the database was edited");
        assert_eq!(held_with(&running("new", 1), None), None, "the same plan is always repaired");
        assert_eq!(held(&admitted, None, &running("new", 1), None, &standing, &[]), None, "nothing runs yet");
    }

    #[test]
    fn a_plan_that_changed_by_itself_and_disturbs_nothing_is_not_held() {
        let it = desired("a");
        let standing = [Some(live(&it, |_| {}))];
        assert_eq!(held(&plan(it, "new"), Some(&running("old", 1)), &running("new", 1), None, &standing, &[]), None);
    }

    #[test]
    fn orphans_are_ours_and_never_volume_claims() {
        let it = desired("a");
        let claim = Kind {
            group: String::new(),
            version: "v1".into(),
            kind: "PersistentVolumeClaim".into(),
            plural: "persistentvolumeclaims".into(),
        };
        let named = |name: &str| live(&it, |object| object["metadata"]["name"] = json!(name));
        let admitted = plan(it.clone(), "h");
        let all = vec![(kind(), named("s")), (kind(), named("old")), (claim, named("data"))];
        let names: Vec<_> = orphans(&admitted, all.clone(), "u").iter().map(|(_, live)| live.name.clone()).collect();
        assert_eq!(names, ["old"]);
        assert!(orphans(&admitted, all, "another").is_empty());
        let replaced = held(&admitted, Some(&running("old", 1)), &running("h", 1), None, &[None], &[(kind(), named("old"))]);
        assert!(replaced.unwrap().contains("delete StatefulSet old"));
    }
}
