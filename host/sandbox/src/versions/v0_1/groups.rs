//! The optional interface `groups` of contract version 0.1: its bindings, and the adapter into the one model.

use wasmtime::component::InstancePre;

use super::parse;
use crate::versions::{ClassOf, Garbled, GroupRequest};
use atomix_model::contract::{FieldError, Group, GroupClass, plain};
use atomix_model::limits;

#[allow(missing_docs)]
mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit/v0.1",
        inline: "package atomix:host; world only-groups { export atomix:storage/groups@0.1.0; }",
        world: "atomix:host/only-groups",
    });
}
use bindings::exports::atomix::storage::groups as wire;

/// The name under which a component exports it.
pub const EXPORT: &str = "atomix:storage/groups@0.1.0";

/// A component that exports the interface.
pub struct Pre<T: 'static>(bindings::OnlyGroupsPre<T>);

impl<T: 'static> Clone for Pre<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: 'static> Pre<T> {
    /// Checks that the component's functions have the contract's names; None if it does not export the interface.
    pub fn new(component: &InstancePre<T>) -> wasmtime::Result<Option<Self>> {
        match component.component().get_export_index(None, EXPORT) {
            Some(_) => Ok(Some(Self(bindings::OnlyGroupsPre::new(component.clone())?))),
            None => Ok(None),
        }
    }

    /// Instantiates the component in the store and checks that its functions have the contract's types. Calls none of them.
    pub fn check_types(&self, store: &mut wasmtime::Store<T>) -> wasmtime::Result<()> {
        self.0.instantiate(store).map(drop)
    }

    /// Calls `protocols` in the store.
    pub fn protocols(&self, store: &mut wasmtime::Store<T>) -> wasmtime::Result<Vec<String>> {
        let plugin = self.0.instantiate(&mut *store)?;
        plugin.atomix_storage_groups().call_protocols(store)
    }

    /// See [`crate::versions::Pre::class_of`].
    pub fn class_of(&self, store: &mut wasmtime::Store<T>, group: &GroupRequest<'_>) -> wasmtime::Result<ClassOf> {
        let plugin = self.0.instantiate(&mut *store)?;
        let GroupRequest { protocol, value, partition_size } = group;
        let answer = plugin.atomix_storage_groups().call_class_of(store, protocol, value, *partition_size)?;
        Ok(match answer {
            Ok(answer) => class(answer).map(|class| Some(Ok(class))),
            Err(errors) => Ok(Some(Err(errors.into_iter().map(field_error).collect()))),
        })
    }

    /// Calls `group-of` in the store; `spec` is JSON text.
    pub fn group_of(&self, store: &mut wasmtime::Store<T>, kind: &str, spec: &str) -> wasmtime::Result<Option<Group>> {
        let plugin = self.0.instantiate(&mut *store)?;
        Ok(plugin.atomix_storage_groups().call_group_of(store, kind, spec)?.map(group))
    }
}

fn class(class: wire::Class) -> Result<GroupClass, Garbled> {
    let spec = parse(&class.spec, limits::PLAN_OBJECT_BYTES_MAX)
        .map_err(|why| format!("the spec of the class for a group {why}"))?;
    Ok(GroupClass { kind: class.kind, version: class.version, spec })
}

fn group(group: wire::Group) -> Group {
    Group { partition_size: group.partition_size, protocol: group.protocol, value: group.value }
}

fn field_error(error: wire::FieldError) -> FieldError {
    FieldError { path: error.path, message: plain(&error.message) }
}
