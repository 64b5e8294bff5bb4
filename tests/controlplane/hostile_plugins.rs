//! Many hostile plugins at once: each is stopped and reported where its user looks, while others serve and databases become
//! ready; when they are gone, so is the memory that they took. Each kind of them by itself is tried in
//! `tests/offline/hostile`.

use std::collections::BTreeMap;

use atomix_model::limits;
use harness::conditions::{condition, has};
use harness::controlplane::ControlPlane;
use harness::dist;
use harness::eventually::Eventually;
use harness::fixture::{Fixture, Namespace, private_fixture};
use harness::hostile::guest::{Guest, descriptor, plan};
use harness::hostile::{component, guest, noise};
use harness::manifests::Manifests;
use serde_json::{Value, json};

/// Resident memory that may stay when all is gone, in kB: what an allocator keeps for the next time, three times what was measured.
const STAYS_KB_MAX: u64 = 32 << 10;
/// Resident memory at any moment, in kB, three times what was measured: bytes are tried in processes of their own, and a call's memory goes
/// with it.
const PEAK_KB_MAX: u64 = 200 << 10;

/// Bytes that never serve, each under the name of its plugin, and the end of the message about them.
fn refused() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let usual = |name: &str| Guest::new(&descriptor(name, &kind(name)), &Ok(plan("default", "db", [])));
    let torn = usual("x-torn").wasm();
    let mut secrets = descriptor("x-secrets", &kind("x-secrets"));
    secrets.emits.push(harness::hostile::guest::kind("", "Secret", "secrets"));
    vec![
        ("x-noise", noise(), "not a plugin: not a WebAssembly component"),
        ("x-torn", torn[..torn.len() / 2].to_vec(), "unexpected end"),
        ("x-bomb", gzip(&vec![0; 64 << 20]), "the plugin is over 8388608 bytes when decompressed, which is the limit"),
        ("x-import", guest("import"), "it imports wasi:clocks/wall-clock@0.2.0; a plugin may import nothing"),
        ("x-module", wat::parse_str("(module)").unwrap(), "and build again"),
        (
            "x-newer",
            component(r#"(instance $it) (export "atomix:storage/plugin@9.0.0" (instance $it))"#),
            "it exports atomix:storage/plugin@9.0.0; supported is atomix:storage/plugin@0.1.0",
        ),
        ("x-loop", guest("endless-loop"), "an endless loop, or far too much work"),
        (
            "x-memory",
            usual("x-memory").does("describe", "(drop (memory.grow (i32.const 9000))) (i32.const {describe})").wasm(),
            "bytes of memory; at most 134217728 are given",
        ),
        (
            "x-trap",
            usual("x-trap").does("describe", "(unreachable)").wasm(),
            "it trapped: unreachable code, as after a panic",
        ),
        (
            "x-name",
            usual("cache").wasm(),
            "it calls itself \"cache\", but ConfigMap x-name is labelled \"x-name\"; the two must be equal",
        ),
        (
            "x-kind",
            Guest::new(&descriptor("x-kind", "CacheStorageClass"), &Ok(plan("default", "db", []))).wasm(),
            "class kind CacheStorageClass is already served by plugin cache, which came first, and stays with it until its StoragePlugin is deleted",
        ),
        (
            "x-secrets",
            Guest::new(&secrets, &Ok(plan("default", "db", []))).wasm(),
            "it emits secrets, which no plugin may write",
        ),
        (
            "x-role",
            usual("x-role").wasm(),
            "its ClusterRole atomix-plugin-x-role does not exist, so it may write nothing; `atomix-controller plugin pack` prints it",
        ),
    ]
}

/// Guests that serve, whose plans are never written: each under the name of its plugin and of its database, and the message
/// about the plan.
fn unwritten(namespace: &str) -> Vec<(&'static str, Guest, &'static str)> {
    let with = |name: &str, more: Vec<Value>| Guest::new(&descriptor(name, &kind(name)), &Ok(plan(namespace, name, more)));
    let map = |metadata: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata});
    let labels = |name: &str| json!({"app": "atomix", "database": format!("{name}.{namespace}")});
    let set = |name: &str, pods: Value| {
        json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name}, "spec": {
            "selector": {"matchLabels": labels(name)},
            "template": {"metadata": {"labels": labels(name)}, "spec": pods},
        }})
    };
    let privileged = json!({"automountServiceAccountToken": false, "containers": [
        {"name": "c", "image": "i", "securityContext": {"privileged": true}}]});
    let many = "(drop (memory.grow (i32.const 1000))) (i32.store offset=4 (i32.const {plan}) (i32.const 262144))
        (i32.store offset=8 (i32.const {plan}) (i32.const 1000000)) (i32.const {plan})";
    let huge = "x".repeat(limits::PLAN_OBJECT_BYTES_MAX);
    vec![
        (
            "y-loop",
            with("y-loop", vec![]).does("plan", "(loop $again (br $again)) (unreachable)"),
            "plan gave no answer: it used all of its 205000000 units of fuel",
        ),
        (
            "y-memory",
            with("y-memory", vec![])
                .does("plan", "(loop $again (drop (memory.grow (i32.const 100))) (br $again)) (unreachable)"),
            "bytes of memory; at most 134217728 are given",
        ),
        (
            "y-trap",
            with("y-trap", vec![]).does("plan", "(unreachable)"),
            "plan gave no answer: it trapped: unreachable code",
        ),
        (
            "y-validate",
            with("y-validate", vec![]).does("validate", "(loop $again (br $again)) (unreachable)"),
            "validate gave no answer: it used all of its 50000000 units of fuel",
        ),
        ("y-many", with("y-many", vec![]).does("plan", many), "plan gave no answer: "),
        (
            "y-huge",
            with(
                "y-huge",
                vec![json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"a": huge}})],
            ),
            "bytes; at most 524288 are accepted",
        ),
        (
            "y-owner",
            with("y-owner", vec![map(json!({"name": "a", "ownerReferences": []}))]),
            "metadata.ownerReferences is not the plugin's to set",
        ),
        (
            "y-place",
            with("y-place", vec![map(json!({"name": "a", "namespace": "kube-system"}))]),
            "metadata.namespace is \"kube-system\"",
        ),
        (
            "y-secret",
            with("y-secret", vec![json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}})]),
            "kind \"Secret\" are none of the kinds",
        ),
        ("y-root", with("y-root", vec![set("y-root", privileged)]), "securityContext.privileged is the node's root"),
        ("y-taken", with("y-taken", vec![map(json!({"name": "taken"}))]), "ConfigMap taken"),
    ]
}

/// The kind of class that a plugin of this name serves.
fn kind(plugin: &str) -> String {
    let letter = |part: &str| part[..1].to_uppercase() + &part[1..];
    plugin.split('-').map(letter).collect::<String>() + "StorageClass"
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

/// ConfigMaps that bring bytes, as text for kubectl.
fn config_maps(plugins: &[(&'static str, Vec<u8>, &'static str)]) -> String {
    let map = |(name, bytes, _): &(&str, Vec<u8>, &str)| {
        let map = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "labels": {"storage.cloud.atomix.io/plugin": name}},
            "binaryData": {"plugin.wasm": k8s_openapi::ByteString(bytes.clone())},
        });
        format!("---\n{map}\n")
    };
    plugins.iter().map(map).collect()
}

/// What `plugin pack` makes of guests, as text for kubectl.
fn packed(plane: &ControlPlane, guests: &[(&'static str, Guest, &'static str)]) -> String {
    let pack = |(name, guest, _): &(&str, Guest, &str)| {
        let file = plane.dir().join(format!("{name}.wasm"));
        std::fs::write(&file, guest.wasm()).unwrap();
        dist::pack(&file).unwrap()
    };
    guests.iter().map(|guest| pack(guest) + "\n---\n").collect()
}

/// Memory of the controller's process in kB, by its name in `/proc/<pid>/status`.
fn memory_kb(fixture: &Fixture, name: &str) -> u64 {
    let pid = fixture.controller.pid().expect("it runs");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).expect("/proc names it");
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Waits until each of these objects has the message that it should.
async fn wait_for_messages(
    ns: &Namespace<'_>,
    what: &str,
    expected: &BTreeMap<&str, &str>,
    message: impl Fn(&Value) -> Option<String>,
) {
    ns.until(what, "each of them is reported", |found| {
        let matches = |(name, text): (&&str, &&str)| {
            let one = found.iter().find(|object| object["metadata"]["name"] == **name);
            one.and_then(&message).is_some_and(|message| message.contains(text))
        };
        expected.iter().all(matches)
    })
    .await;
}

#[tokio::test]
async fn many_hostile_plugins_at_once_block_no_other_and_leave_nothing_behind() {
    let fixture = private_fixture("hostile").await;
    fixture.install("cache").await.unwrap();
    let ns = fixture.namespace("hostile").await;
    ns.create_ready(&Manifests::cache().database("before", 1)).await;
    ns.settled().await;
    let before = memory_kb(&fixture, "VmRSS");
    let (refused, unwritten) = (refused(), unwritten(&ns.name));
    let admin = fixture.kubectl().namespace("kube-system");
    let system = fixture.existing("kube-system").await;
    ns.create("{apiVersion: v1, kind: ConfigMap, metadata: {name: taken}, data: {whose: others}}").await;

    let packed = packed(&fixture.plane, &unwritten);
    let apply = ["apply", "--server-side", "-f", "-"];
    admin.run_with(apply, &packed).await.unwrap();
    admin.run_with(apply, &config_maps(&refused)).await.unwrap();
    admin.run(["wait", "--for=condition=Established", "--timeout=60s", "customresourcedefinitions", "--all"]).await.unwrap();
    for (name, ..) in &unwritten {
        ns.create(Manifests::class(&kind(name), name, json!({})).database(name, 1)).await;
    }
    ns.create_ready(&Manifests::on("CacheStorageClass", "db").database("meanwhile", 1)).await;

    let expected = refused.iter().map(|(name, _, text)| (*name, *text)).collect();
    wait_for_messages(&system, "storageplugins", &expected, |plugin| {
        let is_refused = plugin["status"]["phase"] == "Refused" && has(plugin, "Ready", "False", "");
        let message = plugin["status"]["message"].as_str().unwrap_or_default();
        let names_it = message.contains(plugin["metadata"]["name"].as_str().unwrap());
        (is_refused && names_it).then(|| message.to_owned())
    })
    .await;
    let expected = unwritten.iter().map(|(name, _, text)| (*name, *text)).collect();
    wait_for_messages(&ns, "databases", &expected, |database| {
        let reason = if database["metadata"]["name"] == "y-taken" { "NameTaken" } else { "PluginFailed" };
        let is_reported = has(database, "Degraded", "True", reason);
        is_reported.then(|| condition(database, "Degraded")["message"].as_str().unwrap().to_owned())
    })
    .await;
    let mine = ns.one("configmap/taken").await;
    assert_eq!((&mine["data"], &mine["metadata"]["ownerReferences"]), (&json!({"whose": "others"}), &Value::Null));
    let written: Vec<_> = ns.get("services,configmaps,statefulsets").await;
    let names = written.iter().map(|object| object["metadata"]["name"].as_str().unwrap());
    let of_others: Vec<_> = names.filter(|name| name.starts_with("y-") && !name.starts_with("y-taken")).collect();
    assert!(of_others.is_empty(), "{of_others:?} were written");
    let peak = memory_kb(&fixture, "VmHWM");
    assert!(peak < PEAK_KB_MAX, "{peak} kB were resident");

    admin.run_with(["delete", "--wait=false", "-f", "-"], &packed).await.unwrap();
    admin.run_with(["delete", "--wait=false", "-f", "-"], &config_maps(&refused)).await.unwrap();
    ns.kubectl(["delete", "database", "--all", "--wait=false"]).await;
    ns.create_ready(&Manifests::on("CacheStorageClass", "db").database("after", 1)).await;
    ns.eventually("its memory is what it was", || async {
        let now = memory_kb(&fixture, "VmRSS");
        Ok(Eventually::when(now < before + STAYS_KB_MAX, || format!("{now} kB, and {before} kB before; at most {peak} kB")))
    })
    .await;
    println!("resident: {before} kB before, {peak} kB at most, {} kB after", memory_kb(&fixture, "VmRSS"));
    assert!(!fixture.controller.log_tail(usize::MAX).contains("panicked"), "{}", fixture.controller.log_tail(40));
}
