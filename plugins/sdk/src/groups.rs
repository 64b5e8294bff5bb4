//! Groups of the old gRPC API: what a class means as a group, and a group as a class. Knows no particular storage.

use serde_json::Value;

use crate::plugin::Plugin;
use crate::{FieldError, bounds, field_error, groups_wire, text};

/// What the old API shows of a class, in the protocol that the class kind serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Members of each partition, at least 1.
    pub partition_size: u32,
    /// The protobuf message, encoded.
    pub value: Vec<u8>,
}

/// Makes the `spec` of a class from a group's message and number of members. Paths of its errors are those of the old
/// API: `partition_size` and `protocol.value`.
pub type SpecOf = fn(value: &[u8], partition_size: u32) -> Result<Value, Vec<FieldError>>;

/// How a class kind serves groups.
pub(crate) struct Groups {
    pub(crate) kind: &'static str,
    pub(crate) version: &'static str,
    pub(crate) protocol: &'static str,
    pub(crate) spec_of: SpecOf,
    pub(crate) group_of: Box<GroupOfFn>,
}

type GroupOfFn = dyn Fn(&str) -> Option<Group>;

impl Plugin {
    /// The contract's `protocols`.
    pub fn protocols(&self) -> Vec<String> {
        self.groups().map(|groups| groups.protocol.to_owned()).collect()
    }

    /// The contract's `class-of`.
    #[doc(hidden)]
    pub fn class_of(
        &self,
        protocol: &str,
        value: &[u8],
        partition_size: u32,
    ) -> Result<groups_wire::Class, Vec<FieldError>> {
        let Some(groups) = self.groups().find(|groups| groups.protocol == protocol) else {
            return Err(vec![field_error("protocol", "this plugin does not understand it")]);
        };
        let spec = (groups.spec_of)(value, partition_size).map_err(bounds::errors)?;
        Ok(groups_wire::Class { kind: groups.kind.to_owned(), version: groups.version.to_owned(), spec: text(&spec) })
    }

    /// The contract's `group-of`.
    #[doc(hidden)]
    pub fn group_of(&self, kind: &str, spec: &str) -> Option<groups_wire::Group> {
        let groups = self.groups().find(|groups| groups.kind == kind)?;
        let Group { partition_size, value } = (groups.group_of)(spec)?;
        Some(groups_wire::Group { partition_size, protocol: groups.protocol.to_owned(), value })
    }
}
