//! `atomix-controller plugin diff`: what another revision of a plugin would change of databases. Needs no cluster.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::Value;

use super::plugin::{Plugin, load};
use super::render::{Given, invalid, named, planned};
use atomix_model::contract::plain;
use atomix_model::names;
use atomix_sandbox::Sandbox;

/// Print what a plugin's new revision would write otherwise than the old one, for the Databases and storage classes in files.
///
/// Exit code 0: nothing; 1: something; 2: it could not be found out. Both plan new databases, so what a plugin makes of what runs
/// already, such as a field that it keeps as it is, does not show.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The component that runs, as it is or in gzip.
    old: PathBuf,

    /// The one that would take its place; - for standard input.
    new: PathBuf,

    /// Files of Databases and storage classes.
    #[arg(short, long = "filename", env = "ATOMIX_FILENAME", value_name = "FILE", required = true, num_args = 1.., value_delimiter = ',')]
    filenames: Vec<PathBuf>,

    /// Namespace of objects that name none.
    #[arg(short, long, env = "ATOMIX_NAMESPACE", default_value = "default")]
    namespace: String,

    /// DNS domain of the cluster: ends the host names that clients are given.
    #[arg(long, env = "CLUSTER_DOMAIN", default_value = "cluster.local")]
    cluster_domain: String,
}

/// Exit code where something differs.
const DIFFERS: i32 = 1;
/// Exit code where it is not known.
const FAILED: i32 = 2;

/// What differs, as text, and the exit code; what went wrong is printed on standard error.
pub fn run(args: &Args) -> (String, i32) {
    match differences(args) {
        Ok(text) if text.is_empty() => (text, 0),
        Ok(text) => (text, DIFFERS),
        Err(error) => {
            eprintln!("Error: {error:#}");
            (String::new(), FAILED)
        }
    }
}

fn differences(args: &Args) -> anyhow::Result<String> {
    let sandbox = Sandbox::on_demand().map_err(anyhow::Error::from)?;
    let (old, new) = ([load(&sandbox, &args.old)?], [load(&sandbox, &args.new)?]);
    let given = Given::read(&args.filenames, &args.namespace)?;
    let mut text = String::new();
    for class in &given.classes {
        let title = format!("{} {}", class["kind"].as_str().unwrap_or_default(), named(&class["metadata"]));
        compared(&mut text, &title, |plugins| invalid(class, plugins).map(|()| BTreeMap::new()), (&old, &new));
    }
    for database in &given.databases {
        let title = format!("Database {}", named(&serde_json::json!(database.metadata)));
        let objects = |plugins: &[Plugin]| {
            let planned = planned(database, &given.classes, plugins, &args.cluster_domain);
            planned.map(|(_, manifests)| by_name(manifests)).map_err(|error| format!("{error:#}"))
        };
        compared(&mut text, &title, objects, (&old, &new));
    }
    Ok(text)
}

/// Objects by kind and name.
type Objects = BTreeMap<String, Value>;

fn by_name(manifests: Vec<Value>) -> Objects {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let entry = |object: Value| (format!("{} {}", word(&object["kind"]), word(&object["metadata"]["name"])), object);
    manifests.into_iter().map(entry).collect()
}

/// Adds what a revision makes otherwise than the one before.
fn compared(
    text: &mut String,
    title: &str,
    planned: impl Fn(&[Plugin]) -> Result<Objects, String>,
    (old, new): (&[Plugin], &[Plugin]),
) {
    let lines: Vec<String> = match (planned(old), planned(new)) {
        (Ok(old), Ok(new)) => changes(&old, &new),
        (Err(old), Err(new)) if old == new => Vec::new(),
        (_, Err(new)) => vec![format!("! {new}")],
        (Err(old), Ok(_)) => vec![format!("+ accepted, which the old one does not: {old}")],
    };
    if !lines.is_empty() {
        let lines: String = lines.iter().map(|line| format!("  {}\n", plain(line))).collect();
        write!(text, "{title}\n{lines}").expect("a text takes any");
    }
}

fn changes(old: &Objects, new: &Objects) -> Vec<String> {
    let mut lines: Vec<String> =
        old.keys().filter(|name| !new.contains_key(*name)).map(|name| format!("- {name}")).collect();
    for (name, wanted) in new {
        let Some(found) = old.get(name) else {
            lines.push(format!("+ {name}"));
            continue;
        };
        let fields = fields(found, wanted);
        if fields.is_empty() {
            continue;
        }
        let template = |object: &Value| object["metadata"]["annotations"][names::TEMPLATE_HASH].clone();
        let pods = match template(found) == template(wanted) {
            true => "",
            false => " (its pods are made anew)",
        };
        lines.push(format!("~ {name}{pods}"));
        lines.extend(fields.into_iter().map(|field| format!("    {field}")));
    }
    lines
}

/// Fields that differ, with both values.
fn fields(old: &Value, new: &Value) -> Vec<String> {
    let (old, new) = (leaves(old), leaves(new));
    let all: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let differs = all.into_iter().filter(|path| old.get(*path) != new.get(*path));
    let word = |value: Option<&Value>| value.map_or("nothing".to_owned(), Value::to_string);
    differs.map(|path| format!("{path}: {} instead of {}", word(new.get(path)), word(old.get(path)))).collect()
}

/// All values that hold no others, by their paths; hashes are of no use to a person.
fn leaves(object: &Value) -> BTreeMap<String, Value> {
    fn walk(path: &str, value: &Value, into: &mut BTreeMap<String, Value>) {
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                let named = fields.iter().filter(|(name, _)| ![names::HASH, names::TEMPLATE_HASH].contains(&name.as_str()));
                named.for_each(|(name, value)| {
                    let dot = if path.is_empty() { "" } else { "." };
                    walk(&format!("{path}{dot}{name}"), value, into);
                });
            }
            Value::Array(items) if !items.is_empty() => {
                items.iter().enumerate().for_each(|(at, value)| walk(&format!("{path}[{at}]"), value, into));
            }
            value => {
                into.insert(path.to_owned(), value.clone());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk("", object, &mut found);
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(image: &str, hash: &str) -> Value {
        json!({"kind": "StatefulSet", "metadata": {"name": "a", "annotations": {(names::HASH): hash, (names::TEMPLATE_HASH): hash}},
            "spec": {"replicas": 1, "containers": [{"image": image}]}})
    }

    #[test]
    fn what_comes_goes_and_changes_is_told_with_its_fields() {
        let service = json!({"kind": "Service", "metadata": {"name": "a"}});
        let map = json!({"kind": "ConfigMap", "metadata": {"name": "a"}});
        let (old, new) = (by_name(vec![set("x", "1"), service]), by_name(vec![set("y", "2"), map]));
        let expected = [
            "- Service a",
            "+ ConfigMap a",
            "~ StatefulSet a (its pods are made anew)",
            r#"    spec.containers[0].image: "y" instead of "x""#,
        ];
        assert_eq!(changes(&old, &new), expected);
        assert_eq!(changes(&old, &old), [""; 0]);
    }
}
