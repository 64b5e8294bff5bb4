//! Which rights `deploy/` gives the controller's account, and which of them it used while tests ran, as the audit logs say that their
//! control planes leave behind.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::audit::{self, Request};
use crate::controller::USER;
use crate::eventually::PATIENCE;
use crate::{deploy, paths};

/// Rights that no request shows, and why. A name of a test that fails without each stands in `tests/rights.yaml`, as for all others.
const UNSEEN: [(&str, &str, &str, &str); 1] = [(
    "cloud.atomix.io",
    "databases/finalizers",
    "update",
    "checked beside a write, by the plugin OwnerReferencesPermissionEnforcement",
)];

/// A verb on a resource, of one name or of all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)] // its fields explain themselves
pub struct Right {
    pub group: String,
    pub resource: String,
    pub verb: String,
    /// Empty for all.
    pub name: String,
    /// Whether it is for the controller's own namespace only.
    pub own_namespace: bool,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Right { group, resource, verb, name, own_namespace } = self;
        write!(f, "{verb} {resource}")?;
        if !group.is_empty() {
            write!(f, ".{group}")?;
        }
        if !name.is_empty() {
            write!(f, " {name}")?;
        }
        if *own_namespace { write!(f, " in its own namespace") } else { Ok(()) }
    }
}

impl Right {
    /// Whether a request was let through by this right.
    fn lets(&self, request: &Request) -> bool {
        // A server-side apply of what is not there needs both verbs.
        let creates = request.verb == "patch" && request.code == 201 && self.verb == "create";
        self.group == request.group
            && self.resource == request.resource
            && (self.verb == request.verb || creates)
            && (self.name.is_empty() || self.name == request.name)
            && (!self.own_namespace || request.namespace == "kube-system")
    }
}

/// What the roles in `deploy/` allow, but for those of plugins.
pub fn allowed() -> Result<BTreeSet<Right>> {
    Ok(deploy::read()?.iter().filter(|object| is_role(object)).flat_map(of_role).collect())
}

fn is_role(object: &Value) -> bool {
    object["kind"] == "ClusterRole" || object["kind"] == "Role"
}

fn of_role(role: &Value) -> BTreeSet<Right> {
    let texts = |rule: &Value, field: &str| -> Vec<String> {
        let list = rule[field].as_array().into_iter().flatten();
        list.filter_map(|text| text.as_str().map(str::to_owned)).collect()
    };
    let mut rights = BTreeSet::new();
    for rule in role["rules"].as_array().into_iter().flatten() {
        let mut names = texts(rule, "resourceNames");
        if names.is_empty() {
            names.push(String::new());
        }
        for group in texts(rule, "apiGroups") {
            for resource in texts(rule, "resources") {
                for verb in texts(rule, "verbs") {
                    rights.extend(names.iter().map(|name| Right {
                        group: group.clone(),
                        resource: resource.clone(),
                        verb: verb.clone(),
                        name: name.clone(),
                        own_namespace: role["kind"] == "Role",
                    }));
                }
            }
        }
    }
    rights
}

/// Names in the environment the right, in words, that the roles are applied without.
pub const WITHOUT: &str = "ATOMIX_WITHOUT_RIGHT";

/// Takes the right that [`WITHOUT`] names, if it is set, out of the roles among these objects.
pub fn without_one(objects: &mut [Value]) {
    let Ok(without) = std::env::var(WITHOUT) else { return };
    for role in objects.iter_mut().filter(|object| is_role(object)) {
        let rights = of_role(role);
        if !rights.iter().any(|right| right.to_string() == without) {
            continue;
        }
        let left = rights.into_iter().filter(|right| right.to_string() != without).map(
            |Right { group, resource, verb, name, .. }| {
                let mut rule = json!({"apiGroups": [group], "resources": [resource], "verbs": [verb]});
                if !name.is_empty() {
                    rule["resourceNames"] = json!([name]);
                }
                rule
            },
        );
        role["rules"] = left.collect();
    }
}

/// A test on a control plane, and rights without each of which it fails.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // its fields explain themselves
pub struct Row {
    pub test: String,
    pub rights: Vec<String>,
}

/// `tests/rights.yaml`.
pub fn table() -> Result<Vec<Row>> {
    let path = paths::root().join("tests/rights.yaml");
    let text = fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
    serde_saphyr::from_str(&text).with_context(|| format!("{} is no table of rights", path.display()))
}

/// Seconds that anything may take in these runs: several times what it takes with all rights, of which a first run of each test makes sure.
const PATIENCE_SECS: &str = "40";

/// Runs each test of `tests/rights.yaml` with all rights, when it has to pass, and without each of its own, when it has to fail; so many at a
/// time.
///
/// # Errors
/// One of them did not, or could not be run.
pub fn need_each(at_a_time: usize) -> Result<()> {
    let rows = table()?;
    let with_all: Vec<_> = rows.iter().map(|row| (row.test.clone(), None)).collect();
    let without: Vec<_> =
        rows.into_iter().flat_map(|row| row.rights.into_iter().map(move |right| (row.test.clone(), Some(right)))).collect();
    let count = without.len();
    each(&with_all, at_a_time, true)?;
    each(&without, at_a_time, false)?;
    println!("without each of {count} rights its test fails, and with all of them it passes");
    Ok(())
}

/// Runs tests, each with all rights or without one: they have to pass, or to fail.
fn each(runs: &[(String, Option<String>)], at_a_time: usize, pass: bool) -> Result<()> {
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..at_a_time.max(1))
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    while let Some((test, right)) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let (passed, right_in_words) = (passes(test, right.as_deref())?, right.as_deref().unwrap_or("none"));
                        let line = format!("{} without {right_in_words}: {test}", if passed { "passes" } else { "fails" });
                        println!("{line}");
                        if passed != pass {
                            wrong.lock().unwrap_or_else(PoisonError::into_inner).push(line);
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|_| bail!("a run panicked")))
    })?;
    let wrong = wrong.into_inner().unwrap_or_else(PoisonError::into_inner);
    if !wrong.is_empty() {
        bail!("{} runs of tests ended otherwise than they must:\n  {}", wrong.len(), wrong.join("\n  "));
    }
    Ok(())
}

fn passes(test: &str, without: Option<&str>) -> Result<bool> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["test", "--quiet", "--package", "atomix-tests", "--test", "controlplane", "--", test]);
    cargo.current_dir(paths::root()).env("ATOMIX_PREBUILT", "1").env("RUST_LIB_BACKTRACE", "0").env(PATIENCE, PATIENCE_SECS);
    if let Some(right) = without {
        cargo.env(WITHOUT, right);
    }
    let folder = without.unwrap_or(test).replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let folder = format!("without-{folder}");
    let output = cargo.env("ATOMIX_TESTS", &folder).output().context("could not run cargo")?;
    fs::remove_dir_all(paths::state().join(&folder)).ok(); // else each leaves its logs
    let text = String::from_utf8_lossy(&output.stdout);
    match text.contains("1 passed") || text.contains("1 failed") {
        true => Ok(output.status.success()),
        false => bail!("{test} was not run: {text}{}", String::from_utf8_lossy(&output.stderr)),
    }
}

/// Requests of the controller that were let through, on all control planes of tests since it was built.
fn requests() -> Result<Vec<Request>> {
    let built = fs::metadata(paths::controller_program()?).and_then(|program| program.modified())?;
    let folder = paths::tests();
    let mut requests = Vec::new();
    for plane in fs::read_dir(&folder).with_context(|| format!("could not read {}", folder.display()))? {
        let log = plane?.path().join("audit.log");
        let Ok(written) = fs::metadata(&log).and_then(|log| log.modified()) else { continue };
        if written < built {
            continue; // of an earlier controller
        }
        let own = |request: &Request| request.user == USER && request.user_agent.starts_with("atomix-controller/");
        let all = audit::read(&log)?.into_iter();
        requests.extend(all.filter(|request| own(request) && !matches!(request.code, 401 | 403)));
    }
    Ok(requests)
}

/// Prints whether the controller used each right that `deploy/` gives it.
///
/// # Errors
/// It did not.
pub fn check() -> Result<()> {
    let (allowed, requests) = (allowed()?, requests()?);
    let is_unseen = |right: &&Right| {
        let unseen = |(group, resource, verb, _): &(&str, &str, &str, &str)| {
            right.group == *group && right.resource == *resource && right.verb == *verb
        };
        UNSEEN.iter().any(unseen)
    };
    let unused: Vec<String> = allowed
        .iter()
        .filter(|right| !is_unseen(right) && !requests.iter().any(|request| right.lets(request)))
        .map(ToString::to_string)
        .collect();
    if !unused.is_empty() {
        bail!(
            "{} of {} rights in deploy/ were used in none of {} requests; take them away, or test what needs them:\n  {}",
            unused.len(),
            allowed.len(),
            requests.len(),
            unused.join("\n  ")
        );
    }
    println!("all {} rights in deploy/ were used, in {} requests", allowed.len(), requests.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_lets_what_it_names_and_an_apply_of_what_is_not_there_uses_two() {
        let right = |verb: &str| Right {
            group: "cloud.atomix.io".into(),
            resource: "partitions".into(),
            verb: verb.into(),
            name: String::new(),
            own_namespace: false,
        };
        let request = |verb: &str, code: u16| Request {
            user: USER.into(),
            user_agent: String::new(),
            verb: verb.into(),
            group: "cloud.atomix.io".into(),
            resource: "partitions".into(),
            namespace: "n".into(),
            name: "db-1".into(),
            uri: String::new(),
            code,
        };
        assert!(right("patch").lets(&request("patch", 200)) && !right("create").lets(&request("patch", 200)));
        assert!(right("patch").lets(&request("patch", 201)) && right("create").lets(&request("patch", 201)));
        assert!(!Right { name: "db-2".into(), ..right("patch") }.lets(&request("patch", 200)));
        assert!(!Right { own_namespace: true, ..right("patch") }.lets(&request("patch", 200)));
    }

    #[test]
    fn each_rule_of_the_roles_is_read() {
        let allowed = allowed().unwrap();
        let holds = |text: &str| allowed.iter().any(|right| right.to_string() == text);
        assert!(holds("patch databases/status.cloud.atomix.io"));
        assert!(holds("update secrets atomix-controller-webhook in its own namespace"));
    }
}
