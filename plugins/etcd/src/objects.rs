//! The objects of one cluster, as the YAML that they become. It decides nothing: what runs is given, the rest is
//! as the class has it.

use atomix_sdk::{Members, Reason, Seen, Value, duration_text, json, reason, set};

use crate::class::{CompactionMode, EtcdClass, RETENTION};
use crate::formed::STATE;
use crate::running::Running;

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

/// Variables that a class may not set, beside those that [`env_rule`] refuses.
pub const ENV: [&str; 1] = ["POD_NAME"];

/// Beginnings of the flags that a class may set by a variable: they tune how members work or narrow which certificates they
/// trust, and do not set where data lie, in which form, which members there are and where they listen. What is not among
/// them is refused, also what later versions of etcd bring. The list covers all flags of etcd 3.4 to 3.6.
const TUNING: [&str; 44] = [
    "auth-token",
    "backend-batch-",
    "backend-bbolt-freelist-type",
    "bcrypt-cost",
    "bootstrap-defrag-threshold-megabytes",
    "cipher-suites",
    "client-cert-allowed-",
    "client-crl-file",
    "compact-hash-check-",
    "compaction-",
    "corrupt-check-time",
    "cors",
    "distributed-tracing-",
    "downgrade-check-time",
    "election-timeout",
    "enable-distributed-tracing",
    "enable-grpc-gateway",
    "enable-lease-checkpoint",
    "enable-log-rotation",
    "enable-pprof",
    "feature-gates",
    "grpc-",
    "heartbeat-interval",
    "host-whitelist",
    "initial-corrupt-check",
    "initial-election-tick-advance",
    "log",
    "max-",
    "memory-mlock",
    "metrics",
    "peer-cert-allowed-",
    "peer-crl-file",
    "pre-vote",
    "raft-read-timeout",
    "raft-write-timeout",
    "snapshot-catchup-entries",
    "snapshot-count",
    "socket-reuse-",
    "stop-grpc-service-on-defrag",
    "tls-max-version",
    "tls-min-version",
    "txn-mode-write-with-shared-buffer",
    "warning-",
    "watch-progress-notify-interval",
];

/// etcd reads each flag from a variable too: refuses those that do more than tune.
pub fn env_rule(name: &str) -> Option<String> {
    let flag = name.strip_prefix("ETCD_")?.to_ascii_lowercase().replace('_', "-");
    let flag = flag.strip_prefix("experimental-").unwrap_or(&flag);
    if TUNING.iter().any(|begin| flag.starts_with(begin)) {
        return None;
    }
    Some(format!(
        "{name} is not taken: etcd's flags say where data lie, who the members are, where they listen and whom they trust, which is fixed \
         or has a field of the class; flags that only tune are accepted, such as ETCD_HEARTBEAT_INTERVAL"
    ))
}

/// One cluster, which is one partition, whose objects are to be planned.
pub struct Cluster<'a> {
    /// The members, which run alike.
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
            memory: running.memory(),
            claim: running.claim.as_ref(),
        };
        Self { members, running }
    }

    /// The Service that gives each member a name.
    pub fn peers(&self) -> Value {
        let service = self.members.peers(&[("peer", PEER_PORT), ("client", CLIENT_PORT)]);
        self.members.remembering(service)
    }

    /// The members, which run `image`.
    pub fn set(&self, image: &str) -> Value {
        let mut members = self.members.set_at_once(self.running.with.replicas, "", self.pod(image));
        if self.running.claim.is_none()
            && let Some(spec) = members.get_mut("spec")
        {
            // A member that comes back without its data is refused by the others: no edit may do that to one after the other.
            set(spec, "updateStrategy", json!({"type": "OnDelete"}));
        }
        members
    }

    fn pod(&self, image: &str) -> Value {
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
                "image": image,
                "imagePullPolicy": class.image_pull_policy,
                "command": ["etcd"],
                "args": self.flags(),
                "env": [
                    {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    // No flag, which would be the same for ever: read whenever the container starts.
                    {"name": "ETCD_INITIAL_CLUSTER_STATE", "valueFrom": {"configMapKeyRef": {"name": self.members.name, "key": STATE}}},
                ],
                "ports": [
                    {"name": "client", "containerPort": CLIENT_PORT, "protocol": "TCP"},
                    {"name": "peer", "containerPort": PEER_PORT, "protocol": "TCP"},
                    {"name": "metrics", "containerPort": METRICS_PORT, "protocol": "TCP"},
                ],
                // Twenty minutes to read a large log and to be sent what is missing. Then it is started again: what it read
                // when it started, such as certificates of authorities, may have been corrected since.
                "startupProbe": {"httpGet": probe(CONSENSUS), "periodSeconds": 5, "timeoutSeconds": 5, "failureThreshold": 240},
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
        let (client, peer) = (scheme(class.client_tls.is_some()), scheme(self.running.with.peer_secret.is_some()));
        let url = |host: &str| format!("{peer}://{}:{PEER_PORT}", members.host(host));
        let all: Vec<String> =
            members.names(self.running.with.replicas).map(|member| format!("{member}={}", url(&member))).collect();
        let me = "$(POD_NAME)";
        let token = format!("{}.{}", members.name, members.seen.database.namespace);
        let mut flags: Vec<String> = [
            ("name", me.to_owned()),
            ("data-dir", "/var/lib/etcd/data".to_owned()), // a volume with a file system of its own has other files at its root
            ("initial-cluster", all.join(",")),
            ("initial-cluster-token", token),
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
        // In one spelling, and without what is the default: an edit that changes nothing restarts nothing.
        let by_revision = class.auto_compaction_mode == Some(CompactionMode::Revision);
        if by_revision {
            more("auto-compaction-mode", "revision");
        }
        if let Some(kept) = &class.auto_compaction_retention {
            match RETENTION.read(kept).filter(|_| !by_revision) {
                Some(time) => more("auto-compaction-retention", &duration_text(time)),
                None => more("auto-compaction-retention", &kept.parse().unwrap_or(0_u64).to_string()),
            }
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
        if self.running.with.peer_secret.is_some() {
            more("peer-cert-file", "/etc/etcd/peer-tls/tls.crt");
            more("peer-key-file", "/etc/etcd/peer-tls/tls.key");
            more("peer-client-cert-auth", "true");
            more("peer-trusted-ca-file", "/etc/etcd/peer-tls/ca.crt");
        }
        flags
    }

    /// Why members that are gone are not made again: their data want the Secret they were started with, which the class names no more and
    /// no live StatefulSet holds, so that no plan may mount it.
    pub fn secret_that_nobody_names(&self) -> Option<Reason> {
        let Members { name, seen, .. } = &self.members;
        let secret = self.peer_secret().filter(|_| seen.class.peer_tls.is_none())?;
        seen.object("StatefulSet", name).is_none().then(|| {
            let what = format!(
                "{name} is gone and not made again: its members reach each other over TLS with Secret {secret}, and the class does not \
                 name it any more. Set spec.peerTls.secretName of the class to {secret}"
            );
            reason("SecretNotNamed", what)
        })
    }

    fn client_secret(&self) -> Option<&str> {
        self.members.seen.class.client_tls.as_ref().map(|tls| tls.secret_name.as_str())
    }

    /// The class's Secret while the cluster is one with TLS between members, else the one it was started with.
    fn peer_secret(&self) -> Option<&str> {
        let started = self.running.with.peer_secret.as_deref()?;
        Some(self.members.seen.class.peer_tls.as_ref().map_or(started, |tls| &tls.secret_name))
    }
}

/// Answers where a quorum does. A member whose quota is used up still serves reads, and what frees space.
const CONSENSUS: &str = "/health?exclude=NOSPACE";
/// Answers where the member itself does, whatever the others do: a restart restores no quorum.
const ITSELF: &str = "/health?serializable=true&exclude=NOSPACE&exclude=CORRUPT";
