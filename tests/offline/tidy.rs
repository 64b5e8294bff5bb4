//! Checks of the sources that Cargo and clippy do not make: what may not be named, which files are compiled, how long one
//! may be, which dependencies `Cargo.toml` may have. Reads sources; builds nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use harness::paths;
use syn::visit::Visit;

/// Lines of a file: what is longer is two things.
const LINES_MAX: usize = 600;

/// The crates below `host/`, lowest first; each may use the crates of ours that are named, and none of these others. Cargo
/// keeps to the dependencies; this keeps `Cargo.toml` from gaining new ones unnoticed.
const LAYERS: &[(&str, &[&str], &[&str], &str)] = &[
    ("model", &[], &["tokio", "futures", "wasmtime", "tonic", "tracing"], "words do no I/O"),
    (
        "decide",
        &["atomix-model"],
        &["kube", "tokio", "futures", "wasmtime", "tonic", "tracing"],
        "decisions are plain functions",
    ),
    (
        "sandbox",
        &["atomix-model"],
        &["kube", "tokio", "futures", "tonic"],
        "same bytes, same request, same plan: no cluster, no clock",
    ),
    ("io", &["atomix-model"], &["wasmtime", "tonic"], "what reconciling and serving share knows neither"),
    (
        "kube",
        &["atomix-controller-io", "atomix-decide", "atomix-model", "atomix-sandbox"],
        &["tonic", "wasmtime"],
        "Kubernetes is the only thing between the controller and its API",
    ),
    (
        "grpc",
        &["atomix-controller-io", "atomix-model"],
        &["wasmtime"],
        "Kubernetes is the only thing between the controller and its API",
    ),
];

/// Storages: the host names none, not even in a comment.
const STORAGES: &[&str] = &["raft", "redis", "etcd", "valkey", "zookeeper", "memcached"];

/// Kinds of Kubernetes that run or guard pods, and the modules whose tables name them.
const WORKLOADS: &[&str] = &["StatefulSet", "Deployment", "DaemonSet", "ReplicaSet", "CronJob", "PodDisruptionBudget"];
const TABLES_OF_WORKLOADS: &[&str] = &[
    "host/decide/src/admission",
    "host/decide/src/diff",
    "host/decide/src/objects",
    "host/decide/src/status",
    "host/kube/src/catalog",
    "host/model/src",
];

/// What identifies the machine on which something was written, or how it was reached from there.
/// (In two parts, or they would stand here.)
const MACHINES: &[&str] = &[
    concat!("/", "work/"),
    concat!("/", "root/"),
    concat!("/", "home/"),
    concat!("/", "Users/"),
    concat!("..", "/shared"),
    "sparse+http",
    "replace-with",
    "GOPROXY=",
    "GOFLAGS=-mod",
];

#[test]
fn crates_use_only_what_is_below_them() {
    let mut faults = String::new();
    for (layer, ours, never, why) in LAYERS {
        let manifest = std::fs::read_to_string(paths::root().join(format!("host/{layer}/Cargo.toml"))).expect("a crate");
        let (_, used) = manifest.split_once("[dependencies]").expect("it depends on something");
        let used = used.split("\n[").next().unwrap_or_default();
        let names = used.lines().filter_map(|line| Some(line.split(['.', ' ', '=']).next()?.trim()));
        for name in names {
            if never.contains(&name) || name.starts_with("atomix-") && !ours.contains(&name) {
                writeln!(faults, "host/{layer} depends on {name}\n    {why}").unwrap();
            }
        }
    }
    assert!(faults.is_empty(), "\n{faults}");
}

#[test]
fn the_host_knows_no_storage() {
    let mut faults = Faults::default();
    for source in host() {
        for (at, line) in source.text.lines().enumerate() {
            let named = |word: &&str| STORAGES.iter().any(|storage| word.to_ascii_lowercase().contains(storage));
            for word in words(line).filter(named) {
                faults.add(
                    &source,
                    at,
                    &format!("`{word}` is the name of a storage"),
                    "a storage is what a plugin brings; use a made-up name",
                );
            }
        }
    }
    faults.none();
}

#[test]
fn kinds_of_workloads_stand_in_tables_only() {
    let mut faults = Faults::default();
    let is_table =
        |source: &Source| TABLES_OF_WORKLOADS.iter().any(|table| source.path.to_string_lossy().starts_with(table));
    for source in host().iter().filter(|source| !is_table(source)) {
        for (at, word) in source.words() {
            if WORKLOADS.contains(&word.strip_suffix('s').unwrap_or(&word)) {
                let rule = format!("the kind `{word}` is named here");
                let why = format!("kinds that plugins emit stand only in {}", TABLES_OF_WORKLOADS.join(", "));
                faults.add(source, at, &rule, &why);
            }
        }
    }
    faults.none();
}

#[test]
fn every_test_that_a_page_names_as_a_proof_is_there() {
    let tests: Vec<String> = sources().into_values().map(|source| source.text).collect();
    let is_there = |name: &str| {
        let start = format!("fn {name}(");
        let tested = |text: &String| {
            text.find(&start).is_some_and(|at| {
                let before = text[..at].trim_end().trim_end_matches("async").trim_end();
                before.ends_with("]") && before.rsplit("#[").next().is_some_and(|attribute| attribute.contains("test"))
            })
        };
        // A property test stands in a macro, without an attribute of its own on this line.
        tests.iter().any(|text| tested(text) || (text.contains("proptest!") && text.contains(&start)))
    };
    for (page, at_least) in [("docs/security.md", 30), ("docs/reliability.md", 20)] {
        let text = std::fs::read_to_string(paths::root().join(page)).expect("there is such a page");
        let named: BTreeSet<_> = text.split('`').skip(1).step_by(2).filter(|word| word.matches('_').count() > 2).collect();
        let lost: Vec<_> = named.iter().filter(|name| !is_there(name)).collect();
        assert!(named.len() > at_least && lost.is_empty(), "{page} names {} tests; not there are {lost:?}", named.len());
    }
}

#[test]
fn every_file_is_compiled() {
    let sources = sources();
    let mut reached = BTreeSet::new();
    let mut open: Vec<&Source> = sources.values().filter(|source| source.is_root()).collect();
    while let Some(source) = open.pop() {
        if reached.insert(&source.path) {
            open.extend(source.modules().iter().filter_map(|path| sources.get(path)));
        }
    }
    let mut faults = Faults::default();
    for source in sources.values().filter(|source| !reached.contains(&source.path)) {
        faults.add(source, 0, "no `mod` line leads here", "a file that is not compiled rots unseen: name it or remove it");
    }
    faults.none();
}

#[test]
fn files_are_short_and_open_with_what_they_are() {
    let mut faults = Faults::default();
    for source in sources().values() {
        let lines = source.text.lines().count();
        if lines > LINES_MAX {
            faults.add(
                source,
                LINES_MAX,
                &format!("{lines} lines, at most {LINES_MAX}"),
                "so long a file is two things: divide it",
            );
        }
        if !source.text.starts_with("//! ") {
            faults.add(
                source,
                0,
                "the first line does not start with `//! `",
                "a file opens with what it is and what it does not know",
            );
        }
    }
    faults.none();
}

#[test]
fn nothing_names_the_machine_it_was_written_on() {
    let mut faults = Faults::default();
    let this = Path::new("tests/offline/tidy.rs");
    for source in texts().iter().filter(|source| source.path != this) {
        for (at, line) in source.text.lines().enumerate() {
            for word in MACHINES.iter().filter(|word| names_machine(line, word)) {
                faults.add(source, at, &format!("{word:?} stands here"), "it means something on one machine only");
            }
            let registry = line.trim().strip_prefix("source = ").filter(|_| source.path.ends_with("Cargo.lock"));
            if registry.is_some_and(|from| !(from.starts_with("\"registry+") && from.ends_with("index\""))) {
                faults.add(
                    source,
                    at,
                    "a dependency from another place than the public registry",
                    "a build could reach that one only",
                );
            }
        }
    }
    faults.none();
}

/// A source file, or another text.
struct Source {
    /// From the root of the checkout.
    path: PathBuf,
    text: String,
}

impl Source {
    /// Whether Cargo finds it by itself.
    fn is_root(&self) -> bool {
        let name = self.path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        let folder = self.path.parent().and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or("");
        matches!(name, "lib.rs" | "main.rs" | "build.rs") || matches!(folder, "bin" | "examples" | "benches")
    }

    fn parsed(&self) -> syn::File {
        syn::parse_file(&self.text).unwrap_or_else(|error| panic!("{}: {error}", self.path.display()))
    }

    /// Where its `mod` items lead: each to two places, of which one is there, or to the one that it names.
    fn modules(&self) -> Vec<PathBuf> {
        let name = self.path.file_stem().and_then(|name| name.to_str()).unwrap_or("");
        let beside = self.path.parent().unwrap_or(Path::new(""));
        let folder = if self.is_root() || name == "mod" { beside.to_owned() } else { beside.join(name) };
        let mut found = Vec::new();
        for item in self.parsed().items {
            let syn::Item::Mod(item) = item else { continue };
            let named = item.attrs.iter().find_map(|attribute| match &attribute.meta {
                syn::Meta::NameValue(meta) if meta.path.is_ident("path") => text_of(&meta.value),
                _ => None,
            });
            match (named, &item.content) {
                (Some(path), _) => found.push(beside.join(path)),
                (None, None) => {
                    let name = item.ident.to_string();
                    found.extend([folder.join(format!("{name}.rs")), folder.join(name).join("mod.rs")]);
                }
                (None, Some(_)) => {}
            }
        }
        found
    }

    /// The words of its names and texts, each with its line from 0. Comments do not count, nor do unit tests.
    fn words(&self) -> Vec<(usize, String)> {
        let is_tests = |name: &str| name == "tests" || name.ends_with("_tests");
        if self.path.file_stem().and_then(|name| name.to_str()).is_some_and(is_tests) {
            return Vec::new();
        }
        let mut read = Words::default();
        read.visit_file(&self.parsed());
        read.0
    }
}

/// Collects names and texts.
#[derive(Default)]
struct Words(Vec<(usize, String)>);

impl Words {
    fn add(&mut self, at: proc_macro2::Span, text: &str) {
        let line = at.start().line.saturating_sub(1);
        self.0.extend(words(text).map(|word| (line, word.to_owned())));
    }
}

impl<'a> Visit<'a> for Words {
    fn visit_item_mod(&mut self, item: &'a syn::ItemMod) {
        if item.ident != "tests" {
            syn::visit::visit_item_mod(self, item);
        }
    }

    fn visit_attribute(&mut self, _: &'a syn::Attribute) {} // documentation is one

    fn visit_ident(&mut self, name: &'a syn::Ident) {
        self.add(name.span(), &name.to_string());
    }

    fn visit_lit_str(&mut self, text: &'a syn::LitStr) {
        self.add(text.span(), &text.value());
    }

    fn visit_macro(&mut self, called: &'a syn::Macro) {
        self.add(called.path.segments[0].ident.span(), &called.tokens.to_string());
    }
}

/// The text of a literal.
fn text_of(value: &syn::Expr) -> Option<String> {
    match value {
        syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => Some(text.value()),
        _ => None,
    }
}

/// What is wrong, all of it at once.
#[derive(Default)]
struct Faults(String);

impl Faults {
    fn add(&mut self, source: &Source, line: usize, rule: &str, why: &str) {
        writeln!(self.0, "{}:{}: {rule}\n    {why}", source.path.display(), line + 1).unwrap();
    }

    #[track_caller]
    fn none(self) {
        assert!(self.0.is_empty(), "\n{}", self.0);
    }
}

/// Sources of the host, all crates of it.
fn host() -> Vec<Source> {
    let found: Vec<_> = sources().into_values().filter(|source| source.path.starts_with("host")).collect();
    assert!(found.len() > 10, "only {} sources in host: is this the root of a checkout?", found.len());
    found
}

/// Rust sources by path.
fn sources() -> BTreeMap<PathBuf, Source> {
    let rust = texts().into_iter().filter(|source| source.path.extension().is_some_and(|end| end == "rs"));
    rust.map(|source| (source.path.clone(), source)).collect()
}

/// All texts of the checkout that are not made by a build.
fn texts() -> Vec<Source> {
    let root = paths::root();
    let (mut found, mut folders) = (Vec::new(), vec![root.clone()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap_or("");
            if path.is_symlink() || matches!(name, ".git" | "target" | "dist") {
                continue;
            } else if path.is_dir() {
                folders.push(path);
            } else if let Ok(text) = std::fs::read_to_string(&path) {
                found.push(Source { path: path.strip_prefix(&root).unwrap().to_owned(), text });
            }
        }
    }
    found
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty())
}

/// A path counts from its beginning only: `target/work/` is none of a machine.
fn names_machine(line: &str, word: &str) -> bool {
    let begins = |at: usize| {
        !word.starts_with('/') || !line[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || "._-}".contains(c))
    };
    line.match_indices(word).any(|(at, _)| begins(at))
}
