//! An object of any kind as the API server sent it, but for `metadata.managedFields`: text until it is read. So a page of a list takes
//! little more than its text, and each object is parsed by itself.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::{ApiResource, DynamicObject, DynamicResourceScope};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// An object that was listed or watched.
#[derive(Clone, Debug)]
pub struct RawObject {
    /// What names it and this version of it, and nothing else.
    meta: ObjectMeta,
    text: Box<str>,
}

impl RawObject {
    /// All of it.
    pub fn value(&self) -> Value {
        serde_json::from_str(&self.text).expect("it was made from a value")
    }

    /// A field, by its path; None if it is not there or is of another type.
    pub fn field<T: DeserializeOwned>(&self, path: &[&str]) -> Option<T> {
        let mut at: &RawValue = serde_json::from_str(&self.text).ok()?;
        for name in path {
            let fields: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_str(at.get()).ok()?;
            at = *fields.get(*name)?;
        }
        serde_json::from_str(at.get()).ok()
    }
}

impl<'de> Deserialize<'de> for RawObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RawObject, D::Error> {
        let mut object = Value::deserialize(deserializer)?;
        let mut meta = ObjectMeta::default();
        if let Some(fields) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            fields.remove("managedFields");
            let text = |name: &str| fields.get(name).and_then(Value::as_str).map(str::to_owned);
            meta.name = text("name");
            meta.namespace = text("namespace");
            meta.uid = text("uid");
            meta.resource_version = text("resourceVersion");
            meta.generation = fields.get("generation").and_then(Value::as_i64);
        }
        Ok(RawObject { meta, text: object.to_string().into() })
    }
}

impl Resource for RawObject {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        DynamicObject::kind(resource)
    }

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        DynamicObject::group(resource)
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        DynamicObject::version(resource)
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        DynamicObject::plural(resource)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::ResourceExt;
    use serde_json::json;

    #[test]
    fn all_but_managed_fields_can_be_read() {
        let metadata = json!({"name": "a", "namespace": "n", "uid": "u", "resourceVersion": "7", "generation": 2, "labels": {"a/b": "c"}});
        let mut given = json!({"metadata": metadata, "spec": {"\"": [1, {"x": null}]}, "status": {"phase": "Ready"}});
        let kept = given.clone();
        given["metadata"]["managedFields"] = json!([{"manager": "m"}]);
        let object: RawObject = serde_json::from_value(given).unwrap();
        assert_eq!((object.value(), object.resource_version()), (kept, Some("7".to_owned())));
        assert_eq!(object.field::<String>(&["status", "phase"]), Some("Ready".to_owned()));
        assert_eq!(object.field::<Value>(&["spec", "\""]), Some(json!([1, {"x": null}])));
        assert_eq!(object.field::<i64>(&["metadata", "generation"]), Some(2));
        assert_eq!(object.field::<i64>(&["status", "phase"]), None, "it is of another type");
        assert_eq!(object.field::<Value>(&["status", "phase", "x"]), None);
        assert_eq!(object.field::<Value>(&["status", "x"]), None);
    }

    #[test]
    fn what_is_no_object_hides_no_other() {
        let list = json!([5, {"metadata": 5}, {"metadata": {"name": "a"}}]);
        let names: Vec<_> =
            serde_json::from_value::<Vec<RawObject>>(list).unwrap().iter().map(|it| it.meta.name.clone()).collect();
        assert_eq!(names, [None, None, Some("a".to_owned())]);
    }
}
