//! Keeps the house in order: which room may name which, what may not be named at all, how long a file may be. Reads sources as
//! text; builds nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use harness::paths;

/// Lines of a file: what is longer is two things.
const LINES_MAX: usize = 600;

/// What a room of `host/src` may not name, and why. A word in lower case is a room (`crate::word`) or a crate (`word::…`); one
/// with `::` or `.` is found as it stands.
const ROOMS: &[(&str, &[&str], &str)] = &[
    (
        "crd",
        &[
            "admit",
            "api",
            "apply",
            "cache",
            "catalog",
            "controller",
            "observe",
            "sandbox",
            "status",
            "view",
            "webhook",
            "wit",
        ],
        "resources are plain data that every room may read, so they can know none",
    ),
    (
        "wit",
        &["kube", "k8s_openapi", "tonic", "catalog", "controller", "sandbox"],
        "the contract knows no Kubernetes client",
    ),
    (
        "sandbox",
        &["kube", "tonic", "catalog", "controller", "Instant::now", "SystemTime::now", "tokio::time"],
        "same bytes and same request give the same plan: no cluster, no clock",
    ),
    ("catalog", &["controller", "api"], "plugins are loaded whoever asks for plans"),
    ("cache", &["wasmtime", "tonic", "catalog", "controller", "apply", "api"], "caches hold what is live, whoever reads it"),
    (
        "observe",
        &["wasmtime", "tonic", "controller", "apply"],
        "what a plan may depend on is distilled before any plugin is called",
    ),
    (
        "admit",
        &["kube", "tonic", "wasmtime", "tokio", "controller", "async fn", ".await", "Instant::now", "SystemTime::now"],
        "it decides, and does nothing: no client, no waiting, no clock",
    ),
    (
        "contain",
        &[
            "kube",
            "k8s_openapi",
            "tokio",
            "admit",
            "apply",
            "cache",
            "crd",
            "wit",
            "async fn",
            ".await",
            "Instant::now",
            "SystemTime::now",
        ],
        "the diff is a plain function over JSON",
    ),
    (
        "apply",
        &["wasmtime", "tonic", "sandbox", "controller", "api"],
        "it writes what was admitted, wherever that came from",
    ),
    (
        "status",
        &["kube", "tonic", "wasmtime", "tokio", "controller", "async fn", ".await", "Instant::now", "SystemTime::now"],
        "it turns outcomes into conditions; time is an argument",
    ),
    ("controller", &["tonic", "api", "view"], "Kubernetes is the only thing between the controller and its API"),
    ("proto", &["kube", "crd", "view", "api"], "messages are the clients' language, not Kubernetes'"),
    (
        "view",
        &["tonic", "kube", "controller", "cache", "api"],
        "what clients may see is kept apart from who serves it and who fills it",
    ),
    ("api", &["controller", "sandbox", "wasmtime"], "Kubernetes is the only thing between the controller and its API"),
    (
        "leader",
        &["tonic", "wasmtime", "crd", "wit", "cache", "catalog", "apply", "controller", "api"],
        "who leads is decided without a look at what is led",
    ),
    ("webhook", &["controller", "api"], "definitions are served whether or not anything is reconciled"),
    (
        "telemetry",
        &["kube", "tonic", "wasmtime", "crd", "controller", "catalog", "cache"],
        "numbers are words and counts, no objects",
    ),
    ("limits", &["crd", "wit", "kube", "tokio"], "a limit is a number with a reason"),
    ("names", &["kube", "tokio", "controller"], "names are made from names"),
];

/// Rooms that nothing imports.
const TOPS: &[&str] = &["cli", "main"];

/// Storages: the host knows none, not even in a comment.
const STORAGES: &[&str] = &["raft", "redis", "etcd", "valkey", "zookeeper", "memcached"];

/// Kinds of Kubernetes that run or guard pods, and the rooms whose tables name them.
const WORKLOADS: &[&str] = &["StatefulSet", "Deployment", "DaemonSet", "ReplicaSet", "CronJob", "PodDisruptionBudget"];
const ROOMS_OF_WORKLOADS: &[&str] = &["admit", "apply", "catalog", "contain", "crd"];

/// What says on which machine something was written or how it was reached from there.
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
fn every_room_names_only_what_it_may() {
    let mut faults = Faults::default();
    for (room, source) in host() {
        let code = source.code();
        for (at, line) in code.lines().enumerate() {
            for (_, forbidden, why) in ROOMS.iter().filter(|(of, ..)| *of == room) {
                for word in forbidden.iter().filter(|word| is_named(line, word)) {
                    faults.add(&source, at, &format!("the room `{room}` names `{word}`"), why);
                }
            }
            for word in TOPS.iter().filter(|word| is_named(line, word) && !TOPS.contains(&room.as_str())) {
                faults.add(
                    &source,
                    at,
                    &format!("the room `{room}` names `{word}`"),
                    "nothing imports what puts the parts together",
                );
            }
        }
    }
    faults.none();
}

#[test]
fn the_host_knows_no_storage() {
    let mut faults = Faults::default();
    for (_, source) in host() {
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
    for (room, source) in host().into_iter().filter(|(room, _)| !ROOMS_OF_WORKLOADS.contains(&room.as_str())) {
        let code = source.code();
        for (at, line) in code.lines().enumerate() {
            for word in words(line).filter(|word| WORKLOADS.contains(&word.strip_suffix('s').unwrap_or(word))) {
                let rule = format!("the room `{room}` names the kind `{word}`");
                faults.add(
                    &source,
                    at,
                    &rule,
                    &format!("kinds that plugins emit stand only in {}", ROOMS_OF_WORKLOADS.join(", ")),
                );
            }
        }
    }
    faults.none();
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
fn nothing_tells_of_the_machine_it_was_written_on() {
    let mut faults = Faults::default();
    let this = Path::new("tests/cluster/tidy.rs");
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
                    "who builds this can reach that one only",
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
    /// The room of `host/src` it belongs to: its folder or its name.
    fn room(&self) -> Option<String> {
        let inside = self.path.strip_prefix("host/src").ok()?;
        let first = Path::new(inside.components().next()?.as_os_str());
        Some(first.file_stem()?.to_str()?.to_owned())
    }

    /// Whether Cargo finds it by itself.
    fn is_root(&self) -> bool {
        let name = self.path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        let folder = self.path.parent().and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or("");
        matches!(name, "lib.rs" | "main.rs" | "build.rs") || matches!(folder, "bin" | "examples" | "benches")
    }

    /// Where its `mod` lines lead: each line to two places, of which one is there.
    fn modules(&self) -> Vec<PathBuf> {
        let name = self.path.file_stem().and_then(|name| name.to_str()).unwrap_or("");
        let folder = self.path.parent().unwrap_or(Path::new(""));
        let folder = if self.is_root() || name == "mod" { folder.to_owned() } else { folder.join(name) };
        let code = without_comments(&self.text);
        let named = code.lines().filter_map(|line| {
            let line = line.trim().strip_suffix(';')?;
            let (before, name) = line.split_once("mod ")?;
            (before.is_empty() || before.starts_with("pub") || before.starts_with("#[")).then(|| name.trim().to_owned())
        });
        let beside = code.lines().filter_map(|line| line.trim().strip_prefix("#[path = \"")?.split_once('"'));
        let beside = beside.filter_map(|(name, _)| Some(self.path.parent()?.join(name)));
        named.flat_map(|name| [folder.join(format!("{name}.rs")), folder.join(&name).join("mod.rs")]).chain(beside).collect()
    }

    /// Its code, line by line: no comments, and nothing from the unit tests on, which end a file. Each `use` stands on one line,
    /// and paths that climb out of a room start with `crate`.
    fn code(&self) -> String {
        if self
            .path
            .file_stem()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name == "tests" || name.ends_with("_tests"))
        {
            return String::new();
        }
        let code = without_comments(&self.text);
        let end = code.find("#[cfg(test)]\nmod tests {").unwrap_or(code.len());
        let steps = self.path.components().count() - 2 - usize::from(self.path.ends_with("mod.rs"));
        one_line_uses(&code[..end].replace(&"super::".repeat(steps), "crate::"))
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

/// Sources of the host, each with its room.
fn host() -> Vec<(String, Source)> {
    let of_host = sources().into_values().filter_map(|source| Some((source.room()?, source)));
    let found: Vec<_> = of_host.collect();
    assert!(found.len() > 10, "only {} sources in host/src: is this the root of a checkout?", found.len());
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

/// The text with comments blanked, lines kept. Knows strings well enough not to take `"//"` for a comment.
fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    let (mut in_string, mut depth) = (false, 0_usize);
    while let Some(c) = chars.next() {
        let next = chars.peek().copied();
        match c {
            '\n' => out.push(c),
            '*' if depth > 0 && next == Some('/') => {
                chars.next();
                depth -= 1;
            }
            '/' if !in_string && next == Some('*') => {
                chars.next();
                depth += 1;
            }
            _ if depth > 0 => {}
            '/' if !in_string && next == Some('/') => while chars.next_if(|c| *c != '\n').is_some() {},
            '\\' if in_string => out.extend([Some(c), chars.next()].into_iter().flatten()),
            '\'' if !in_string && next == Some('"') => out.extend([Some(c), chars.next()].into_iter().flatten()),
            '"' => {
                in_string = !in_string;
                out.push(c);
            }
            _ => out.push(c),
        }
    }
    out
}

/// Each `use` on its first line, and empty lines for the rest of it.
fn one_line_uses(code: &str) -> String {
    let (mut lines, mut open): (Vec<String>, Option<usize>) = (Vec::new(), None);
    for line in code.lines() {
        let begins = line.trim_start().trim_start_matches("pub ").starts_with("use ");
        let at = if begins { lines.len() } else { open.unwrap_or(lines.len()) };
        if at < lines.len() {
            let rest = format!(" {}", line.trim());
            lines[at].push_str(&rest);
            lines.push(String::new());
        } else {
            lines.push(line.to_owned());
        }
        open = (begins || open.is_some()).then_some(at).filter(|_| !line.trim_end().ends_with(';'));
    }
    lines.join("\n")
}

/// Whether a line of code names a room or a crate (`crate::word`, `word::…`, `use word`, also in a group), or holds a phrase.
fn is_named(line: &str, word: &str) -> bool {
    if word.contains(['.', ':', ' ']) {
        return line.contains(word);
    }
    let bytes = line.as_bytes();
    let starts = line.match_indices(word).map(|(start, _)| start);
    let whole = |start: &usize| {
        let is_part = |at: usize| bytes.get(at).is_some_and(|c| c.is_ascii_alphanumeric() || *c == b'_');
        let begins = *start == 0 || !is_part(start - 1);
        begins && !is_part(start + word.len())
    };
    starts.filter(whole).any(|start| {
        let (before, after) = (line[..start].trim_end(), &line[start + word.len()..]);
        let imported = line.trim_start().starts_with("use ") || line.trim_start().starts_with("pub use ");
        let of_crate =
            before.ends_with("crate::") || (imported && before.contains("use crate::{") && !before.ends_with("::"));
        let outside = !before.ends_with("::") && !before.contains("use crate::");
        of_crate || outside && (after.starts_with("::") || imported && after.trim_start().starts_with(['{', ';']))
    })
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

#[test]
fn the_reader_of_sources_is_not_fooled() {
    let code = without_comments("a // raft\nb \"// no comment\" /* gone\n gone */ c '\"' // d\n\"\\\"//\" e");
    assert_eq!(code, "a \nb \"// no comment\" \n c '\"' \n\"\\\"//\" e");
    assert_eq!(one_line_uses("a\npub use b::{\n    c,\n};\nd"), "a\npub use b::{ c, };\n\n\nd");
    for (line, word) in [
        ("use crate::catalog;", "catalog"),
        ("use crate::catalog::{Catalog};", "catalog"),
        ("use crate::{crd, catalog::Catalog};", "catalog"),
        ("    crate::catalog::load()", "catalog"),
        ("use kube::Client;", "kube"),
        ("let c = kube::Client::new();", "kube"),
        ("let now = std::time::Instant::now();", "Instant::now"),
        ("x.await?", ".await"),
    ] {
        assert!(is_named(line, word), "{line} names {word}");
    }
    for (line, word) in [
        ("use crate::catalogue;", "catalog"),
        ("let catalog = 1;", "catalog"),
        ("use k8s_openapi::api::core;", "api"),
        ("use kube::api::Patch;", "api"),
        ("use crate::cache::{Kind, api};", "kube"),
        ("let kube = catalog.kube;", "kube"),
        ("self.status.x", "status"),
        ("use crate::observe::status::X;", "status"),
    ] {
        assert!(!is_named(line, word), "{line} does not name {word}");
    }
}
