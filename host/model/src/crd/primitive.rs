//! Primitive: a map, lock or counter that clients have created in a database.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::member::ScopedName;

/// A Primitive is a data structure that clients have created in a Database: a map, a lock, a counter. Clients make it.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[kube(
    group = "cloud.atomix.io",
    version = "v1beta3",
    kind = "Primitive",
    plural = "primitives",
    category = "atomix",
    namespaced,
    no_spec,
    derive = "PartialEq",
    printcolumn(
        name = "Database",
        type_ = "string",
        json_path = ".properties.database",
        description = "Database that it lives in"
    ),
    printcolumn(
        name = "Type",
        type_ = "string",
        json_path = ".properties.type",
        description = "Which data structure it is"
    ),
    printcolumn(
        name = "Scope",
        type_ = "string",
        json_path = ".properties.metadata.namespace",
        description = "Scope that its clients chose"
    ),
    printcolumn(
        name = "Primitive",
        type_ = "string",
        json_path = ".properties.metadata.name",
        description = "Name within the scope"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
pub struct PrimitiveFields {
    /// Which data structure it is, how clients call it and where it lives.
    #[serde(default)]
    pub properties: PrimitiveProperties,
}

/// Which data structure it is, how clients call it and where it lives.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct PrimitiveProperties {
    /// Scope (as `namespace`) and name that clients chose.
    #[serde(default)]
    pub metadata: ScopedName,
    /// Name of the Database, in the same namespace.
    #[serde(default)]
    pub database: String,
    /// Which data structure it is.
    #[serde(rename = "type", default)]
    pub type_: PrimitiveType,
}

/// The data structures that clients know.
#[derive(schemars::JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[allow(missing_docs)] // a description on each would make a oneOf of the enum, which a structural schema cannot hold
pub enum PrimitiveType {
    Counter,
    Election,
    IndexedMap,
    LeaderLatch,
    List,
    Lock,
    Log,
    Map,
    Set,
    Value,
    #[default]
    Unknown,
}
