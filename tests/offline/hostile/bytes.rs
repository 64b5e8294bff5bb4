//! Bytes that never serve, and the message of the StoragePlugin. They come as in the controller: from a ConfigMap, tried in
//! a process of their own, loaded, and admitted to the catalog.

use std::io::Write as _;

use atomix_controller_kube::catalog::{Catalog, Found, Loading, Recorded, Source, Trial};
use atomix_model::contract::{Descriptor, ObjectKind};
use atomix_model::grants::Grants;
use atomix_model::limits;
use futures::StreamExt as _;
use harness::hostile::guest::{Guest, descriptor, kind, plan};
use harness::hostile::{component, guest, noise, of_contract};
use harness::paths;
use serde_json::{Value, json};

use super::{after_the_name, is_expected, none};
use crate::components::sandbox;

/// Name of the plugin in every row.
const NAME: &str = "hostile";

/// What a ConfigMap brings, and the message of its StoragePlugin.
struct Row {
    what: &'static str,
    bytes: Vec<u8>,
    /// Rules of the plugin's ClusterRole, if there is one.
    role: Option<Value>,
    expected: &'static str,
}

fn row(what: &'static str, bytes: Vec<u8>, expected: &'static str) -> Row {
    let all = json!({"rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]});
    Row { what, bytes, role: Some(all), expected }
}

/// A guest that describes itself as usual.
fn usual() -> Guest {
    Guest::new(&descriptor(NAME, "HostileStorageClass"), &Ok(plan("default", "db", [])))
}

/// A guest whose `describe` runs these instructions.
fn describing(what: &'static str, code: &str, expected: &'static str) -> Row {
    row(what, usual().does("describe", code).wasm(), expected)
}

/// A guest with another descriptor.
fn declaring(what: &'static str, change: impl FnOnce(&mut Descriptor), expected: &'static str) -> Row {
    let mut descriptor = descriptor(NAME, "HostileStorageClass");
    change(&mut descriptor);
    row(what, Guest::new(&descriptor, &Ok(plan("default", "db", []))).wasm(), expected)
}

fn emitting(what: &'static str, kind: ObjectKind, expected: &'static str) -> Row {
    declaring(what, |it| it.emits.push(kind), expected)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

/// Bytes that are no plugin, or not one of this contract.
fn of_bytes() -> Vec<Row> {
    let torn = |mut bytes: Vec<u8>| {
        bytes.truncate(bytes.len() / 2);
        bytes
    };
    let text = |module: &str| of_contract(&format!("(core module $guest {module})"));
    let functions = r#"(func (export "describe") (result i32) (i32.const 0))
        (func (export "validate") (param i32 i32 i32 i32) (result i32) (i32.const 0))
        (func (export "plan") (param i32) (result i32) (i32.const 0))
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 0))"#;
    let version =
        |version: &str| component(&format!(r#"(instance $it) (export "atomix:storage/plugin@{version}" (instance $it))"#));
    vec![
        row("nothing", Vec::new(), "not a plugin: not a WebAssembly component"),
        row("random bytes", noise(), "not a plugin: not a WebAssembly component"),
        row("a plugin cut in half", torn(usual().wasm()), "not a plugin: a broken component: ..."),
        row("gzip cut in half", torn(gzip(&usual().wasm())), "the plugin is not whole gzip: ..."),
        row("gzip of gzip", gzip(&gzip(&usual().wasm())), "not a plugin: not a WebAssembly component"),
        row(
            "a gzip bomb",
            gzip(&vec![0; 64 << 20]),
            "the plugin is over 8388608 bytes when decompressed, which is the limit",
        ),
        row(
            "more bytes than a plugin may have",
            vec![0; limits::PLUGIN_BYTES_MAX + 1],
            "not a plugin: 8388609 bytes; at most 8388608 are accepted",
        ),
        row("a core module", wat::parse_str("(module)").unwrap(), "not a plugin: a core WebAssembly module; ..."),
        row("an import", guest("import"), "it imports wasi:clocks/wall-clock@0.2.0; a plugin may import nothing"),
        row("the wrong world", component(""), "it exports nothing; supported is atomix:storage/plugin@0.1.0"),
        row(
            "an older contract",
            version("0.0.9"),
            "it exports atomix:storage/plugin@0.0.9; supported is atomix:storage/plugin@0.1.0",
        ),
        row(
            "a newer contract",
            version("9.0.0"),
            "it exports atomix:storage/plugin@9.0.0; supported is atomix:storage/plugin@0.1.0",
        ),
        row("the contract's name and nothing in it", version("0.1.0"), "it broke the contract: ..."),
        row("a function of another type", other_type(), "describe gave no answer: ..."),
        row(
            "all memory there is",
            text(&format!(r#"(memory (export "memory") 65536) {functions}"#)),
            "describe gave no answer: it asked for 4294967296 bytes of memory; at most 134217728 are given",
        ),
        row(
            "a table of a hundred million elements",
            text(&format!(r#"(memory (export "memory") 1) (table 100000000 funcref) {functions}"#)),
            "describe gave no answer: it asked for a table of 100000000 elements; at most 20000 are given",
        ),
        row(
            "two memories",
            text(&format!(r#"(memory (export "memory") 1) (memory 1) {functions}"#)),
            "not a plugin: it does not compile: ...",
        ),
        row(
            "a memory of 64 bits",
            text(&format!(r#"(memory (export "memory") i64 1) {functions}"#)),
            "not a plugin: it does not compile: ...",
        ),
    ]
}

/// A component of the contract whose `describe` is its `validate`.
fn other_type() -> Vec<u8> {
    let module = r#"(core module $guest
        (memory (export "memory") 1)
        (func (export "describe") (result i32) (i32.const 0))
        (func (export "validate") (param i32 i32 i32 i32) (result i32) (i32.const 0))
        (func (export "plan") (param i32) (result i32) (i32.const 0))
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 0)))"#;
    let text = harness::hostile::of_contract_text(module);
    wat::parse_str(text.replace(r#"(export "describe" (func $describe))"#, r#"(export "describe" (func $validate))"#))
        .unwrap()
}

/// Plugins whose `describe` does not end well.
fn of_describe() -> Vec<Row> {
    let recursion = "(func $deeper (param i32) (result i32) (i32.add (i32.const 1) (call $deeper (local.get 0))))";
    // What the SDK leaves behind: see its `panic_message`.
    let words = r#"(data (i32.const 1024) "last words here:\09\00\00\00\00\00\00\00no luck\0a\1b")"#;
    vec![
        describing(
            "an endless loop",
            "(loop $again (br $again)) (unreachable)",
            "describe gave no answer: it used all of its 50000000 units of fuel: an endless loop, or far too much work",
        ),
        row(
            "an endless loop before anything is called",
            usual().with("(func $start (loop $again (br $again))) (start $start)").wasm(),
            "describe gave no answer: it used all of its 50000000 units of fuel: an endless loop, or far too much work",
        ),
        describing(
            "bulk copies in a loop",
            "(loop $again (memory.fill (i32.const 0) (i32.const 7) (i32.const 65536)) (br $again)) (unreachable)",
            "describe gave no answer: it used all of its 50000000 units of fuel: an endless loop, or far too much work",
        ),
        describing(
            "more memory than a call may have",
            "(drop (memory.grow (i32.const 16384))) (i32.const {describe})",
            "describe gave no answer: it asked for 1074003968 bytes of memory; at most 134217728 are given",
        ),
        describing(
            "memory, page by page",
            "(loop $again (drop (memory.grow (i32.const 1))) (br $again)) (unreachable)",
            "describe gave no answer: it asked for 134283264 bytes of memory; at most 134217728 are given",
        ),
        row(
            "a table that grows",
            usual()
                .with("(table $table 1 funcref)")
                .does(
                    "describe",
                    "(if (i32.eq (table.grow $table (ref.null func) (i32.const 100000)) (i32.const -1)) (then (unreachable))) (i32.const {describe})",
                )
                .wasm(),
            "describe gave no answer: it asked for a table of 100001 elements; at most 20000 are given",
        ),
        row(
            "deep recursion",
            usual().with(recursion).does("describe", "(call $deeper (i32.const 0))").wasm(),
            "describe gave no answer: it trapped: wasm trap: call stack exhausted",
        ),
        describing("a trap", "(unreachable)", "describe gave no answer: it trapped: unreachable code, as after a panic"),
        row(
            "a panic with words for a terminal",
            usual().with(words).does("describe", "(unreachable)").wasm(),
            "describe gave no answer: it panicked: no luck",
        ),
        describing(
            "a division by zero",
            "(i32.div_u (i32.const 1) (i32.const 0))",
            "describe gave no answer: it trapped: wasm trap: integer divide by zero",
        ),
        describing(
            "a load from beyond its memory",
            "(i32.load (i32.const -8))",
            "describe gave no answer: it trapped: wasm trap: out of bounds memory access",
        ),
        describing("an answer beyond its memory", "(i32.const -8)", "describe gave no answer: ..."),
        describing("an answer at an odd address", "(i32.const 7)", "describe gave no answer: ..."),
        describing(
            "a name beyond its memory",
            "(i32.store (i32.const {describe}) (i32.const -8)) (i32.const {describe})",
            "describe gave no answer: ...",
        ),
        describing(
            "a name of four gigabytes",
            "(i32.store offset=4 (i32.const {describe}) (i32.const -1)) (i32.const {describe})",
            "describe gave no answer: ...",
        ),
        describing(
            "a list of a million times the same kind",
            // The list of kinds emitted stands after two texts and a list; its elements lie over each other, all empty.
            "(drop (memory.grow (i32.const 1000)))
             (i32.store offset=24 (i32.const {describe}) (i32.const 262144)) (i32.store offset=28 (i32.const {describe}) (i32.const 1000000))
             (i32.const {describe})",
            "describe gave no answer: ...",
        ),
        row("a name that is no text", usual().spoiled(NAME.as_bytes(), b"hos\xffile").wasm(), "describe gave no answer: ..."),
    ]
}

/// Plugins with descriptors that none may have.
fn of_descriptor() -> Vec<Row> {
    let deep = |levels| {
        (0..levels).fold(json!({"type": "object"}), |inner, _| json!({"type": "object", "properties": {"a": inner}}))
    };
    let of_group = |group: &str, name: &str, plural: &str| kind(group, name, plural);
    vec![
        declaring(
            "another's name",
            |it| it.name = "good".into(),
            "it calls itself \"good\", but ConfigMap of-hostile is labelled \"hostile\"; the two must be equal",
        ),
        declaring(
            "a name that is none",
            |it| it.name = "../hostile".into(),
            "it broke the contract: the plugin's name is \"../hostile\"; at most 40 lower case letters, digits and dashes are expected",
        ),
        declaring(
            "a version of a thousand characters",
            |it| it.version = "1".repeat(1000),
            "it broke the contract: the plugin's version is ...",
        ),
        declaring("no class kind", |it| it.class_kinds.clear(), "it broke the contract: it serves no class kind"),
        declaring(
            "another's class kind",
            |it| {
                (it.class_kinds[0].kind, it.class_kinds[0].plural) = ("GoodStorageClass".into(), "goodstorageclasses".into())
            },
            "class kind GoodStorageClass is already served by plugin good, which came first, and stays with it until its StoragePlugin is deleted",
        ),
        declaring(
            "the class kind Database",
            |it| it.class_kinds[0].kind = "Database".into(),
            "it broke the contract: the class kind Database (hostilestorageclasses) would take the place of the controller's own",
        ),
        declaring(
            "a hundred class kinds",
            |it| it.class_kinds = vec![it.class_kinds[0].clone(); 100],
            "it broke the contract: class kinds: 100; at most 16 are accepted",
        ),
        declaring(
            "a hundred kinds of objects",
            |it| it.emits = (0..100).map(|at| kind("example.com", &format!("K{at}"), "ks")).collect(),
            "it broke the contract: kinds emitted and watched: 100; at most 32 are accepted",
        ),
        declaring(
            "a schema that is no JSON",
            |it| it.class_kinds[0].spec_schema = json!("{"),
            "it broke the contract: the schema of HostileStorageClass is not JSON: ...",
        ),
        declaring(
            "a schema of a megabyte",
            |it| it.class_kinds[0].spec_schema = json!({"type": "object", "description": "x".repeat(1 << 20)}),
            "it broke the contract: the schema of HostileStorageClass has 1048610 bytes; at most 262144 are accepted",
        ),
        declaring(
            "a schema of fifty levels",
            |it| it.class_kinds[0].spec_schema = deep(50),
            "it broke the contract: the schema of HostileStorageClass is nested 101 deep; at most 32 is accepted",
        ),
        declaring(
            "a schema that no definition takes",
            |it| it.class_kinds[0].spec_schema = json!({"type": "object", "properties": {"a": {"$ref": "#"}}}),
            "it broke the contract: the schema of HostileStorageClass: spec.a has $ref, which no definition may have",
        ),
        emitting(
            "Secrets",
            of_group("", "Secret", "secrets"),
            "it broke the contract: it emits secrets, which no plugin may write",
        ),
        emitting("Pods", of_group("", "Pod", "pods"), "it broke the contract: it emits pods, which no plugin may write"),
        emitting(
            "roles",
            of_group("rbac.authorization.k8s.io", "RoleBinding", "rolebindings"),
            "it broke the contract: it emits rolebindings, which no plugin may write",
        ),
        emitting(
            "webhooks",
            of_group("admissionregistration.k8s.io", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations"),
            "it broke the contract: it emits mutatingwebhookconfigurations, which no plugin may write",
        ),
        emitting(
            "definitions",
            of_group("apiextensions.k8s.io", "CustomResourceDefinition", "customresourcedefinitions"),
            "it broke the contract: it emits customresourcedefinitions, which no plugin may write",
        ),
        emitting(
            "databases",
            of_group("cloud.atomix.io", "Database", "databases"),
            "it broke the contract: it emits databases, which no plugin may write",
        ),
        declaring(
            "to read Secrets",
            |it| it.watches.push(kind("", "Secret", "secrets")),
            "it broke the contract: it watches secrets, which no plugin may read",
        ),
        declaring(
            "a kind whose plural leads elsewhere",
            |it| it.emits[0].plural = "configmaps/../secrets".into(),
            "it broke the contract: the plural of ConfigMap is \"configmaps/../secrets\"; at most 63 lower case letters, digits and dashes are expected",
        ),
        emitting(
            "a kind of its own where StatefulSets are written",
            of_group("apps", "Hostile", "statefulsets"),
            "it broke the contract: the plural of Hostile is \"statefulsets\"; it is \"hostiles\"",
        ),
        Row {
            role: None,
            ..row(
                "no role",
                usual().wasm(),
                "its ClusterRole atomix-plugin-hostile does not exist, so it may write nothing; `atomix-controller plugin pack` prints it",
            )
        },
        Row {
            role: Some(
                json!({"rules": [{"apiGroups": [""], "resources": ["services", "configmaps"], "verbs": ["create", "patch"]}]}),
            ),
            ..row(
                "a kind that only another plugin's role grants",
                usual().wasm(),
                "ClusterRole atomix-plugin-hostile does not let it create and patch statefulsets.apps; only what is granted there is written",
            )
        },
    ]
}

/// The catalog after a good plugin and then the bytes of a row have come: the message about these.
async fn message_of(row: &Row) -> String {
    let catalog = Catalog::default();
    let all = Grants::of(&json!({"rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]}));
    let source = |name: &str, bytes: Vec<u8>| Source {
        pinned: None,
        name: format!("of-{name}"),
        plugin: name.to_owned(),
        stamp: "1".to_owned(),
        created: 1,
        bytes: Ok(bytes.into()),
    };
    let good = Guest::new(&descriptor("good", "GoodStorageClass"), &Ok(plan("default", "db", []))).wasm();
    let loaded = sandbox().load("good", &good).unwrap_or_else(|fault| panic!("{fault}"));
    let recorded = Recorded { digest: Some(loaded.digest().to_owned()), ..Recorded::default() };
    let sources = vec![source("good", good)];
    let found = Found { sources, loaded: Some(Ok(loaded)), grants: Some(all), recorded, ..Found::default() };
    catalog.settle("good", found);

    let trial = Trial::new(paths::controller_program().expect("it is built"), vec!["plugin", "try"]);
    let mut loading = Loading::new(sandbox(), trial);
    let source = source(NAME, row.bytes.clone());
    loading.want(&catalog, NAME, &source, |_| false).await;
    loading.next().await;
    let grants = row.role.as_ref().map(Grants::of);
    catalog.settle(NAME, Found { sources: vec![source], loaded: loading.loaded(NAME), grants, ..Found::default() });
    assert!(catalog.serving("GoodStorageClass").is_some(), "{}: another plugin serves on", row.what);
    assert!(catalog.serving("HostileStorageClass").is_none(), "{}: it serves", row.what);
    assert!(catalog.to_keep(NAME).is_none(), "{}: it would serve", row.what);
    catalog.refusal(NAME).unwrap_or_default()
}

#[tokio::test]
async fn bytes_of_every_hostile_kind_are_refused_by_the_limit_that_is_for_them() {
    let rows: Vec<Row> = of_bytes().into_iter().chain(of_describe()).chain(of_descriptor()).collect();
    let judged = futures::stream::iter(&rows).map(|row| async move {
        let message = message_of(row).await;
        let of_gzip = message.strip_prefix("ConfigMap of-hostile: "); // of bytes that are no gzip there is no digest
        let text = of_gzip.unwrap_or_else(|| after_the_name(&message));
        (!is_expected(text, row.expected)).then(|| format!("{}: {message}\n    expected: {}", row.what, row.expected))
    });
    let wrong: Vec<String> = judged.buffer_unordered(2).filter_map(|wrong| async { wrong }).collect().await;
    none(&wrong);
    assert!(rows.len() > 50, "{} rows", rows.len());
}

#[test]
fn what_the_rows_are_made_of_is_a_plugin() {
    sandbox().load(NAME, &usual().wasm()).unwrap_or_else(|fault| panic!("{fault}"));
}
