//! What users write and what we answer: one file a kind, conversion between versions beside it. Knows no other module.

pub mod conversion;
pub mod database;
pub mod definitions;
pub mod member;
pub mod partition;
pub mod plugin;
pub mod primitive;
pub mod rules;
pub mod v1beta2;

pub use database::{Database, DatabaseSpec, DatabaseStatus, StorageClassRef};
pub use member::Member;
pub use partition::{Candidate, Election, Endpoint, Partition, PartitionSpec, PartitionStatus};
pub use plugin::{StoragePlugin, StoragePluginSpec, StoragePluginStatus};
pub use primitive::{Primitive, PrimitiveProperties, PrimitiveType};

/// API group of databases and of what they consist of.
pub const GROUP: &str = "cloud.atomix.io";
/// API group of storage classes (each kind belongs to a plugin) and of StoragePlugins.
pub const STORAGE_GROUP: &str = "storage.cloud.atomix.io";
/// The stored version of [`GROUP`]'s kinds.
pub const VERSION: &str = "v1beta3";
/// The version of Database and Partition that older manifests use: served, never stored.
pub const VERSION_OLD: &str = "v1beta2";
/// The version of [`STORAGE_GROUP`] that StoragePlugin is served in.
pub const STORAGE_VERSION: &str = "v1beta1";
/// The `observedGeneration` of a status that was never written: the definitions' default, which no object ever has.
pub const UNOBSERVED: i64 = -1;
/// Most partitions of one database: old definitions allow as many.
pub const PARTITIONS_MAX: i32 = 1024;
