//! The volume claims of members: what a class may ask for, how a claim is made from it, how a plan names what running members keep
//! instead, and which existing claims a StatefulSet must not use. Knows no particular storage.

use serde_json::{Map, Value};

use crate::amount::quantity;
use crate::check::is_label;
use crate::{CLUSTER_LABEL, Live, Plan, json, set, text};

/// A PersistentVolumeClaim to be made for each member. Two are equal if they mean the same, however they are written.
#[derive(Clone, Debug)]
pub struct ClaimTemplate(Value);

impl PartialEq for ClaimTemplate {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0 || self.normalized() == other.normalized()
    }
}

/// The JSON pointer to the phase of a PersistentVolumeClaim: Pending, Bound or Lost.
pub const CLAIM_FIELD: &str = "/status/phase";
/// Fields of PersistentVolumeClaims that decide; a plugin whose members have volumes watches these.
pub const CLAIM_FIELDS: [&str; 5] = [CLUSTER_LABEL, ROLE, ANNOTATIONS, SPEC, CLAIM_FIELD];
const ROLE: &str = "/metadata/labels/role";
const ANNOTATIONS: &str = "/metadata/annotations";
const SPEC: &str = "/spec";
/// The annotation of claims that names the kind of class whose data they hold.
const CLASS_KIND: &str = "storage.cloud.atomix.io/class-kind";
/// The JSON pointer to that annotation in a StatefulSet; a plugin reads it of StatefulSets whose members have volumes.
/// Claim templates cannot be changed, so those of StatefulSets that were made without it stay as they are.
pub const CLAIM_MARK: &str = "/spec/volumeClaimTemplates/0/metadata/annotations/storage.cloud.atomix.io~1class-kind";
/// End of the annotations' names by which plugins remember what a cluster was started with; the plugin's own name comes first.
const RUNNING: &str = ".storage.cloud.atomix.io/running";

const TEMPLATE: &str = "volumeClaimTemplate";
const STORAGE_CLASS: &str = "storageClassName";

impl ClaimTemplate {
    /// The template in a class's spec, with the storage class that stands beside it where it names none.
    pub(crate) fn of(spec: &Value) -> Option<Self> {
        let mut template = spec.get(TEMPLATE).filter(|template| !template.is_null())?.clone();
        if let (Some(of_claim), Some(name)) = (template.get_mut("spec"), spec.get(STORAGE_CLASS))
            && of_claim.get(STORAGE_CLASS).is_none()
            && !name.is_null()
        {
            set(of_claim, STORAGE_CLASS, name.clone());
        }
        Some(Self(template))
    }

    /// The template as it was remembered, [`ClaimTemplate::json`]; None if there is none.
    pub fn remembered(template: Option<&Value>) -> Option<Self> {
        template.filter(|template| !template.is_null()).cloned().map(Self)
    }

    /// The template as JSON, to be remembered.
    pub fn json(&self) -> &Value {
        &self.0
    }

    /// Name of the volume, and start of the claims' names.
    pub fn name(&self) -> &str {
        self.0["metadata"]["name"].as_str().unwrap_or("data")
    }

    /// The claim as it stands in a StatefulSet: with the annotation by which its cluster remembers, and, if it is `marked`, the kind of
    /// its class.
    pub(crate) fn manifest(&self, memory: Option<(&str, &str)>, marked: Option<&str>) -> Value {
        let part = |part: &Value| part.as_object().cloned().unwrap_or_default();
        let metadata = &self.0["metadata"];
        let mut annotations = part(&metadata["annotations"]);
        for (key, value) in memory.into_iter().chain(marked.map(|kind| (CLASS_KIND, kind))) {
            annotations.insert(key.to_owned(), value.into());
        }
        let mut own = json!({"name": self.name(), "annotations": annotations});
        if let Some(labels) = metadata.get("labels") {
            set(&mut own, "labels", labels.clone());
        }
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": own, "spec": part(&self.0["spec"])})
    }

    /// This template of a cluster that runs, with the storage class that `wanted` asks for if that is no change: `wanted` names none
    /// in particular, or this template names none and all of the cluster's claims have got that one.
    pub(crate) fn with_class_of(mut self, claims: &[Live], cluster: u32, wanted: Option<&Self>) -> Self {
        let Some(asked) = wanted.map(|wanted| &wanted.0["spec"][STORAGE_CLASS]) else { return self };
        let mut mine = claims.iter().filter(|claim| claim.cluster() == Some(cluster as usize)).peekable();
        let got = |claim: &Live| claim.field::<Value>(SPEC).unwrap_or_default()[STORAGE_CLASS] == *asked;
        if asked.is_null() || self.0["spec"][STORAGE_CLASS].is_null() && mine.peek().is_some() && mine.all(got) {
            set(&mut self.0["spec"], STORAGE_CLASS, asked.clone());
        }
        self
    }

    fn storage(&self) -> &Value {
        storage_of(&self.0["spec"])
    }

    /// The template without what changes nothing: what is empty, what is the default, and how amounts are written.
    fn normalized(&self) -> Value {
        let mut all = normalize(&self.0, "");
        let mut put = |path: [&str; 2], value: &str| {
            let absent = all[path[0]][path[1]].is_null();
            if absent && all.is_object() {
                if all[path[0]].is_null() {
                    set(&mut all, path[0], json!({}));
                }
                set(&mut all[path[0]], path[1], value.into());
            }
        };
        put(["metadata", "name"], "data");
        put(["spec", "volumeMode"], "Filesystem");
        all
    }

    /// Why a member that keeps its data on such a volume cannot use this claim, if it cannot.
    fn conflict(&self, claim: &Live, of: &Expected) -> Option<String> {
        let annotations: Value = claim.field(ANNOTATIONS).unwrap_or_default();
        let none = Map::new();
        let annotations = annotations.as_object().unwrap_or(&none);
        if let Some(kind) = annotations.get(CLASS_KIND).and_then(Value::as_str).filter(|kind| *kind != of.kind) {
            return Some(format!("holds data of kind {kind}"));
        }
        let own = |key: &&String| of.memory.is_some_and(|own| own == *key);
        if let Some(other) = annotations.keys().filter(|key| !own(key)).find_map(|key| key.strip_suffix(RUNNING)) {
            return Some(format!("holds data of the plugin {other}"));
        }
        if let Some(cluster) = claim.text(CLUSTER_LABEL).filter(|cluster| *cluster != of.cluster.to_string()) {
            return Some(format!("holds data of cluster {cluster}"));
        }
        let marked = annotations.contains_key(CLASS_KIND) || annotations.keys().any(|key| key.ends_with(RUNNING));
        let role: Option<String> = claim.text(ROLE);
        if (marked || role.is_some()) && role.as_deref() != of.role {
            let name =
                |role: Option<&str>| role.map_or_else(|| "a member without a role".to_owned(), |it| format!("a {it}"));
            return Some(format!("holds data of {}, not of {}", name(role.as_deref()), name(of.role)));
        }
        let spec: Value = claim.field(SPEC).unwrap_or_default();
        if let (Some(has), Some(wants)) = (quantity(storage_of(&spec)), quantity(self.storage()))
            && has < wants
        {
            let (has, wants) = (display(storage_of(&spec)), display(self.storage()));
            return Some(format!("asks for {has}, not for {wants} (or set the class to {has})"));
        }
        for (field, default) in [(STORAGE_CLASS, None), ("volumeMode", Some("Filesystem"))] {
            let of = |spec: &Value| spec[field].as_str().or(default).map(str::to_owned);
            if let (Some(has), Some(wants)) = (of(&spec), of(&self.0["spec"]))
                && has != wants
            {
                return Some(format!("is of {field} {has:?}, not {wants:?} (or set the class to that)"));
            }
        }
        None
    }
}

/// Which claims a set of members can use.
pub(crate) struct Expected<'a> {
    pub(crate) kind: &'a str,
    pub(crate) memory: Option<&'a str>,
    pub(crate) cluster: u32,
    pub(crate) role: Option<&'static str>,
}

/// The claims among these that such members cannot use: each with why, three at most.
pub(crate) fn conflicts<'a>(
    template: &ClaimTemplate,
    claims: impl Iterator<Item = &'a Live>,
    of: &Expected,
) -> Option<String> {
    let found = claims.filter_map(|claim| Some(format!("claim {} {}", claim.name(), template.conflict(claim, of)?)));
    let found: Vec<String> = found.take(3).collect();
    (!found.is_empty()).then(|| found.join("; "))
}

fn storage_of(spec: &Value) -> &Value {
    &spec["resources"]["requests"]["storage"]
}

/// A value without what is empty; `field` is where it stands.
fn normalize(value: &Value, field: &str) -> Value {
    match value {
        Value::Object(fields) => {
            let mut all = json!({});
            let of_template = field.is_empty();
            for (inner, value) in fields {
                let ignored = of_template && ["apiVersion", "kind", "status"].contains(&inner.as_str());
                let value = match (field, quantity(value)) {
                    ("requests" | "limits", Some(amount)) => amount.into(),
                    _ => normalize(value, inner),
                };
                let empty = match &value {
                    Value::Null => true,
                    Value::String(text) => {
                        text.is_empty() && inner != STORAGE_CLASS && !["labels", "annotations"].contains(&field)
                    }
                    Value::Array(items) => items.is_empty(),
                    Value::Object(fields) => fields.is_empty(),
                    _ => false,
                };
                if !ignored && !empty {
                    set(&mut all, inner, value);
                }
            }
            all
        }
        // In any order, and each once.
        Value::Array(modes) if field == "accessModes" => {
            let mut all = json!({});
            modes.iter().filter_map(Value::as_str).for_each(|mode| set(&mut all, mode, true.into()));
            all
        }
        Value::Array(items) => items.iter().map(|item| normalize(item, "[]")).collect(),
        other => other.clone(),
    }
}

/// A value as a person would write it.
fn display(value: &Value) -> String {
    value.as_str().map_or_else(|| text(value), str::to_owned)
}

impl Plan {
    /// Names what the class asks of volumes and running clusters keep otherwise; each cluster by its name.
    pub fn claims_kept(
        mut self,
        wanted: Option<&ClaimTemplate>,
        clusters: impl Iterator<Item = (String, Option<ClaimTemplate>)>,
    ) -> Self {
        for (kept, names) in kept(&wanted.cloned(), clusters).into_iter().take(KEPT_NAMED_MAX) {
            let why = format!("volumes keep what they were made with (here those of {names}); create another database");
            let (field, now, then) = difference(wanted, kept.as_ref());
            self = self.not_taken(&field, now, then, why);
        }
        self
    }
}

/// Most templates that are named one by one.
const KEPT_NAMED_MAX: usize = 8;

/// The field of a class by which two templates differ, and its two values: the narrowest field with the whole difference.
fn difference(wanted: Option<&ClaimTemplate>, kept: Option<&ClaimTemplate>) -> (String, String, String) {
    let about = |claim: Option<&ClaimTemplate>| claim.map_or_else(|| "no volume".to_owned(), |claim| text(&claim.0));
    if let (Some(now), Some(then)) = (wanted, kept) {
        if quantity(now.storage()) != quantity(then.storage()) {
            let field = format!("spec.{TEMPLATE}.spec.resources.requests.storage");
            return (field, display(now.storage()), display(then.storage()));
        }
        let class = |claim: &ClaimTemplate| claim.0["spec"][STORAGE_CLASS].clone();
        if class(now) != class(then) {
            let shown = |class: &Value| match class {
                Value::Null => "the default one".to_owned(),
                Value::String(name) if name.is_empty() => "none".to_owned(),
                class => display(class),
            };
            return (format!("spec.{STORAGE_CLASS}"), shown(&class(now)), shown(&class(then)));
        }
    }
    (format!("spec.{TEMPLATE}"), about(wanted), about(kept))
}

/// What clusters keep that is not as wanted: each value once, with the names of the clusters that keep it, three at most.
pub(crate) fn kept<T: PartialEq>(wanted: &T, clusters: impl Iterator<Item = (String, T)>) -> Vec<(T, String)> {
    let mut groups: Vec<(T, Vec<String>)> = Vec::new(); // nearly always one, or none
    for (name, keeps) in clusters.filter(|(_, keeps)| keeps != wanted) {
        match groups.iter_mut().find(|(value, _)| *value == keeps) {
            Some((_, names)) => names.push(name),
            None => groups.push((keeps, vec![name])),
        }
    }
    let named = |names: Vec<String>| match &names[..] {
        [first, second, third, more @ ..] if !more.is_empty() => {
            format!("{first}, {second}, {third} and {} more", more.len())
        }
        few => few.join(", "),
    };
    groups.into_iter().map(|(value, names)| (value, named(names))).collect()
}

/// The longest name of a volume in Kubernetes.
const VOLUME_NAME_CHARS_MAX: usize = 63;

/// What is wrong with the volumes of a class's spec; `taken` are names that the plugin's own volumes have.
pub(crate) fn check(spec: &Value, taken: &[&str], wrong: &mut impl FnMut(&str, &str)) {
    let class = &spec[STORAGE_CLASS];
    if !(class.is_null() || class.is_string()) {
        wrong("spec.storageClassName", "a name is expected");
    }
    let Some(claim) = ClaimTemplate::of(spec) else {
        if !class.is_null() {
            wrong("spec.storageClassName", "there is no volumeClaimTemplate that it could be of");
        }
        return;
    };
    let name = claim.name();
    if name.len() > VOLUME_NAME_CHARS_MAX || !is_label(name) || taken.contains(&name) {
        let mut message =
            format!("{name:?}; at most {VOLUME_NAME_CHARS_MAX} lower case letters, digits and dashes are accepted");
        if !taken.is_empty() {
            message = format!("{message}, and not {}, which is taken", taken.join(" or "));
        }
        wrong("spec.volumeClaimTemplate.metadata.name", &message);
    }
    if claim.0["spec"]["accessModes"].as_array().is_none_or(|modes| modes.is_empty()) {
        wrong("spec.volumeClaimTemplate.spec.accessModes", "missing; [ReadWriteOnce] is what a member needs");
    }
    let size = match claim.storage() {
        Value::Null => "missing".to_owned(),
        size if quantity(size).is_some_and(|bytes| bytes > 0) => return,
        size => text(size),
    };
    wrong("spec.volumeClaimTemplate.spec.resources.requests.storage", &format!("{size}; a size like 1Gi is expected"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(of: &Value) -> ClaimTemplate {
        ClaimTemplate::of(&serde_json::json!({ "volumeClaimTemplate": of })).expect("a template")
    }

    #[test]
    fn templates_that_mean_the_same_are_the_same() {
        let spec = |storage: Value| serde_json::json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": storage}}});
        let one = template(&serde_json::json!({"spec": spec("1Gi".into())}));
        let with = |field: &str, value: Value| {
            let mut spec = spec("1Gi".into());
            spec[field] = value;
            serde_json::json!({ "spec": spec })
        };
        for same in [
            serde_json::json!({"spec": spec("1024Mi".into())}),
            serde_json::json!({"spec": spec(1_073_741_824.into())}),
            serde_json::json!({"spec": spec("1073741824".into()), "metadata": {"name": "data"}}),
            serde_json::json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": spec("1Gi".into()), "status": {}}),
            serde_json::json!({"metadata": {"labels": {}, "annotations": {}, "creationTimestamp": null}, "spec": spec("1Gi".into())}),
            with("volumeMode", "Filesystem".into()),
            with("selector", Value::Null),
            with("selector", serde_json::json!({})),
            with("volumeName", "".into()),
            with("storageClassName", Value::Null),
            with("accessModes", serde_json::json!(["ReadWriteOnce", "ReadWriteOnce"])),
            with("resources", serde_json::json!({"limits": {}, "requests": {"storage": "1.0Gi"}})),
        ] {
            assert_eq!(one, template(&same), "{same}");
        }
        for other in [
            serde_json::json!({"spec": spec("1G".into())}),
            serde_json::json!({"metadata": {"name": "other"}, "spec": spec("1Gi".into())}),
            serde_json::json!({"metadata": {"labels": {"a": ""}}, "spec": spec("1Gi".into())}),
            with("volumeMode", "Block".into()),
            with("storageClassName", "fast".into()),
            with("storageClassName", "".into()), // no storage class at all
            with("accessModes", serde_json::json!(["ReadWriteMany"])),
            with("resources", serde_json::json!({"limits": {"storage": "2Gi"}, "requests": {"storage": "1Gi"}})),
        ] {
            assert_ne!(one, template(&other), "{other}");
        }
    }
}
