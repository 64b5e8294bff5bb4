//! The fields that each class of this repository has for its pods, and pods that keep to Pod Security's profile "restricted" where a class
//! gives none. Knows no particular storage.

use serde_json::{Map, Value};

use crate::amount::quantity;
use crate::claim::{self, ClaimTemplate};
use crate::{FieldError, Seen, field_error, json, set, text};

/// User and group of the processes, and group of the volumes: any that is not root's.
const ID: u32 = 1000;

/// Fields of the pods' security context that pods have unless the class gives others.
const RESTRICTED: [&str; 6] =
    ["runAsNonRoot", "runAsUser", "runAsGroup", "fsGroup", "fsGroupChangePolicy", "seccompProfile"];
/// The field that lists those that pods do not have: a null means the same, but several ways to apply a manifest drop it.
const UNSET: &str = "securityContextUnset";

/// Fields that are put into the pod's spec as they stand in the class.
const IN_POD: [&str; 5] = ["affinity", "imagePullSecrets", "nodeSelector", "priorityClassName", "tolerations"];

/// Which of the shared fields a class kind has, by [`crate::Class::pods`] and [`crate::Class::volumes`].
#[derive(Clone, Copy, Default)]
pub(crate) struct Shared {
    /// Names of environment variables that the plugin sets itself; None if the class has no shared fields.
    pub(crate) env: Option<&'static [&'static str]>,
    /// Why a variable of that name may not be set, beside those.
    pub(crate) env_rule: Option<EnvRule>,
    /// Names of volumes that the plugin has for itself; None if the class keeps nothing on volumes.
    pub(crate) volumes: Option<&'static [&'static str]>,
}

/// Why an environment variable of this name is not accepted; None if it is.
pub type EnvRule = fn(&str) -> Option<String>;

/// The shared fields of a class's spec.
#[derive(Default)]
pub struct Pods(Value);

impl Shared {
    /// Adds the shared fields to the schema of a class's spec.
    pub(crate) fn describe(self, schema: &mut Value) {
        let texts = [self.env.map(|_| include_str!("pods.json")), self.volumes.map(|_| include_str!("volumes.json"))];
        for text in texts.into_iter().flatten() {
            let Ok(Value::Object(fields)) = serde_json::from_str(text) else { continue };
            let Value::Object(of_class) = schema else { return };
            let properties = of_class.entry("properties").or_insert_with(|| json!({}));
            fields.into_iter().for_each(|(field, value)| set(properties, &field, value));
        }
    }

    /// The shared fields of a spec, with what is wrong with them.
    pub(crate) fn read(self, spec: &str, errors: &mut Vec<FieldError>) -> Pods {
        let Some(reserved) = self.env else { return Pods::default() };
        let pods = Pods(serde_json::from_str(spec).unwrap_or_default());
        let mut wrong = |path: &str, message: &str| errors.push(field_error(path, message));
        pods.check(reserved, self.env_rule, &mut wrong);
        if let Some(taken) = self.volumes {
            claim::check(&pods.0, taken, &mut wrong);
        }
        pods
    }
}

impl Pods {
    /// The volume that each member keeps its data on, with the storage class that it gets; None without a template.
    pub fn claim(&self) -> Option<ClaimTemplate> {
        ClaimTemplate::of(&self.0)
    }

    /// A field that the class gives.
    fn given(&self, field: &str) -> Option<&Value> {
        self.0.get(field).filter(|value| !value.is_null())
    }

    fn check(&self, reserved: &[&str], env_rule: Option<EnvRule>, wrong: &mut impl FnMut(&str, &str)) {
        for (fields, fits, expected) in [
            (
                &["affinity", "nodeSelector", "resources", "securityContext"][..],
                Value::is_object as fn(&Value) -> bool,
                "an object is expected",
            ),
            (&["env", "imagePullSecrets", UNSET, "tolerations"], Value::is_array, "a list is expected"),
            (&["priorityClassName"], Value::is_string, "a name is expected"),
        ] {
            for field in fields.iter().filter(|field| self.given(field).is_some_and(|value| !fits(value))) {
                wrong(&format!("spec.{field}"), expected);
            }
        }
        if let Some(Value::Object(resources)) = self.given("resources") {
            for field in resources.keys().filter(|field| !["requests", "limits"].contains(&field.as_str())) {
                wrong(&format!("spec.resources.{field}"), "unknown; requests and limits are accepted");
            }
        }
        for part in ["requests", "limits"] {
            let path = format!("spec.resources.{part}");
            match self.given("resources").map(|resources| &resources[part]) {
                None | Some(Value::Null) => {}
                Some(Value::Object(amounts)) => {
                    for (name, amount) in
                        amounts.iter().filter(|(name, amount)| name.is_empty() || quantity(amount).is_none())
                    {
                        let found = format!("{}; an amount like 500m or 1Gi is expected", text(amount));
                        wrong(&format!("{path}.{name}"), &found);
                    }
                }
                Some(_) => wrong(&path, "an object is expected"),
            }
        }
        for (at, field) in self.unset().enumerate() {
            let (path, name) = (format!("spec.{UNSET}[{at}]"), field.as_str().unwrap_or_default());
            if !RESTRICTED.contains(&name) {
                wrong(&path, &format!("{}; {} are accepted", text(field), RESTRICTED.join(", ")));
            } else if self.given("securityContext").is_some_and(|context| !context[name].is_null()) {
                wrong(&path, &format!("{name} is set in spec.securityContext"));
            }
        }
        let Some(Value::Array(env)) = self.given("env") else { return };
        for (at, variable) in env.iter().enumerate() {
            let path = format!("spec.env[{at}].name");
            if !(variable["value"].is_null() || variable["value"].is_string()) {
                let found = format!("{}; a text is expected, in quotes", text(&variable["value"]));
                wrong(&format!("spec.env[{at}].value"), &found);
            }
            if let Some(found) = source_error(variable) {
                wrong(&format!("spec.env[{at}].valueFrom"), &found);
            }
            match variable["name"].as_str().unwrap_or_default() {
                "" => wrong(&path, "missing"),
                name if reserved.contains(&name) => wrong(&path, &format!("{name} is set by the plugin")),
                name if env[..at].iter().any(|other| other["name"] == name) => {
                    wrong(&path, &format!("{name} is there twice"))
                }
                name => {
                    if let Some(why) = env_rule.and_then(|rule| rule(name)) {
                        wrong(&path, &why);
                    }
                }
            }
        }
    }

    /// Fields of the security context that are left to the image and the platform.
    fn unset(&self) -> impl Iterator<Item = &Value> {
        self.given(UNSET).and_then(Value::as_array).into_iter().flatten()
    }
}

/// What a variable may take its value from, and the fields that each source needs.
const SOURCES: [(&str, &[&str]); 5] = [
    ("fieldRef", &["fieldPath"]),
    ("resourceFieldRef", &["resource"]),
    ("configMapKeyRef", &["name", "key"]),
    ("secretKeyRef", &["name", "key"]),
    ("fileKeyRef", &["volumeName", "path", "key"]),
];

/// Why an API server would refuse the source of a variable. Some it takes once, in the place of another, drops them, and refuses them from
/// then on.
fn source_error(variable: &Value) -> Option<String> {
    let from = &variable["valueFrom"];
    if from.is_null() {
        return None;
    }
    if variable["value"].as_str().is_some_and(|value| !value.is_empty()) {
        return Some("a variable has a value or a source, not both".to_owned());
    }
    let mut given = from.as_object().into_iter().flatten().filter(|(_, source)| !source.is_null());
    let (Some((name, source)), None) = (given.next(), given.next()) else {
        return Some(format!("{}; one source is expected, such as fieldRef", text(from)));
    };
    let Some((_, fields)) = SOURCES.iter().find(|(known, _)| known == name) else {
        let known = SOURCES.map(|(known, _)| known).join(", ");
        return Some(format!("{name} is unknown; {known} are accepted"));
    };
    let missing = fields.iter().find(|field| source[**field].as_str().unwrap_or_default().is_empty())?;
    Some(format!("{name}.{missing} is missing"))
}

impl<C> Seen<C> {
    /// The spec of a pod of cluster `cluster`: `spec`, its containers and volumes, with the class's fields for all pods. Where it has
    /// none, pods of one cluster keep apart where they can, and all keep to Pod Security's profile "restricted".
    pub fn pod(&self, cluster: u32, mut spec: Value) -> Value {
        let selector = self.selector(cluster);
        set(&mut spec, "enableServiceLinks", false.into()); // else every Service of the namespace is a handful of variables
        let spread = json!([{
            "maxSkew": 1,
            "topologyKey": "topology.kubernetes.io/zone",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": selector},
        }]);
        set(&mut spec, "topologySpreadConstraints", spread);
        for field in IN_POD {
            if let Some(value) = self.pods.given(field).filter(|value| field == "affinity" || !is_empty(value)) {
                set(&mut spec, field, value.clone());
            }
        }
        if self.pods.given("affinity").is_none() {
            let apart = json!({"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{
                "weight": 100,
                "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": selector}},
            }]}});
            set(&mut spec, "affinity", apart);
        }
        let restricted = json!({
            "runAsNonRoot": true,
            "runAsUser": ID,
            "runAsGroup": ID,
            "fsGroup": ID,
            "fsGroupChangePolicy": "OnRootMismatch", // a large volume is gone through once
            "seccompProfile": {"type": "RuntimeDefault"},
        });
        let mut context = overlay(restricted, self.pods.given("securityContext"));
        for field in self.pods.unset().filter_map(Value::as_str) {
            set(&mut context, field, Value::Null);
        }
        set(&mut spec, "securityContext", context);
        for list in ["initContainers", "containers"] {
            if let Some(Value::Array(containers)) = spec.get_mut(list) {
                containers.iter_mut().for_each(|container| self.container(container));
            }
        }
        spec
    }

    fn container(&self, container: &mut Value) {
        let restricted = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
        let context = overlay(restricted, container.get("securityContext"));
        set(container, "securityContext", context);
        if let Some(resources) = self.pods.given("resources").filter(|value| !is_empty(value)) {
            set(container, "resources", resources.clone());
        }
        if let Some(Value::Array(more)) = self.pods.given("env").filter(|value| !is_empty(value)) {
            match container.get_mut("env") {
                Some(Value::Array(env)) => env.extend(more.iter().cloned()),
                _ => set(container, "env", more.clone().into()),
            }
        }
    }
}

/// Whether a value is as if it were absent. An affinity is not, even if it is empty: pods do not keep apart then.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

/// An object with the fields of another in place of its own.
fn overlay(mut object: Value, with: Option<&Value>) -> Value {
    let none = Map::new();
    for (field, value) in with.and_then(Value::as_object).unwrap_or(&none) {
        set(&mut object, field, value.clone());
    }
    object
}
