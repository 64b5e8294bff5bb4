//! The last resort against drift, where server-side apply cannot repair: what another client's edit left beside our fields
//! is not allowed beside them. (The port of a Service edited by hand is another port, of the same name as ours; a
//! Deployment's strategy changed to RollingUpdate leaves parameters that Recreate may not have.) And what is adopted is made
//! ours in the same way. Knows no plan.

use kube::Result;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use serde_json::{Map, Value, json};

use atomix_model::names;
use atomix_model::object::Live;

/// Makes the object what a first apply of `desired` would have made of it, but for labels and annotations; three requests.
///
/// `live` is as it was read; the API server answers 409 Conflict if it changed since. Afterwards the controller is the only
/// manager of its fields: else a field that the manifest drops later would stay.
///
/// # Errors
/// As of any write. A process that ends in between leaves a repaired object, of which dropped fields may stay.
pub async fn overwrite(api: &Api<DynamicObject>, desired: &Value, live: &Live) -> Result<DynamicObject> {
    let params = PatchParams { field_manager: Some(names::MANAGER.to_owned()), ..PatchParams::default() };
    let mut patch = difference(&live.body, desired);
    patch["metadata"] = json!({"uid": live.uid, "resourceVersion": live.version.to_string()});
    if let Some(owners) = desired["metadata"].get("ownerReferences") {
        patch["metadata"]["ownerReferences"] = owners.clone(); // an orphan may have a former owner
    }
    api.patch(&live.name, &params, &Patch::Merge(&patch)).await?;
    let applied = api.patch(&live.name, &PatchParams::apply(names::MANAGER).force(), &Patch::Apply(desired)).await?;
    let is_ours = |entry: &Value| entry["operation"] == "Apply" && entry["manager"] == names::MANAGER;
    let managers = serde_json::to_value(&applied.metadata.managed_fields).unwrap_or_default();
    let ours: Vec<&Value> = managers.as_array().into_iter().flatten().filter(|entry| is_ours(entry)).collect();
    let patch = json!({"metadata": {"uid": live.uid, "managedFields": ours}});
    api.patch(&live.name, &params, &Patch::Merge(&patch)).await
}

/// The JSON merge patch that makes all sections of an object but its metadata as in the manifest.
fn difference(live: &Value, desired: &Value) -> Value {
    let sections = desired.as_object().into_iter().flatten();
    let changed = sections.filter(|(name, _)| !["apiVersion", "kind", "metadata", "status"].contains(&name.as_str()));
    changed.map(|(name, wanted)| (name.clone(), merge(live.get(name), wanted))).collect::<Map<_, _>>().into()
}

fn merge(live: Option<&Value>, desired: &Value) -> Value {
    let (Some(Value::Object(live)), Value::Object(wanted)) = (live, desired) else { return desired.clone() };
    let surplus = live.keys().filter(|name| !wanted.contains_key(*name)).map(|name| (name.clone(), Value::Null));
    let changed = wanted.iter().map(|(name, wanted)| (name.clone(), merge(live.get(name), wanted)));
    surplus.chain(changed).collect::<Map<_, _>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_manifest_does_not_hold_goes_and_lists_are_taken_whole() {
        let live = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "status": {},
            "spec": {"ports": [{"name": "api", "port": 2}], "sessionAffinity": "None", "selector": {"a": "b", "more": "x"}}
        });
        let desired = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"},
            "spec": {"ports": [{"name": "api", "port": 1}], "selector": {"a": "b"}}
        });
        let patch = json!({"spec": {
            "ports": [{"name": "api", "port": 1}], "sessionAffinity": null, "selector": {"a": "b", "more": null}
        }});
        assert_eq!(difference(&live, &desired), patch);
    }
}
