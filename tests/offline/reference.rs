//! `docs/reference.md` agrees with the code. Its tables of resources, fields, flags and metrics are made from the
//! definitions, the components, `--help` and the registry; those of condition types, reasons and Events are written by hand,
//! and none may be missing or stale. `make golden` rewrites what is made.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::components::plugin;
use atomix_controller_io::metrics::{DatabasePhase, Metrics, Planned, PluginPhase, Reconciled, Written};
use atomix_model::condition::{ConditionType, EventReason, Reason, Word};
use harness::paths;
use serde_json::Value;

const PLUGINS: [&str; 5] = ["raft", "cache", "etcd", "valkey", "redis"];

fn page() -> PathBuf {
    paths::root().join("docs/reference.md")
}

#[test]
fn the_reference_has_what_the_code_has() {
    let (file, update) = (page(), std::env::var_os("UPDATE").is_some());
    let mut text = std::fs::read_to_string(&file).unwrap();
    let mut stale = Vec::new();
    for (name, made) in [
        ("resources", resources()),
        ("fields", fields()),
        ("classes", classes()),
        ("flags", flags()),
        ("metrics", metrics()),
    ] {
        let (begin, end) = (format!("<!-- begin of {name}, made by `make golden` -->\n"), format!("<!-- end of {name} -->"));
        let at = text.find(&begin).unwrap_or_else(|| panic!("the page has no {begin}")) + begin.len();
        let until = at + text[at..].find(&end).unwrap_or_else(|| panic!("the page has no {end}"));
        let made = format!("\n{}\n", made.trim_end());
        if text[at..until] != made {
            let line = made.lines().zip(text[at..until].lines()).find(|(made, found)| made != found);
            stale.push(format!("{name}: {}", line.map_or("lines are missing or too many", |(made, _)| made)));
            text.replace_range(at..until, &made);
        }
    }
    if update {
        std::fs::write(&file, &text).unwrap();
    }
    assert!(update || stale.is_empty(), "make golden rewrites docs/reference.md\n{}", stale.join("\n"));
}

#[test]
fn the_reference_explains_every_reason_and_none_that_is_gone() {
    let text = std::fs::read_to_string(page()).unwrap();
    let (known, listed) = (reasons(), words_in(&text, "## Reasons"));
    let missing: Vec<_> = known.difference(&listed).collect();
    let stale: Vec<_> = listed.difference(&known).collect();
    assert!(
        missing.is_empty() && stale.is_empty(),
        "docs/reference.md lacks {missing:?}, and lists {stale:?}, which are gone"
    );
    assert_eq!(words_in(&text, "## Events"), words_of(EventReason::WORDS));
    assert_eq!(words_in(&text, "## Conditions"), words_of(ConditionType::WORDS));
}

fn words_of(vocabulary: &[Word]) -> BTreeSet<String> {
    vocabulary.iter().map(|word| word.text.to_owned()).collect()
}

/// The reasons that conditions may have: the controller's own, Kubernetes' that it looks for, and those of the plugins here.
fn reasons() -> BTreeSet<String> {
    let mut words = literals();
    words.retain(|word| !NO_REASONS.contains(&&**word) && !is_kind(word) && ConditionType::of(word).is_none());
    words.extend(words_of(Reason::WORDS));
    words
}

/// Where reasons that are not the controller's own are written: ends of paths.
const OF_REASONS: [&str; 5] =
    ["/status/causes.rs", "/status/conditions.rs", "/sdk/src/health.rs", "/sdk/src/code.rs", "/resp/src/lib.rs"];

/// Words in CamelCase there that are none, beside kinds.
const NO_REASONS: [&str; 17] = [
    "Scale",
    "Bound",
    "Completed",
    "CopyFromReplica",
    "ReplicaFailure",
    "StartEmpty",
    "Wait",
    "ContainerCreating",
    "ErrImagePull",
    "Error",
    "Failed",
    "False",
    "Lost",
    "None",
    "PodInitializing",
    "PodScheduled",
    "True",
];

/// A kind of Kubernetes' or of ours.
fn is_kind(word: &str) -> bool {
    ["Set", "Service", "Pod", "Deployment", "Claim", "Budget", "Map", "Database", "Plugin", "Job"]
        .iter()
        .any(|end| word.ends_with(end))
}

/// Words in CamelCase that stand as texts of their own where reasons are written.
fn literals() -> BTreeSet<String> {
    let is_plugin = |path: &str| path.starts_with("plugins/") && !path.contains("/sdk/");
    let mut found = BTreeSet::new();
    let mut read = BTreeSet::new();
    for (path, code) in code() {
        let path = path.display().to_string();
        if let Some(end) = OF_REASONS.iter().find(|end| path.ends_with(**end) && !path.starts_with("tests/")) {
            read.insert(*end);
            found.extend(words(&code).filter(|(_, word)| is_camel(word)).map(|(_, word)| word.to_owned()));
        } else if is_plugin(&path) {
            found.extend(
                words(&code)
                    .filter(|(before, word)| before.ends_with("reason(") && is_camel(word))
                    .map(|(_, word)| word.to_owned()),
            );
        }
    }
    // A script of servers ends with a reason, which becomes the pod's termination message.
    let script = std::fs::read_to_string(paths::root().join("plugins/sdk/resp/src/server.sh")).unwrap();
    let script: Vec<&str> = script.split_whitespace().collect();
    for (at, word) in script.iter().enumerate().filter(|(at, word)| *at > 1 && is_camel(word)) {
        let ends = script[at - 1] == "wait_for_word" || script[at - 2] == "end" && script[at - 1].starts_with('$');
        found.extend(ends.then(|| (*word).to_owned()));
    }
    assert_eq!(read.len(), OF_REASONS.len(), "reasons moved: only {read:?} are there");
    found
}

/// Texts in code, each with what stands before it.
fn words(code: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut pieces = code.split('"').collect::<Vec<_>>().into_iter();
    std::iter::from_fn(move || Some((pieces.next()?.trim_end(), pieces.next()?)))
}

/// Code of the host and the plugins by path, without comments and unit tests.
fn code() -> BTreeMap<PathBuf, String> {
    let root = paths::root();
    let (mut found, mut folders) = (BTreeMap::new(), vec![root.join("host"), root.join("plugins")]);
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") && !name.ends_with("tests") {
                let text = std::fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
                let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
                let place = path.strip_prefix(&root).unwrap().to_owned();
                found.insert(place, lines.map(|line| line.to_owned() + "\n").collect());
            }
        }
    }
    found
}

/// Whether a text is one word that begins with a capital, as reasons and kinds do.
fn is_camel(word: &str) -> bool {
    word.len() > 3
        && word.starts_with(|c: char| c.is_ascii_uppercase())
        && word.chars().all(|c| c.is_ascii_alphabetic())
        && word.contains(|c: char| c.is_ascii_lowercase())
}

/// The words in the first cells of the tables below a heading.
fn words_in(text: &str, heading: &str) -> BTreeSet<String> {
    let after = text.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("the page has no {heading}")).1;
    let section = after.split("\n## ").next().unwrap_or(after);
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    rows.flat_map(|cell| cell.split('`')).filter(|word| is_camel(word)).map(str::to_owned).collect()
}

/// The definitions that are installed with the controller.
fn definitions() -> Vec<Value> {
    let text = std::fs::read_to_string(paths::root().join("deploy/atomix-controller.yaml")).unwrap();
    let all: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    all.into_iter().filter(|object| object["kind"] == "CustomResourceDefinition").collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn join<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.collect::<Vec<_>>().join(", ")
}

fn resources() -> String {
    let mut out = String::from("| kind | group | versions | short | what it is |\n|---|---|---|---|---|\n");
    for definition in definitions() {
        let spec = &definition["spec"];
        let versions = spec["versions"].as_array().unwrap();
        let shown = versions.iter().map(|version| {
            let stored = if version["storage"] == true && versions.len() > 1 { " (stored)" } else { "" };
            format!("{}{stored}", text(&version["name"]))
        });
        let shown: Vec<_> = shown.collect();
        let short = join(spec["names"]["shortNames"].as_array().into_iter().flatten().map(text));
        let about = text(&versions[0]["schema"]["openAPIV3Schema"]["description"]);
        let (kind, group) = (text(&spec["names"]["kind"]), text(&spec["group"]));
        writeln!(out, "| {kind} | {group} | {} | {short} | {} |", shown.join(", "), cell(about)).unwrap();
    }
    for name in PLUGINS {
        for class in &plugin(name).descriptor().class_kinds {
            let (versions, short) = (class.versions.join(", "), class.short_names.join(", "));
            let about = format!("the class of plugin [{name}](../plugins/{name}/README.md)");
            writeln!(out, "| {} | storage.cloud.atomix.io | {versions} | {short} | {about} |", class.kind).unwrap();
        }
    }
    out
}

/// One line of a table.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

/// Fields of the resources: of each version that is served, what users write, and of the stored one what the controller does.
fn fields() -> String {
    let mut out = String::new();
    for definition in definitions() {
        for version in definition["spec"]["versions"].as_array().unwrap() {
            let stored = version["storage"] == true;
            let schema = &version["schema"]["openAPIV3Schema"];
            let mut rows = Vec::new();
            let parts = schema["properties"].as_object().unwrap();
            for (part, schema) in parts.iter().filter(|(part, _)| *part != "metadata" && (stored || *part != "status")) {
                below(part, schema, &mut rows);
            }
            if !rows.is_empty() {
                let kind = text(&definition["spec"]["names"]["kind"]);
                writeln!(out, "### {kind} {}\n\n| field | type | what it is |\n|---|---|---|", text(&version["name"]))
                    .unwrap();
                rows.iter().for_each(|row| writeln!(out, "{row}").unwrap());
                out.push('\n');
            }
        }
    }
    out
}

/// Rows of the fields below one.
fn below(path: &str, schema: &Value, rows: &mut Vec<String>) {
    let items = &schema["items"];
    let inner = if items.is_object() { items } else { schema };
    let mark = if items.is_object() { "[]" } else { "" };
    // Conditions have the form of every condition in Kubernetes.
    let known = path.ends_with("conditions");
    let properties = inner["properties"].as_object().filter(|_| !known);
    let required = inner["required"].as_array().cloned().unwrap_or_default();
    for (name, field) in properties.into_iter().flatten() {
        let path = format!("{path}{mark}.{name}");
        let mut about = cell(text(&field["description"]));
        let bounds = (field.get("minimum").and_then(Value::as_f64), field.get("maximum").and_then(Value::as_f64));
        if let (Some(least), Some(most)) = bounds {
            write!(about, " {least} to {most}.").unwrap();
        }
        if let Some(default) = field.get("default").filter(|default| !default.is_object() && !default.is_array()) {
            write!(about, " Default: `{}`.", default.as_str().map_or(default.to_string(), str::to_owned)).unwrap();
        }
        let choices = join(field["enum"].as_array().into_iter().flatten().map(text));
        if !choices.is_empty() {
            write!(about, " One of {choices}.").unwrap();
        }
        let needed = if required.iter().any(|it| it == name) { ", required" } else { "" };
        rows.push(format!("| `{path}` | {}{needed} | {} |", type_of(field), about.trim()));
        below(&path, field, rows);
    }
}

fn type_of(schema: &Value) -> String {
    match text(&schema["type"]) {
        "array" => format!("list of {}", type_of(&schema["items"])),
        "" if schema["x-kubernetes-int-or-string"] == true => "integer or string".to_owned(),
        "" => "any".to_owned(),
        other => other.to_owned(),
    }
}

/// Fields that each class has beside those of every class.
fn classes() -> String {
    let mut out = String::new();
    let common = std::fs::read_to_string(paths::root().join("plugins/README.md")).unwrap();
    let common: BTreeSet<_> = common.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    for name in PLUGINS {
        let revision = plugin(name);
        for class in &revision.descriptor().class_kinds {
            let mut rows = Vec::new();
            let properties = class.spec_schema["properties"].as_object().unwrap();
            for (name, schema) in properties.iter().filter(|(name, _)| !common.contains(name.as_str())) {
                let about = cell(text(&schema["description"]));
                rows.push(format!("| `{name}` | {} | {about} |", type_of(schema)));
                let nested = if text(&schema["type"]) == "object" { schema["properties"].as_object() } else { None };
                for (inner, schema) in nested.into_iter().flatten().filter(|(inner, _)| !common.contains(inner.as_str())) {
                    rows.push(format!(
                        "| `{name}.{inner}` | {} | {} |",
                        type_of(schema),
                        cell(text(&schema["description"]))
                    ));
                }
            }
            writeln!(out, "### {}\n\n| field | type | what it is |\n|---|---|---|\n{}\n", class.kind, rows.join("\n"))
                .unwrap();
        }
    }
    out
}

/// Options of each command, as `--help` prints them.
fn flags() -> String {
    let mut out = String::new();
    for command in [&["run"][..], &["render"], &["crds"], &["plugin", "pack"], &["plugin", "inspect"], &["plugin", "diff"]] {
        let mut help = Command::new(paths::controller_program().unwrap());
        help.args(command).arg("--help").env("COLUMNS", "100").env_clear();
        let help = String::from_utf8(help.output().unwrap().stdout).unwrap();
        let about = cell(help.split("\n\n").next().unwrap());
        writeln!(out, "### atomix-controller {}\n\n{about}.\n", command.join(" ")).unwrap();
        let options = options(&help);
        if !options.is_empty() {
            writeln!(out, "| flag | variable | default | what it does |\n|---|---|---|---|\n{}\n", options.join("\n"))
                .unwrap();
        }
    }
    out
}

fn options(help: &str) -> Vec<String> {
    let is_head = |line: &str| {
        let flag = line.trim_start();
        flag.starts_with("--") || flag.starts_with("-f, --")
    };
    let lines: Vec<&str> = help.lines().collect();
    let heads: Vec<usize> = (0..lines.len()).filter(|at| is_head(lines[*at])).collect();
    let mut rows = Vec::new();
    for (number, at) in heads.iter().enumerate() {
        let end = heads.get(number + 1).copied().unwrap_or(lines.len());
        let block = lines[at + 1..end].iter().take_while(|line| line.is_empty() || line.starts_with("     "));
        let (mut about, mut variable, mut default) = (String::new(), "", "");
        let (head, beside) = lines[*at].trim().split_once("  ").unwrap_or((lines[*at].trim(), ""));
        about.push_str(beside.trim());
        for line in block.map(|line| line.trim()).filter(|line| !line.starts_with("-h, ")) {
            let bracket = |name: &str| line.strip_prefix(name)?.strip_suffix(']');
            if let Some(found) = bracket("[env: ") {
                variable = found.trim_end_matches('=');
            } else if let Some(found) = bracket("[default: ") {
                default = found;
            } else {
                about.push(' ');
                about.push_str(line);
            }
        }
        let head = head.replace(['<', '>'], "");
        let code = |word: &str| if word.is_empty() { String::new() } else { format!("`{word}`") };
        rows.push(format!("| `{head}` | {} | {} | {} |", code(variable), code(default), cell(&about)));
    }
    rows
}

fn metrics() -> String {
    let metrics = Metrics::default();
    let took = Duration::ZERO;
    Reconciled::ALL.into_iter().for_each(|result| metrics.reconciled(result, took));
    Planned::ALL.into_iter().for_each(|result| metrics.planned("", result, took));
    Written::ALL.into_iter().for_each(|result| metrics.wrote("", result));
    PluginPhase::ALL.into_iter().for_each(|phase| metrics.plugins(phase, 0));
    DatabasePhase::ALL.into_iter().for_each(|phase| metrics.databases(phase, 0));
    metrics.called("", "", took);
    let text = metrics.text();
    let registered = code().into_iter().find(|(path, _)| path.ends_with("metrics.rs")).unwrap().1;
    let helps: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' ')).collect();
    assert_eq!(
        helps.len(),
        registered.matches("r.register(").count(),
        "a metric has no series until it is counted: count it above"
    );
    let mut out = String::from("| metric | type | labels | what it counts |\n|---|---|---|---|\n");
    for (name, about) in helps {
        let type_ = text.lines().find_map(|line| line.strip_prefix(&format!("# TYPE {name} "))).unwrap_or("unknown");
        let shown = if type_ == "counter" { format!("{name}_total") } else { name.to_owned() };
        writeln!(out, "| `{shown}` | {type_} | {} | {} |", labels(&text, name), cell(about.trim_end_matches('.'))).unwrap();
    }
    out
}

/// Labels of a metric, and the values of those that have fixed ones.
fn labels(text: &str, name: &str) -> String {
    let mut labels: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with(name)) {
        let within = line.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map_or("", |(within, _)| within);
        for (label, value) in within.split(',').filter_map(|pair| pair.split_once('=')).filter(|(label, _)| *label != "le") {
            labels.entry(label).or_default().insert(value.trim_matches('"'));
        }
    }
    let shown = labels.into_iter().map(|(label, values)| {
        let values = join(values.into_iter().filter(|value| !value.is_empty()));
        if values.is_empty() { format!("`{label}`") } else { format!("`{label}`: {values}") }
    });
    shown.collect::<Vec<_>>().join("; ")
}
