//! What a plan is made of and what it returns. Knows no JSON of Kubernetes.
//!
//! These are the records of `wit/v0.1` with their fields, no more and no fewer: the bindings read and write them in place, so that nothing
//! generated is part of this crate's interface, and nothing is converted.

/// The database as a plan sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Database {
    /// Namespace of the database and of all that is made for it.
    pub namespace: String,
    /// A DNS label of at most 47 characters.
    pub name: String,
    /// Number of partitions, 1 to 1024.
    pub partitions: u32,
    /// Partitions that share a cluster, 1 to 1024; it never changes for one database.
    pub partitions_per_cluster: u32,
    /// Labels of the database for pod templates, as they were when it was first planned, sorted by key. The controller puts those that it
    /// has now on every object itself.
    pub labels: Vec<(String, String)>,
    /// Value of the label `database`, which the controller puts on every object and on pod templates; part of selectors.
    pub database_label: String,
}

/// The storage class of a request; [`crate::Class`] is the kind that a plugin serves.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedClass {
    /// One of the kinds that the plugin serves.
    pub kind: String,
    /// Version that the database asked for, else the stored one.
    pub version: String,
    /// Name of the class object.
    pub name: String,
    /// Its `spec` as JSON, `{}` if it has none.
    pub spec: String,
}

/// One partition of the database.
#[derive(Clone, Debug, PartialEq)]
pub struct Partition {
    /// Number within the database, from 1.
    pub id: u32,
    /// Cluster that it lives in, from 1: id divided by partitions per cluster, rounded up.
    pub cluster: u32,
    /// Name of the Service through which clients reach it; the plan holds a Service of this name.
    pub service_name: String,
}

/// A live object that belongs to the database.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedObject {
    /// API group; empty for the core group.
    pub group: String,
    /// Kind, in the singular.
    pub kind: String,
    /// Name; the namespace is the database's.
    pub name: String,
    /// Whether it is being deleted.
    pub terminating: bool,
    /// The fields asked for that it has, in the order in which they were asked for.
    pub fields: Vec<ObservedField>,
}

/// A field of a live object.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedField {
    /// The JSON pointer that the plugin asked for.
    pub pointer: String,
    /// Its value as JSON.
    pub value: String,
}

/// Everything that a plan may depend on.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The database to plan.
    pub database: Database,
    /// The storage class that it uses.
    pub class: ObservedClass,
    /// Its partitions, by id from 1.
    pub partitions: Vec<Partition>,
    /// Live objects of the kinds that the plugin emits and watches, sorted by group, kind and name.
    pub observed: Vec<ObservedObject>,
    /// DNS domain of the cluster, e.g. `cluster.local`.
    pub cluster_domain: String,
    /// Names of what the host can do beyond the contract's first form; unknown ones are ignored.
    pub features: Vec<String>,
}

/// The answer: the objects that there should be, and the state of each partition.
#[derive(Clone, Debug, PartialEq)]
pub struct StoragePlan {
    /// Objects in the order in which they are written.
    pub objects: Vec<Object>,
    /// The state of each partition, by id.
    pub partitions: Vec<PartitionState>,
    /// Changes asked for that the running storage cannot make.
    pub unsupported: Vec<UnsupportedChange>,
    /// What a person should know; each becomes an Event when the plan changes.
    pub notes: Vec<Note>,
}

/// An object to write.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Name within the plan, unique and stable, e.g. `members-1`.
    pub id: String,
    /// The manifest as JSON.
    pub manifest: String,
}

/// The state of one partition.
#[derive(Clone, Debug, PartialEq)]
pub struct PartitionState {
    /// Number of the partition.
    pub id: u32,
    /// Whether enough members are ready for it to answer.
    pub ready: bool,
    /// Where clients connect to; the first is tried first.
    pub endpoints: Vec<Endpoint>,
    /// What is missing. On a partition that is ready: it answers, but is degraded. Of [`crate::code::MEMBERS_NOT_READY`] the controller looks
    /// for the cause in conditions of workloads and in Events, and shows that instead.
    pub problem: Option<Reason>,
}

/// An address that clients connect to.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// DNS name or IP address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// A reason for machines and for people; [`crate::reason`] makes one.
#[derive(Clone, Debug, PartialEq)]
pub struct Reason {
    /// One word in CamelCase, as in Kubernetes' conditions, e.g. `ImagePullBackOff`.
    pub code: String,
    /// A sentence that names the object concerned.
    pub message: String,
}

/// A change that the running storage cannot make.
#[derive(Clone, Debug, PartialEq)]
pub struct UnsupportedChange {
    /// Path within the class, e.g. `spec.replicas`.
    pub field: String,
    /// The value asked for.
    pub wanted: String,
    /// The value that is kept.
    pub kept: String,
    /// Why, and what to do instead.
    pub why: String,
}

/// Something that a person should know.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    /// Whether it is a warning.
    pub warning: bool,
    /// What it is about.
    pub reason: Reason,
}

/// Something wrong with one field of a class; [`crate::field_error`] makes one.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    /// Path within the class, e.g. `spec.replicas`.
    pub path: String,
    /// What is wrong and what is accepted, in lower case.
    pub message: String,
}

/// Why there is no plan at all. What runs is left as it is.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// The class or the database asks for something that cannot be: an edit is waited for.
    Invalid(Vec<FieldError>),
    /// Something must be there first: it is tried again when what is observed changes.
    Waiting(Reason),
}
