//! Member: a participant in a group of peers.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// A Member takes part in a group of peers: the program in the Pod that owns it.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[kube(
    group = "cloud.atomix.io",
    version = "v1beta3",
    kind = "Member",
    plural = "members",
    category = "atomix",
    namespaced,
    no_spec,
    derive = "PartialEq",
    printcolumn(
        name = "Group",
        type_ = "string",
        json_path = ".properties.metadata.namespace",
        description = "Group that it is a member of"
    ),
    printcolumn(
        name = "Member",
        type_ = "string",
        json_path = ".properties.metadata.name",
        description = "Name within the group"
    ),
    printcolumn(
        name = "Service",
        type_ = "string",
        json_path = ".properties.service",
        description = "Host name that peers connect to"
    ),
    printcolumn(
        name = "Port",
        type_ = "string",
        json_path = ".properties.port",
        description = "Port that peers connect to"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
pub struct MemberFields {
    /// Who the member is and where it answers.
    #[serde(default)]
    pub properties: MemberProperties,
}

/// Who the member is and where it answers.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct MemberProperties {
    /// Group (as `namespace`) and name of the member.
    #[serde(default)]
    pub metadata: ScopedName,
    /// Host name that peers connect to.
    #[serde(default)]
    pub service: String,
    /// Port that peers connect to: a number, or the name of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<IntOrString>,
}

/// A name within a scope that clients chose.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct ScopedName {
    /// The scope: a group's name for members, the client's scope for primitives.
    #[serde(default)]
    pub namespace: String,
    /// The name within the scope.
    #[serde(default)]
    pub name: String,
}
