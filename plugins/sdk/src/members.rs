//! Members that run alike: a StatefulSet or Deployment and the objects around it, as the YAML that they become. It decides nothing.

use serde_json::Value;

use crate::claim::{CLAIM_MARK, ClaimTemplate, Expected, conflicts};
use crate::{Reason, Seen, code, hash, json, reason, set};

/// Members of one cluster that run alike.
pub struct Members<'a, C> {
    /// The request.
    pub seen: &'a Seen<C>,
    /// Number of the cluster, from 1.
    pub cluster: u32,
    /// Name of the StatefulSet or Deployment; pods of the former are `<name>-0` and so on.
    pub name: String,
    /// What distinguishes them from other members of the cluster, e.g. `replica`: a label of pods and part of their selector.
    pub role: Option<&'static str>,
    /// The annotation, and its text, by which objects remember what the cluster was started with.
    pub memory: Option<(&'static str, &'a str)>,
    /// The volume of each, as remembered; None if data live and die with the pod. The plugin reads [`CLAIM_MARK`] of StatefulSets then,
    /// and [`crate::CLAIM_FIELDS`] of claims.
    pub claim: Option<&'a ClaimTemplate>,
}

impl<C> Members<'_, C> {
    /// Gives each member a name, also before it is ready: members must find each other to become so.
    pub fn peers(&self, ports: &[(&str, u16)]) -> Value {
        let ports: Vec<Value> =
            ports.iter().map(|(name, port)| json!({"name": name, "port": port, "protocol": "TCP"})).collect();
        let mut spec = json!({"clusterIP": "None", "publishNotReadyAddresses": true});
        set(&mut spec, "selector", self.selector());
        set(&mut spec, "ports", ports.into());
        self.object("v1", "Service", &self.peers_name(), spec)
    }

    /// What clients connect to: the members that are ready.
    pub fn service(&self, name: &str, port_name: &str, port: u16) -> Value {
        let mut spec = json!({"ports": [{"name": port_name, "port": port, "targetPort": port_name, "protocol": "TCP"}]});
        set(&mut spec, "selector", self.selector());
        self.object("v1", "Service", name, spec)
    }

    /// Lets a drain of nodes evict no more than `most` members at a time, and any that is not ready: it serves no client,
    /// and keeps its data on its volume. Members that are not ready count against `most`, which so protects the others.
    pub fn budget(&self, most: u32) -> Value {
        let mut spec = json!({"maxUnavailable": most, "unhealthyPodEvictionPolicy": "AlwaysAllow"});
        set(&mut spec, "selector", json!({"matchLabels": self.selector()}));
        self.object("policy/v1", "PodDisruptionBudget", &self.name, spec)
    }

    /// The same for a cluster that answers while a quorum of its `replicas` members does. One or two members can spare none: a drain
    /// costs a pause there, rather than being blocked for ever.
    pub fn quorum_budget(&self, replicas: u32) -> Value {
        self.budget((replicas.saturating_sub(1) / 2).max(1))
    }

    /// The members, each a pod of `spec` as [`Seen::pod`] completes it. They restart one after the other when `config`, what they read
    /// when they start, is another.
    pub fn set(&self, replicas: u32, config: &str, spec: Value) -> Value {
        let template = self.template(config, spec);
        let mut spec = json!({
            "replicas": replicas,
            "serviceName": self.peers_name(),
            "selector": {"matchLabels": self.selector()},
        });
        set(&mut spec, "template", template);
        if let Some(claim) = self.claim {
            // The claim templates of a StatefulSet cannot be changed: one that was made without the mark stays without it.
            let live = self.seen.object("StatefulSet", &self.name);
            let marked = live.is_none_or(|live| live.json(CLAIM_MARK).is_some());
            let kind = self.seen.class_object.kind.as_str();
            set(&mut spec, "volumeClaimTemplates", json!([claim.manifest(self.memory, marked.then_some(kind))]));
        }
        self.remembering(self.object("apps/v1", "StatefulSet", &self.name, spec))
    }

    /// Which claims of another storage, or of another shape, a StatefulSet of `replicas` members would take up by their
    /// names. It must not be planned then. None once the StatefulSet is there: a plan without it would delete it.
    pub fn claims_of_others(&self, replicas: u32) -> Option<Reason> {
        let template = self.claim.filter(|_| self.seen.object("StatefulSet", &self.name).is_none())?;
        let memory = self.memory.map(|(key, _)| key);
        let expected = Expected { kind: &self.seen.class_object.kind, memory, cluster: self.cluster, role: self.role };
        let claims = self.names(replicas).filter_map(|member| {
            let name = format!("{}-{member}", template.name());
            self.seen.object("PersistentVolumeClaim", &name)
        });
        let asked = self.seen.pods.claim();
        let found = conflicts(asked.as_ref().unwrap_or(template), claims, &expected)?;
        let what = format!(
            "{} is not started, as it would take up volumes by their names: {found}. Delete these claims if nobody needs their data, or \
             create a database of another name",
            self.name
        );
        Some(reason(code::CLAIM_OF_ANOTHER, what))
    }

    /// The same, where none waits for those before it: members that need others to become ready. It also lets a template that cannot
    /// start be replaced by a good one, which otherwise waits for the pod that cannot.
    pub fn set_at_once(&self, replicas: u32, config: &str, spec: Value) -> Value {
        let mut members = self.set(replicas, config, spec);
        if let Some(spec) = members.get_mut("spec") {
            set(spec, "podManagementPolicy", "Parallel".into());
        }
        members
    }

    /// One pod of `spec` as [`Seen::pod`] completes it, which keeps no data. It is deleted before another is made.
    pub fn one_at_a_time(&self, config: &str, spec: Value) -> Value {
        let template = self.template(config, spec);
        let mut spec = json!({
            "replicas": 1,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": self.selector()},
        });
        set(&mut spec, "template", template);
        self.object("apps/v1", "Deployment", &self.name, spec)
    }

    fn template(&self, config: &str, spec: Value) -> Value {
        let mut metadata = json!({});
        set(&mut metadata, "labels", self.with_role(self.seen.pod_labels(self.cluster)));
        if !config.is_empty() {
            set(&mut metadata, "annotations", json!({"storage.cloud.atomix.io/config-hash": hash(config)}));
        }
        let mut template = json!({});
        set(&mut template, "metadata", metadata);
        set(&mut template, "spec", self.seen.pod(self.cluster, spec));
        template
    }

    /// An object that remembers what the cluster was started with.
    pub fn remembering(&self, mut object: Value) -> Value {
        if let (Some((key, text)), Some(metadata)) = (self.memory, object.get_mut("metadata")) {
            let mut annotations = json!({});
            set(&mut annotations, key, text.into());
            set(metadata, "annotations", annotations);
        }
        object
    }

    /// Labels of every object of the cluster.
    pub fn label(&self) -> Value {
        self.with_role(json!({"cluster": self.cluster.to_string()}))
    }

    /// Name of the Service that gives each member a name.
    pub fn peers_name(&self) -> String {
        format!("{}-hs", self.name)
    }

    /// DNS name of a member, which may be a variable: `$(POD_NAME)`.
    pub fn host(&self, member: &str) -> String {
        self.seen.endpoint(&format!("{member}.{}", self.peers_name()), 0).host
    }

    /// Names of `count` members.
    pub fn names(&self, count: u32) -> impl Iterator<Item = String> {
        (0..count).map(|at| format!("{}-{at}", self.name))
    }

    /// Whether a member's pod is ready.
    pub fn is_ready(&self, member: &str) -> bool {
        let pod = self.seen.object("Pod", member).filter(|pod| !pod.terminating());
        let conditions: Vec<Value> = pod.and_then(|pod| pod.field("/status/conditions")).unwrap_or_default();
        conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
    }

    /// Name of the volume that holds the data.
    pub fn data(&self) -> &str {
        self.claim.map_or("data", ClaimTemplate::name)
    }

    /// That volume as a part of the pod, unless each member has a claim.
    pub fn data_in_pod(&self) -> Option<Value> {
        self.claim.is_none().then(|| json!({"name": self.data(), "emptyDir": {}}))
    }

    fn selector(&self) -> Value {
        self.with_role(self.seen.selector(self.cluster))
    }

    fn with_role(&self, mut labels: Value) -> Value {
        if let Some(role) = self.role {
            set(&mut labels, "role", role.into());
        }
        labels
    }

    fn object(&self, version: &str, kind: &str, name: &str, spec: Value) -> Value {
        let mut object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name, "labels": self.label()}});
        set(&mut object, "spec", spec); // moved: `json!` copies what it is given
        object
    }
}
