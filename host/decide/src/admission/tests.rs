//! What may be written of a plan, and as what. The rows of `tests/admission/` are tried here too.

use super::*;
use atomix_model::contract::{ClassSeen, DatabaseSeen, ObjectKind, PartitionWanted};
use atomix_model::crd::DatabaseSpec;

fn object_kind(group: &str, kind: &str, plural: &str) -> ObjectKind {
    ObjectKind { group: group.into(), version: "v1".into(), kind: kind.into(), plural: plural.into(), reads: Vec::new() }
}

/// Admits one manifest of a plugin that declares that it emits StatefulSets, Services, Secrets and ConfigMaps, and may write
/// all but the last.
fn check(class: Value, manifest: Value) -> Result<Admitted, String> {
    let emits = vec![
        object_kind("apps", "StatefulSet", "statefulsets"),
        object_kind("", "Service", "services"),
        object_kind("", "Secret", "secrets"),
        object_kind("", "ConfigMap", "configmaps"),
    ];
    let grants = Grants::of(
        &json!({"rules": [{"apiGroups": ["", "apps"], "resources": ["statefulsets", "services", "secrets"], "verbs": ["create", "patch"]}]}),
    );
    admitted(class, manifest, emits, &grants)
}

fn admitted(class: Value, manifest: Value, emits: Vec<ObjectKind>, grants: &Grants) -> Result<Admitted, String> {
    admitted_beside(&Kept::default(), class, manifest, emits, grants)
}

fn admitted_beside(
    kept: &Kept,
    class: Value,
    manifest: Value,
    emits: Vec<ObjectKind>,
    grants: &Grants,
) -> Result<Admitted, String> {
    let descriptor =
        Descriptor { name: "p".into(), version: "1".into(), class_kinds: Vec::new(), emits, watches: Vec::new() };
    let mut database = Database::new("d", DatabaseSpec { partitions: 1, ..DatabaseSpec::default() });
    database.metadata.namespace = Some("n".into());
    database.metadata.uid = Some("u".into());
    database.metadata.labels = Some([("team".to_owned(), "blue".to_owned())].into());
    let request = request_with(class);
    let plan = Plan {
        objects: vec![PlannedObject { id: "it".into(), manifest }],
        partitions: Vec::new(),
        unsupported: Vec::new(),
        notes: Vec::new(),
    };
    admit(&plan, &request, &database, &descriptor, grants, "kube-system.atomix-controller", kept)
}

fn request_with(class: Value) -> Request {
    Request {
        database: DatabaseSeen {
            namespace: "n".into(),
            name: "d".into(),
            partitions: 1,
            partitions_per_cluster: 1,
            labels: Vec::new(),
            database_label: "d.n".into(),
        },
        class: ClassSeen { kind: "C".into(), version: "v1".into(), name: "c".into(), spec: class },
        partitions: vec![PartitionWanted { id: 1, cluster: 1, service_name: "d-1".into() }],
        observed: Vec::new(),
        cluster_domain: "cluster.local".into(),
        features: Vec::new(),
    }
}

fn set(spec: Value) -> Value {
    let labels = json!({"app": "atomix", "database": "d.n"});
    json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "s"}, "spec": {
        "serviceName": "s",
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": spec},
    }})
}

fn refused(manifest: Value, with: &str) {
    let why = check(json!({}), manifest).expect_err("it must be refused");
    assert!(why.contains(with), "{why:?} does not contain {with:?}");
}

#[test]
fn an_object_of_another_group_stands_for_none_of_the_same_kind() {
    let thing = |api_version: &str, kind: &str| json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "w"}});
    let request = request_with(json!({}));
    let plan = |api_version: &str, kind: &str| Plan {
        objects: vec![PlannedObject { id: "it".into(), manifest: thing(api_version, kind) }],
        partitions: Vec::new(),
        unsupported: Vec::new(),
        notes: Vec::new(),
    };
    for (api_version, group, kind) in [
        ("apps/v1", "apps", "Deployment"),
        ("v1", "", "ConfigMap"),
        ("v1", "", "Secret"),
        ("v1", "", "PersistentVolumeClaim"),
        ("v1", "", "Service"),
    ] {
        let (same, other) = (plan(api_version, kind), plan("example.com/v1", kind));
        let kept = Kept::default();
        assert!(Own::of(&same, &request, None, &kept).has(group, kind, "w"), "{kind}");
        assert!(!Own::of(&other, &request, None, &kept).has(group, kind, "w"), "{kind} of another group");
        assert!(!Own::of(&other, &request, None, &kept).reads(kind, "w"), "{kind} of another group");
    }
    let scaler = |api_version: &str| {
        let target = json!({"apiVersion": api_version, "kind": "StatefulSet", "name": "s"});
        json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "s"},
            "spec": {"maxReplicas": 1, "scaleTargetRef": target}})
    };
    let (set, kept) = (set(json!({})), Kept::default());
    let plan = Plan { objects: vec![PlannedObject { id: "it".into(), manifest: set }], ..plan("v1", "ConfigMap") };
    let own = Own::of(&plan, &request, None, &kept);
    let check = |api_version| {
        let kind = ("autoscaling", "HorizontalPodAutoscaler");
        references::check(kind.0, kind.1, &scaler(api_version), &own, &mut Default::default())
    };
    assert!(check("apps/v1").is_ok());
    assert!(check("example.com/v1").is_err_and(|why| why.contains("spec.scaleTargetRef names StatefulSet")));
}

#[test]
fn every_object_is_stamped_with_namespace_owner_labels_and_hash() {
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "labels": {"cluster": "1", "database": "evil"}}});
    let admitted = check(json!({}), service).unwrap();
    assert_eq!(admitted.objects.len(), 2, "the Partition and the Service");
    let meta = &admitted.objects[1].manifest["metadata"];
    assert_eq!(meta["namespace"], "n");
    assert_eq!(meta["ownerReferences"][0]["uid"], "u");
    assert_eq!(meta["labels"]["database"], "d.n", "a plugin cannot pass its objects off as another database's");
    assert_eq!((&meta["labels"]["team"], &meta["labels"]["cluster"]), (&json!("blue"), &json!("1")));
    assert_eq!(meta["annotations"][names::HASH], json!(admitted.objects[1].hash));
    let partition = &admitted.objects[0].manifest;
    assert_eq!(partition["metadata"]["labels"]["database"], "d");
    assert_eq!(partition["metadata"]["annotations"][names::CONTROLLER], "kube-system.atomix-controller");
    assert_eq!(partition["spec"], json!({"partitionId": 1, "serviceName": "d-1"}));
}

#[test]
fn stamps_never_go_into_pod_templates() {
    let given = set(json!({"automountServiceAccountToken": false}));
    let admitted = check(json!({}), given.clone()).unwrap();
    assert_eq!(admitted.objects[1].manifest["spec"], given["spec"]);
    assert!(admitted.objects[1].template.is_some());
}

#[test]
fn null_is_absent() {
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": [{"port": 1, "protocol": null}]}});
    assert_eq!(check(json!({}), service).unwrap().objects[1].manifest["spec"], json!({"ports": [{"port": 1}]}));
}

#[test]
fn one_meaning_has_one_hash_and_the_hash_of_its_spelling_is_known_too() {
    let with = |cpu: &str, more: Value| {
        let mut spec = json!({"automountServiceAccountToken": false, "containers": [{"name": "c", "resources": {"limits": {"cpu": cpu}}}]});
        spec.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
        check(json!({}), set(spec)).unwrap().objects.remove(1)
    };
    let (one, other) = (with("1000m", json!({})), with("1", json!({"affinity": {"nodeAffinity": {}}, "tolerations": []})));
    assert_eq!((&one.hash, &one.template), (&other.hash, &other.template));
    assert_ne!(one.legacy_hashes, other.legacy_hashes);
    assert!(
        other.is_of(Some(&one.hash))
            && other.is_of(Some(&other.legacy_hashes.0))
            && !other.is_of(Some(&one.legacy_hashes.0))
    );
    assert_eq!(one.manifest["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"], "1000m");
    let more = with("2", json!({}));
    assert_ne!((&one.hash, &one.template), (&more.hash, &more.template));
}

#[test]
fn a_plan_is_hashed_as_the_plugin_made_it() {
    let given = set(json!({"automountServiceAccountToken": false}));
    assert_eq!(check(json!({}), given.clone()).unwrap().hash, names::hash_json(&json!([given])));
}

#[test]
fn what_was_not_granted_or_never_may_be_is_refused() {
    let of = |kind: &str| json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": "x"}});
    refused(of("ConfigMap"), "does not grant");
    refused(of("Secret"), "no plugin may write secrets");
    refused(of("Pod"), "none of the kinds");
    refused(
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x", "namespace": "kube-system"}}),
        "namespace",
    );
    refused(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x", "finalizers": ["a"]}}), "finalizers");
    refused(
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x", "annotations": {(names::HASH): "a"}}}),
        names::HASH,
    );
    refused(
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {"externalIPs": ["1.2.3.4"]}}),
        "externalIPs",
    );
    refused(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "status": {}}), "status");
}

/// A row of `tests/admission/`: one manifest and what becomes of it. The API server gets the same ones, see `tests/controlplane/admission_table.rs`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    row: String,
    /// The class's spec.
    #[serde(default)]
    class: Value,
    /// The whole manifest.
    object: Option<Value>,
    /// What is put into the pods of an otherwise admissible StatefulSet.
    pod: Option<Value>,
    /// The same for its one container, and for its template's metadata.
    container: Option<Value>,
    metadata: Option<Value>,
    /// Part of the host's refusal; none if it may be written.
    host: Option<String>,
    /// Part of the policy's refusal, and why there is none where the host refuses. Not read here.
    #[allow(dead_code)]
    policy: Option<String>,
    #[allow(dead_code)]
    policy_cannot: Option<String>,
    plural: Option<String>,
}

#[test]
fn the_host_gives_each_row_its_verdict() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/admission");
    let mut wrong = Vec::new();
    let mut count = 0;
    for file in std::fs::read_dir(folder).expect("it is part of the sources") {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let rows: Vec<Row> = serde_saphyr::from_str(&text).unwrap();
        count += rows.len();
        for row in rows {
            let manifest = row.object.clone().unwrap_or_else(|| harmless(&row));
            let class = if row.class.is_null() { json!({}) } else { row.class.clone() };
            let text = |field: &str| manifest[field].as_str().unwrap().to_owned();
            let (group, version) = text("apiVersion")
                .rsplit_once('/')
                .map_or((String::new(), text("apiVersion")), |(g, v)| (g.to_owned(), v.to_owned()));
            let plural = row.plural.clone().unwrap_or_else(|| format!("{}s", text("kind").to_lowercase()));
            let kind = ObjectKind { group, version, kind: text("kind"), plural, reads: Vec::new() };
            let all = json!({"rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]});
            let error = admitted(class, manifest, vec![kind], &Grants::of(&all)).err();
            let fits = match (&error, &row.host) {
                (Some(error), Some(with)) => error.contains(with.as_str()),
                (error, with) => error.is_none() && with.is_none(),
            };
            if !fits {
                wrong.push(format!("{}: {:?}, but the host returns {error:?}", row.row, row.host));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 100, "{count} rows");
}

/// The StatefulSet that a row changes.
fn harmless(row: &Row) -> Value {
    let mut set = set(json!({"automountServiceAccountToken": false, "containers": [{"name": "c", "image": "i"}]}));
    let template = &mut set["spec"]["template"];
    for (place, with) in [("/spec", &row.pod), ("/spec/containers/0", &row.container), ("/metadata", &row.metadata)] {
        let place = template.pointer_mut(place).and_then(Value::as_object_mut).unwrap();
        place.extend(with.as_ref().and_then(Value::as_object).cloned().unwrap_or_default());
    }
    set
}

#[test]
fn what_a_schema_puts_into_a_class_is_not_the_users_word() {
    let schema = json!({"type": "object", "properties": {
        "priorityClassName": {"type": "string", "default": "storage"},
        "pods": {"type": "object", "properties": {"tolerations": {"type": "array", "default": [{"operator": "Exists"}]}}},
    }});
    let class = json!({"priorityClassName": "storage", "pods": {"tolerations": [{"operator": "Exists"}], "secret": "ours"}});
    let plan = Plan { objects: Vec::new(), partitions: Vec::new(), unsupported: Vec::new(), notes: Vec::new() };
    let request = request_with(class);
    let kept = Kept::default();
    let (free, held) = (Own::of(&plan, &request, None, &kept), Own::of(&plan, &request, Some(&schema), &kept));
    assert!(free.names("storage") && free.holds(&json!({"operator": "Exists"})));
    assert!(!held.names("storage") && !held.holds(&json!({"operator": "Exists"})) && held.names("ours"));
}

#[test]
fn what_pods_and_claims_hold_already_is_kept_where_the_class_no_longer_says_it() {
    let all = Grants::of(&json!({"rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]}));
    let with = |secret: &str, variable: &str, volume: &str| {
        let mut set = set(json!({
            "automountServiceAccountToken": false,
            "volumes": [{"name": "tls", "secret": {"secretName": secret}}],
            "containers": [{"name": "a", "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": variable, "key": "k"}}}]}],
        }));
        let claim = json!({"metadata": {"name": "data"}, "spec": {"volumeName": volume}});
        set["spec"]["volumeClaimTemplates"] = json!([claim]);
        set
    };
    let mut live = with("peer", "password", "disk");
    // No Secret is read by this name: labels and annotations are anybody's words.
    live["spec"]["template"]["metadata"]["annotations"] = json!({"secretName": "noted"});
    let mut kept = Kept::default();
    kept.add(&live, "/spec/template");
    let admit = |kept: &Kept, manifest: Value| {
        admitted_beside(kept, json!({}), manifest, vec![object_kind("apps", "StatefulSet", "statefulsets")], &all).map(drop)
    };
    assert_eq!(admit(&kept, with("peer", "password", "disk")), Ok(()));
    for (manifest, named) in [
        (with("noted", "password", "disk"), "secret.secretName"),
        (with("peer", "noted", "disk"), "secretKeyRef.name"),
        (with("peer", "password", "other"), "volumeName"),
    ] {
        let why = admit(&kept, manifest).expect_err("it was not there");
        assert!(why.contains(named), "{why}");
    }
    assert!(admit(&Kept::default(), with("peer", "password", "disk")).is_err(), "nothing is kept where nothing runs");
}

#[test]
fn volumes_are_deleted_with_what_used_them_only_if_the_class_asks_for_it() {
    let policy = json!({"whenDeleted": "Delete"});
    let mut given = set(json!({"automountServiceAccountToken": false}));
    given["spec"]["persistentVolumeClaimRetentionPolicy"] = policy.clone();
    refused(given.clone(), "whenDeleted");
    assert!(check(json!({"persistentVolumeClaimRetentionPolicy": policy}), given).is_ok());
}
