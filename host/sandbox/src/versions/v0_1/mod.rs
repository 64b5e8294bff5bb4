//! Contract version 0.1: its bindings, and the adapter into the one model. Knows no other version.

mod groups;

use serde_json::Value;
use wasmtime::component::InstancePre;

use atomix_model::contract::{
    ClassKind, Column, Descriptor, Endpoint, FieldError, Note, ObjectKind, PartitionState, Plan, PlannedObject, Reason,
    Refusal, Request, Unsupported, plain,
};
use atomix_model::{json_text, limits};

use super::Garbled;

#[allow(missing_docs)]
mod bindings {
    wasmtime::component::bindgen!({ path: "../../wit/v0.1", world: "storage-plugin" });
}
use bindings::exports::atomix::storage::plugin as wire;

/// The name under which a component exports this version.
pub const EXPORT: &str = "atomix:storage/plugin@0.1.0";

/// A component of this version, checked against the contract and ready to be instantiated.
pub struct Pre<T: 'static> {
    plugin: bindings::StoragePluginPre<T>,
    groups: Option<groups::Pre<T>>,
}

impl<T: 'static> Clone for Pre<T> {
    fn clone(&self) -> Self {
        Self { plugin: self.plugin.clone(), groups: self.groups.clone() }
    }
}

impl<T: 'static> Pre<T> {
    /// Checks that the component has the contract's functions, also those of the optional interfaces that it exports.
    pub fn new(component: InstancePre<T>) -> wasmtime::Result<Self> {
        let groups = groups::Pre::new(&component)?;
        Ok(Self { plugin: bindings::StoragePluginPre::new(component)?, groups })
    }

    /// The optional interface `groups`, if the component exports it.
    pub fn groups(&self) -> Option<&groups::Pre<T>> {
        self.groups.as_ref()
    }

    /// See [`super::Pre::check_optional`].
    pub fn check_optional(&self, store: &mut wasmtime::Store<T>) -> Result<(), (&'static str, wasmtime::Error)> {
        self.groups().map_or(Ok(()), |groups| groups.check_types(store).map_err(|error| (groups::EXPORT, error)))
    }

    /// Calls `describe` in the store.
    pub fn describe(&self, store: &mut wasmtime::Store<T>) -> wasmtime::Result<Result<Descriptor, Garbled>> {
        let plugin = self.plugin.instantiate(&mut *store)?;
        Ok(descriptor(plugin.atomix_storage_plugin().call_describe(store)?))
    }

    /// Calls `validate` in the store; `spec` is JSON text.
    pub fn validate(
        &self,
        store: &mut wasmtime::Store<T>,
        kind: &str,
        spec: &str,
    ) -> wasmtime::Result<Result<(), Vec<FieldError>>> {
        let plugin = self.plugin.instantiate(&mut *store)?;
        let answer = plugin.atomix_storage_plugin().call_validate(store, kind, spec)?;
        Ok(answer.map_err(|errors| errors.into_iter().map(field_error).collect()))
    }

    /// Calls `plan` in the store.
    pub fn plan(&self, store: &mut wasmtime::Store<T>, seen: &Request) -> wasmtime::Result<Result<Unread, Refusal>> {
        let plugin = self.plugin.instantiate(&mut *store)?;
        let answer = plugin.atomix_storage_plugin().call_plan(store, &request(seen))?;
        Ok(answer.map(Unread).map_err(refusal))
    }
}

/// A plan as the guest gave it: its manifests are text.
pub struct Unread(wire::StoragePlan);

impl Unread {
    /// Reads the manifests.
    pub fn read(self) -> Result<Plan, Garbled> {
        plan(self.0)
    }

    /// The manifests, to the byte.
    pub fn texts(self) -> Vec<String> {
        self.0.objects.into_iter().map(|object| object.manifest).collect()
    }
}

fn descriptor(descriptor: wire::Descriptor) -> Result<Descriptor, Garbled> {
    Ok(Descriptor {
        name: descriptor.name,
        version: descriptor.version,
        class_kinds: descriptor.class_kinds.into_iter().map(class_kind).collect::<Result<_, _>>()?,
        emits: descriptor.emits.into_iter().map(object_kind).collect(),
        watches: descriptor.watches.into_iter().map(object_kind).collect(),
    })
}

fn class_kind(class: wire::ClassKind) -> Result<ClassKind, Garbled> {
    let spec_schema =
        parse(&class.spec_schema, limits::SCHEMA_BYTES_MAX).map_err(|why| format!("the schema of {} {why}", class.kind))?;
    let columns = class.columns.into_iter();
    Ok(ClassKind {
        kind: class.kind,
        plural: class.plural,
        short_names: class.short_names,
        versions: class.versions,
        spec_schema,
        columns: columns.map(|c| Column { name: c.name, data_type: c.data_type, json_path: c.json_path }).collect(),
    })
}

fn object_kind(kind: wire::ObjectKind) -> ObjectKind {
    ObjectKind { group: kind.group, version: kind.version, kind: kind.kind, plural: kind.plural, reads: kind.reads }
}

fn request(seen: &Request) -> wire::Request {
    let (database, class) = (&seen.database, &seen.class);
    wire::Request {
        database: wire::Database {
            namespace: database.namespace.clone(),
            name: database.name.clone(),
            partitions: database.partitions,
            partitions_per_cluster: database.partitions_per_cluster,
            labels: database.labels.clone(),
            database_label: database.database_label.clone(),
        },
        class: wire::Class {
            kind: class.kind.clone(),
            version: class.version.clone(),
            name: class.name.clone(),
            spec: class.spec.to_string(),
        },
        partitions: (seen.partitions.iter())
            .map(|p| wire::Partition { id: p.id, cluster: p.cluster, service_name: p.service_name.clone() })
            .collect(),
        observed: seen.observed.iter().map(observed).collect(),
        cluster_domain: seen.cluster_domain.clone(),
        features: seen.features.clone(),
    }
}

fn observed(seen: &atomix_model::contract::Observed) -> wire::ObservedObject {
    wire::ObservedObject {
        group: seen.group.clone(),
        kind: seen.kind.clone(),
        name: seen.name.clone(),
        terminating: seen.terminating,
        fields: (seen.fields.iter())
            .map(|(pointer, value)| wire::ObservedField { pointer: pointer.clone(), value: value.to_string() })
            .collect(),
    }
}

fn plan(plan: wire::StoragePlan) -> Result<Plan, Garbled> {
    if plan.objects.len() > limits::PLAN_OBJECTS_MAX {
        return Err(format!(
            "the plan has {} objects; at most {} are accepted",
            plan.objects.len(),
            limits::PLAN_OBJECTS_MAX
        ));
    }
    let bytes: usize = plan.objects.iter().map(|object| object.manifest.len()).sum();
    if bytes > limits::PLAN_BYTES_MAX {
        return Err(format!("the plan's manifests have {bytes} bytes; at most {} are accepted", limits::PLAN_BYTES_MAX));
    }
    let heap: usize = plan.objects.iter().map(|object| json_text::heap(object.manifest.as_bytes())).sum();
    if heap > limits::PLAN_HEAP_BYTES_MAX {
        let max = limits::PLAN_HEAP_BYTES_MAX;
        return Err(format!("the plan's manifests would take {heap} bytes of memory; at most {max} are accepted"));
    }
    Ok(Plan {
        objects: plan.objects.into_iter().map(object).collect::<Result<_, _>>()?,
        partitions: plan.partitions.into_iter().map(partition).collect(),
        unsupported: (plan.unsupported.into_iter())
            .map(|u| Unsupported { field: u.field, wanted: plain(&u.wanted), kept: plain(&u.kept), why: plain(&u.why) })
            .collect(),
        notes: plan.notes.into_iter().map(|n| Note { warning: n.warning, reason: reason(n.reason) }).collect(),
    })
}

fn object(object: wire::Object) -> Result<PlannedObject, Garbled> {
    let manifest = parse(&object.manifest, limits::PLAN_OBJECT_BYTES_MAX)
        .map_err(|why| format!("the manifest of object {:?} {why}", atomix_model::contract::short(&object.id)))?;
    Ok(PlannedObject { id: object.id, manifest })
}

fn partition(partition: wire::PartitionState) -> PartitionState {
    PartitionState {
        id: partition.id,
        ready: partition.ready,
        endpoints: partition.endpoints.into_iter().map(|e| Endpoint { host: e.host, port: e.port }).collect(),
        problem: partition.problem.map(reason),
    }
}

fn refusal(refusal: wire::Refusal) -> Refusal {
    match refusal {
        wire::Refusal::Invalid(errors) => Refusal::Invalid(errors.into_iter().map(field_error).collect()),
        wire::Refusal::Waiting(why) => Refusal::Waiting(reason(why)),
    }
}

fn reason(reason: wire::Reason) -> Reason {
    Reason { code: reason.code, message: plain(&reason.message) }
}

fn field_error(error: wire::FieldError) -> FieldError {
    FieldError { path: error.path, message: plain(&error.message) }
}

/// Reads JSON text of bounded size, memory and depth; an error continues the sentence "the manifest of … ".
pub fn parse(text: &str, bytes_max: usize) -> Result<Value, Garbled> {
    if text.len() > bytes_max {
        return Err(format!("has {} bytes; at most {bytes_max} are accepted", text.len()));
    }
    let (heap, heap_max) = (json_text::heap(text.as_bytes()), bytes_max.saturating_mul(limits::JSON_HEAP_PER_BYTE_MAX));
    if heap > heap_max {
        return Err(format!("would take {heap} bytes of memory; at most {heap_max} are accepted"));
    }
    // The parser itself stops at a depth of 128, so the walk that follows is bounded.
    let value: Value = serde_json::from_str(text).map_err(|error| format!("is not JSON: {error}"))?;
    if !value.is_object() {
        return Err("is not a JSON object".to_owned());
    }
    match depth(&value) {
        deep if deep > limits::JSON_DEPTH_MAX => {
            Err(format!("is nested {deep} deep; at most {} is accepted", limits::JSON_DEPTH_MAX))
        }
        _ => Ok(value),
    }
}

fn depth(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => fields.values().map(depth).max().unwrap_or(0),
        _ => return 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_of_a_guest_is_bounded_in_size_memory_depth_and_shape() {
        assert_eq!(parse(r#"{"a":[1]}"#, 100), Ok(serde_json::json!({"a": [1]})));
        let refused = |text: &str, max| parse(text, max).expect_err("it is refused");
        assert_eq!(refused(r#"{"a":1}"#, 3), "has 7 bytes; at most 3 are accepted");
        let empty = format!(r#"{{"a":[{}0]}}"#, r#"{"":0},"#.repeat(1000));
        assert_eq!(refused(&empty, 8000), "would take 759761 bytes of memory; at most 256000 are accepted");
        assert_eq!(refused("[]", 100), "is not a JSON object");
        assert!(refused("{", 100).starts_with("is not JSON: "));
        let nested = |levels: usize| format!("{}{{}}{}", r#"{"a":"#.repeat(levels - 1), "}".repeat(levels - 1));
        assert!(parse(&nested(limits::JSON_DEPTH_MAX), 1000).is_ok());
        assert_eq!(refused(&nested(limits::JSON_DEPTH_MAX + 1), 1000), "is nested 33 deep; at most 32 is accepted");
        assert!(refused(&nested(10_000), 100_000_000).contains("recursion limit"));
    }
}
