//! A StatefulSet that takes the place of one that was deleted. Pure: knows no client.
//!
//! The pods of the earlier one hold the names that the new one needs until they have stopped. Kubernetes tries again less
//! and less often meanwhile (5 ms, doubled each time, up to 1000 s: client-go's default rate limiter; `stateful_set.go`,
//! `AddRateLimited`), and no event makes it try sooner when they are gone, since they are not its own. A change of the set
//! itself does. So it carries an annotation for as long as they are there: taking that off again is the change.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::admission::Stamped;
use atomix_model::names;
use atomix_model::object::{Kind, Live};

/// The kind Pod, as plugins name it where they watch pods.
pub fn pods() -> Kind {
    Kind { group: String::new(), version: "v1".into(), kind: "Pod".into(), plural: "pods".into() }
}

/// The object as it is to be written while `pods` of an earlier StatefulSet of its name are there; `None` if there are none. `live`
/// is what the cache holds under its name.
pub fn mark_replacement(object: &Stamped, live: Option<&Live>, pods: &[Arc<Live>]) -> Option<Stamped> {
    if object.kind.group != "apps" || object.kind.kind != "StatefulSet" {
        return None;
    }
    let earlier = pods.iter().find_map(|pod| earlier(pod, object, live))?;
    let mut marked = object.clone();
    marked.hash = names::hash_json(&json!([object.hash, earlier]));
    marked.legacy_hashes.0 = marked.hash.clone();
    let annotations = marked.manifest.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut)?;
    annotations.insert(names::REPLACES.to_owned(), json!(earlier));
    annotations.insert(names::HASH.to_owned(), json!(marked.hash));
    Some(marked)
}

/// UID of the StatefulSet that controls a pod, if it is of the object's name and not the live one.
fn earlier<'a>(pod: &'a Live, object: &Stamped, live: Option<&Live>) -> Option<&'a str> {
    let owners = pod.body.pointer("/metadata/ownerReferences")?.as_array()?;
    let owner = owners.iter().find(|owner| owner["controller"] == json!(true))?;
    let uid = owner["uid"].as_str()?;
    let named = owner["kind"] == json!(object.kind.kind) && owner["name"] == json!(object.name);
    (named && live.is_none_or(|live| live.uid != uid)).then_some(uid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::{Decision, Owner, decide};
    use atomix_model::object::Trim;

    fn set() -> Stamped {
        let kind =
            Kind { group: "apps".into(), version: "v1".into(), kind: "StatefulSet".into(), plural: "statefulsets".into() };
        let manifest = json!({"metadata": {"name": "s", "namespace": "n", "annotations": {(names::HASH): "h"},
            "ownerReferences": [{"apiVersion": "cloud.atomix.io/v1beta3", "kind": "Database", "name": "d", "uid": "u"}]}});
        Stamped {
            kind,
            name: "s".into(),
            manifest,
            hash: "h".into(),
            template: None,
            legacy_hashes: Default::default(),
            once: false,
        }
    }

    fn owner() -> Owner<'static> {
        Owner { namespace: "n", uid: "u", name: "d", adopts: None }
    }

    fn pod(owner: &str, uid: &str) -> Arc<Live> {
        let object = json!({"metadata": {"name": "s-0", "namespace": "n", "uid": "p", "resourceVersion": "1",
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": owner, "uid": uid, "controller": true}]}});
        Arc::new(Trim::default().live(&pods(), object).unwrap())
    }

    fn live(of: &Stamped, uid: &str) -> Live {
        let mut object = of.manifest.clone();
        object["metadata"]["uid"] = json!(uid);
        object["metadata"]["resourceVersion"] = json!("7");
        Trim::whole([]).live(&of.kind, object).unwrap()
    }

    #[test]
    fn it_is_marked_while_pods_of_the_earlier_are_there_and_written_once_more_when_they_are_gone() {
        let plain = set();
        let going = [pod("s", "old")];
        let marked = mark_replacement(&plain, None, &going).unwrap();
        assert_eq!(
            marked.manifest["metadata"]["annotations"],
            json!({(names::HASH): marked.hash, (names::REPLACES): "old"})
        );
        let made = live(&marked, "new");
        let again = mark_replacement(&plain, Some(&made), &going).unwrap();
        assert_eq!(decide(&again, Some(&made), &owner(), None), Decision::Leave, "nothing is written meanwhile");
        assert!(mark_replacement(&plain, Some(&made), &[]).is_none());
        assert!(
            matches!(decide(&plain, Some(&made), &owner(), None), Decision::Write(_)),
            "the change that makes Kubernetes try at once"
        );
    }

    #[test]
    fn its_own_pods_those_of_other_sets_and_those_left_behind_on_purpose_mark_nothing() {
        let plain = set();
        let made = live(&plain, "new");
        assert!(mark_replacement(&plain, Some(&made), &[pod("s", "new"), pod("t", "old")]).is_none());
        let orphaned = json!({"metadata": {"name": "s-0", "namespace": "n", "uid": "p", "resourceVersion": "1"}});
        assert!(mark_replacement(&plain, None, &[Arc::new(Trim::default().live(&pods(), orphaned).unwrap())]).is_none());
        let mut deployment = plain.clone();
        deployment.kind.kind = "Deployment".into();
        assert!(mark_replacement(&deployment, None, &[pod("s", "old")]).is_none());
    }
}
