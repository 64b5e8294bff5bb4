//! What a storage plugin is written with: a class type, a `plan` function and one macro.
//!
//! A plugin is a WebAssembly component that imports nothing. The controller passes it a database, its class and the live
//! objects; it returns the objects that there should be and the state of each partition. It keeps nothing between calls.
//!
//! ```
//! use atomix_sdk::{Class, Kind, PartitionState, Plan, Plugin, Refusal, Seen, json};
//!
//! /// One web server for each database.
//! #[derive(serde::Deserialize, schemars::JsonSchema)]
//! struct Web {
//!     /// Container image.
//!     image: String,
//! }
//!
//! fn plan(seen: &Seen<Web>) -> Result<Plan, Refusal> {
//!     let name = &seen.database.name;
//!     let mut plan = Plan::new().object("web", json!({
//!         "apiVersion": "apps/v1",
//!         "kind": "Deployment",
//!         "metadata": {"name": name},
//!         "spec": {
//!             "selector": {"matchLabels": seen.selector(1)},
//!             "template": {
//!                 "metadata": {"labels": seen.pod_labels(1)},
//!                 "spec": {"containers": [{"name": "web", "image": seen.class.image}]},
//!             },
//!         },
//!     }));
//!     let live = seen.object("Deployment", name);
//!     let ready = live.and_then(|live| live.integer("/status/readyReplicas")) >= Some(1);
//!     for partition in &seen.partitions {
//!         let service = &partition.service_name;
//!         let endpoints = vec![seen.endpoint(service, 80)];
//!         plan = plan
//!             .object(service.as_str(), json!({
//!                 "apiVersion": "v1",
//!                 "kind": "Service",
//!                 "metadata": {"name": service},
//!                 "spec": {"selector": seen.selector(1), "ports": [{"port": 80}]},
//!             }))
//!             .partition(PartitionState { id: partition.id, ready, endpoints, problem: None });
//!     }
//!     Ok(plan)
//! }
//!
//! fn plugin() -> Plugin {
//!     Plugin::new("web", env!("CARGO_PKG_VERSION"))
//!         .class(Class::new("WebStorageClass", plan))
//!         .emits(Kind::new("apps/v1", "Deployment").reads(&["/status/readyReplicas"]))
//!         .emits(Kind::new("v1", "Service"))
//! }
//!
//! atomix_sdk::export!(plugin);
//! ```
//!
//! `cargo build --target wasm32-unknown-unknown` with `linker = "wasm-component-ld"` and `crate-type = ["cdylib"]` makes it a
//! component. [`export!`] does nothing on other targets, so that `plan` is tested like any other function.

mod amount;
#[doc(hidden)]
pub mod bindings;
mod bounds;
mod check;
mod claim;
pub mod code;
mod groups;
mod health;
mod image;
#[doc(hidden)]
pub mod json;
mod members;
#[doc(hidden)]
pub mod memory;
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod panic_message;
mod plan;
mod plugin;
mod pods;
mod running;
mod schema;
mod seen;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
#[doc(hidden)]
pub mod types;

pub use amount::{duration, duration_text};
#[doc(hidden)]
pub use bindings::contract::exports::atomix::storage::plugin as wire;
#[doc(hidden)]
pub use bindings::groups::exports::atomix::storage::groups as groups_wire;
pub use check::{Durations, INTEGER_MAX, check_number, check_secret, check_secret_key};
pub use claim::{CLAIM_FIELD, CLAIM_FIELDS, CLAIM_MARK, ClaimTemplate};
pub use groups::{Group, SpecOf};
pub use health::{Health, POD_FIELDS, one_line};
pub use image::{ImagePullPolicy, check_image, image_parts, image_version};
pub use json::{set, text};
pub use members::Members;
pub use plan::Plan;
pub use plugin::{Class, Kind, Plugin};
pub use pods::{EnvRule, Pods};
pub use running::{Clusters, Remembered, Running};
pub use schema::{preserve_unknown_fields, structural};
pub use seen::{CLUSTER_LABEL, Live, Seen};
pub use serde_json::Value;
pub use types::{Database, Endpoint, FieldError, Partition, PartitionState, Reason, Refusal};

/// Makes the crate a plugin: `export!(plugin)`, where `plugin` is a `fn() -> Plugin`; `export!(plugin, groups)` if a class has a
/// [`Class::group`]. It does nothing unless built for wasm32.
#[macro_export]
macro_rules! export {
    ($plugin:ident) => {
        $crate::export!(@component $plugin {});
    };
    ($plugin:ident, groups) => {
        $crate::export!(@component $plugin {
            impl $crate::groups_wire::Guest for Component {
                fn protocols() -> Vec<String> {
                    $crate::panic_message::install();
                    super::$plugin().protocols()
                }
                fn class_of(
                    protocol: String,
                    value: Vec<u8>,
                    partition_size: u32,
                ) -> Result<$crate::groups_wire::Class, Vec<$crate::FieldError>> {
                    $crate::panic_message::install();
                    super::$plugin().class_of(&protocol, &value, partition_size)
                }
                fn group_of(kind: String, spec: String) -> Option<$crate::groups_wire::Group> {
                    $crate::panic_message::install();
                    super::$plugin().group_of(&kind, &spec)
                }
            }

            $crate::bindings::groups::export_groups!(Component with_types_in $crate::bindings::groups);
        });
    };
    (@component $plugin:ident { $($groups:tt)* }) => {
        #[cfg(target_arch = "wasm32")]
        #[allow(missing_docs, unsafe_code)]
        mod atomix_component {
            struct Component;

            // Plugins are not dropped: an instance lives for one call.
            impl $crate::wire::Guest for Component {
                fn describe() -> $crate::wire::Descriptor {
                    $crate::panic_message::install();
                    super::$plugin().describe()
                }
                fn validate(kind: String, spec: String) -> Result<(), Vec<$crate::FieldError>> {
                    $crate::panic_message::install();
                    ::core::mem::ManuallyDrop::new(super::$plugin()).validate(&kind, &spec)
                }
                fn plan(request: $crate::types::Request) -> Result<$crate::types::StoragePlan, $crate::Refusal> {
                    $crate::panic_message::install();
                    ::core::mem::ManuallyDrop::new(super::$plugin()).plan(request)
                }
            }

            $crate::bindings::contract::export_component!(Component with_types_in $crate::bindings::contract);

            $($groups)*
        }
    };
}

/// A field error: the path within the class, e.g. `spec.image`, and what is wrong and what is accepted, in lower case.
pub fn field_error(path: impl Into<String>, message: impl Into<String>) -> FieldError {
    FieldError { path: path.into(), message: message.into() }
}

/// A reason: one word in CamelCase for machines, a sentence that names the object concerned for people.
pub fn reason(code: impl Into<String>, message: impl Into<String>) -> Reason {
    Reason { code: code.into(), message: message.into() }
}

/// A short hash of a text (64-bit FNV-1a, in hexadecimal), for an annotation of the pod template: pods restart when their
/// configuration changes. Not for secrets.
pub fn hash(text: &str) -> String {
    let hash =
        text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    format!("{hash:016x}")
}
