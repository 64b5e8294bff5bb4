//! What `render` refuses without a cluster, as the API server would: each with its path.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use harness::{dist, paths};

use super::components;

/// Whether `render` accepts a class and a Database, and its output.
fn rendered(class: &str, database: &str) -> (bool, String) {
    let database = format!("v1beta3\nkind: Database\nmetadata: {{name: db}}\nspec: {database}");
    rendered_texts(class, &database)
}

fn rendered_texts(class: &str, database: &str) -> (bool, String) {
    components::bytes("raft"); // built
    let mut render = Command::new(paths::controller_program().unwrap());
    render.args(["render", "-f", "-", "--plugin"]).arg(dist::wasm("raft"));
    let mut render = render.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let text = format!("apiVersion: storage.cloud.atomix.io/{class}\n---\napiVersion: cloud.atomix.io/{database}\n");
    render.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = render.wait_with_output().unwrap();
    (output.status.success(), String::from_utf8(output.stderr).unwrap())
}

fn class(spec: &str) -> String {
    format!("v1beta1\nkind: RaftStorageClass\nmetadata: {{name: raft}}\nspec: {spec}")
}

const DATABASE: &str = "{storageClass: {kind: RaftStorageClass, name: raft}}";

#[test]
fn what_does_not_fit_a_schema_is_refused_offline_with_its_path() {
    assert_eq!(rendered(&class("{replicas: 3}"), DATABASE), (true, String::new()));
    let other_version = class("{}").replace("v1beta1", "v9");
    for (class, database, expected) in [
        (class("{replicas: 99}"), DATABASE, "spec.replicas is 99; at most 9 is accepted"),
        (class("{replica: 3}"), DATABASE, "spec.replica is unknown; "),
        (class("{replicas: '3'}"), DATABASE, "spec.replicas is \"3\"; integer is expected"),
        (class("{nodeSelector: {disk: 1}}"), DATABASE, "spec.nodeSelector.disk is 1; string is expected"),
        (other_version, DATABASE, "apiVersion storage.cloud.atomix.io/v9 is not served"),
        (class("{}"), "{partition: 3, storageClass: {kind: RaftStorageClass, name: raft}}", "spec.partition is unknown"),
        (
            class("{}"),
            "{partitions: 0, storageClass: {kind: RaftStorageClass, name: raft}}",
            "spec.partitions is 0; at least 1",
        ),
        (class("{}"), "{storageClass: {kind: RaftStorageClass}}", "spec.storageClass.name is missing"),
    ] {
        let (done, output) = rendered(&class, database);
        assert!(!done && output.contains(expected), "{class}\n{database}\n{output}");
    }
    for name in [&"a".repeat(48), "Db", "1db", "db-", "d.b"] {
        let database = format!("v1beta3\nkind: Database\nmetadata: {{name: {name}}}\nspec: {DATABASE}");
        let (done, output) = rendered_texts(&class("{}"), &database);
        assert!(!done && output.contains("metadata.name must be at most 47 characters"), "{name}: {output}");
    }
    let of_old = "v1beta2\nkind: Database\nmetadata: {name: db}\nspec: {clusters: 600, template: {spec: {partitions: 2, storage: {group: storage.cloud.atomix.io, version: v1beta1, kind: RaftStorageClass, name: raft}}}}";
    let (done, output) = rendered_texts(&class("{}"), of_old);
    assert!(!done && output.contains("clusters times template.spec.partitions may be at most 1024"), "{output}");
}

const GIVEN: &str = "
apiVersion: storage.cloud.atomix.io/v1beta1
kind: RaftStorageClass
metadata: {name: raft}
spec: {replicas: 1}
---
apiVersion: cloud.atomix.io/v1beta3
kind: Database
metadata: {name: db}
spec: {partitions: 1, storageClass: {kind: RaftStorageClass, name: raft}}
";

#[test]
fn what_another_revision_would_change_is_told_offline_with_an_exit_code() {
    let files = paths::tests().join("plugin-diff");
    fs::create_dir_all(&files).unwrap();
    let old = fs::read(dist::wasm("raft")).unwrap();
    // Another revision, which differs in nothing but a text of the same length.
    let renamed = |text: &[u8], other: &[u8]| -> Vec<u8> {
        let mut new = old.clone();
        let places: Vec<usize> = (0..new.len() - text.len()).filter(|at| new[*at..].starts_with(text)).collect();
        assert!(!places.is_empty());
        places.into_iter().for_each(|at| new[at..at + text.len()].copy_from_slice(other));
        new
    };
    let given = files.join("given.yaml");
    fs::write(&given, GIVEN).unwrap();
    let compared = |new: &[u8]| {
        let (was, is) = (files.join("old.wasm"), files.join("new.wasm"));
        fs::write(&was, &old).unwrap();
        fs::write(&is, new).unwrap();
        let mut diff = Command::new(paths::controller_program().unwrap());
        let output = diff.args(["plugin", "diff"]).args([&was, &is]).arg("-f").arg(&given).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    assert_eq!(compared(&old), (Some(0), String::new(), String::new()));
    let (code, told, _) = compared(&renamed(b"v0.5.3", b"v0.5.4"));
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("v0.5.4\" instead of \"") && told.contains("v0.5.3"), "{told}");
    assert!(told.starts_with("Database default/db\n  ~ StatefulSet db-1 (its pods are made anew)\n"), "{told}");
    let (code, _, error) = compared(b"no component");
    assert!(code == Some(2) && error.contains("not a WebAssembly component"), "{code:?} {error}");
}
