//! Plans that are never written, and the message of the Database. Each comes out of a guest, and goes through the sandbox
//! and admission.

use atomix_controller_kube::catalog;
use atomix_decide::admission::{self, Kept};
use atomix_model::contract::{
    ClassSeen, DatabaseSeen, FieldError, Note, PartitionState, PartitionWanted, Plan, Refusal, Request,
};
use atomix_model::crd::{Database, DatabaseSpec};
use atomix_model::grants::Grants;
use atomix_model::limits;
use harness::hostile::guest::{Guest, descriptor, plan, reason};
use serde_json::{Value, json};

use super::{after_the_name, is_expected, none};
use crate::components::sandbox;

/// Heap, in bytes, that the host takes for the plan of one call, whatever it holds: texts as large as a plan may be, and what they are
/// read into.
const HEAP_MAX: u64 = 8 * limits::PLAN_BYTES_MAX as u64;

/// A guest, and the message of the Database about its plan.
struct Row {
    what: &'static str,
    guest: Guest,
    expected: &'static str,
}

fn row(what: &'static str, guest: Guest, expected: &'static str) -> Row {
    Row { what, guest, expected }
}

fn answering(answer: &Result<Plan, Refusal>) -> Guest {
    Guest::new(&descriptor("hostile", "HostileStorageClass"), answer)
}

/// A guest that runs these instructions for a plan.
fn running(what: &'static str, code: &str, expected: &'static str) -> Row {
    row(what, answering(&Ok(plan("default", "db", []))).does("plan", code), expected)
}

/// A plan with one object more.
fn object(what: &'static str, manifest: Value, expected: &'static str) -> Row {
    row(what, answering(&Ok(plan("default", "db", [manifest]))), expected)
}

/// A plan that differs in one thing.
fn planning(what: &'static str, change: impl FnOnce(&mut Plan), expected: &'static str) -> Row {
    let mut plan = plan("default", "db", []);
    change(&mut plan);
    row(what, answering(&Ok(plan)), expected)
}

fn map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}})
}

/// A ConfigMap with something more in its metadata.
fn metadata(what: &'static str, field: &str, value: Value, expected: &'static str) -> Row {
    let mut map = map("settings");
    map["metadata"][field] = value;
    object(what, map, expected)
}

/// A StatefulSet that would be admitted but for one field in the spec of its pods.
fn pods(what: &'static str, field: &str, value: Value, expected: &'static str) -> Row {
    let labels = json!({"app": "atomix", "database": "db.default"});
    let mut spec = json!({"automountServiceAccountToken": false, "containers": [{"name": "c", "image": "i"}]});
    match field.strip_prefix("containers.") {
        Some(field) => spec["containers"][0][field] = value,
        None => spec[field] = value,
    }
    let set = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"}, "spec": {
        "serviceName": "db-1",
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": spec},
    }});
    object(what, set, expected)
}

/// Calls that come to no end, or whose answer cannot be read.
fn of_calls() -> Vec<Row> {
    let recursion = "(func $deeper (param i32) (result i32) (i32.add (i32.const 1) (call $deeper (local.get 0))))";
    let words = r#"(data (i32.const 65536) "last words here:\07\00\00\00\00\00\00\00no luck")"#;
    let usual = || answering(&Ok(plan("default", "db", [])));
    let lists = |what, offset: u32, count: u32, expected| {
        let place = format!("(i32.store offset={offset} (i32.const {{plan}}) (i32.const 262144))");
        let count = format!("(i32.store offset={} (i32.const {{plan}}) (i32.const {count}))", offset + 4);
        running(what, &format!("(drop (memory.grow (i32.const 2000))) {place} {count} (i32.const {{plan}})"), expected)
    };
    vec![
        running(
            "an endless loop",
            "(loop $again (br $again)) (unreachable)",
            "plan gave no answer: it used all of its 205000000 units of fuel: an endless loop, or far too much work",
        ),
        running(
            "all memory there is",
            "(loop $again (drop (memory.grow (i32.const 100))) (br $again)) (unreachable)",
            "plan gave no answer: it asked for 137887744 bytes of memory; at most 134217728 are given",
        ),
        row(
            "deep recursion",
            usual().with(recursion).does("plan", "(call $deeper (i32.const 0))"),
            "plan gave no answer: it trapped: wasm trap: call stack exhausted",
        ),
        running("a trap", "(unreachable)", "plan gave no answer: it trapped: unreachable code, as after a panic"),
        row("a panic", usual().with(words).does("plan", "(unreachable)"), "plan gave no answer: it panicked: no luck"),
        row(
            "arguments that are to be written beyond its memory",
            usual().does("realloc", "(i32.const -16)"),
            "plan gave no answer: ...",
        ),
        row(
            "arguments that are to be written at an odd address",
            usual().does("realloc", "(i32.const 1023)"),
            "plan gave no answer: ...",
        ),
        running(
            "neither a plan nor a refusal",
            "(i32.store8 (i32.const {plan}) (i32.const 7)) (i32.const {plan})",
            "plan gave no answer: ...",
        ),
        row("a manifest that is no text", usual().spoiled(b"\"TCP\"", b"\"T\xffP\""), "plan gave no answer: ..."),
        row(
            "objects that hold next to nothing, as many as a plan has bytes for",
            weightless(),
            "it broke the contract: the plan's manifests would take ...",
        ),
        lists("a million objects, all the same bytes", 4, 1_000_000, "plan gave no answer: ..."),
        lists("a million partitions, all the same bytes", 12, 1_000_000, "plan gave no answer: ..."),
        lists("a million notes, all the same bytes", 28, 1_000_000, "plan gave no answer: ..."),
    ]
}

/// A guest whose plan is one large manifest many times over: each of small objects, which take ninety times their text once they are read.
fn weightless() -> Guest {
    let mut map = map("a");
    map["data"] = json!(vec![json!({"": 0}); limits::PLAN_OBJECT_BYTES_MAX / 8]);
    let copies = r"(func $copies (param $list i32) (local $at i32)
        (loop $again
            (memory.copy (i32.add (i32.const 65536) (i32.mul (local.get $at) (i32.const 16))) (local.get $list) (i32.const 16))
            (local.set $at (i32.add (local.get $at) (i32.const 1)))
            (br_if $again (i32.lt_u (local.get $at) (i32.const 30)))))";
    let mut planned = plan("default", "db", [map]);
    planned.objects.remove(0);
    answering(&Ok(planned)).with(copies).does(
        "plan",
        "(call $copies (i32.load offset=4 (i32.const {plan}))) (i32.store offset=4 (i32.const {plan}) (i32.const 65536))
         (i32.store offset=8 (i32.const {plan}) (i32.const 30)) (i32.const {plan})",
    )
}

/// Plans that are too much, or make no sense.
fn of_plans() -> Vec<Row> {
    let filled = |bytes: usize| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "large"}, "data": {"a": "x".repeat(bytes)}});
    let nested = |levels: usize| (0..levels).fold(json!({}), |inner, _| json!({"a": inner}));
    let deep = |levels| {
        let mut map = map("deep");
        map["data"] = nested(levels);
        map
    };
    let objects = |count: usize| (0..count).map(|at| map(&format!("m{at}"))).collect::<Vec<_>>();
    let state = |id| PartitionState { id, ready: true, endpoints: Vec::new(), problem: None };
    let host = |host: &str| host.to_owned();
    vec![
        row(
            "ten thousand objects",
            answering(&Ok(plan("default", "db", objects(10_000)))),
            "it broke the contract: the plan has 10001 objects; at most 8192 are accepted",
        ),
        object(
            "one huge object",
            filled(600 << 10),
            "it broke the contract: the manifest of object \"object-1\" has 614482 bytes; at most 524288 are accepted",
        ),
        object(
            "deep nesting",
            deep(40),
            "it broke the contract: the manifest of object \"object-1\" is nested 42 deep; at most 32 is accepted",
        ),
        object(
            "nesting that would end a parser",
            Value::String("[".repeat(100_000)),
            "it broke the contract: the manifest of object \"object-1\" is not JSON: recursion limit exceeded at line 1 column 128",
        ),
        object(
            "what is no JSON",
            json!("{\"a\":"),
            "it broke the contract: the manifest of object \"object-1\" is not JSON: ...",
        ),
        object("a list", json!([1]), "it broke the contract: the manifest of object \"object-1\" is not a JSON object"),
        object(
            "an object without a name",
            json!({"apiVersion": "v1", "kind": "ConfigMap"}),
            "it broke the contract: object \"object-1\" has no metadata.name",
        ),
        row(
            "one object twice",
            answering(&Ok(plan("default", "db", [map("a"), map("a")]))),
            "it broke the contract: two objects of the plan are ConfigMap a; the second is \"object-2\"",
        ),
        planning(
            "one id twice",
            |plan| plan.objects.push(plan.objects[0].clone()),
            "it broke the contract: two objects of the plan have the id \"object-0\"",
        ),
        object(
            "a name that leads elsewhere",
            map("../../secrets/token"),
            "it broke the contract: the name of object \"object-1\" is \"../../secrets/token\", of 19 characters; ...",
        ),
        object(
            "a name with a query",
            map("a?dryRun=All"),
            "it broke the contract: the name of object \"object-1\" is \"a?dryRun=All\", of 12 characters; ...",
        ),
        object(
            "a name of a thousand characters",
            map(&"a".repeat(1000)),
            "it broke the contract: the name of object \"object-1\" is ...",
        ),
        planning(
            "a partition that is not there",
            |plan| plan.partitions.push(state(7)),
            "it broke the contract: the plan must say how each partition goes, by id: 1 of them was due and 2 was given",
        ),
        planning(
            "another partition's readiness",
            |plan| plan.partitions[0].id = 7,
            "it broke the contract: the plan must say how each partition goes, by id: partition 1 was due and partition 7 was given",
        ),
        planning(
            "no partition",
            |plan| plan.partitions.clear(),
            "it broke the contract: the plan must say how each partition goes, by id: 1 of them was due and 0 was given",
        ),
        planning(
            "ready without an endpoint",
            |plan| plan.partitions = vec![state(1)],
            "it broke the contract: partition 1 is ready and has no endpoint",
        ),
        planning(
            "an endpoint of another owner",
            |plan| plan.partitions[0].endpoints[0].host = host("kubernetes.default.svc.cluster.local"),
            "it broke the contract: an endpoint of partition 1 is \"kubernetes.default.svc.cluster.local\"; a Service of the plan is expected that is no other partition's, as in db-1.default.svc.cluster.local",
        ),
        planning(
            "an endpoint with an escape sequence",
            |plan| plan.partitions[0].endpoints[0].host = host("\u{1b}[2J"),
            "it broke the contract: an endpoint of partition 1 is \"\\u{1b}[2J\", port 80; a host name and a port are expected",
        ),
        planning(
            "no Service for clients",
            |plan| plan.objects.clear(),
            "it broke the contract: the plan has no Service db-1, through which clients reach partition 1",
        ),
        planning(
            "a reason that is a sentence",
            |plan| plan.partitions[0].problem = Some(reason("not well", "")),
            "it broke the contract: the reason of partition 1 is \"not well\"; one word in CamelCase is expected",
        ),
        planning(
            "a note of a megabyte",
            |plan| plan.notes.push(Note { warning: true, reason: reason("Long", &"x".repeat(1 << 20)) }),
            "it broke the contract: characters of the message of a note: 1048576; at most 4096 are accepted",
        ),
        planning(
            "a thousand notes",
            |plan| plan.notes = vec![Note { warning: true, reason: reason("Many", "a") }; 1000],
            "it broke the contract: notes: 1000; at most 64 are accepted",
        ),
        row(
            "a refusal without a word",
            answering(&Err(Refusal::Invalid(Vec::new()))),
            "it broke the contract: it refused without saying why",
        ),
        row(
            "a thousand field errors",
            answering(&Err(Refusal::Invalid(vec![FieldError { path: "a".into(), message: "b".into() }; 1000]))),
            "it broke the contract: field errors: 1000; at most 64 are accepted",
        ),
    ]
}

/// Plans that reach for what is of others.
fn of_admission() -> Vec<Row> {
    let of_kind = |version: &str, kind: &str| json!({"apiVersion": version, "kind": kind, "metadata": {"name": "x"}});
    let owner = json!([{"apiVersion": "v1", "kind": "Namespace", "name": "kube-system", "uid": "1"}]);
    let annotation = json!({"cloud.atomix.io/hash": "0"});
    let label = json!({"storage.cloud.atomix.io/plugin": "good"});
    let mut status = map("settings");
    status["status"] = json!({"ready": true});
    let service = |spec: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "other"}, "spec": spec});
    let volume = |source: Value| {
        let mut volume = json!({"name": "v"});
        volume.as_object_mut().unwrap().extend(source.as_object().cloned().unwrap());
        json!([volume])
    };
    let labels = json!({"app": "atomix", "database": "db.default"});
    let mut keeps_nothing = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"}, "spec": {
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"automountServiceAccountToken": false, "containers": []}},
    }});
    keeps_nothing["spec"]["persistentVolumeClaimRetentionPolicy"] = json!({"whenDeleted": "Delete"});
    vec![
        object(
            "a Secret",
            of_kind("v1", "Secret"),
            "is not admitted: object \"object-1\": apiVersion \"v1\" and kind \"Secret\" are none of the kinds that the plugin says it emits (ConfigMap, Service, StatefulSet)",
        ),
        object(
            "a binding of roles",
            of_kind("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
            "is not admitted: object \"object-1\": apiVersion \"rbac.authorization.k8s.io/v1\" and kind \"ClusterRoleBinding\" are none of ...",
        ),
        object(
            "a webhook",
            of_kind("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration"),
            "is not admitted: object \"object-1\": apiVersion \"admissionregistration.k8s.io/v1\" and kind ...",
        ),
        object(
            "a definition",
            of_kind("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
            "is not admitted: object \"object-1\": apiVersion \"apiextensions.k8s.io/v1\" and kind ...",
        ),
        object(
            "another version of a kind",
            of_kind("v2", "ConfigMap"),
            "is not admitted: object \"object-1\": apiVersion \"v2\" and kind \"ConfigMap\" are none of ...",
        ),
        metadata(
            "another namespace",
            "namespace",
            json!("kube-system"),
            "is not admitted: object \"object-1\": metadata.namespace is \"kube-system\", but all that a database needs lives in its own, \"default\"",
        ),
        metadata(
            "an owner",
            "ownerReferences",
            owner,
            "is not admitted: object \"object-1\": metadata.ownerReferences is not the plugin's to set",
        ),
        metadata(
            "a finalizer",
            "finalizers",
            json!(["example.com/never"]),
            "is not admitted: object \"object-1\": metadata.finalizers is not the plugin's to set",
        ),
        metadata(
            "a uid",
            "uid",
            json!("1"),
            "is not admitted: object \"object-1\": metadata.uid is not the plugin's to set",
        ),
        metadata(
            "a resourceVersion",
            "resourceVersion",
            json!("1"),
            "is not admitted: object \"object-1\": metadata.resourceVersion is not the plugin's to set",
        ),
        metadata(
            "managedFields",
            "managedFields",
            json!([]),
            "is not admitted: object \"object-1\": metadata.managedFields is not the plugin's to set",
        ),
        metadata(
            "a name that is made up",
            "generateName",
            json!("a"),
            "is not admitted: object \"object-1\": metadata.generateName is not the plugin's to set",
        ),
        metadata(
            "a hash of its own",
            "annotations",
            annotation,
            "is not admitted: object \"object-1\": metadata.annotations holds cloud.atomix.io/hash, which is the controller's",
        ),
        metadata(
            "a label of plugins",
            "labels",
            label,
            "is not admitted: object \"object-1\": metadata.labels holds storage.cloud.atomix.io/plugin, by which the controller finds its plugins",
        ),
        object("a status", status, "is not admitted: object \"object-1\": it has a status, which is the cluster's to set"),
        pods(
            "privileged",
            "containers.securityContext",
            json!({"privileged": true}),
            "is not admitted: object \"object-1\": spec.template.spec.containers[0].securityContext.privileged is the node's root",
        ),
        pods(
            "capabilities",
            "containers.securityContext",
            json!({"capabilities": {"add": ["SYS_ADMIN"]}}),
            "is not admitted: object \"object-1\": spec.template.spec.containers[0].securityContext.capabilities.add gives more than a container has by itself",
        ),
        pods(
            "a path of the node",
            "volumes",
            volume(json!({"hostPath": {"path": "/"}})),
            "is not admitted: object \"object-1\": spec.template.spec.volumes[0].hostPath reaches into the node",
        ),
        pods(
            "the node's network",
            "hostNetwork",
            json!(true),
            "is not admitted: object \"object-1\": spec.template.spec.hostNetwork shares the node's own namespace",
        ),
        pods(
            "the node's processes",
            "hostPID",
            json!("true"),
            "is not admitted: object \"object-1\": spec.template.spec.hostPID shares the node's own namespace",
        ),
        pods(
            "a port of the node",
            "containers.ports",
            json!([{"containerPort": 1, "hostPort": 1}]),
            "is not admitted: object \"object-1\": spec.template.spec.containers[0].ports[0].hostPort takes a port of the node",
        ),
        pods(
            "another's ServiceAccount",
            "serviceAccountName",
            json!("admin"),
            "is not admitted: object \"object-1\": spec.template.spec.serviceAccountName is \"admin\", which was not granted",
        ),
        pods(
            "a token",
            "automountServiceAccountToken",
            json!(true),
            "is not admitted: object \"object-1\": spec.template.spec.automountServiceAccountToken must be false: pods of a storage have no business with the API",
        ),
        pods(
            "a projected token",
            "volumes",
            volume(json!({"projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}})),
            "is not admitted: object \"object-1\": spec.template.spec.volumes[0].projected.sources[0].serviceAccountToken holds a ServiceAccount's token",
        ),
        pods(
            "another's Secret",
            "volumes",
            volume(json!({"secret": {"secretName": "root"}})),
            "is not admitted: object \"object-1\": spec.template.spec.volumes[0].secret.secretName ...",
        ),
        pods(
            "a node of its choice",
            "nodeName",
            json!("master"),
            "is not admitted: object \"object-1\": spec.template.spec.nodeName goes past the scheduler; a nodeSelector does not",
        ),
        object(
            "volumes that go with the set",
            keeps_nothing,
            "is not admitted: object \"object-1\": spec.persistentVolumeClaimRetentionPolicy.whenDeleted is Delete, but the class does not ask for it in persistentVolumeClaimRetentionPolicy.whenDeleted",
        ),
        object(
            "pods of others",
            service(json!({"selector": {"app": "bank"}})),
            "is not admitted: object \"object-1\": spec.selector reaches what is of others: the label database: db.default is expected, which finds this database's own",
        ),
        object(
            "another's host",
            service(json!({"type": "ExternalName", "externalName": "bank.example.com"})),
            "is not admitted: object \"object-1\": spec.externalName is \"bank.example.com\", which the class does not name",
        ),
        object(
            "a port of all nodes",
            service(json!({"type": "NodePort", "selector": labels})),
            "is not admitted: object \"object-1\": spec.type is \"NodePort\", which takes ports of the nodes or addresses outside; the class does not ask for it",
        ),
        object(
            "an address of its choice",
            service(json!({"externalIPs": ["10.0.0.1"]})),
            "is not admitted: object \"object-1\": spec.externalIPs takes addresses that may belong to others",
        ),
    ]
}

/// A database of one partition, whose class is empty.
fn request() -> Request {
    Request {
        database: DatabaseSeen {
            namespace: "default".into(),
            name: "db".into(),
            partitions: 1,
            partitions_per_cluster: 1,
            labels: Vec::new(),
            database_label: "db.default".into(),
        },
        class: ClassSeen {
            kind: "HostileStorageClass".into(),
            version: "v1beta1".into(),
            name: "c".into(),
            spec: json!({}),
        },
        partitions: vec![PartitionWanted { id: 1, cluster: 1, service_name: "db-1".into() }],
        observed: Vec::new(),
        cluster_domain: "cluster.local".into(),
        features: Vec::new(),
    }
}

/// The message of the Database about the plan of a guest; none if it is written.
fn message_of(guest: &Guest) -> Option<String> {
    let revision = sandbox().load("hostile", &guest.wasm()).unwrap_or_else(|fault| panic!("{fault}"));
    let request = request();
    let mut database = Database::new("db", DatabaseSpec { partitions: 1, ..DatabaseSpec::default() });
    database.metadata.namespace = Some("default".into());
    let all = Grants::of(&json!({"rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]}));
    let mut message = None;
    let heap = allocation_counter::measure(|| {
        message = match revision.plan(&request) {
            Err(fault) => Some(fault.to_string()),
            Ok(Err(refusal)) => panic!("{refusal:?}"),
            Ok(Ok(plan)) => {
                admission::admit(&plan, &request, &database, revision.descriptor(), &all, "a.b", &Kept::default())
                    .err()
                    .map(|why| format!("the plan of {} is not admitted: {why}", catalog::title(&revision)))
            }
        };
    });
    assert!(heap.bytes_max < HEAP_MAX, "{} bytes of heap: {message:?}", heap.bytes_max);
    message
}

#[test]
fn plans_of_every_hostile_kind_are_refused_by_the_limit_that_is_for_them() {
    let rows: Vec<Row> = of_calls().into_iter().chain(of_plans()).chain(of_admission()).collect();
    let wrong = rows.iter().filter_map(|row| {
        let message = message_of(&row.guest).unwrap_or_else(|| "plugin (): it is written".to_owned());
        let is_it = is_expected(after_the_name(&message), row.expected) && message.contains("hostile 6.6.6 (");
        (!is_it).then(|| format!("{}: {message}\n    expected: {}", row.what, row.expected))
    });
    none(&wrong.collect::<Vec<_>>());
    assert!(rows.len() > 60, "{} rows", rows.len());
}

#[test]
fn what_the_rows_are_made_of_is_a_plan() {
    assert_eq!(message_of(&answering(&Ok(plan("default", "db", [map("settings")])))), None);
    assert_eq!(message_of(&pods("", "hostname", json!("a"), "").guest), None);
}
