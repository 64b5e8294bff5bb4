//! The objects of one cluster, as the YAML that they become. Decides nothing: takes what runs, and what the class says of the rest.

use atomix_sdk::{Members, Seen, Value, json, set};

use crate::class::EtcdClass;
use crate::running::{ANNOTATION, Running};

/// Port that clients connect to.
pub const CLIENT_PORT: u16 = 2379;
/// Port that members connect to.
const PEER_PORT: u16 = 2380;
/// Port of metrics and health, always in plain text: a kubelet has no certificate.
const METRICS_PORT: u16 = 2381;

const CLIENT_TLS: &str = "client-tls";
const PEER_TLS: &str = "peer-tls";
/// Names of volumes that are not for a claim.
pub const VOLUMES: [&str; 2] = [CLIENT_TLS, PEER_TLS];

/// Variables that a class may not set: etcd reads each flag from one too, and refuses to start where both are given.
pub const ENV: [&str; 22] = [
    "POD_NAME",
    "ETCD_NAME",
    "ETCD_DATA_DIR",
    "ETCD_INITIAL_CLUSTER",
    "ETCD_INITIAL_CLUSTER_TOKEN",
    "ETCD_INITIAL_CLUSTER_STATE",
    "ETCD_INITIAL_ADVERTISE_PEER_URLS",
    "ETCD_LISTEN_PEER_URLS",
    "ETCD_ADVERTISE_CLIENT_URLS",
    "ETCD_LISTEN_CLIENT_URLS",
    "ETCD_LISTEN_METRICS_URLS",
    "ETCD_AUTO_COMPACTION_MODE",
    "ETCD_AUTO_COMPACTION_RETENTION",
    "ETCD_QUOTA_BACKEND_BYTES",
    "ETCD_CERT_FILE",
    "ETCD_KEY_FILE",
    "ETCD_TRUSTED_CA_FILE",
    "ETCD_CLIENT_CERT_AUTH",
    "ETCD_PEER_CERT_FILE",
    "ETCD_PEER_KEY_FILE",
    "ETCD_PEER_TRUSTED_CA_FILE",
    "ETCD_PEER_CLIENT_CERT_AUTH",
];

/// One cluster, which is one partition.
pub struct Cluster<'a> {
    /// Its members, all alike.
    pub members: Members<'a, EtcdClass>,
    running: &'a Running,
}

impl<'a> Cluster<'a> {
    /// Cluster `number`, as it runs.
    pub fn of(seen: &'a Seen<EtcdClass>, number: u32, running: &'a Running) -> Self {
        let members = Members {
            seen,
            cluster: number,
            name: format!("{}-{number}", seen.database.name),
            role: None,
            memory: Some((ANNOTATION, &running.text)),
            claim: running.claim.as_ref(),
        };
        Self { members, running }
    }

    /// Gives each member its name.
    pub fn peers(&self) -> Value {
        let service = self.members.peers(&[("peer", PEER_PORT), ("client", CLIENT_PORT)]);
        self.members.remembering(service)
    }

    /// The members.
    pub fn set(&self) -> Value {
        let mut members = self.members.set_at_once(self.running.replicas, "", self.pod());
        if self.running.claim.is_none()
            && let Some(spec) = members.get_mut("spec")
        {
            // A member that comes back without its data is refused by the others: no edit may do that to one after the other.
            set(spec, "updateStrategy", json!({"type": "OnDelete"}));
        }
        members
    }

    fn pod(&self) -> Value {
        let class = &self.members.seen.class;
        let probe = |path: &str| json!({"path": path, "port": "metrics"});
        let mut mounts = vec![json!({"name": self.members.data(), "mountPath": "/var/lib/etcd"})];
        let mut volumes: Vec<Value> = self.members.data_in_pod().into_iter().collect();
        for (name, secret) in [(CLIENT_TLS, self.client_secret()), (PEER_TLS, self.peer_secret())] {
            if let Some(secret) = secret {
                mounts.push(json!({"name": name, "mountPath": format!("/etc/etcd/{name}"), "readOnly": true}));
                volumes.push(json!({"name": name, "secret": {"secretName": secret, "defaultMode": 0o440}}));
            }
        }
        json!({
            "containers": [{
                "name": "etcd",
                "image": class.image,
                "imagePullPolicy": class.image_pull_policy,
                "command": ["etcd"],
                "args": self.flags(),
                "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                "ports": [
                    {"name": "client", "containerPort": CLIENT_PORT, "protocol": "TCP"},
                    {"name": "peer", "containerPort": PEER_PORT, "protocol": "TCP"},
                    {"name": "metrics", "containerPort": METRICS_PORT, "protocol": "TCP"},
                ],
                // Ten minutes to read a large log. A member that waits for others answers for itself.
                "startupProbe": {"httpGet": probe(ITSELF), "periodSeconds": 5, "timeoutSeconds": 5, "failureThreshold": 120},
                "readinessProbe": {"httpGet": probe(CONSENSUS), "periodSeconds": 5, "timeoutSeconds": 5, "failureThreshold": 3},
                "livenessProbe": {"httpGet": probe(ITSELF), "periodSeconds": 10, "timeoutSeconds": 10, "failureThreshold": 6},
                "securityContext": {"readOnlyRootFilesystem": true},
                "volumeMounts": mounts,
            }],
            "volumes": volumes,
        })
    }

    fn flags(&self) -> Vec<String> {
        let (class, members) = (&self.members.seen.class, &self.members);
        let scheme = |tls: bool| if tls { "https" } else { "http" };
        let (client, peer) = (scheme(class.client_tls.is_some()), scheme(self.running.peer_secret.is_some()));
        let url = |host: &str| format!("{peer}://{}:{PEER_PORT}", members.host(host));
        let all: Vec<String> =
            members.names(self.running.replicas).map(|member| format!("{member}={}", url(&member))).collect();
        let me = "$(POD_NAME)";
        let token = format!("{}.{}", members.name, members.seen.database.namespace);
        let mut flags: Vec<String> = [
            ("name", me.to_owned()),
            ("data-dir", "/var/lib/etcd/data".to_owned()), // a file system of its own has more at its root
            ("initial-cluster", all.join(",")),
            ("initial-cluster-token", token),
            ("initial-cluster-state", "new".to_owned()), // counts for a member without data only
            ("initial-advertise-peer-urls", url(me)),
            ("listen-peer-urls", format!("{peer}://0.0.0.0:{PEER_PORT}")),
            ("advertise-client-urls", format!("{client}://{}:{CLIENT_PORT}", members.host(me))),
            ("listen-client-urls", format!("{client}://0.0.0.0:{CLIENT_PORT}")),
            ("listen-metrics-urls", format!("http://0.0.0.0:{METRICS_PORT}")),
        ]
        .into_iter()
        .map(|(flag, value)| format!("--{flag}={value}"))
        .collect();
        let mut more = |flag: &str, value: &str| flags.push(format!("--{flag}={value}"));
        if let Some(mode) = class.auto_compaction_mode {
            more("auto-compaction-mode", mode.text());
        }
        if let Some(kept) = &class.auto_compaction_retention {
            more("auto-compaction-retention", kept);
        }
        if let Some(bytes) = class.quota_backend_bytes {
            more("quota-backend-bytes", &bytes.to_string());
        }
        if let Some(tls) = &class.client_tls {
            more("cert-file", "/etc/etcd/client-tls/tls.crt");
            more("key-file", "/etc/etcd/client-tls/tls.key");
            if tls.client_cert_auth {
                more("client-cert-auth", "true");
                more("trusted-ca-file", "/etc/etcd/client-tls/ca.crt"); // alone it would ask for a certificate too
            }
        }
        if self.running.peer_secret.is_some() {
            more("peer-cert-file", "/etc/etcd/peer-tls/tls.crt");
            more("peer-key-file", "/etc/etcd/peer-tls/tls.key");
            more("peer-client-cert-auth", "true");
            more("peer-trusted-ca-file", "/etc/etcd/peer-tls/ca.crt");
        }
        flags
    }

    fn client_secret(&self) -> Option<&str> {
        self.members.seen.class.client_tls.as_ref().map(|tls| tls.secret_name.as_str())
    }

    /// The class's Secret while the cluster is one with TLS between members, else the one it was started with.
    fn peer_secret(&self) -> Option<&str> {
        let started = self.running.peer_secret.as_deref()?;
        Some(self.members.seen.class.peer_tls.as_ref().map_or(started, |tls| &tls.secret_name))
    }
}

/// Answers where a quorum does. A member whose quota is used up still serves reads, and what frees space.
const CONSENSUS: &str = "/health?exclude=NOSPACE";
/// Answers where the member itself does, whatever the others do: a restart mends no quorum.
const ITSELF: &str = "/health?serializable=true&exclude=NOSPACE&exclude=CORRUPT";
