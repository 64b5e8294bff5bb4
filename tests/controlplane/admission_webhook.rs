//! Errors and warnings that a user gets while a class or a Database is written, from a plugin that is called beforehand.

use harness::eventually::Eventually;
use harness::fixture::{private_fixture, shared_fixture};

#[tokio::test]
async fn a_class_that_its_plugin_does_not_accept_is_refused_field_by_field() {
    let ns = shared_fixture().await.namespace("review-class").await;
    ns.eventually("the plugin is called", || async {
        let class = "{apiVersion: storage.cloud.atomix.io/v1beta1, kind: RaftStorageClass, metadata: {name: a}, spec: {electionTimeout: soon}}";
        let output = ns.kubectl_output(&["create", "--dry-run=server", "-f", "-"], Some(class)).await;
        let wanted = output.contains("The RaftStorageClass \"a\" is invalid") && output.contains("spec.electionTimeout");
        Ok(Eventually::when(wanted, || output))
    })
    .await;
}

#[tokio::test]
async fn an_edit_that_restarts_or_removes_is_counted_and_what_cannot_be_yet_is_warned_of() {
    let ns = shared_fixture().await.namespace("review").await;
    let database = |name: &str, kind: &str, more: &str| {
        format!(
            "{{apiVersion: cloud.atomix.io/v1beta3, kind: Database, metadata: {{name: {name}}}, spec: {{{more} storageClass: {{kind: {kind}, name: raft}}}}}}"
        )
    };
    let output = ns.kubectl_output(&["create", "-f", "-"], Some(&database("lost", "RaftStorage", ""))).await;
    assert!(
        output.contains("Warning: no plugin serves kind RaftStorage") && output.contains("RaftStorageClass"),
        "{output}"
    );
    let output = ns.kubectl_output(&["create", "-f", "-"], Some(&database("early", "RaftStorageClass", ""))).await;
    assert!(output.contains("Warning: there is no RaftStorageClass raft"), "{output}");
    ns.kubectl(["delete", "database", "--all"]).await;

    ns.create(
        "{apiVersion: storage.cloud.atomix.io/v1beta1, kind: RaftStorageClass, metadata: {name: raft}, spec: {replicas: 3}}",
    )
    .await;
    for name in ["one", "two"] {
        let output = ns.kubectl_output(&["create", "-f", "-"], Some(&database(name, "RaftStorageClass", ""))).await;
        assert!(!output.contains("Warning"), "{output}");
        ns.wait(&format!("database/{name}"), "Ready").await;
    }
    // What would go is counted, by whatever command; `--dry-run=server` changes nothing.
    ns.kubectl(["scale", "database/two", "--replicas=3"]).await;
    ns.until("database/two", "three partitions are ready", |found| {
        found.iter().any(|db| db["status"]["readyPartitions"] == 3)
    })
    .await;
    let fewer = r#"{"spec": {"partitions": 1}}"#;
    for edit in [
        &["patch", "database/two", "--type=merge", "-p", fewer, "--dry-run=server"][..],
        &[
            "patch",
            "database.v1beta2.cloud.atomix.io/two",
            "--type=merge",
            "-p",
            r#"{"spec": {"clusters": 1}}"#,
            "--dry-run=server",
        ],
        &["scale", "database/two", "--replicas=1", "--dry-run=server"],
        &["scale", "database/two", "--replicas=1"],
    ] {
        let output = ns.kubectl_output(edit, None).await;
        assert!(output.contains("Warning: this removes 6 pods of 1 database"), "{edit:?}: {output}");
    }
    ns.until("database/two", "one partition is left", |found| found.iter().any(|db| db["status"]["readyPartitions"] == 1))
        .await;
    ns.until("pods", "those of removed partitions are gone", |found| found.len() == 6).await; // else they count as removed
    let patch = |image: &str| format!(r#"{{"spec": {{"image": "{image}"}}}}"#);
    let output = ns
        .kubectl_output(
            &["patch", "raftstorageclass/raft", "--type=merge", "-p", &patch("atomix/raft-storage-node:v0.5.2")],
            None,
        )
        .await;
    assert!(
        output.contains("Warning: this restarts 6 pods of 2 databases, one at a time in each of 2 workloads"),
        "{output}"
    );
    let refusal =
        ns.kubectl_fails(["patch", "raftstorageclass/raft", "--type=merge", "-p", r#"{"spec": {"replicas": 5}}"#]).await;
    let sentence = "spec.replicas: Database review/one and 1 more cannot take this: it stays 3, not 5: ";
    assert!(refusal.contains(sentence), "{refusal}");
    let output = ns.kubectl_output(&["label", "raftstorageclass/raft", "a=b"], None).await;
    assert!(!output.contains("Warning"), "{output}");
}

#[tokio::test]
async fn a_name_that_is_too_long_for_what_is_made_of_it_is_warned_of_while_it_is_written() {
    let fixture = private_fixture("review-names").await;
    fixture.install("web").await.unwrap();
    let ns = fixture.namespace("review-names").await;
    ns.create(
        "{apiVersion: storage.cloud.atomix.io/v1beta1, kind: WebStorageClass, metadata: {name: web}, spec: {image: web, trouble: LongNames}}",
    )
    .await;
    let database = |name: &str| {
        format!(
            "{{apiVersion: cloud.atomix.io/v1beta3, kind: Database, metadata: {{name: {name}}}, spec: {{partitions: 1, storageClass: {{kind: WebStorageClass, name: web}}}}}}"
        )
    };
    let (short, long) = ("s", "a-name-that-is-as-long-as-names-of-databases-ar");
    ns.eventually("a name is judged by what becomes of it", || async {
        let create = ["create", "--dry-run=server", "-f", "-"];
        let output = ns.kubectl_output(&create, Some(&database(long))).await;
        let warned = output.contains("Warning: plugin web ") && output.contains("at most 63 characters are expected");
        Ok(Eventually::when(warned && !ns.kubectl_output(&create, Some(&database(short))).await.contains("Warning"), || {
            output
        }))
    })
    .await;
    // Nothing is refused, and conditions report the same afterwards.
    ns.create(&database(long)).await;
    ns.until(&format!("database/{long}"), "the condition reports it too", |found| {
        found.iter().any(|db| db["status"]["conditions"].to_string().contains("at most 63 characters are expected"))
    })
    .await;
    let longer = ns.refused(&database(&format!("{long}e"))).await;
    assert!(longer.contains("metadata.name"), "{longer}");
}
