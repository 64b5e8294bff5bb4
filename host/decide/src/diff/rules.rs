//! How Kubernetes merges, fills in and drops fields, as tables. Knows the fields' names and where they stand, no values of
//! ours.
//!
//! Sources, all of v1.36: `x-kubernetes-list-type`, `x-kubernetes-list-map-keys` and `x-kubernetes-map-type` in
//! `api/openapi-spec/swagger.json`; defaults in `pkg/apis/*/*/zz_generated.defaults.go`; what is dropped when zero from the
//! `omitempty` of fields that are no pointers in `k8s.io/api/*/*/types.go`. A row that a later version adds and that is missing
//! here costs one apply after a restart, nothing more.

use serde_json::Value;

/// How the elements of a list are matched.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum List {
    /// By these fields of each element (list type `map`).
    Keyed(&'static [&'static str]),
    /// By value (list type `set`).
    Set,
    /// By position; the list has one owner (list type `atomic`, and everything unknown).
    Whole,
}

/// Groups whose fields are in the tables below. Custom resources have only `metadata` in common with them.
const KNOWN_GROUPS: [&str; 7] = ["", "apps", "autoscaling", "batch", "discovery.k8s.io", "networking.k8s.io", "policy"];

const CONTAINERS: &[&str] = &["containers", "initContainers", "ephemeralContainers"];

/// Lists that are merged: the fields they may stand in, their name, how their elements are matched.
/// `spec` is that of a Pod (or template), but for the ports, which a Service has.
const LISTS: &[(&[&str], &str, List)] = &[
    (&["metadata"], "ownerReferences", List::Keyed(&["uid"])),
    (&["metadata"], "finalizers", List::Set),
    (&["spec"], "containers", List::Keyed(&["name"])),
    (&["spec"], "initContainers", List::Keyed(&["name"])),
    (&["spec"], "ephemeralContainers", List::Keyed(&["name"])),
    (&["spec"], "hostAliases", List::Keyed(&["ip"])),
    (&["spec"], "imagePullSecrets", List::Keyed(&["name"])),
    (&["spec"], "ports", List::Keyed(&["port", "protocol"])),
    (&["spec"], "resourceClaims", List::Keyed(&["name"])),
    (&["spec"], "schedulingGates", List::Keyed(&["name"])),
    (&["spec"], "topologySpreadConstraints", List::Keyed(&["topologyKey", "whenUnsatisfiable"])),
    (&["spec"], "volumes", List::Keyed(&["name"])),
    (CONTAINERS, "env", List::Keyed(&["name"])),
    (CONTAINERS, "ports", List::Keyed(&["containerPort", "protocol"])),
    (CONTAINERS, "volumeDevices", List::Keyed(&["devicePath"])),
    (CONTAINERS, "volumeMounts", List::Keyed(&["mountPath"])),
    (&["resources"], "claims", List::Keyed(&["name"])),
    (&[""], "secrets", List::Keyed(&["name"])),
    (&["endpoints"], "addresses", List::Set),
    (&["exitCodes", "onExitCodes"], "values", List::Set),
];

/// Objects that have one owner (map type `atomic`): an addition by another is drift, as an apply takes it away.
const WHOLE_OBJECTS: &[&str] = &[
    "configMapKeyRef",
    "dataSource",
    "fieldRef",
    "fileKeyRef",
    "labelSelector",
    "namespaceSelector",
    "nodePublishSecretRef",
    "nodeSelector",
    "podSelector",
    "preference",
    "requiredDuringSchedulingIgnoredDuringExecution",
    "resourceFieldRef",
    "secretKeyRef",
    "secretRef",
    "selector",
];

/// Maps whose keys are data, not fields of a schema. The API server drops empty ones.
const PLAIN_MAPS: &[&str] = &[
    "annotations",
    "binaryData",
    "data",
    "labels",
    "limits",
    "matchLabels",
    "nodeSelector",
    "overhead",
    "requests",
    "volumeAttributes",
];

/// Plain maps of quantities.
const QUANTITY_MAPS: &[&str] = &["limits", "overhead", "requests"];

/// Quantities beside those.
const QUANTITIES: &[&str] = &["averageValue", "divisor", "sizeLimit", "tolerance"];

/// Fields that the API server drops when they are false, 0 or empty text. All others keep such a value: where
/// `automountServiceAccountToken: false` is gone, another client removed it.
const DROPPED_WHEN_ZERO: &[&str] = &[
    "containerName",
    "effect",
    "externalName",
    "fsType",
    "healthCheckNodePort",
    "host",
    "hostIP",
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "hostPort",
    "hostname",
    "initialDelaySeconds",
    "key",
    "loadBalancerIP",
    "medium",
    "minReadySeconds",
    "nodeName",
    "nodePort",
    "operator",
    "paused",
    "prefix",
    "priorityClassName",
    "publishNotReadyAddresses",
    "readOnly",
    "serviceAccountName",
    "stdin",
    "stdinOnce",
    "subPath",
    "subPathExpr",
    "subdomain",
    "tty",
    "value",
    "volumeName",
    "workingDir",
];

/// Objects that mean nothing while they are empty. The API server keeps them apart from absent ones, so that a template with
/// one is another template; elsewhere an empty object has a meaning (`emptyDir`, a selector of everything).
const NOTHING_WHEN_EMPTY: &[&str] = &[
    "affinity",
    "capabilities",
    "dnsConfig",
    "lifecycle",
    "nodeAffinity",
    "podAffinity",
    "podAntiAffinity",
    "resources",
    "seLinuxOptions",
    "securityContext",
    "windowsOptions",
];

/// Values that change nothing, and that the API server does not fill in: the field (of an element of the list or object
/// before it; empty: of any) and the value.
const NOTHING_WHEN: &[(&str, &str, &str)] = &[
    ("", "optional", "false"),
    ("", "privileged", "false"),
    ("", "readOnlyRootFilesystem", "false"),
    ("", "shareProcessNamespace", "false"),
    ("tolerations", "operator", "Equal"),
];

/// What stands for an absent merge key: references without a name are taken (and are an item of their own).
pub fn key_default(key: &str) -> &'static str {
    if key == "protocol" { "TCP" } else { "" }
}

/// A place in an object, as far as the rules need it.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    known: bool,
    /// In a Service, whose selector is a plain map; elsewhere it is a struct.
    in_service: bool,
    whole: bool,
    owner: &'a str,
    field: &'a str,
    /// A key of a plain map.
    is_entry: bool,
}

impl<'a> Place<'a> {
    /// The object itself; its `apiVersion` decides which rules hold.
    pub fn root(manifest: &Value) -> Self {
        let text = |field: &str| manifest.get(field).and_then(Value::as_str).unwrap_or("");
        let group = text("apiVersion").split_once('/').map_or("", |(group, _)| group);
        let known = KNOWN_GROUPS.contains(&group);
        let in_service = group.is_empty() && text("kind") == "Service";
        Self { known, in_service, whole: false, owner: "", field: "", is_entry: false }
    }

    /// The field `name` of the object that stands here (or of the elements of the list that does).
    pub fn enter<'b>(&self, name: &'b str) -> Place<'b>
    where
        'a: 'b,
    {
        let known = self.known || name == "metadata" && self.owner.is_empty() && self.field.is_empty();
        let is_entry = known && !self.is_entry && self.is_plain_map();
        let whole = self.whole || known && !is_entry && WHOLE_OBJECTS.contains(&name);
        Place { known, in_service: self.in_service, whole, owner: self.field, field: name, is_entry }
    }

    /// The same place, where nothing but what is filled in may be added.
    pub fn as_whole(&self) -> Self {
        Self { whole: true, ..*self }
    }

    /// Whether the object is of a kind that is in the tables.
    pub fn is_known(&self) -> bool {
        self.known
    }

    /// Whether what stands here has one owner.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    fn is_plain_map(&self) -> bool {
        PLAIN_MAPS.contains(&self.field) || self.in_service && (self.owner, self.field) == ("spec", "selector")
    }

    /// How the elements of the list that stands here are matched.
    pub fn list(&self) -> List {
        if !self.known || self.whole || self.is_entry {
            return List::Whole;
        }
        let row = LISTS.iter().find(|(owners, name, _)| *name == self.field && owners.contains(&self.owner));
        row.map_or(List::Whole, |(_, _, list)| *list)
    }

    /// Whether values here are compared as quantities.
    pub fn is_quantity(&self) -> bool {
        let named = QUANTITIES.contains(&self.field) || self.owner == "target" && self.field == "value";
        self.known && if self.is_entry { QUANTITY_MAPS.contains(&self.owner) } else { named }
    }

    /// Whether `value` means here what its absence means.
    pub fn means_nothing(&self, value: &Value) -> bool {
        let schema = self.known && !self.is_entry;
        let is_redundant = |text: &str| {
            let row = |(owner, field, nothing): &(&str, &str, &str)| {
                *field == self.field && (owner.is_empty() || *owner == self.owner) && text == *nothing
            };
            NOTHING_WHEN.iter().any(row)
        };
        schema
            && match value {
                Value::Object(fields) => {
                    let nothing = |(name, value): (&String, &Value)| self.enter(name).is_dropped(value);
                    NOTHING_WHEN_EMPTY.contains(&self.field) && fields.iter().all(nothing)
                }
                Value::Bool(value) => is_redundant(if *value { "true" } else { "false" }),
                Value::String(text) => is_redundant(text),
                _ => false,
            }
    }

    /// Whether the absence of `wanted` is as it should be: it means nothing, or the API server drops it.
    pub fn is_dropped(&self, wanted: &Value) -> bool {
        if self.means_nothing(wanted) {
            return true;
        }
        let schema = self.known && !self.is_entry;
        match wanted {
            Value::Null => true,
            Value::Array(items) => schema && items.is_empty(),
            Value::Object(fields) => schema && self.is_plain_map() && fields.values().all(Value::is_null),
            Value::Bool(value) => schema && !value && DROPPED_WHEN_ZERO.contains(&self.field),
            Value::Number(value) => schema && value.as_i64() == Some(0) && DROPPED_WHEN_ZERO.contains(&self.field),
            Value::String(value) => schema && value.is_empty() && DROPPED_WHEN_ZERO.contains(&self.field),
        }
    }

    /// Whether `found` is as good as nothing within something that has one owner: it means nothing, or the API server may have put it
    /// here by itself.
    pub fn is_filled_in(&self, found: &Value) -> bool {
        if !self.whole || self.means_nothing(found) {
            return true;
        }
        let text = found.as_str().unwrap_or("");
        match (self.owner, self.field) {
            ("fieldRef", "apiVersion") => text == "v1",
            ("onPodConditions", "status") => text == "True",
            ("ports", "protocol") => text == "TCP",
            ("resourceFieldRef", "divisor") => text == "0",
            ("serviceAccountToken", "expirationSeconds") => found.as_i64() == Some(3600),
            ("spec", "resources") => found.as_object().is_some_and(serde_json::Map::is_empty),
            ("spec", "volumeMode") => text == "Filesystem",
            ("volumeClaimTemplates", "apiVersion") => text == "v1",
            ("volumeClaimTemplates", "kind") => text == "PersistentVolumeClaim",
            ("volumeClaimTemplates", "status") => true,
            _ => false,
        }
    }
}
