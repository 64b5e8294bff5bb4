//! The volume claims of members: what a class may ask for, how a claim is made from it, and what is said when running members keep
//! another. Knows no particular storage.

use serde_json::Value;

use crate::{Plan, json, set, text};

/// A PersistentVolumeClaim to be made for each member.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimTemplate(Value);

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
    pub fn remembered(said: Option<&Value>) -> Option<Self> {
        said.filter(|template| !template.is_null()).cloned().map(Self)
    }

    /// The template as JSON, to be remembered.
    pub fn json(&self) -> &Value {
        &self.0
    }

    /// Name of the volume, and start of the claims' names.
    pub fn name(&self) -> &str {
        self.0["metadata"]["name"].as_str().unwrap_or("data")
    }

    /// The claim as it stands in a StatefulSet, with one annotation more.
    pub(crate) fn manifest(&self, annotation: Option<(&str, &str)>) -> Value {
        let part = |part: &Value| part.as_object().cloned().unwrap_or_default();
        let metadata = &self.0["metadata"];
        let mut annotations = part(&metadata["annotations"]);
        if let Some((key, value)) = annotation {
            annotations.insert(key.to_owned(), value.into());
        }
        let mut own = json!({"name": self.name(), "annotations": annotations});
        if let Some(labels) = metadata.get("labels") {
            set(&mut own, "labels", labels.clone());
        }
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": own, "spec": part(&self.0["spec"])})
    }

    fn storage(&self) -> &Value {
        &self.0["spec"]["resources"]["requests"]["storage"]
    }
}

impl Plan {
    /// Names what the class asks of volumes and running clusters keep otherwise; each cluster by its name.
    pub fn claims_kept<'a>(
        mut self,
        wanted: Option<&'a ClaimTemplate>,
        clusters: impl Iterator<Item = (String, Option<&'a ClaimTemplate>)>,
    ) -> Self {
        for (kept, names) in kept(&wanted, clusters).into_iter().take(KEPT_NAMED_MAX) {
            let why = format!("volumes keep what they were made with (here those of {names}); create another database");
            let (field, now, then) = difference(wanted, kept);
            self = self.not_taken(&field, now, then, why);
        }
        self
    }
}

/// Most templates that are named one by one.
const KEPT_NAMED_MAX: usize = 8;

/// The field of a class by which two templates differ, and its two values: the narrowest that says it all.
fn difference(wanted: Option<&ClaimTemplate>, kept: Option<&ClaimTemplate>) -> (String, String, String) {
    let about = |claim: Option<&ClaimTemplate>| claim.map_or_else(|| "no volume".to_owned(), |claim| text(&claim.0));
    if let (Some(now), Some(then)) = (wanted, kept) {
        let plain = |value: &Value| value.as_str().map_or_else(|| text(value), str::to_owned);
        if now.storage() != then.storage() {
            let field = format!("spec.{TEMPLATE}.spec.resources.requests.storage");
            return (field, plain(now.storage()), plain(then.storage()));
        }
        let class = |claim: &ClaimTemplate| claim.0["spec"][STORAGE_CLASS].clone();
        if class(now) != class(then) {
            let said = |class: &Value| if class.is_null() { "the default one".to_owned() } else { plain(class) };
            return (format!("spec.{STORAGE_CLASS}"), said(&class(now)), said(&class(then)));
        }
    }
    (format!("spec.{TEMPLATE}"), about(wanted), about(kept))
}

/// What clusters keep that is not as wanted: each value once, with the names of the clusters that keep it, three at most.
pub fn kept<T: PartialEq>(wanted: &T, clusters: impl Iterator<Item = (String, T)>) -> Vec<(T, String)> {
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
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let name = claim.name();
    if name.is_empty()
        || name.len() > 63
        || !name.chars().all(inner)
        || name.starts_with('-')
        || name.ends_with('-')
        || taken.contains(&name)
    {
        let mut message = format!("{name:?}; at most 63 lower case letters, digits and dashes are accepted");
        if !taken.is_empty() {
            message = format!("{message}, and not {}, which is taken", taken.join(" or "));
        }
        wrong("spec.volumeClaimTemplate.metadata.name", &message);
    }
    if claim.0["spec"]["accessModes"].as_array().is_none_or(|modes| modes.is_empty()) {
        wrong("spec.volumeClaimTemplate.spec.accessModes", "missing; [ReadWriteOnce] is what a member needs");
    }
    let size = match claim.storage() {
        Value::String(size) if size.starts_with(|c: char| c.is_ascii_digit()) => return,
        Value::Number(_) => return,
        Value::Null => "missing".to_owned(),
        size => text(size),
    };
    wrong("spec.volumeClaimTemplate.spec.resources.requests.storage", &format!("{size}; a size like 1Gi is expected"));
}
