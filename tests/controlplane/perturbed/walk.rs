//! The walk: a control plane, replicas of the controller that each have a proxy, and the steps of a database's life.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use harness::audit::table;
use harness::conditions::has;
use harness::controller::{Controller, Options, USER};
use harness::controlplane::ControlPlane;
use harness::dist;
use harness::eventually::{Eventually, eventually};
use harness::fixture::{Fixture, private_plane};
use harness::kubectl::Kubectl;
use harness::manifests::Manifests;
use harness::proxy::Proxy;
use harness::reads;
use kube::Client;
use kube::core::ApiResource;
use serde_json::{Value, json};

use crate::dump::{Dump, kinds};

/// How long a step may take under perturbation, on a busy machine.
const STEP_WITHIN: Duration = Duration::from_secs(300);
const NAMESPACE: &str = "walk";

/// What happens to the database, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Create,
    ScaleUp,
    ScaleDown,
    EditClass,
    /// Somebody deletes a child, and edits another.
    Drift,
    ReplacePlugin,
    Accept,
    Delete,
    /// Back to where the walk began.
    CleanUp,
}

pub const STEPS: [Step; 9] = [
    Step::Create,
    Step::ScaleUp,
    Step::ScaleDown,
    Step::EditClass,
    Step::Drift,
    Step::ReplacePlugin,
    Step::Accept,
    Step::Delete,
    Step::CleanUp,
];

/// A replica and what stands between it and the API server.
pub struct Replica {
    pub controller: Controller,
    pub proxy: Proxy,
}

/// A control plane to walk on.
pub struct Ground {
    pub plane: Arc<ControlPlane>,
    pub replicas: Vec<Replica>,
    kubectl: Kubectl,
    client: Client,
    kinds: Vec<ApiResource>,
    /// What stands after each step of an undisturbed walk.
    pub expected: Vec<Dump>,
}

impl Ground {
    /// So many replicas on a control plane of their own, and the undisturbed walk.
    pub async fn new(name: &str, replicas: usize) -> Ground {
        let plane = private_plane(name).await;
        let proxy = Proxy::start(&plane).await.unwrap();
        let options = Options { server: Some(proxy.address().to_owned()), ..Options::default() };
        let fixture =
            Fixture { plane: plane.clone(), controller: Controller::install(plane.clone(), options).await.unwrap() };
        fixture.install("raft").await.unwrap();
        let kubectl = fixture.kubectl();
        kubectl.run(["create", "namespace", NAMESPACE]).await.unwrap();
        let kubectl = kubectl.namespace(NAMESPACE);
        let client = plane.client().await.unwrap();
        let kinds = kinds(&client).await.unwrap();
        let mut all = vec![Replica { controller: fixture.controller, proxy }];
        for number in 1..replicas {
            let proxy = Proxy::start(&plane).await.unwrap();
            let controller = all[0].controller.another_through(number, Some(&proxy)).await.unwrap();
            all.insert(0, Replica { controller, proxy }); // the first is dropped last: the others use its token
        }
        let mut ground = Ground { plane, replicas: all, kubectl, client, kinds, expected: Vec::new() };
        for step in STEPS {
            ground.take(step).await.unwrap();
            let dump = ground.settled(step).await.unwrap();
            ground.expected.push(dump);
        }
        ground
    }

    /// Takes a step: what a person does, again and again until the API server has taken it.
    pub async fn take(&self, step: Step) -> Result<()> {
        let class = json!({"replicas": 1});
        match step {
            Step::Create => {
                let manifests = Manifests::raft(class).database("db", 2).to_string();
                self.persist(step, || self.kubectl.run_with(["apply", "-f", "-"], &manifests)).await
            }
            Step::ScaleUp => self.run(step, &["scale", "database/db", "--replicas=3"]).await,
            Step::ScaleDown => self.run(step, &["scale", "database/db", "--replicas=1"]).await,
            Step::EditClass => {
                let patch = r#"{"spec":{"electionTimeout":"7s"}}"#;
                self.run(step, &["patch", "raftstorageclass/raft", "--type=merge", "-p", patch]).await
            }
            Step::Drift => {
                let patch = r#"{"spec":{"maxUnavailable":0}}"#;
                self.run(step, &["patch", "poddisruptionbudget/db-1", "--type=merge", "-p", patch]).await?;
                self.run(step, &["delete", "service/db-1", "--ignore-not-found", "--wait=false"]).await
            }
            Step::ReplacePlugin => self.replace_plugin(&crate::plugins::one_that_restarts_pods()).await,
            Step::Accept => {
                self.persist(step, || async {
                    let database = self.database().await?;
                    let conditions = database["status"]["conditions"].as_array().into_iter().flatten();
                    let message = conditions.filter_map(|it| it["message"].as_str()).find(|it| it.contains("/accept="));
                    let message = message.unwrap_or_default();
                    let hash =
                        message.split("cloud.atomix.io/accept=").nth(1).and_then(|rest| rest.split_whitespace().next());
                    let accept =
                        format!("cloud.atomix.io/accept={}", hash.with_context(|| format!("nothing to accept: {message}"))?);
                    self.kubectl.run(["annotate", "database/db", "--overwrite", &accept]).await
                })
                .await
            }
            Step::Delete => self.run(step, &["delete", "database/db", "--ignore-not-found", "--wait=false"]).await,
            Step::CleanUp => {
                let left = "persistentvolumeclaims,raftstorageclasses";
                self.run(step, &["delete", left, "--all", "--wait=false"]).await?;
                self.replace_plugin(&std::fs::read(dist::wasm("raft"))?).await
            }
        }
    }

    /// Waits until an undisturbed step has ended: three seconds in which nothing changes, in the state that it is to end in, and nothing
    /// goes on by itself.
    async fn settled(&self, step: Step) -> Result<Dump> {
        let reason = match step {
            Step::Delete | Step::CleanUp => None,
            Step::ReplacePlugin => Some(("Accepted", "Held")),
            _ => Some(("Progressing", "")),
        };
        eventually(STEP_WITHIN, &format!("{step:?} ends"), || async {
            let before = self.dump().await?;
            tokio::time::sleep(Duration::from_secs(3)).await; // nothing announces that nothing comes
            let after = self.dump().await?;
            let difference = before.difference(&after);
            let holds = match reason {
                Some((type_, reason)) => has(&self.database().await?, type_, "False", reason),
                None => true,
            };
            let holds = holds && !after.holds(r#""type": "Reconciling""#);
            Ok(if difference.is_empty() && holds { Eventually::Now(after) } else { Eventually::NotYet(difference) })
        })
        .await
    }

    /// Waits until a step has ended as the undisturbed one did.
    pub async fn ends_as_expected(&self, step: Step) -> Result<()> {
        let at = STEPS.iter().position(|it| *it == step).context("a step of the walk")?;
        let sentence = format!("{step:?} ends as it did undisturbed");
        let seen = std::sync::Mutex::new(String::new());
        let ended = eventually(STEP_WITHIN, &sentence, || async {
            let difference = self.expected[at].difference(&self.dump().await?);
            seen.lock().unwrap().clone_from(&difference);
            Ok(Eventually::when(difference.is_empty(), || difference))
        });
        if let Err(error) = ended.await {
            let seen = seen.into_inner().unwrap(); // the last look may have been cut off
            let logs: Vec<String> = self.replicas.iter().map(|replica| replica.controller.log_tail(25)).collect();
            let events = self.kubectl.run(["get", "events"]).await.unwrap_or_default();
            bail!("{error:#}\n{seen}\n--- events\n{events}\n--- logs\n{}", logs.join("\n---\n"));
        }
        Ok(())
    }

    /// Lets everything pass, and waits for two seconds in which the controllers write nothing.
    pub async fn is_silent(&self) {
        self.replicas.iter().for_each(|replica| replica.proxy.pass_everything());
        let silent = eventually(STEP_WITHIN, "nothing is written any more", || async {
            let mark = self.plane.audit().mark(&self.plane).await?;
            tokio::time::sleep(Duration::from_secs(2)).await; // nothing announces that nothing comes
            let requests = self.plane.audit().since(&self.plane, mark).await?;
            let writes: Vec<_> =
                requests.into_iter().filter(|it| it.user == USER && it.writes() && it.resource != "leases").collect();
            Ok(Eventually::when(writes.is_empty(), || table(&writes)))
        });
        silent.await.unwrap();
    }

    /// The resourceVersion of the Lease of the leader.
    pub async fn lease_version(&self) -> Result<String> {
        let admin = Kubectl::new(&self.plane).namespace("kube-system");
        admin.run(["get", "lease/atomix-controller", "-o", "jsonpath={.metadata.resourceVersion}"]).await
    }

    async fn database(&self) -> Result<Value> {
        reads::one(&self.client, NAMESPACE, "database/db").await
    }

    async fn dump(&self) -> Result<Dump> {
        Dump::take(&self.client, NAMESPACE, &self.kinds).await
    }

    /// Replaces the plugin's bytes, and waits until they serve.
    pub async fn replace_plugin(&self, bytes: &[u8]) -> Result<()> {
        self.overwrite_plugin(bytes).await?;
        let digest = atomix_sandbox::digest_of(bytes);
        let serves = || async {
            let found = reads::one(&self.client, "kube-system", "storageplugin/raft").await?["status"]["digest"].take();
            Ok(Eventually::when(found == digest, || found.to_string()))
        };
        eventually(STEP_WITHIN, "the bytes serve", serves).await
    }

    /// Replaces the plugin's bytes, whatever becomes of them.
    pub async fn overwrite_plugin(&self, bytes: &[u8]) -> Result<()> {
        let admin = Kubectl::new(&self.plane).namespace("kube-system");
        let patch = json!({"binaryData": {"plugin.wasm.gz": null, "plugin.wasm": k8s_openapi::ByteString(bytes.to_vec())}})
            .to_string();
        let args = ["patch", "configmap/atomix-plugin-raft", "--type=merge", "--patch-file=/dev/stdin"];
        self.persist(Step::ReplacePlugin, || admin.run_with(args, &patch)).await
    }

    async fn run(&self, step: Step, args: &[&str]) -> Result<()> {
        self.persist(step, || self.kubectl.run(args.iter().copied())).await
    }

    /// Does it until it is done: the API server may be away, and the webhook with the controller.
    async fn persist<F: Future<Output = Result<String>>>(&self, step: Step, deed: impl Fn() -> F) -> Result<()> {
        let done = || async { deed().await.map(|_| Eventually::Now(())) };
        eventually(STEP_WITHIN, &format!("{step:?} is taken"), done).await
    }

    /// Gives the Lease up for a leader that was killed, so that the next one need not wait until it has run out.
    pub async fn release_lease(&self) {
        let admin = Kubectl::new(&self.plane).namespace("kube-system");
        let _ = admin.run(["delete", "lease/atomix-controller", "--ignore-not-found"]).await;
    }
}
