//! What is to be written and removed, and what that would disturb. Pure: knows no client.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use crate::admission::{self, Admitted, Stamped};
use crate::diff::{check_applied, immutable_change};
use atomix_model::crd::Database;
use atomix_model::crd::database::{DatabaseStatus, PlanInUse, PluginInUse};
use atomix_model::names;
use atomix_model::object::{Kind, Live};

/// What to do about one object of a plan.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// The live object is as planned: nothing is written.
    Leave,
    /// It is written, because.
    Write(String),
    /// It was made for an earlier database of the name, and is taken over.
    Adopt,
    /// It was made for an earlier database of the name, and the Database has no annotation that lets it be taken over.
    Orphan,
    /// The name belongs to another owner, which is named.
    Taken(String),
    /// It is being deleted; the end of that starts the next pass.
    Going,
}

/// The database whose objects are decided about.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)] // its fields explain themselves
pub struct Owner<'a> {
    pub namespace: &'a str,
    pub uid: &'a str,
    pub name: &'a str,
    /// Value of its annotation [`names::ADOPT`].
    pub adopts: Option<&'a str>,
}

impl Owner<'_> {
    /// A Database as the owner of objects.
    pub fn of(database: &Database) -> Owner<'_> {
        let annotations = database.metadata.annotations.as_ref();
        Owner {
            namespace: database.metadata.namespace.as_deref().unwrap_or_default(),
            uid: database.metadata.uid.as_deref().unwrap_or_default(),
            name: database.metadata.name.as_deref().unwrap_or_default(),
            adopts: annotations.and_then(|annotations| annotations.get(names::ADOPT)).map(String::as_str),
        }
    }
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

/// Decides about one object: `live` is what the cache holds under its name.
pub fn decide(desired: &Stamped, live: Option<&Live>, owner: &Owner, quiet: Option<&Quiet>) -> Decision {
    let Some(live) = live else { return Decision::Write("it is missing".to_owned()) };
    if desired.once {
        return Decision::Leave;
    }
    match live.owner() {
        Some(uid) if uid == owner.uid => {}
        _ if is_orphan(desired, live, owner) && live.terminating() => return Decision::Going,
        _ if is_orphan(desired, live, owner) && owner.adopts == Some(names::ORPHANS) => return Decision::Adopt,
        _ if is_orphan(desired, live, owner) => return Decision::Orphan,
        Some(_) => return Decision::Taken("an earlier database of the same name".to_owned()),
        None => return Decision::Taken("somebody else".to_owned()),
    }
    if live.terminating() {
        return Decision::Going;
    }
    if !desired.is_of(live.annotation(names::HASH)) {
        return Decision::Write("the plan has changed".to_owned());
    }
    let Err(difference) = check_applied(&desired.manifest, &live.body) else {
        return Decision::Leave;
    };
    if quiet.is_some_and(|quiet| *quiet == Quiet::of(&desired.hash, live)) {
        return Decision::Leave;
    }
    Decision::Write(format!("it has drifted: {difference}"))
}

/// Whether writing an object would change one that is there and that an edit of the Database or its class, not drift, made
/// differ.
pub fn is_change(object: &Stamped, live: Option<&Live>, owner: &Owner) -> bool {
    let Some(live) = live.filter(|live| !object.once && !object.is_of(live.annotation(names::HASH))) else { return false };
    matches!(decide(object, Some(live), owner, None), Decision::Write(_) | Decision::Adopt)
}

/// Whether an object was made by a controller of ours for a database of this name that is gone: it carries the labels and
/// annotations of one, and has no owner, or only such a database. The admission policy uses the same signs.
fn is_orphan(desired: &Stamped, live: &Live, owner: &Owner) -> bool {
    let ours = |part: &str, key: &str| {
        let wanted = &desired.manifest["metadata"][part][key];
        wanted.is_string() && live.body["metadata"][part][key] == *wanted
    };
    let marked = live.annotation(names::HASH).is_some() && ours("annotations", names::DATABASE);
    let owners = live.body.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    let namesake = |reference: &Value| atomix_model::object::is_database(reference) && reference["name"] == owner.name;
    marked && ours("labels", "app") && ours("labels", "database") && owners.into_iter().flatten().all(namesake)
}

/// Why the plan cannot be written as a whole: an object that it would change holds an immutable field.
pub fn cannot_change(admitted: &Admitted, live: &[Option<Arc<Live>>], owner: &Owner) -> Option<String> {
    let changed = admitted.objects.iter().zip(live).filter_map(|(object, live)| {
        let live = live.as_deref()?;
        let changes = !object.is_of(live.annotation(names::HASH));
        (changes && matches!(decide(object, Some(live), owner, None), Decision::Write(_) | Decision::Adopt))
            .then_some((object, live))
    });
    let mut fixed = changed.filter_map(|(object, live)| Some((object, immutable_change(&object.manifest, &live.body)?)));
    let (object, difference) = fixed.next()?;
    let more = match fixed.count() {
        0 => String::new(),
        1 => " (and one more object like it)".to_owned(),
        more => format!(" (and {more} more objects like it)"),
    };
    Some(format!(
        "{} {}: {difference}; Kubernetes lets nobody change that on an object that is there{more}, so nothing of the change is applied; \
         take it back, or create another database",
        object.kind.kind, object.name
    ))
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

/// Whether the database or its class was edited since a plan was recorded.
pub fn is_edited(running: &PlanInUse, now: &PlanInUse) -> bool {
    running.generation != now.generation
        || running.class_uid != now.class_uid
        || running.class_generation != now.class_generation
}

/// Whether what is seen of the database or its class is older than what a recorded plan was made of: generations only grow.
pub fn is_older(now: &PlanInUse, running: &PlanInUse) -> bool {
    let class = now.class_uid == running.class_uid && now.class_generation < running.class_generation;
    now.generation < running.generation || class
}

/// Whether a plan is held: it is another than the one that runs although neither the database nor its class was edited, it
/// would delete, shrink or restart something, and it was not accepted. Returns what it would do.
pub fn held(
    admitted: &Admitted,
    running: Option<&PlanInUse>,
    now: &PlanInUse,
    accepted: Option<&str>,
    live: &[Option<Arc<Live>>],
    orphans: &[(Kind, Arc<Live>)],
) -> Option<String> {
    let running = running?;
    if is_edited(running, now) || running.hash == admitted.hash || accepted == Some(&admitted.hash) {
        return None;
    }
    let actions = disturbances(admitted, live, orphans);
    (!actions.is_empty()).then(|| {
        format!(
            "the plugin's new plan would {}, and neither the database nor its class was edited; to let it, {}",
            actions.join(", "),
            way_out(admitted)
        )
    })
}

/// The revision that planned what runs, if it is another than the newest (of this digest) and what the newest plans is not what runs.
pub fn planned_otherwise<'a>(status: &'a DatabaseStatus, newest: &Admitted, digest: &str) -> Option<&'a PluginInUse> {
    let (running, planned) = (status.plan.as_ref()?, status.plugin.as_ref()?);
    (planned.digest != digest && running.hash != newest.hash).then_some(planned)
}

/// Whether the plan of a plugin's newest revision is held against `running`, what the revision that planned what runs makes
/// of the same request: whatever was edited is in both. Returns what the newest would do.
pub fn held_back(newest: &Admitted, running: &Admitted, accepted: Option<&str>) -> Option<String> {
    if newest.hash == running.hash || accepted == Some(&newest.hash) {
        return None;
    }
    let as_live = |object: &Stamped| {
        let (name, body) = (object.name.clone(), object.manifest.clone());
        Arc::new(Live { namespace: String::new(), name, uid: String::new(), version: 0, body })
    };
    let place = |object: &Stamped| (object.kind.clone(), object.name.clone());
    let mut left: BTreeMap<_, _> = running.objects.iter().map(|object| (place(object), as_live(object))).collect();
    let live: Vec<_> = newest.objects.iter().map(|object| left.remove(&place(object))).collect();
    let orphans: Vec<_> = left.into_iter().map(|((kind, _), live)| (kind, live)).collect();
    let actions = disturbances(newest, &live, &orphans);
    (!actions.is_empty()).then(|| {
        format!(
            "another revision of the plugin would {}; the one that planned what runs goes on with this database, edits included; to let \
             the other, {}",
            actions.join(", "),
            way_out(newest)
        )
    })
}

fn way_out(admitted: &Admitted) -> String {
    format!("set the annotation {}={} on the database", names::ACCEPT, admitted.hash)
}

fn disturbances(admitted: &Admitted, live: &[Option<Arc<Live>>], orphans: &[(Kind, Arc<Live>)]) -> Vec<String> {
    let deleted = orphans
        .iter()
        .filter(|(kind, live)| holds_something(kind, live))
        .map(|(kind, live)| format!("delete {} {}", kind.kind, live.name));
    let changed = admitted.objects.iter().zip(live).filter_map(|(object, live)| {
        let live = live.as_ref()?;
        if object.is_of(live.annotation(names::HASH)) {
            return None; // the plan that runs has it so too: what somebody else did to it is only set back
        }
        if object.template.is_none() {
            let changes = !is_made_again(&object.kind) && holds_something(&object.kind, live);
            return changes.then(|| format!("change {} {}", object.kind.kind, object.name));
        }
        if live.annotation(names::TEMPLATE_HASH).is_some_and(|applied| !object.has_template(applied)) {
            return Some(format!("restart the pods of {} {}", object.kind.kind, object.name));
        }
        let replicas = |root: &Value| root.pointer("/spec/replicas").and_then(Value::as_i64);
        let (wanted, found) = (replicas(&object.manifest)?, replicas(&live.body)?);
        (wanted < found).then(|| format!("shrink {} {} from {found} to {wanted} pods", object.kind.kind, object.name))
    });
    deleted.chain(changed).collect()
}

/// Kinds, by group, of which nothing is lost with an object: whatever it holds is in the plan. Of a kind that is not listed
/// this is unknown.
const MADE_AGAIN: [(&str, &str); 9] = [
    ("", "ConfigMap"),
    ("", "Endpoints"),
    ("", "Service"),
    ("autoscaling", "HorizontalPodAutoscaler"),
    ("cloud.atomix.io", "Partition"),
    ("discovery.k8s.io", "EndpointSlice"),
    ("networking.k8s.io", "Ingress"),
    ("networking.k8s.io", "NetworkPolicy"),
    ("policy", "PodDisruptionBudget"),
];

fn is_made_again(kind: &Kind) -> bool {
    MADE_AGAIN.contains(&(kind.group.as_str(), kind.kind.as_str()))
}

/// Whether deleting an object may end pods or lose data: it makes pods, or it is of an unknown kind and is not annotated as
/// disposable.
fn holds_something(kind: &Kind, live: &Live) -> bool {
    let makes_pods = admission::template_pointer(&kind.group, &kind.kind).is_some();
    makes_pods || (!is_made_again(kind) && live.annotation(names::DISPOSABLE) != Some("true"))
}

fn digest(live: &Live) -> String {
    let mut body = live.body.clone();
    if let Some(fields) = body.as_object_mut() {
        fields.remove("status");
    }
    names::hash_json(&body)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use atomix_model::object::Trim;
    use serde_json::json;

    pub const OWNER: Owner = Owner { namespace: "n", uid: "u", name: "d", adopts: None };

    pub fn kind() -> Kind {
        Kind { group: "apps".into(), version: "v1".into(), kind: "StatefulSet".into(), plural: "statefulsets".into() }
    }

    /// A set of three as it is planned with an image.
    pub fn desired(image: &str) -> Stamped {
        let template = json!({"spec": {"containers": [{"name": "c", "image": image}]}});
        let mut manifest = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "s", "namespace": "n", "labels": {},
            "ownerReferences": [{"apiVersion": "cloud.atomix.io/v1beta3", "kind": "Database", "name": "d", "uid": "u"}]},
            "spec": {"replicas": 3, "template": template}});
        let (hash, template) = (names::hash_json(&manifest), names::hash_json(&template));
        manifest["metadata"]["annotations"] = json!({(names::HASH): hash, (names::TEMPLATE_HASH): template});
        let legacy_hashes = (hash.clone(), Some(template.clone()));
        Stamped { kind: kind(), name: "s".into(), manifest, hash, template: Some(template), legacy_hashes, once: false }
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
        PlanInUse { hash: hash.into(), generation, class_uid: "c".into(), class_generation: 1, ..PlanInUse::default() }
    }

    #[test]
    fn what_is_as_it_should_be_is_left() {
        let it = desired("a");
        assert_eq!(decide(&it, Some(&live(&it, |_| {})), &OWNER, None), Decision::Leave);
    }

    #[test]
    fn what_has_drifted_is_written_and_what_others_add_is_not() {
        let it = desired("a");
        let drifted = live(&it, |object| object["spec"]["replicas"] = json!(1));
        assert!(matches!(decide(&it, Some(&drifted), &OWNER, None), Decision::Write(why) if why.contains("replicas")));
        let added = live(&it, |object| object["metadata"]["labels"]["theirs"] = json!("x"));
        assert_eq!(decide(&it, Some(&added), &OWNER, None), Decision::Leave);
    }

    #[test]
    fn a_difference_that_an_apply_did_not_mend_is_left_while_it_looks_the_same() {
        let it = desired("a");
        let stubborn = live(&it, |object| object["spec"]["replicas"] = json!(1));
        let quiet = Quiet::of(&it.hash, &stubborn);
        assert_eq!(decide(&it, Some(&stubborn), &OWNER, Some(&quiet)), Decision::Leave);
        let other = live(&it, |object| object["spec"]["replicas"] = json!(2));
        assert!(matches!(decide(&it, Some(&other), &OWNER, Some(&quiet)), Decision::Write(_)));
    }

    #[test]
    fn what_belongs_to_another_is_never_written() {
        let it = desired("a");
        let foreign = live(&it, |object| object["metadata"]["ownerReferences"] = json!([]));
        assert!(matches!(decide(&it, Some(&foreign), &OWNER, None), Decision::Taken(_)));
        assert!(matches!(
            decide(&it, Some(&live(&it, |_| {})), &Owner { uid: "a younger one", name: "e", ..OWNER }, None),
            Decision::Taken(_)
        ));
        let leaving = live(&it, |object| object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"));
        assert_eq!(decide(&it, Some(&leaving), &OWNER, None), Decision::Going);
    }

    #[test]
    fn what_an_earlier_database_of_the_name_left_behind_is_adopted_on_one_word_and_nothing_else_is() {
        let mut it = desired("a");
        it.manifest["metadata"]["labels"] = json!({"app": "atomix", "database": "d.n"});
        it.manifest["metadata"]["annotations"][names::DATABASE] = json!("d.n");
        let adopts = Owner { adopts: Some(names::ORPHANS), ..OWNER };
        let owned_by = |owner: Value| live(&it, |object| object["metadata"]["ownerReferences"] = owner);
        let namesake = json!({"apiVersion": "cloud.atomix.io/v1beta2", "kind": "Database", "name": "d", "uid": "gone"});
        for owner in [json!([]), Value::Null, json!([namesake])] {
            let orphan = owned_by(owner);
            assert_eq!(decide(&it, Some(&orphan), &adopts, None), Decision::Adopt);
            assert_eq!(decide(&it, Some(&orphan), &OWNER, None), Decision::Orphan);
            let other_word = Owner { adopts: Some("yes"), ..OWNER };
            assert_eq!(decide(&it, Some(&orphan), &other_word, None), Decision::Orphan);
        }
        let keeper = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "d", "uid": "k"});
        for owner in [json!([keeper]), json!([namesake, keeper])] {
            assert!(matches!(decide(&it, Some(&owned_by(owner)), &adopts, None), Decision::Taken(_)));
        }
        for (pointer, field) in [
            ("/metadata/labels", "app"),
            ("/metadata/labels", "database"),
            ("/metadata/annotations", names::HASH),
            ("/metadata/annotations", names::DATABASE),
        ] {
            let foreign = live(&it, |object| {
                object["metadata"]["ownerReferences"] = json!([]);
                object.pointer_mut(pointer).unwrap().as_object_mut().unwrap().remove(field);
            });
            assert!(matches!(decide(&it, Some(&foreign), &adopts, None), Decision::Taken(_)), "{field}");
        }
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
        let scaled_by_hand = [Some(live(&it, |object| object["spec"]["replicas"] = json!(9)))];
        for standing in [standing, scaled_by_hand] {
            let plan = plan(it.clone(), "new");
            assert_eq!(held(&plan, Some(&running("old", 1)), &running("new", 1), None, &standing, &[]), None);
        }
    }

    #[test]
    fn an_unknown_kind_holds_data_unless_its_object_is_annotated_as_disposable() {
        let custom =
            Kind { group: "example.com".into(), version: "v1".into(), kind: "Store".into(), plural: "stores".into() };
        let store = |size: i64, note: Option<&str>| {
            let mut manifest = json!({"metadata": {"name": "s", "namespace": "n", "labels": {}, "annotations": {}}, "spec": {"size": size}});
            let hash = names::hash_json(&manifest);
            manifest["metadata"]["annotations"] = json!({(names::HASH): hash});
            if let Some(note) = note {
                manifest["metadata"]["annotations"][names::DISPOSABLE] = json!(note);
            }
            let legacy_hashes = (hash.clone(), None);
            Stamped { kind: custom.clone(), name: "s".into(), manifest, hash, template: None, legacy_hashes, once: false }
        };
        let object = |of: &Stamped| {
            let mut object = of.manifest.clone();
            object["metadata"]["uid"] = json!("live");
            object["metadata"]["resourceVersion"] = json!("7");
            Arc::new(Trim::whole([]).live(&custom, object).unwrap())
        };
        let actions = |new: Option<Stamped>, live: Arc<Live>| {
            let orphans = if new.is_some() { Vec::new() } else { vec![(custom.clone(), live.clone())] };
            let standing: Vec<_> = new.iter().map(|_| Some(live.clone())).collect();
            let admitted = Admitted::for_tests(new.into_iter().collect(), "new");
            held(&admitted, Some(&running("old", 1)), &running("new", 1), None, &standing, &orphans)
        };
        assert!(actions(None, object(&store(1, None))).unwrap().contains("delete Store s"));
        assert!(actions(Some(store(2, None)), object(&store(1, None))).unwrap().contains("change Store s"));
        assert_eq!(actions(Some(store(1, None)), object(&store(1, None))), None);
        assert_eq!(actions(None, object(&store(1, Some("true")))), None);
        assert_eq!(actions(Some(store(2, None)), object(&store(1, Some("true")))), None);
        let service = Kind { group: String::new(), version: "v1".into(), kind: "Service".into(), plural: "services".into() };
        let of_service = Stamped { kind: service.clone(), ..store(1, None) };
        let orphans = [(service, object(&of_service))];
        let none = Admitted::for_tests(Vec::new(), "new");
        assert_eq!(held(&none, Some(&running("old", 1)), &running("new", 1), None, &[], &orphans), None);
    }

    #[test]
    fn the_newest_revision_is_held_against_what_the_one_before_makes_of_the_same_edit() {
        let plan = |replicas: i64, image: &str, hash: &str| {
            let mut object = desired(image);
            object.manifest["spec"]["replicas"] = json!(replicas);
            object.hash = names::hash_json(&object.manifest["spec"]);
            object.legacy_hashes.0.clone_from(&object.hash);
            object.manifest["metadata"]["annotations"][names::HASH] = json!(object.hash);
            Admitted::for_tests(vec![object], hash)
        };
        assert_eq!(held_back(&plan(1, "a", "new"), &plan(1, "a", "old"), None), None, "the edit shrinks it, in both");
        assert!(held_back(&plan(1, "b", "new"), &plan(1, "a", "old"), None).unwrap().contains("restart the pods"));
        assert!(held_back(&plan(1, "a", "new"), &plan(3, "a", "old"), None).unwrap().contains("from 3 to 1 pods"));
        assert_eq!(held_back(&plan(1, "b", "new"), &plan(1, "a", "old"), Some("new")), None, "accepted");
        let nothing = Admitted::for_tests(Vec::new(), "new");
        assert!(held_back(&nothing, &plan(1, "a", "old"), None).unwrap().contains("delete StatefulSet s"));
    }

    #[test]
    fn generations_only_grow() {
        let now = running("a", 4);
        assert!(is_older(&now, &running("a", 5)));
        assert!(!is_older(&now, &running("a", 4)) && !is_older(&now, &running("a", 3)));
        let newer_class = PlanInUse { class_generation: 2, ..running("a", 4) };
        assert!(is_older(&now, &newer_class));
        assert!(
            !is_older(&now, &PlanInUse { class_uid: "another".into(), ..newer_class }),
            "another class of the name counts anew"
        );
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
