//! The flags of a control plane's programs.

use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::Result;

use super::ControlPlane;
use crate::{audit, kwok_nodes, pki, ports, real_nodes};

pub(super) fn etcd(plane: &ControlPlane) -> Vec<String> {
    let [client, peers] = plane.etcd;
    vec![
        format!("--data-dir={}", plane.dir.join("etcd").display()),
        "--unsafe-no-fsync".into(),
        format!("--listen-client-urls=http://127.0.0.1:{client}"),
        format!("--advertise-client-urls=http://127.0.0.1:{client}"),
        format!("--listen-peer-urls=http://127.0.0.1:{peers}"),
        format!("--initial-advertise-peer-urls=http://127.0.0.1:{peers}"),
        format!("--initial-cluster=default=http://127.0.0.1:{peers}"),
    ]
}

pub(super) fn api_server(plane: &ControlPlane) -> Result<Vec<String>> {
    let dir = &plane.dir;
    let policy = dir.join("audit-policy.yaml");
    pki::write(&policy, audit::POLICY)?;
    let pki = dir.join("pki");
    let mut flags = vec![
        format!("--etcd-servers=http://127.0.0.1:{}", plane.etcd[0]),
        format!("--secure-port={}", plane.port),
        "--service-cluster-ip-range=10.96.0.0/16".into(),
        format!("--tls-cert-file={}", pki.join("apiserver.crt").display()),
        format!("--tls-private-key-file={}", pki.join("apiserver.key").display()),
        format!("--client-ca-file={}", pki.join("ca.crt").display()),
        "--authorization-mode=Node,RBAC".into(),
        "--allow-privileged=true".into(), // as most clusters: what refuses it is then the controller's policy
        // Beside the default ones; the second asks for a right of who names an owner that waits (blockOwnerDeletion).
        "--enable-admission-plugins=NodeRestriction,OwnerReferencesPermissionEnforcement".into(),
        format!("--service-account-key-file={}", pki.join("service-accounts.pub").display()),
        format!("--service-account-signing-key-file={}", pki.join("service-accounts.key").display()),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".into(),
        format!("--audit-policy-file={}", policy.display()),
        format!("--audit-log-path={}", dir.join("audit.log").display()),
        "--audit-log-maxsize=4096".into(), // megabytes; one file for a whole run
    ];
    let address = Ipv4Addr::LOCALHOST;
    flags.extend(match &plane.real {
        None => vec![
            format!("--bind-address={address}"),
            format!("--advertise-address={address}"),
            "--endpoint-reconciler-type=none".into(), // a loopback address may not be the endpoint of a Service
        ],
        Some(_) => vec![
            format!("--advertise-address={}", real_nodes::CONTROL_PLANE),
            // Webhooks are called at the addresses of their pods: no kube-proxy runs where the API server does.
            "--enable-aggregator-routing=true".into(),
            format!("--kubelet-client-certificate={}", pki.join("kubelet-client.crt").display()),
            format!("--kubelet-client-key={}", pki.join("kubelet-client.key").display()),
            "--kubelet-preferred-address-types=InternalIP".into(),
            // Pods leave a lost node after five seconds, not five minutes.
            "--default-not-ready-toleration-seconds=5".into(),
            "--default-unreachable-toleration-seconds=5".into(),
        ],
    });
    Ok(flags)
}

pub(super) fn controller_manager(plane: &ControlPlane) -> Result<Vec<String>> {
    let pki = plane.dir.join("pki");
    let mut flags = component(plane, "kube-controller-manager")?;
    flags.extend([
        format!("--service-account-private-key-file={}", pki.join("service-accounts.key").display()),
        format!("--root-ca-file={}", pki.join("ca.crt").display()),
        "--use-service-account-credentials".into(),
        "--concurrent-statefulset-syncs=20".into(),
        "--concurrent-service-endpoint-syncs=20".into(),
    ]);
    if plane.real.is_some() {
        // A lost node shows in eight seconds, not fifty.
        flags.extend(["--node-monitor-period=1s".into(), "--node-monitor-grace-period=8s".into()]);
    }
    Ok(flags)
}

pub(super) fn component(plane: &ControlPlane, name: &str) -> Result<Vec<String>> {
    let kubeconfig = plane.dir.join(format!("{name}.kubeconfig")).display().to_string();
    Ok(vec![
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        "--leader-elect=false".into(),
        "--kube-api-qps=500".into(), // the default holds it back by four seconds at the start, and for minutes with many pods
        "--kube-api-burst=1000".into(),
        "--bind-address=127.0.0.1".into(),
        format!("--secure-port={}", ports::free()?),
    ])
}

pub(super) fn kwok(dir: &Path, stages: &Path) -> Result<Vec<String>> {
    Ok(vec![
        format!("--kubeconfig={}", dir.join("kwok.kubeconfig").display()),
        format!("--config={}", stages.display()),
        format!("--manage-nodes-with-annotation-selector={}", kwok_nodes::MARK),
        "--cidr=10.128.0.1/16".into(),
        "--node-ip=10.127.0.1".into(),
        "--node-lease-duration-seconds=40".into(),
        format!("--server-address=127.0.0.1:{}", ports::free()?),
    ])
}
