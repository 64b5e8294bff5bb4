//! Installing and removing works as documented: the chart's release, the manifests, packed plugins.

use std::path::Path;
use std::process::Command;

use harness::controller::{Controller, Options};
use harness::controlplane::{ADMIN, ControlPlane};
use harness::fixture::{Fixture, Namespace, private_fixture, private_plane};
use harness::hostile::guest::{Guest, descriptor, plan};
use harness::kubectl::Kubectl;
use harness::manifests::Manifests;
use harness::{assets, dist, paths};
use serde_json::{Value, json};

/// What the chart adds to each definition of the manifest.
const KEEP: &str = "  annotations:\n    helm.sh/resource-policy: keep\n";

fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn one_database() -> Manifests {
    Manifests::raft(json!({"replicas": 1})).database("db", 1)
}

/// What must outlive the controller, by name and uid.
async fn running(ns: &Namespace<'_>) -> Vec<String> {
    let kinds = "databases,partitions,raftstorageclasses,statefulsets,services,configmaps,pods";
    let uids = "jsonpath={range .items[*]}{.kind} {.metadata.name} {.metadata.uid}{\"\\n\"}{end}";
    ns.kubectl(["get", kinds, "-o", uids]).await.lines().map(str::to_owned).collect()
}

/// Lets the garbage collector go over what lost its owner: what it takes is gone once it took an object made for that.
async fn collected(ns: &Namespace<'_>) {
    let owner =
        json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "nobody", "uid": "00000000-0000-0000-0000-000000000000"}]);
    let orphan = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "orphan", "ownerReferences": owner}});
    ns.create(&orphan.to_string()).await;
    ns.wait_gone("configmap/orphan").await;
}

/// Where the API server finds the conversion webhook: by the Service that the manifest names, or by the address of a process. Both
/// together are invalid, so that one takes the other's place.
async fn convert_at(plane: &ControlPlane, client_config: Value) {
    let patch = json!([{"op": "replace", "path": "/spec/conversion/webhook/clientConfig", "value": client_config}]);
    let patch = ["patch", "crd/databases.cloud.atomix.io", "--type=json", "-p", &patch.to_string()];
    Kubectl::new(plane).run(patch).await.unwrap();
    let review = client_config.get("url").map_or_else(
        || json!({"service": {"name": "atomix-controller", "namespace": "kube-system", "path": "/validate", "port": 443}}),
        |url| json!({"url": url}),
    );
    let patch = json!([{"op": "replace", "path": "/webhooks/0/clientConfig", "value": review}]).to_string();
    let patch = ["patch", "validatingwebhookconfiguration/atomix-controller", "--type=json", "-p", &patch];
    Kubectl::new(plane).run(patch).await.unwrap();
}

fn service() -> Value {
    json!({"service": {"name": "atomix-controller", "namespace": "kube-system", "path": "/convert", "port": 443}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_helm_release_that_goes_leaves_every_database_and_comes_back_to_it() {
    dist::build_unless_prebuilt().unwrap();
    let program = assets::helm().unwrap();
    let plane = private_plane("helm").await;
    let (home, kubeconfig) = (plane.dir().to_owned(), plane.kubeconfig(ADMIN));
    let helm = |args: &[&str]| {
        let mut command = Command::new(&program);
        command.arg("--kubeconfig").arg(&kubeconfig).arg("--namespace=kube-system").args(args);
        printed(command.env_remove("KUBECONFIG").env("HOME", &home))
    };
    let chart = dist::file("helm/atomix-controller").display().to_string();
    // As it was installed from a chart that did not keep the definitions yet.
    let (older, template) = (home.join("older-chart"), "templates/atomix-controller.yaml");
    std::fs::create_dir_all(older.join("templates")).unwrap();
    for name in ["Chart.yaml", "values.yaml", template] {
        let text = std::fs::read_to_string(Path::new(&chart).join(name)).unwrap();
        std::fs::write(older.join(name), text.replace(KEEP, "")).unwrap();
    }
    helm(&["install", "atomix-controller", &older.display().to_string()]);
    helm(&["upgrade", "atomix-controller", &chart]);
    convert_at(&plane, json!({"url": "https://127.0.0.1:1"})).await;
    let controller = Controller::install(plane.clone(), Options::default()).await.unwrap(); // as a process: the chart's pods are played
    let fixture = Fixture { plane: plane.clone(), controller };
    fixture.install("raft").await.unwrap();
    let ns = fixture.namespace("helm").await;
    ns.create_ready(&one_database()).await;
    let before = running(&ns).await;
    assert!(before.len() >= 8, "{before:?}");

    fixture.controller.stop().await.unwrap();
    convert_at(&plane, service()).await;
    let output = helm(&["uninstall", "atomix-controller"]);
    assert!(output.contains("kept due to the resource policy") && output.contains("databases.cloud.atomix.io"), "{output}");
    ns.kubectl(["wait", "--for=delete", "deployment/atomix-controller", "--namespace=kube-system", "--timeout=60s"]).await;
    collected(&ns).await;
    assert_eq!(running(&ns).await, before, "everything runs on");

    helm(&["install", "atomix-controller", &chart]);
    drop(fixture);
    convert_at(&plane, json!({"url": "https://127.0.0.1:1"})).await;
    let controller = Controller::install(plane.clone(), Options::default()).await.unwrap();
    let fixture = Fixture { plane: plane.clone(), controller };
    let ns = fixture.existing("helm").await;
    ns.kubectl(["scale", "database/db", "--replicas=2"]).await;
    ns.until("database/db", "the controller is at work again", |found| {
        found.iter().any(|db| db["status"]["ready"] == "2/2")
    })
    .await;
    let after = running(&ns).await;
    assert!(before.iter().all(|object| after.contains(object)), "{before:?} {after:?}");
    convert_at(&plane, service()).await;
    helm(&["upgrade", "atomix-controller", &chart]);
    let after = running(&ns).await;
    assert!(before.iter().all(|object| after.contains(object)), "{before:?} {after:?}");
}

#[tokio::test]
async fn the_controller_can_be_deleted_without_its_definitions() {
    let fixture = private_fixture("uninstall").await;
    fixture.install("raft").await.unwrap();
    let ns = fixture.namespace("uninstall").await;
    ns.create_ready(&one_database()).await;
    let before = running(&ns).await;
    fixture.controller.stop().await.unwrap();
    let admin = fixture.kubectl();
    for (flag, file, label) in [
        ("-f", dist::file("atomix-controller.yaml"), "app.kubernetes.io/name=atomix-controller"),
        ("-k", dist::file("kustomize"), "app.kubernetes.io/name=atomix-controller"),
        ("-f", dist::plugin("raft"), "storage.cloud.atomix.io/plugin=raft"),
    ] {
        let file = file.display().to_string();
        let output = admin.run(["delete", flag, &file, "--selector", label, "--ignore-not-found"]).await.unwrap();
        assert!(!output.contains("customresourcedefinition"), "{output}");
    }
    for gone in ["clusterrole/atomix-controller", "clusterrole/atomix-plugin-raft"] {
        let found = admin.run(["get", gone, "--ignore-not-found"]).await.unwrap();
        assert_eq!(found, "", "it was deleted");
    }
    collected(&ns).await;
    assert_eq!(running(&ns).await, before, "everything runs on");
}

/// The plugin `web` with bytes in it that cannot be compressed, of a size that no annotation holds.
fn large(seed: u64) -> Vec<u8> {
    const NOISE: usize = 400_000;
    let mut bytes = std::fs::read(dist::wasm("web-guest")).unwrap();
    let (mut state, mut section) = (seed, vec![1, b'x']); // a custom section: the length of its name, the name, and anything
    for _ in 0..NOISE {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
        section.push((state >> 56) as u8);
    }
    bytes.push(0);
    let mut length = section.len();
    while length >= 0x80 {
        bytes.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend(section);
    bytes
}

#[tokio::test]
async fn no_plugin_overwrites_the_definition_of_another_ones_classes() {
    const MARK: &str = "storage.cloud.atomix.io/plugin";
    let fixture = private_fixture("definitions").await;
    let admin = fixture.kubectl();
    fixture.install("raft").await.unwrap();
    let definition = ["get", "customresourcedefinition/raftstorageclasses.storage.cloud.atomix.io", "-o", "json"];
    let before: Value = serde_json::from_str(&admin.run(definition).await.unwrap()).unwrap();
    let file = paths::state().join("tests/of-another-name.wasm");
    let other = descriptor("other", "RaftStorageClass");
    std::fs::write(&file, Guest::new(&other, &Ok(plan("default", "db", []))).wasm()).unwrap();
    let packed = dist::pack(&file).unwrap();
    assert!(packed.contains("name: raftstorageclasses.storage.cloud.atomix.io"), "it has the plural of raft's: {packed}");
    for args in
        [&["apply", "-f", "-"][..], &["apply", "--server-side", "--force-conflicts", "-f", "-"], &["replace", "-f", "-"]]
    {
        let refused = admin.run_with(args.iter().copied(), &packed).await.unwrap_err().to_string();
        assert!(refused.contains("is of plugin raft, and plugin other would overwrite it"), "{refused}");
        let after: Value = serde_json::from_str(&admin.run(definition).await.unwrap()).unwrap();
        assert_eq!(after["spec"], before["spec"], "{args:?}");
        assert_eq!(after["metadata"]["annotations"][MARK], before["metadata"]["annotations"][MARK], "{args:?}");
    }
    // The way out that the message names; an update of a plugin's own definition is none of this.
    let unmark = ["annotate", definition[1], &format!("{MARK}-")];
    admin.run(unmark).await.unwrap();
    fixture.install("raft").await.unwrap();
    admin.run(unmark).await.unwrap();
    admin.run_with(["apply", "--server-side", "--force-conflicts", "-f", "-"], &packed).await.unwrap();
    let after: Value = serde_json::from_str(&admin.run(definition).await.unwrap()).unwrap();
    assert_eq!(after["metadata"]["annotations"][MARK], "other");
}

#[tokio::test]
async fn a_large_plugin_is_installed_and_upgraded_by_the_command_that_its_manifest_names() {
    let fixture = private_fixture("large").await;
    let admin = fixture.kubectl();
    let ns = fixture.namespace("large").await;
    let pack = |name: &str, bytes: &[u8]| {
        let file = paths::state().join(format!("tests/{name}.wasm"));
        std::fs::write(&file, bytes).unwrap();
        dist::pack(&file).unwrap()
    };
    let (small, first, second) = (
        std::fs::read_to_string(dist::plugin("web")).unwrap(),
        pack("large-first", &large(1)),
        pack("large-second", &large(2)),
    );
    let named = "kubectl apply --server-side --force-conflicts -f ";
    let words: Vec<&str> = ["apply", "--server-side", "--force-conflicts", "-f", "-"].to_vec();
    assert!(first.lines().take_while(|line| line.starts_with('#')).any(|line| line.contains(named)), "{}", &first[..400]);
    let refused = admin.run_with(["apply", "-f", "-"], &first).await.unwrap_err().to_string();
    assert!(refused.contains("Too long"), "a plain apply does not do: {refused}");
    // All but the ConfigMap was there. Without --ignore-not-found kubectl would fail for that one and wait for none.
    admin.run_with(["delete", "--ignore-not-found", "-f", "-"], &first).await.unwrap();
    let served = |bytes: Vec<u8>| {
        let (admin, digest) = (&admin, atomix_sandbox::digest_of(&bytes));
        let ns = &ns;
        async move {
            ns.eventually("these bytes serve", || async {
                let what = [
                    "get",
                    "storageplugin/web",
                    "--namespace=kube-system",
                    "-o",
                    "jsonpath={.status.phase} {.status.digest}",
                ];
                let found = admin.run(what).await?;
                Ok(harness::eventually::Eventually::when(found == format!("Serving {digest}"), || found))
            })
            .await;
        }
    };
    // However it was installed, it is upgraded by the same command.
    for install in [&["create", "-f", "-"][..], &["apply", "-f", "-"], &words] {
        admin.run_with(install.iter().copied(), &small).await.unwrap();
        served(std::fs::read(dist::wasm("web-guest")).unwrap()).await;
        for (text, bytes) in
            [(&first, large(1)), (&second, large(2)), (&small, std::fs::read(dist::wasm("web-guest")).unwrap())]
        {
            admin.run_with(words.iter().copied(), text).await.unwrap();
            served(bytes).await;
        }
        admin.run_with(["delete", "-f", "-"], &small).await.unwrap();
    }
}
