//! Which version wrote the data of a cluster, and whether an image that is asked for is older: nodes are not known to read what a newer
//! one wrote. Only tags that are versions count, and only data that outlive a pod.

use atomix_sdk::{Health, Members, Plan, Value, image_version, json, set};

use crate::class::RaftClass;

/// The annotation on a cluster's ConfigMap that remembers, once another image was asked for, which version wrote the data: the members
/// whose pods show it may not be ready later.
const ANNOTATION: &str = "raft.storage.cloud.atomix.io/version";
/// The JSON pointer to [`ANNOTATION`].
pub const POINTER: &str = "/metadata/annotations/raft.storage.cloud.atomix.io~1version";
/// The JSON pointer to the image that a member runs.
pub const IMAGE_OF_POD: &str = "/spec/containers/0/image";
/// The JSON pointer to the image that members are started with.
pub const IMAGE_OF_SET: &str = "/spec/template/spec/containers/0/image";

type Version = (u32, u32);

/// The image of a cluster's members.
pub struct Image {
    /// The name of the class's image, unless that is older than the data.
    pub name: String,
    /// The version that wrote the data, where it is to be remembered.
    wrote: Option<Version>,
    refused: bool,
}

impl Image {
    /// Finds the image of a cluster of `replicas` members with this `health`.
    pub fn of(members: &Members<RaftClass>, replicas: u32, health: &Health) -> Self {
        let seen = members.seen;
        let asked = &seen.class.image;
        if members.claim.is_none() {
            return Self { name: asked.clone(), wrote: None, refused: false };
        }
        let map = seen.object("ConfigMap", &members.name);
        let remembered = map.and_then(|map| image_version(&format!(":{}", map.text(POINTER)?)));
        let image_of = |member: &str| seen.object("Pod", member)?.text(IMAGE_OF_POD);
        let up = || members.names(replicas).filter(|member| members.is_ready(member));
        // Until the last member runs it, a cluster is of the version before, and may go back to it.
        let runs = || up().map(|member| image_version(&image_of(&member)?)).min().flatten();
        let wrote = remembered.max(health.quorum().then(runs).flatten());
        let refused = wrote.is_some_and(|wrote| image_version(asked).is_some_and(|asked| asked < wrote));
        let set = || seen.object("StatefulSet", &members.name)?.text(IMAGE_OF_SET);
        let kept = refused.then(|| up().find_map(|member| image_of(&member)).or_else(set)).flatten();
        let name = kept.unwrap_or_else(|| asked.clone());
        // Once all members are ready with the image that is asked for, their pods show it, and nothing needs to be remembered.
        let runs_asked = |member: &String| members.is_ready(member) && image_of(member).as_ref() == Some(asked);
        let is_done = || members.names(replicas).all(|member| runs_asked(&member));
        let is_edited = || up().any(|member| !runs_asked(&member));
        let remembers = refused || !is_done() && (remembered.is_some() || is_edited());
        Self { name, wrote: wrote.filter(|_| remembers), refused }
    }

    /// A ConfigMap that remembers the version.
    pub fn remembering(&self, mut map: Value) -> Value {
        if let Some((major, minor)) = self.wrote
            && let Some(metadata) = map.get_mut("metadata")
        {
            let mut annotations = metadata.get("annotations").cloned().unwrap_or_else(|| json!({}));
            set(&mut annotations, ANNOTATION, format!("{major}.{minor}").into());
            set(metadata, "annotations", annotations);
        }
        map
    }

    /// Names an image that is older than the data in the plan; true if there is one.
    pub fn note(&self, members: &Members<RaftClass>, plan: Plan) -> (Plan, bool) {
        let Some((major, minor)) = self.wrote.filter(|_| self.refused) else { return (plan, false) };
        let why = format!(
            "the data of {} are written by {major}.{minor}, and an older version is not known to read them; create another database",
            members.name
        );
        (plan.not_taken("spec.image", &members.seen.class.image, &self.name, why), true)
    }
}
