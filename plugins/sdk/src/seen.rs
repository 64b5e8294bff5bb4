//! What a plan may depend on: the database, its class, its partitions and the live objects. It decides nothing.

use std::borrow::Cow;
use std::ops::Range;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{Database, Endpoint, Partition, Pods, json, types};

/// Label of every object of a cluster, as a pointer.
pub const CLUSTER_LABEL: &str = "/metadata/labels/cluster";
/// The largest number of a cluster, by the contract.
const CLUSTERS_MAX: usize = 1024;

/// All that a plan may depend on.
pub struct Seen<C> {
    /// The database.
    pub database: Database,
    /// The spec of its class.
    pub class: C,
    /// The class's shared fields; empty unless the kind has [`crate::Class::pods`].
    pub pods: Pods,
    /// Kind, version and name of the class.
    pub class_object: ClassObject,
    /// The partitions, by id.
    pub partitions: Vec<Partition>,
    /// Live objects of the database, sorted by group, kind and name.
    observed: Vec<Live>,
    /// Where the objects of each kind are.
    ranges: Vec<Range<usize>>,
    /// DNS domain of the cluster.
    pub cluster_domain: String,
    /// Names of what the host can do beyond the contract's first form.
    pub features: Vec<String>,
}

/// Which object the class is.
#[allow(missing_docs)] // as in the object
pub struct ClassObject {
    pub kind: String,
    /// The version that the database asked for.
    pub version: String,
    pub name: String,
}

impl<C> Seen<C> {
    pub(crate) fn new(request: types::Request, (class, pods): (C, Pods)) -> Self {
        let types::ObservedClass { kind, version, name, .. } = request.class;
        let observed: Vec<Live> = request.observed.into_iter().map(Live).collect();
        let mut ranges: Vec<Range<usize>> = Vec::new();
        for (at, live) in observed.iter().enumerate() {
            match ranges.last_mut().filter(|run| observed[run.start].of_kind_of(live)) {
                Some(run) => run.end = at + 1,
                None => ranges.push(at..at + 1),
            }
        }
        Self {
            database: request.database,
            class,
            pods,
            class_object: ClassObject { kind, version, name },
            partitions: request.partitions,
            observed,
            ranges,
            cluster_domain: request.cluster_domain,
            features: request.features,
        }
    }

    /// A live object by kind and name.
    pub fn object(&self, kind: &str, name: &str) -> Option<&Live> {
        let live = self.objects(kind);
        live.binary_search_by(|live| live.name().cmp(name)).ok().map(|at| &live[at])
    }

    /// All live objects of a kind, by name. Of two groups that name a kind alike, the first.
    pub fn objects(&self, kind: &str) -> &[Live] {
        match self.ranges.iter().find(|run| self.observed[run.start].0.kind == kind) {
            Some(run) => &self.observed[run.clone()],
            None => &[],
        }
    }

    /// What each cluster was started with, by its number from 1: read from the annotation at `pointer` of live objects, the
    /// first that can be read, of `kinds` in this order. These kinds are read with that pointer and [`CLUSTER_LABEL`].
    pub fn remembered<R>(&self, kinds: &[&str], pointer: &str, read: fn(String) -> Option<R>) -> Vec<Option<R>> {
        let mut known = Vec::new();
        for live in kinds.iter().flat_map(|kind| self.objects(kind)) {
            let Some(cluster) = live.cluster().filter(|cluster| (1..=CLUSTERS_MAX).contains(cluster)) else {
                continue;
            };
            if known.len() <= cluster {
                known.resize_with(cluster + 1, || None);
            }
            if known[cluster].is_none() {
                known[cluster] = live.text(pointer).and_then(read);
            }
        }
        known
    }

    /// Labels by which pods of a cluster are selected: `app`, `database` and `cluster`. They never change.
    pub fn selector(&self, cluster: u32) -> Value {
        let mut labels = Map::new();
        for (key, value) in
            [("app", "atomix"), ("database", &self.database.database_label), ("cluster", &cluster.to_string())]
        {
            json::put(&mut labels, key, value.into());
        }
        labels.into()
    }

    /// Labels for the pods of a cluster: the database's own, those of [`Seen::selector`], and Kubernetes' recommended ones.
    pub fn pod_labels(&self, cluster: u32) -> Value {
        let mut labels = self.selector(cluster);
        if let Value::Object(labels) = &mut labels {
            let instance = self.database.database_label.as_str();
            for (key, value) in [("managed-by", "atomix-controller"), ("part-of", "atomix"), ("instance", instance)] {
                json::put(labels, &format!("app.kubernetes.io/{key}"), value.into());
            }
            for (key, value) in &self.database.labels {
                if !labels.contains_key(key) {
                    json::put(labels, key, value.as_str().into());
                }
            }
        }
        labels
    }

    /// Where a Service of the database's namespace answers.
    pub fn endpoint(&self, service: &str, port: u16) -> Endpoint {
        Endpoint { host: format!("{service}.{}.svc.{}", self.database.namespace, self.cluster_domain), port }
    }
}

/// A live object: the fields that the plugin asked for.
pub struct Live(types::ObservedObject);

impl Live {
    fn of_kind_of(&self, other: &Live) -> bool {
        self.0.kind == other.0.kind && self.0.group == other.0.group
    }

    /// The object's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The number of the cluster that the object is of, of an object that is read with [`CLUSTER_LABEL`].
    pub(crate) fn cluster(&self) -> Option<usize> {
        self.text(CLUSTER_LABEL)?.parse().ok()
    }

    /// Whether the object is being deleted.
    pub fn terminating(&self) -> bool {
        self.0.terminating
    }

    /// A field, as [`Live::field`] reads it, in JSON, which is enough to compare two.
    pub fn json(&self, pointer: &str) -> Option<&str> {
        self.0.fields.iter().find(|field| field.pointer == pointer).map(|field| field.value.as_str())
    }

    /// A field by the JSON pointer that was asked for, or by one that leads into such a field; None if it is absent or of another type.
    pub fn field<T: DeserializeOwned>(&self, pointer: &str) -> Option<T> {
        let json = self.json(pointer).map(Cow::Borrowed).or_else(|| self.within(pointer).map(Cow::Owned))?;
        serde_json::from_str(&json).ok()
    }

    /// What a pointer leads to within a field that was asked for, in JSON.
    #[inline(never)]
    fn within(&self, pointer: &str) -> Option<String> {
        let inner = |outer: &str| pointer.strip_prefix(outer).filter(|inner| inner.starts_with('/'));
        let (json, inner) = self.0.fields.iter().find_map(|field| Some((&field.value, inner(&field.pointer)?)))?;
        let outer: Value = serde_json::from_str(json).ok()?;
        outer.pointer(inner).map(json::text)
    }

    /// A field that is text.
    pub fn text(&self, pointer: &str) -> Option<String> {
        self.field(pointer)
    }

    /// A field that is a whole number.
    pub fn integer(&self, pointer: &str) -> Option<i64> {
        self.field(pointer)
    }
}
