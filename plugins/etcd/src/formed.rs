//! The history of a cluster since it was formed: whether a member without data founds it or joins it, which volumes its
//! members had, and which version they ran. It reads live objects; knows no network.
//!
//! etcd looks at `initial-cluster-state` where a member has no data, and only there. `new` lets it found a cluster with
//! others that have none either, and is right once. From then on it must be `existing`: the member requests the list of
//! members from the others, and does nothing before one answers. So the members of a cluster that was formed have `existing`
//! for ever, and no loss of volumes makes another, empty one of it.

use atomix_sdk::{Health, Members, Plan, Reason, Remembered, Value, code, image_version, json, reason, set, text};

use crate::class::EtcdClass;
use crate::running::Started;

/// The key of a cluster's ConfigMap that its members read when they start.
pub const STATE: &str = "initial-cluster-state";
/// The JSON pointer to [`STATE`].
pub const STATE_POINTER: &str = "/data/initial-cluster-state";
const NEW: &str = "new";
const EXISTING: &str = "existing";
/// The annotation on ConfigMap and peers' Service that remembers what the cluster has been since it was formed.
const ANNOTATION: &str = "etcd.storage.cloud.atomix.io/formed";
/// The JSON pointer to [`ANNOTATION`].
pub const POINTER: &str = "/metadata/annotations/etcd.storage.cloud.atomix.io~1formed";
/// The JSON pointer to a claim's identity: one that is made again under its name has another.
pub const UID: &str = "/metadata/uid";
/// The JSON pointer to the image that a member runs.
pub const IMAGE: &str = "/spec/containers/0/image";

/// The JSON pointer to the image that members are started with.
pub const IMAGE_OF_SET: &str = "/spec/template/spec/containers/0/image";

/// A cluster that was formed, or not yet.
pub struct Formed<'a> {
    members: &'a Members<'a, EtcdClass>,
    /// What it remembers; None if it was not formed.
    memory: Option<Memory>,
    /// Members, by number, that are not ready and whose claim is not the one that they had.
    lost: Vec<u32>,
    image: String,
    refused: Option<Version>,
}

type Version = (u32, u32);

/// What a cluster remembers since it was formed.
#[derive(Default)]
struct Memory {
    /// UIDs of the members' claims, as they were when each was last ready; empty where it is not known.
    volumes: Vec<String>,
    /// The newest version that a member was ready with.
    version: Option<Version>,
}

impl Memory {
    fn read(text: &str) -> Option<Memory> {
        let json: Value = serde_json::from_str(text).ok()?;
        let volumes = json["volumes"].as_array()?.iter().map(|uid| uid.as_str().unwrap_or_default().to_owned());
        let version = json["version"].as_str().and_then(|version| image_version(&format!(":{version}")));
        Some(Memory { volumes: volumes.collect(), version })
    }

    fn text(&self) -> String {
        let version = self.version.map(|(major, minor)| format!("{major}.{minor}"));
        text(&json!({"version": version, "volumes": self.volumes}))
    }
}

impl<'a> Formed<'a> {
    /// Reads the history of a cluster of `replicas` members with this `health`; whether its claims fit counts before it
    /// starts.
    pub fn of(members: &'a Members<'a, EtcdClass>, replicas: u32, health: &Health, claims_fit: bool) -> Self {
        let seen = members.seen;
        let map = seen.object("ConfigMap", &members.name);
        let remembers = map.or_else(|| seen.object("Service", &members.peers_name()));
        let remembered = remembers.and_then(|live| Memory::read(&live.text(POINTER)?));
        let state = map.and_then(|map| map.text(STATE_POINTER));
        // A person writes `new` into the ConfigMap of a cluster that was formed to start it without data.
        let remembered = remembered.filter(|_| state.as_deref() != Some(NEW));
        let claim = |number: u32| {
            let name = format!("{}-{}-{number}", members.claim?.name(), members.name);
            seen.object("PersistentVolumeClaim", &name)
        };
        let of_etcd = |number: u32| claim(number).is_some_and(|claim| claim.text(Started::POINTER).is_some());
        let claims_kept = || (0..replicas).filter(|&number| of_etcd(number)).count();
        let formed = remembered.is_some()
            || state.as_deref() == Some(EXISTING)
            || health.quorum()
            // Volumes of an earlier database, of which some are gone: the members that are left know which others belong to
            // the cluster.
            || claims_fit
                && map.is_none()
                && seen.object("StatefulSet", &members.name).is_none()
                && (1..replicas as usize).contains(&claims_kept());
        let image = seen.class.image.clone();
        let alone_in_its_pod = replicas == 1 && members.claim.is_none();
        if !formed || alone_in_its_pod {
            return Self { members, memory: None, lost: Vec::new(), image, refused: None };
        }
        let mut memory = remembered.unwrap_or_default();
        let mut lost = Vec::new();
        for (number, member) in (0..replicas).zip(members.names(replicas)) {
            let at = number as usize;
            if memory.volumes.len() <= at {
                memory.volumes.push(String::new());
            }
            let uid = claim(number).and_then(|claim| claim.text(UID)).unwrap_or_default();
            if health.ready == replicas || members.is_ready(&member) {
                memory.volumes[at] = uid;
            } else if !memory.volumes[at].is_empty() && memory.volumes[at] != uid {
                lost.push(number);
            }
        }
        if health.ready == replicas {
            // Until the last member runs it, a cluster is of the version before, and may go back to it.
            let ran = members.names(replicas).map(|member| image_version(&seen.object("Pod", &member)?.text(IMAGE)?));
            memory.version = memory.version.max(ran.min().flatten());
        }
        let refused = memory.version.filter(|&ran| image_version(&image).is_some_and(|asked| !follows(ran, asked)));
        let set = || seen.object("StatefulSet", &members.name)?.text(IMAGE_OF_SET);
        let runs = || members.names(replicas).find_map(|member| image_of(members, &member)).or_else(set);
        let image = refused.and_then(|_| runs()).unwrap_or(image);
        Self { members, memory: Some(memory), lost, image, refused }
    }

    /// The image of the members: the class's, unless etcd could not go on from the version that runs.
    pub fn image(&self) -> &str {
        &self.image
    }

    /// What members read when they start.
    pub fn config(&self) -> Value {
        let members = self.members;
        let state = if self.memory.is_some() { EXISTING } else { NEW };
        self.remembering(json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": members.name, "labels": members.label()},
            "data": {STATE: state},
        }))
    }

    /// An object that remembers what the cluster has been since it was formed.
    pub fn remembering(&self, mut object: Value) -> Value {
        if let Some(memory) = &self.memory
            && let Some(metadata) = object.get_mut("metadata")
        {
            let mut annotations = metadata.get("annotations").cloned().unwrap_or_else(|| json!({}));
            set(&mut annotations, ANNOTATION, memory.text().into());
            set(metadata, "annotations", annotations);
        }
        object
    }

    /// Why members are missing, in place of `known` where more is known of it.
    pub fn problem(&self, replicas: u32, known: Option<Reason>) -> Option<Reason> {
        let (members, known) = (self.members, known?);
        let name = &members.name;
        if !self.lost.is_empty() {
            let namespace = &members.seen.database.namespace;
            let named = |before: &str| {
                let all: Vec<String> = self.lost.iter().map(|number| format!("{before}{name}-{number}")).collect();
                all.join(", ")
            };
            let (lost, claim, count) = (named(""), members.data(), self.lost.len() as u32);
            let claims = named(&format!("{claim}-"));
            let which = match count {
                1 => format!("{lost} has lost its data: claim {claims} is not the one that it had"),
                _ => format!("{lost} have lost their data: claims {claims} are not those that they had"),
            };
            let ready = &known.message[..known.message.find(':').unwrap_or(known.message.len())];
            let what = match replicas - count {
                0 => format!(
                    "{name} has lost all its data: the claims {claim}-{name}-… are not those that it was formed with. It is not \
                     started without data; to let it: kubectl -n {namespace} patch configmap {name} --type=merge -p \
                     '{{\"data\":{{\"{STATE}\":\"{NEW}\"}}}}'"
                ),
                left if left > replicas / 2 => format!(
                    "{ready}: {which}. Remove it from the cluster, delete its claim and its pod, then add it again: \"Replace a member\" \
                     of the plugin's page has the commands"
                ),
                left => format!(
                    "{ready}: {which}. They start again on what {left} of {replicas} members have left, in which the last writes may be \
                     missing: see \"When members are lost\" of the plugin's page"
                ),
            };
            return Some(reason("DataLost", what));
        }
        let outside = members.names(replicas).find(|member| self.is_outside(member, replicas));
        match outside {
            Some(member) if known.code == code::MEMBERS_NOT_READY => {
                let tls = match &members.seen.class.peer_tls {
                    Some(tls) => format!(
                        "; if that lasts, they do not trust its certificate or it does not trust theirs: \"Renew certificates\" of the plugin's \
                         page says in which order Secret {} is changed",
                        tls.secret_name
                    ),
                    None => String::new(),
                };
                let what = format!("{}: {member} runs, and does not reach the others, which are ready{tls}", known.message);
                Some(reason(known.code, what))
            }
            _ => Some(known),
        }
    }

    /// Whether a member runs and is not ready, while enough others are.
    fn is_outside(&self, member: &str, replicas: u32) -> bool {
        let members = self.members;
        let pod = members.seen.object("Pod", member);
        let runs = pod.and_then(|pod| pod.field::<Value>("/status/containerStatuses/0/state/running"));
        let others = members.names(replicas).filter(|other| members.is_ready(other)).count();
        runs.is_some() && !members.is_ready(member) && others > replicas as usize / 2
    }

    /// Names an image that etcd could not go on with in the plan; true if there is one.
    pub fn note_image(&self, plan: Plan) -> (Plan, bool) {
        let Some((major, minor)) = self.refused else { return (plan, false) };
        let why = format!(
            "the members of {} run {major}.{minor}, and etcd goes on with their data in {major}.{minor} or {major}.{} only: go up one minor \
             version at a time, or create another database",
            self.members.name,
            minor + 1
        );
        (plan.not_taken("spec.image", &self.members.seen.class.image, &self.image, why), true)
    }
}

/// Whether etcd of one version goes on with the data of another.
fn follows(ran: Version, asked: Version) -> bool {
    asked.0 == ran.0 && (ran.1..=ran.1 + 1).contains(&asked.1)
}

/// The image of a member that is ready.
fn image_of(members: &Members<EtcdClass>, member: &str) -> Option<String> {
    members.seen.object("Pod", member).filter(|_| members.is_ready(member))?.text(IMAGE)
}
