//! etcd: three clusters of three, as in the example; and one that serves no client without a certificate.

use std::time::Duration;

use harness::eventually::{Eventually, eventually};
use harness::fixture::fixture_on_nodes;
use harness::paths;
use harness::pki::{Authority, base64};
use serde_json::json;

use super::storage::{Running, Storage};

/// How etcd is written and read: its API as JSON over HTTP.
pub fn etcd() -> Storage {
    Storage {
        name: "etcd",
        port: 2379,
        write: |at, key, value| {
            let (key, value) = (base64(key.as_bytes()), base64(value.as_bytes()));
            ["post".into(), format!("http://{at}/v3/kv/put"), format!(r#"{{"key":"{key}","value":"{value}"}}"#)].into()
        },
        read: |at, key| {
            let key = base64(key.as_bytes());
            ["post".into(), format!("http://{at}/v3/kv/range"), format!(r#"{{"key":"{key}"}}"#)].into()
        },
        shown: |value| base64(value.as_bytes()),
        secret: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_keeps_what_was_written_whatever_happens_to_it() {
    let nodes = fixture_on_nodes().await;
    let etcd = Running::start(&nodes, etcd()).await;
    etcd.all_write(3).await;
    etcd.all_read(3).await;
    for partition in 1..=3 {
        for member in 0..3 {
            let host = format!("etcd-{partition}-{member}.etcd-{partition}-hs.etcd.svc.cluster.local");
            etcd.reads(&host, "first", &format!("of partition {partition}")).await;
        }
    }
    etcd.silent().await;

    // A process is killed.
    etcd.listen().await;
    etcd.kill_process("etcd-1-0").await;
    let reasons = etcd.reported_missing().await;
    etcd.ready().await;
    assert!(reasons.iter().all(|reason| reason.contains("etcd-1")), "{reasons:?}");
    etcd.all_read(3).await;

    // A pod is deleted.
    etcd.listen().await;
    etcd.kubectl(&["delete", "pod", "etcd-2-1"]).await.unwrap();
    etcd.reported_missing().await;
    etcd.ready().await;
    etcd.all_read(3).await;

    // A member of each partition is replaced as the plugin's page has it: one whose claim was lost before, and one that still has it.
    etcd.loses_its_claim("etcd-1-0").await;
    etcd.wait_for_reason(1, "DataLost").await;
    etcd.replace_by_the_page("etcd-1-0").await;
    etcd.replace_by_the_page("etcd-2-0").await;
    for at in ["etcd-1-0.etcd-1-hs", "etcd-2-0.etcd-2-hs"] {
        etcd.reads(at, "first", &format!("of partition {}", &at[5..6])).await;
    }
    etcd.all_read(3).await;

    // A node loses power, with a member of each partition or so; the quorum goes on. It comes back.
    etcd.listen().await;
    let node = etcd.cut_node_of("etcd-3-0").await;
    etcd.reported_missing().await;
    for partition in 1..=3 {
        etcd.write(partition, "dark", "written while a node was dark").await;
    }
    etcd.start_node(node);
    etcd.ready().await;
    etcd.all_read(3).await;
    for partition in 1..=3 {
        etcd.reads(&etcd.service(partition), "dark", "written while a node was dark").await;
    }

    // A whole set is deleted: drift, repaired at once, on the volumes that were kept.
    let claims = etcd.claims().await;
    assert_eq!(claims.len(), 9);
    etcd.listen().await;
    etcd.kubectl(&["delete", "statefulset", "etcd-1"]).await.unwrap();
    etcd.reported_missing().await;
    etcd.ready().await;
    assert_eq!(etcd.claims().await, claims);
    etcd.all_read(3).await;

    // Another image: members restart one at a time, and writes go on.
    let class = "etcdstorageclass/etcd";
    etcd.kubectl(&["patch", class, "--type=merge", "--patch", r#"{"spec":{"image":"quay.io/coreos/etcd:v3.6.8-again"}}"#])
        .await
        .unwrap();
    for round in 0.. {
        // A request that a stopping member had accepted is sent again, as every client does.
        for partition in 1..=3 {
            etcd.write(partition, "rolling", &round.to_string()).await;
        }
        let (rolled, up) = etcd.members_with("-again").await;
        assert!(up.iter().all(|up| *up >= 2), "each keeps its quorum: {up:?}");
        if rolled == 9 {
            break;
        }
        assert!(round < 1000, "the new image reaches {rolled} of 9 members");
    }
    etcd.ready().await;
    etcd.all_read(3).await;

    // Down to one partition and up again: the volumes stay and are taken up again.
    etcd.kubectl(&["scale", "database/etcd", "--replicas=1"]).await.unwrap();
    etcd.ns.wait_gone("statefulset/etcd-3").await;
    etcd.ns.wait_gone("pod/etcd-3-0").await;
    etcd.ready().await;
    assert_eq!(etcd.claims().await, claims);
    etcd.all_read(1).await;
    etcd.kubectl(&["scale", "database/etcd", "--replicas=4"]).await.unwrap();
    etcd.ready().await;
    etcd.all_read(3).await;
    etcd.write(4, "first", "of partition 4").await;
    etcd.silent().await;

    // Deleted: all goes but the volumes.
    etcd.kubectl(&["delete", "database/etcd"]).await.unwrap();
    etcd.ns.wait_gone("statefulset/etcd-1").await;
    etcd.ns.wait_gone("service/etcd-1").await;
    let kept = etcd.claims().await;
    assert_eq!(kept.len(), 12);
    assert!(claims.iter().all(|claim| kept.contains(claim)));
    etcd.silent().await;
}

/// Repairs by hand, as the plugin's page has them.
impl Running {
    /// A person deletes a member's claim, and its pod, so that Kubernetes makes both anew.
    async fn loses_its_claim(&self, member: &str) {
        let claim = format!("data-{member}");
        let before = self.ns.one(&format!("pvc/{claim}")).await["metadata"]["uid"].clone();
        self.kubectl(&["delete", "pvc", &claim, "--wait=false"]).await.unwrap();
        self.kubectl(&["delete", "pod", member]).await.unwrap();
        self.ns
            .until(&format!("pvc/{claim}"), "there is another claim", |found| {
                found.iter().any(|claim| claim["metadata"]["uid"] != before)
            })
            .await;
    }

    /// Waits until a partition's reason is this one; returns the Database's status.
    async fn wait_for_reason(&self, partition: usize, reason: &str) -> String {
        let name = format!("{}-{partition}", self.storage.name);
        let sentence = format!("{name} reports {reason}");
        let done = eventually(Duration::from_secs(360), &sentence, || async {
            let status = self.kubectl(&["get", &self.database(), "-o", "jsonpath={.status}"]).await?;
            let holds = status.contains(reason) && status.contains(&name);
            Ok(if holds { Eventually::Now(status) } else { Eventually::NotYet(status) })
        });
        self.ns.must(done.await).await
    }

    /// The commands of "Replace a member", word for word, for this member instead of that of the page.
    async fn replace_by_the_page(&self, member: &str) {
        let page = std::fs::read_to_string(paths::root().join("plugins/etcd/README.md")).unwrap();
        let (_, section) = page.split_once("### Replace a member").unwrap();
        let (section, _) = section.split_once("\n## ").unwrap();
        let set = &member[..member.len() - 2];
        let mut number = String::new();
        for line in section.lines().filter_map(|line| line.strip_prefix("kubectl ")) {
            let line = line.replace("NAMESPACE", &self.ns.name).replace("NUMBER", &number);
            let line = line.replace("etcd-1-hs", &format!("{set}-hs")).replace("etcd-1-0", member);
            let line = line.replace("etcd-1-1", &format!("{set}-1"));
            let command: Vec<_> = line.split(' ').collect();
            // What etcd refuses because a member has just connected is sent again, as the page has it.
            let done = eventually(Duration::from_secs(240), &line, || async {
                Ok(match self.kubectl(&command).await {
                    Ok(printed) => Eventually::Now(printed),
                    Err(error) => match format!("{error:#}") {
                        refused if refused.contains("etcdserver: unhealthy cluster") => Eventually::NotYet(refused),
                        other => Eventually::Never(other),
                    },
                })
            });
            let printed = self.ns.must(done.await).await;
            if line.contains("etcdctl member list") {
                let of_member = printed.lines().find(|line| line.contains(&format!(", {member}, "))).expect("it is listed");
                number = of_member.split(',').next().unwrap().to_owned();
            }
        }
        self.ready().await;
        self.ns.wait(&format!("pod/{member}"), "Ready").await;
    }

    /// How many members run an image that ends like this; and how many of each of the three partitions run and are not being
    /// stopped.
    async fn members_with(&self, ending: &str) -> (usize, [usize; 3]) {
        let (mut with, mut up) = (0, [0; 3]);
        for pod in self.ns.get("pods").await.iter().filter(|pod| pod["metadata"]["name"] != "app") {
            with += usize::from(pod["spec"]["containers"][0]["image"].as_str().unwrap().ends_with(ending));
            let partition: usize = pod["metadata"]["labels"]["cluster"].as_str().unwrap().parse().unwrap();
            let runs = pod["status"]["containerStatuses"][0]["state"]["running"].is_object();
            up[partition - 1] += usize::from(runs && pod["metadata"]["deletionTimestamp"].is_null());
        }
        (with, up)
    }

    /// UIDs of the members' pods, by name.
    async fn pods(&self) -> Vec<String> {
        let pods = self.ns.get("pods").await;
        let members = pods.iter().filter(|pod| pod["metadata"]["name"] != "app");
        members.map(|pod| pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// The Secret of the members' certificates becomes another.
    async fn peers_become(&self, authorities: &[&Authority], certificate: &(String, String)) {
        let trusted: String = authorities.iter().map(|authority| authority.pem()).collect();
        let data = json!({"ca.crt": trusted, "tls.crt": certificate.0, "tls.key": certificate.1});
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "peers"}, "stringData": data});
        self.ns.apply(&secret.to_string()).await;
    }

    async fn restart_members(&self) {
        self.kubectl(&["rollout", "restart", "statefulset", "secured-1"]).await.unwrap();
    }

    async fn members_have_restarted(&self) {
        let done = self.kubectl(&["rollout", "status", "statefulset", "secured-1", "--timeout=240s"]).await;
        self.ns.must(done).await;
        self.ready().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_of_one_member_starts_without_its_data_only_when_a_person_lets_it() {
    let nodes = fixture_on_nodes().await;
    let tls = "  clientTls: {secretName: members, clientCertAuth: true}\n  peerTls: {secretName: peers}\n";
    let manifest = CLASS.replace("secured", "single").replace(tls, "  replicas: 1\n");
    let etcd = Running::start_as(&nodes, Storage { name: "single", ..etcd() }, "etcd-single", &manifest).await;
    etcd.all_write(1).await;
    etcd.kill_process("single-1-0").await;
    etcd.ready().await;
    etcd.all_read(1).await;

    etcd.loses_its_claim("single-1-0").await;
    let status = etcd.wait_for_reason(1, "DataLost").await;
    let (_, command) =
        status.split_once("kubectl -n etcd-single patch configmap single-1 ").expect("the way out is a command");
    assert!(command.starts_with("--type=merge -p '"), "{command}");
    let restarted = |found: &[serde_json::Value]| {
        found.iter().any(|pod| pod["status"]["containerStatuses"][0]["restartCount"].as_u64() >= Some(2))
    };
    etcd.ns.until("pod/single-1-0", "it keeps exiting", restarted).await;
    assert_eq!(etcd.kubectl(&["get", "partition/single-1", "-o", "jsonpath={.status.ready}"]).await.unwrap(), "false");

    let new = r#"{"data":{"initial-cluster-state":"new"}}"#;
    etcd.kubectl(&["patch", "configmap", "single-1", "--type=merge", "-p", new]).await.unwrap();
    etcd.ready().await;
    etcd.all_write(1).await;
    let state = ["get", "configmap/single-1", "-o", "jsonpath={.data.initial-cluster-state}"];
    let formed = |found: &[serde_json::Value]| found.iter().any(|map| map["data"]["initial-cluster-state"] == "existing");
    etcd.ns.until("configmap/single-1", "it is formed again", formed).await;
    assert_eq!(etcd.kubectl(&state).await.unwrap(), "existing");
    etcd.kubectl(&["delete", "database/single"]).await.unwrap();
}

/// Where certificates are for: names as the plugin's page has them.
const SECURED: &str = "etcd-secured";

/// The same over TLS, by names that certificates are for.
fn etcd_over_tls() -> Storage {
    fn url(at: &str, path: &str) -> String {
        format!("https://{}/v3/kv/{path}", at.replace(':', &format!(".{SECURED}.svc.cluster.local:")))
    }
    Storage {
        name: "secured",
        write: |at, key, value| {
            let (key, value) = (base64(key.as_bytes()), base64(value.as_bytes()));
            ["post".into(), url(at, "put"), format!(r#"{{"key":"{key}","value":"{value}"}}"#)].into()
        },
        read: |at, key| ["post".into(), url(at, "range"), format!(r#"{{"key":"{}"}}"#, base64(key.as_bytes()))].into(),
        secret: Some("program"),
        ..etcd()
    }
}

fn secret(name: &str, authority: &Authority, (certificate, key): (String, String)) -> String {
    let data = json!({"ca.crt": authority.pem(), "tls.crt": certificate, "tls.key": key});
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}).to_string()
}

const CLASS: &str = r"
apiVersion: storage.cloud.atomix.io/v1beta1
kind: EtcdStorageClass
metadata: {name: secured}
spec:
  clientTls: {secretName: members, clientCertAuth: true}
  peerTls: {secretName: peers}
  volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 64Mi}}}}
---
apiVersion: cloud.atomix.io/v1beta3
kind: Database
metadata: {name: secured}
spec:
  partitions: 1
  storageClass: {kind: EtcdStorageClass, name: secured}
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_with_certificates_answers_clients_that_have_one_and_no_others() {
    let authorities = paths::state().join("tests/etcd-secured");
    let (clients, peers) =
        (Authority::new(&authorities.join("clients")).unwrap(), Authority::new(&authorities.join("peers")).unwrap());
    let names = ["secured-1.etcd-secured.svc.cluster.local", "*.secured-1-hs.etcd-secured.svc.cluster.local"];
    let secrets = [
        secret("members", &clients, clients.members(&names).unwrap()),
        secret("peers", &peers, peers.members(&names).unwrap()),
        secret("program", &clients, clients.members(&[]).unwrap()),
    ];
    let manifest = format!("{}\n---{CLASS}", secrets.join("\n---\n"));
    let nodes = fixture_on_nodes().await;
    let etcd = Running::start_as(&nodes, etcd_over_tls(), SECURED, &manifest).await;
    etcd.all_write(1).await;
    for at in ["secured-1", "secured-1-0.secured-1-hs", "secured-1-1.secured-1-hs", "secured-1-2.secured-1-hs"] {
        etcd.reads(at, "first", "of partition 1").await;
    }

    // Members prove their identity to clients and to each other: neither port answers in plain text, nor a client without a
    // certificate, nor one with a certificate of another authority.
    for plain in ["http://secured-1:2379/version", "http://secured-1-0.secured-1-hs:2380/version"] {
        let answer = etcd.client(&["get".to_owned(), plain.to_owned()]).await;
        assert!(answer.is_err(), "{plain}: {answer:?}");
    }
    let etcdctl = |with: &[&'static str]| {
        let get = ["exec", "secured-1-0", "--", "etcdctl", "--command-timeout=5s", "--dial-timeout=5s", "get", "first"];
        let to = "--endpoints=https://secured-1.etcd-secured.svc.cluster.local:2379";
        get.into_iter().chain([to, "--cacert=/etc/etcd/client-tls/ca.crt"]).chain(with.iter().copied()).collect::<Vec<_>>()
    };
    let own = etcdctl(&["--cert=/etc/etcd/client-tls/tls.crt", "--key=/etc/etcd/client-tls/tls.key"]);
    assert!(etcd.kubectl(&own).await.unwrap().contains("of partition 1"));
    let foreign = etcdctl(&["--cert=/etc/etcd/peer-tls/tls.crt", "--key=/etc/etcd/peer-tls/tls.key"]);
    for refused in [etcdctl(&[]), foreign] {
        let answer = etcd.kubectl(&refused).await;
        assert!(answer.is_err(), "{refused:?}: {answer:?}");
    }

    // A member that was killed is accepted again.
    etcd.kill_process("secured-1-0").await;
    etcd.ready().await;
    etcd.reads("secured-1-0.secured-1-hs", "first", "of partition 1").await;

    // Certificates of another authority, all at once: the first member that restarts stays outside, and the rollout stops there.
    let others = Authority::new(&authorities.join("others")).unwrap();
    let (old, new) = (peers.members(&names).unwrap(), others.members(&names).unwrap());
    let pods = etcd.pods().await;
    etcd.peers_become(&[&others], &new).await;
    etcd.restart_members().await;
    let status = etcd.wait_for_reason(1, "secured-1-2 runs, and does not reach the others").await;
    assert!(status.contains("Renew certificates"), "{status}");
    assert_eq!(etcd.pods().await[..2], pods[..2], "the others run on");
    etcd.write(1, "outside", "written while a member was outside").await;

    // The order of the page: both authorities first. The member is started again, as its probe would do; the rollout goes on.
    etcd.peers_become(&[&peers, &others], &old).await;
    etcd.kubectl(&["delete", "pod", "secured-1-2"]).await.unwrap();
    etcd.members_have_restarted().await;
    etcd.peers_become(&[&peers, &others], &new).await;
    etcd.restart_members().await;
    etcd.members_have_restarted().await;
    etcd.peers_become(&[&others], &new).await;
    etcd.restart_members().await;
    etcd.members_have_restarted().await;
    etcd.all_read(1).await;
    etcd.reads("secured-1-2.secured-1-hs", "outside", "written while a member was outside").await;
    etcd.kubectl(&["delete", "database/secured"]).await.unwrap();
}
