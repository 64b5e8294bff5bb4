//! The versions of the contract that are served, one variant and one folder each. Nothing outside this module names one; how a version
//! is added stands in `wit/README.md`.

mod v0_1;

use wasmtime::component::InstancePre;

use atomix_model::contract::{Descriptor, FieldError, Group, GroupClass, Plan, Refusal, Request};

/// The answer could not be read: one sentence that names the part.
pub type Garbled = String;

/// What a component may export, one of these and exactly one: the interface `plugin` of each version served.
pub const EXPORTS: [&str; 1] = [v0_1::EXPORT];

/// A component of a version that is served, checked against the contract and ready to be instantiated.
pub enum Pre<T: 'static> {
    /// Version 0.1.
    V0_1(v0_1::Pre<T>),
}

impl<T: 'static> Pre<T> {
    /// Checks that the component has the functions of the version that it exports, also those of the version's optional interfaces.
    pub fn new(component: InstancePre<T>) -> wasmtime::Result<Self> {
        v0_1::Pre::new(component).map(Pre::V0_1)
    }

    /// The name under which the component exports its version.
    pub fn export(&self) -> &'static str {
        match self {
            Pre::V0_1(_) => v0_1::EXPORT,
        }
    }

    /// Instantiates the component in the store and checks that the optional interfaces that it exports have the contract's types. Calls
    /// none of their functions.
    ///
    /// # Errors
    /// The name of the interface, and what is wrong with it.
    pub fn check_optional(&self, store: &mut wasmtime::Store<T>) -> Result<(), (&'static str, wasmtime::Error)> {
        match self {
            Pre::V0_1(pre) => pre.check_optional(store),
        }
    }

    /// Calls `describe` in the store.
    pub fn describe(&self, store: &mut wasmtime::Store<T>) -> wasmtime::Result<Result<Descriptor, Garbled>> {
        match self {
            Pre::V0_1(pre) => pre.describe(store),
        }
    }

    /// Calls `validate` in the store; `spec` is JSON text.
    pub fn validate(
        &self,
        store: &mut wasmtime::Store<T>,
        kind: &str,
        spec: &str,
    ) -> wasmtime::Result<Result<(), Vec<FieldError>>> {
        match self {
            Pre::V0_1(pre) => pre.validate(store, kind, spec),
        }
    }

    /// Calls `plan` in the store.
    pub fn plan(&self, store: &mut wasmtime::Store<T>, seen: &Request) -> wasmtime::Result<Result<Unread, Refusal>> {
        match self {
            Pre::V0_1(pre) => Ok(pre.plan(store, seen)?.map(Unread::V0_1)),
        }
    }

    /// Calls `protocols` in the store; none if the component serves no groups.
    pub fn protocols(&self, store: &mut wasmtime::Store<T>) -> wasmtime::Result<Vec<String>> {
        match self {
            Pre::V0_1(pre) => pre.groups().map_or(Ok(Vec::new()), |groups| groups.protocols(store)),
        }
    }

    /// Calls `class-of` in the store; `value` is a message as protobuf encodes it. None if the component serves no groups.
    pub fn class_of(&self, store: &mut wasmtime::Store<T>, group: &GroupRequest<'_>) -> wasmtime::Result<ClassOf> {
        match self {
            Pre::V0_1(pre) => pre.groups().map_or(Ok(Ok(None)), |groups| groups.class_of(store, group)),
        }
    }

    /// Calls `group-of` in the store; `spec` is JSON text. None if the component serves no groups.
    pub fn group_of(&self, store: &mut wasmtime::Store<T>, kind: &str, spec: &str) -> wasmtime::Result<Option<Group>> {
        match self {
            Pre::V0_1(pre) => pre.groups().map_or(Ok(None), |groups| groups.group_of(store, kind, spec)),
        }
    }
}

/// The group that a client of the old gRPC API asks for.
pub struct GroupRequest<'a> {
    /// Full name of the protobuf message.
    pub protocol: &'a str,
    /// The message as protobuf encodes it.
    pub value: &'a [u8],
    /// Members of each partition.
    pub partition_size: u32,
}

/// Answer of `class-of`: a class, the fields that are wrong, or that no groups are served.
pub type ClassOf = Result<Option<Result<GroupClass, Vec<FieldError>>>, Garbled>;

/// A plan as the guest gave it: its manifests are text.
pub enum Unread {
    /// Of version 0.1.
    V0_1(v0_1::Unread),
}

impl Unread {
    /// Reads the manifests.
    pub fn read(self) -> Result<Plan, Garbled> {
        match self {
            Unread::V0_1(plan) => plan.read(),
        }
    }

    /// The manifests, to the byte.
    pub fn texts(self) -> Vec<String> {
        match self {
            Unread::V0_1(plan) => plan.texts(),
        }
    }
}
