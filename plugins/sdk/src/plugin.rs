//! What a plugin is, and the three functions of the contract over it. Knows no particular storage.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::groups::{Group, Groups, SpecOf};
use crate::memory::forget;
use crate::pods::{EnvRule, Shared};
use crate::{FieldError, Plan, Pods, Refusal, Seen, bounds, field_error, structural, text, types, wire};

/// A plugin: its name, the kinds of class that it serves and the kinds of object that it deals with.
pub struct Plugin {
    name: &'static str,
    version: &'static str,
    classes: Vec<Served>,
    emits: Vec<Kind>,
    watches: Vec<Kind>,
}

impl Plugin {
    /// A plugin without classes yet. `name` is a DNS label of at most 40 characters, `version` for people.
    pub fn new(name: &'static str, version: &'static str) -> Self {
        Self { name, version, classes: Vec::new(), emits: Vec::new(), watches: Vec::new() }
    }

    /// Serves a kind of class.
    pub fn class<C: DeserializeOwned + JsonSchema + 'static>(mut self, class: Class<C>) -> Self {
        self.classes.push(class.served());
        self
    }

    /// May plan objects of this kind.
    pub fn emits(mut self, kind: Kind) -> Self {
        self.emits.push(kind);
        self
    }

    /// Reads objects of this kind that carry the database's labels.
    pub fn watches(mut self, kind: Kind) -> Self {
        self.watches.push(kind);
        self
    }

    /// The contract's `describe`.
    #[doc(hidden)]
    pub fn describe(self) -> wire::Descriptor {
        wire::Descriptor {
            name: self.name.to_owned(),
            version: self.version.to_owned(),
            class_kinds: self.classes.into_iter().map(Served::describe).collect(),
            emits: self.emits.into_iter().map(Kind::describe).collect(),
            watches: self.watches.into_iter().map(Kind::describe).collect(),
        }
    }

    /// The contract's `validate`: what is wrong with the spec of a class of this kind, as JSON.
    pub fn validate(&self, kind: &str, spec: &str) -> Result<(), Vec<FieldError>> {
        match self.serves(kind) {
            Ok(class) => (class.validate)(spec).map_err(bounds::errors),
            Err(error) => Err(bounds::errors(vec![error])),
        }
    }

    #[doc(hidden)]
    /// The contract's `plan`. What `validate` refuses is refused here too, before the plugin's own function is called.
    pub fn plan(&self, request: types::Request) -> Result<types::StoragePlan, Refusal> {
        let class = self.serves(&request.class.kind).map_err(|error| Refusal::Invalid(bounds::errors(vec![error])))?;
        (class.plan)(request).map(bounds::plan).map_err(bounds::refusal)
    }

    /// The groups of each class that serves them.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &Groups> {
        self.classes.iter().filter_map(|class| class.groups.as_ref())
    }

    fn serves(&self, kind: &str) -> Result<&Served, FieldError> {
        self.classes.iter().find(|class| class.kind == kind).ok_or_else(|| {
            let kinds: Vec<&str> = self.classes.iter().map(|class| class.kind).collect();
            field_error("kind", format!("{kind} is not served by plugin {}, which serves {}", self.name, kinds.join(", ")))
        })
    }
}

/// A kind of storage class, whose `spec` is a `C`, and how a database on it is planned.
pub struct Class<C> {
    kind: &'static str,
    versions: &'static [&'static str],
    short_names: &'static [&'static str],
    columns: Vec<[&'static str; 3]>,
    check: fn(&C) -> Vec<FieldError>,
    plan: fn(&Seen<C>) -> Result<Plan, Refusal>,
    shared: Shared,
    group: Option<GroupOf<C>>,
}

/// A protocol, and the two functions over it.
struct GroupOf<C>(&'static str, SpecOf, fn(&C) -> Group);

impl<C: DeserializeOwned + JsonSchema + 'static> Class<C> {
    /// A class kind, e.g. `RaftStorageClass`, served in version v1beta1.
    pub fn new(kind: &'static str, plan: fn(&Seen<C>) -> Result<Plan, Refusal>) -> Self {
        Self {
            kind,
            versions: &["v1beta1"],
            short_names: &[],
            columns: Vec::new(),
            check: |_| Vec::new(),
            plan,
            shared: Shared::default(),
            group: None,
        }
    }

    /// Checks beyond the schema; they run before each plan, and when a class is applied.
    pub fn check(mut self, check: fn(&C) -> Vec<FieldError>) -> Self {
        self.check = check;
        self
    }

    /// Has the fields that all our classes have for their pods (imagePullSecrets, nodeSelector, tolerations, affinity, securityContext,
    /// securityContextUnset, priorityClassName, env, resources), beside those of `C`. [`Seen::pod`] puts them into a pod. `env` are names of variables that
    /// the plugin sets itself, or that would undo what it sets.
    pub fn pods(mut self, env: &'static [&'static str]) -> Self {
        self.shared.env = Some(env);
        self
    }

    /// Refuses further environment variables by a rule, beside those that [`Class::pods`] names.
    pub fn env_rule(mut self, rule: EnvRule) -> Self {
        self.shared.env_rule = Some(rule);
        self
    }

    /// Has the fields `volumeClaimTemplate` and `storageClassName` too; [`Pods::claim`] is what they ask for. `taken` are names of the
    /// plugin's own volumes.
    pub fn volumes(mut self, taken: &'static [&'static str]) -> Self {
        self.shared.volumes = Some(taken);
        self
    }

    /// Versions served in place of v1beta1, the stored one first. All share the schema.
    pub fn versions(mut self, versions: &'static [&'static str]) -> Self {
        self.versions = versions;
        self
    }

    /// Short names for kubectl.
    pub fn short_names(mut self, names: &'static [&'static str]) -> Self {
        self.short_names = names;
        self
    }

    /// A column that `kubectl get` prints, e.g. `("Replicas", "integer", ".spec.replicas")`.
    pub fn column(mut self, name: &'static str, data_type: &'static str, json_path: &'static str) -> Self {
        self.columns.push([name, data_type, json_path]);
        self
    }

    /// Serves groups created over the old gRPC API whose protocol is the protobuf message of this full name: `spec_of` makes the `spec`
    /// of a class from it, `group_of` is the inverse. The plugin needs `export!(plugin, groups)`.
    ///
    /// ```
    /// # use atomix_sdk::{Class, Group, Plan, Plugin, json};
    /// # #[derive(serde::Deserialize, schemars::JsonSchema)]
    /// # struct Web { replicas: u32 }
    /// let class = Class::<Web>::new("WebStorageClass", |_| Ok(Plan::new())).group(
    ///     "web.Config", // a message without fields
    ///     |_message, partition_size| Ok(json!({"replicas": partition_size})),
    ///     |web| Group { partition_size: web.replicas, value: Vec::new() },
    /// );
    /// let plugin = Plugin::new("web", "0.1.0").class(class);
    /// assert_eq!(plugin.class_of("web.Config", &[], 3).unwrap().spec, r#"{"replicas":3}"#);
    /// assert_eq!(plugin.group_of("WebStorageClass", r#"{"replicas":3}"#).unwrap().partition_size, 3);
    /// assert_eq!(plugin.group_of("WebStorageClass", r#"{"replicas":"many"}"#), None);
    /// ```
    pub fn group(mut self, protocol: &'static str, spec_of: SpecOf, group_of: fn(&C) -> Group) -> Self {
        self.group = Some(GroupOf(protocol, spec_of, group_of));
        self
    }

    fn served(self) -> Served {
        let Self { kind, versions, short_names, columns, check, plan, shared, group } = self;
        let read = move |spec: &str| read(spec, check, shared);
        Served {
            kind,
            versions,
            short_names,
            columns,
            schema: structural::<C>,
            shared,
            validate: Box::new(move |spec| read(spec).map(drop)),
            plan: Box::new(move |request| {
                let class = read(&request.class.spec).map_err(Refusal::Invalid)?;
                let seen = Seen::new(request, class);
                let answer = plan(&seen).map(Plan::into_wire);
                forget(seen);
                answer
            }),
            groups: group.map(|GroupOf(protocol, spec_of, group_of)| Groups {
                kind,
                version: versions.first().copied().unwrap_or_default(),
                protocol,
                spec_of,
                group_of: Box::new(move |spec| read(spec).ok().map(|(class, _)| group_of(&class))),
            }),
        }
    }
}

/// A class's spec as its type, with its shared fields, if nothing is wrong with it.
#[inline(never)]
fn read<C: DeserializeOwned>(
    spec: &str,
    check: fn(&C) -> Vec<FieldError>,
    shared: Shared,
) -> Result<(C, Pods), Vec<FieldError>> {
    bounds::check(spec).map_err(|error| vec![error])?;
    let class = serde_json::from_str(spec).map_err(|error| vec![not_read(&error)])?;
    let mut errors = check(&class);
    let pods = shared.read(spec, &mut errors);
    if errors.is_empty() { Ok((class, pods)) } else { Err(errors) }
}

/// A class kind whose spec type is behind its functions.
struct Served {
    kind: &'static str,
    versions: &'static [&'static str],
    short_names: &'static [&'static str],
    columns: Vec<[&'static str; 3]>,
    schema: fn() -> Value,
    shared: Shared,
    validate: Box<ValidateFn>,
    plan: Box<PlanFn>,
    groups: Option<Groups>,
}

type ValidateFn = dyn Fn(&str) -> Result<(), Vec<FieldError>>;
type PlanFn = dyn Fn(types::Request) -> Result<types::StoragePlan, Refusal>;

impl Served {
    fn describe(self) -> wire::ClassKind {
        let column = |[name, data_type, json_path]: [&str; 3]| wire::Column {
            name: name.to_owned(),
            data_type: data_type.to_owned(),
            json_path: json_path.to_owned(),
        };
        let mut schema = (self.schema)();
        self.shared.describe(&mut schema);
        wire::ClassKind {
            kind: self.kind.to_owned(),
            plural: plural(self.kind),
            short_names: owned(self.short_names),
            versions: owned(self.versions),
            spec_schema: text(&schema),
            columns: self.columns.into_iter().map(column).collect(),
        }
    }
}

/// A namespaced kind of Kubernetes object.
pub struct Kind {
    api_version: &'static str,
    kind: &'static str,
    plural: Option<&'static str>,
    reads: [&'static [&'static str]; 2],
}

impl Kind {
    /// A kind by its apiVersion (`v1`, `apps/v1`) and name; the plural follows from the name as in Kubernetes' own kinds.
    pub const fn new(api_version: &'static str, kind: &'static str) -> Self {
        Self { api_version, kind, plural: None, reads: [&[]; 2] }
    }

    /// JSON pointers of the fields that `plan` wants to see of live objects. Keep them narrow: a change of any of them is another call.
    pub const fn reads(mut self, pointers: &'static [&'static str]) -> Self {
        self.reads[0] = pointers;
        self
    }

    /// Further ones, beside a list that the SDK has.
    pub const fn reads_too(mut self, pointers: &'static [&'static str]) -> Self {
        self.reads[1] = pointers;
        self
    }

    /// The plural as in the API's paths, where it does not follow from the name.
    pub const fn plural(mut self, plural: &'static str) -> Self {
        self.plural = Some(plural);
        self
    }

    fn describe(self) -> wire::ObjectKind {
        let (group, version) = self.api_version.split_once('/').unwrap_or(("", self.api_version));
        wire::ObjectKind {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: self.kind.to_owned(),
            plural: self.plural.map_or_else(|| plural(self.kind), str::to_owned),
            reads: self.reads.iter().copied().flat_map(owned).collect(),
        }
    }
}

/// English plurals as Kubernetes forms them: policies, ingresses, services.
fn plural(kind: &str) -> String {
    let mut kind = kind.to_ascii_lowercase();
    let end = match kind.as_bytes() {
        [.., b'a' | b'e' | b'i' | b'o' | b'u', b'y'] => "s",
        [.., b'y'] => {
            kind.pop();
            "ies"
        }
        [.., b's' | b'x'] | [.., b'c', b'h'] => "es",
        _ => "s",
    };
    kind + end
}

fn not_read(error: &serde_json::Error) -> FieldError {
    field_error("spec", format!("cannot be read: {error}"))
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plurals_are_those_of_kubernetes() {
        for (kind, plurals) in [
            ("StatefulSet", "statefulsets"),
            ("Ingress", "ingresses"),
            ("NetworkPolicy", "networkpolicies"),
            ("RaftStorageClass", "raftstorageclasses"),
            ("Gateway", "gateways"),
        ] {
            assert_eq!(plural(kind), plurals);
        }
    }
}
