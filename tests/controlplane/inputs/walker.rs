//! One database that is walked through inputs: each step is refused by the field's name and changes nothing, or ends in what a fresh
//! controller makes of the same Database and class. What is refused later than at the door is undone, and all is as it was.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use atomix_decide::schema;
use harness::eventually::{Eventually, eventually};
use harness::seed::Dice;
use serde_json::{Value, json};

use crate::field_names::is_word;

use super::cluster::{Cluster, Resource, State};
use super::labels;
use super::meanings::{self, Reach, Verdict};
use super::places::{self, Path, Put};

/// How long a step may take on a busy machine.
const STEP_WITHIN: Duration = Duration::from_secs(300);
/// After this time what is missing is not on its way, where that is expected; where it may be, and what is busy counts too.
const STUCK_AFTER: Duration = Duration::from_secs(6);
const STUCK_FOR_SURE_AFTER: Duration = Duration::from_secs(25);
/// More partitions than this are asked for only, and not made.
const PARTITIONS_MAX: i64 = 6;

const DATABASES: &str = "apis/cloud.atomix.io/v1beta3";
const OLD_DATABASES: &str = "apis/cloud.atomix.io/v1beta2";

/// A class kind that is walked through, and how it is when the walk begins.
pub struct Base {
    pub class: Resource,
    /// Versions in which the class is served, as paths of the API.
    pub versions: &'static [&'static str],
    pub class_spec: Value,
    pub database_spec: Value,
}

/// Specs by path of the API and plural, as definitions that are installed describe them.
pub type Schemas = std::collections::BTreeMap<String, Value>;

/// What came of the steps.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub steps: usize,
    /// Refused by the API server: schema, rules, or the plugin that is asked by the webhook.
    pub refused: usize,
    /// Refused or not taken by the controller, in the condition.
    pub not_taken: usize,
    /// Became what a fresh controller makes.
    pub compared: usize,
    /// Taken and undone.
    pub undone: usize,
}

/// A database under way.
pub struct Walker<'a> {
    pub cluster: &'a Cluster,
    pub schemas: &'a Schemas,
    pub base: &'a Base,
    pub number: usize,
    pub dice: Dice,
    pub tally: Tally,
    pub before: State,
}

/// A part of an object that is edited.
struct Target {
    api: String,
    plural: &'static str,
    name: &'static str,
    kind: &'static str,
    /// The part, as a JSON pointer.
    part: &'static str,
    /// The object with nothing but this part.
    root: Value,
}

/// One edit.
struct Edit {
    target: Target,
    path: Path,
    put: Put,
    /// The part afterwards.
    wanted: Value,
    verdict: Verdict,
    reach: Reach,
    /// Whether it means something else than what was there, so that something must come of it.
    matters: bool,
}

/// How a Database took an edit.
enum Taken {
    Settled,
    /// Something is missing that does not come by itself: what Degraded says.
    Waits(String),
    /// The message of its condition.
    Not(String),
}

impl<'a> Walker<'a> {
    fn namespace(&self) -> String {
        format!("inputs-{:02}", self.number)
    }

    /// Makes the database and waits until it has settled.
    pub async fn begin(&mut self) -> Result<()> {
        let spec = self.base.database_spec.clone();
        let namespace = self.namespace();
        let metadata = json!({"labels": {"team": "base", "example.com/tier": "gold"}});
        self.make(&namespace, &spec, &metadata, &self.base.class_spec).await?;
        match self.taken(&namespace, Verdict::Taken).await? {
            Taken::Settled => {}
            Taken::Waits(message) => bail!("it waits: {message}"),
            Taken::Not(message) => bail!("it is not accepted: {message}"),
        }
        self.before = self.at_rest(&namespace).await?;
        Ok(())
    }

    /// Makes a step; an error says what is wrong.
    pub async fn step(&mut self, number: u32) -> Result<()> {
        let edit = self.choose().await?;
        let put = edit.put.as_ref().map_or("nothing".to_owned(), Value::to_string);
        let cut: String = put.chars().take(300).collect();
        let sentence = format!("{} {}: {} := {cut} ({:?})", edit.target.kind, edit.target.api, edit.path, edit.verdict);
        self.tally.steps += 1;
        self.take(number, edit).await.context(sentence)
    }

    async fn take(&mut self, number: u32, edit: Edit) -> Result<()> {
        let namespace = self.namespace();
        let path = Cluster::path(&edit.target.api, &namespace, edit.target.plural, edit.target.name);
        let dry_run = is_large(&edit);
        match self.cluster.replace(&path, edit.target.part, &edit.wanted, dry_run).await? {
            Err(message) => {
                ensure!(!matches!(edit.verdict, Verdict::Taken | Verdict::Waits), "it is refused: {message}");
                ensure!(is_named(&edit, &message), "the refusal does not name the field: {message}");
                self.tally.refused += 1;
                return self.nothing_changed(&namespace).await;
            }
            Ok(_) if dry_run => return self.nothing_changed(&namespace).await,
            Ok(_) => {}
        }
        if edit.target.part != "/spec" {
            return self.metadata_taken(&edit, &path).await;
        }
        let stands = self.cluster.get(&path).await?;
        let is_same = stands.pointer(edit.target.part) == edit.target.root.pointer(edit.target.part); // a null that was dropped
        match self.taken(&namespace, edit.verdict).await? {
            Taken::Not(message) => {
                ensure!(!matches!(edit.verdict, Verdict::Taken | Verdict::Waits), "it is not taken: {message}");
                ensure!(is_named(&edit, &message), "what is not taken is not named: {message}");
                self.children_unchanged(&namespace).await?;
                self.tally.not_taken += 1;
                self.undo(&edit, &path).await
            }
            _ if edit.verdict == Verdict::Refused && !is_same => bail!("it is taken, and nobody is told of it"),
            Taken::Settled if edit.verdict == Verdict::Waits => bail!("nothing waits"),
            Taken::Settled if edit.matters && self.changes(&namespace).await?.is_empty() => {
                bail!("it is taken, and nothing comes of it")
            }
            Taken::Waits(_) => {
                self.tally.undone += 1;
                self.undo(&edit, &path).await
            }
            Taken::Settled => match edit.reach {
                Reach::Everything => self.compare(number).await,
                Reach::Remembered => {
                    self.tally.undone += 1;
                    self.undo(&edit, &path).await
                }
                Reach::Nothing => {
                    self.children_unchanged(&namespace).await?;
                    self.tally.undone += 1;
                    self.undo(&edit, &path).await
                }
            },
        }
    }

    /// An edit of labels or annotations: labels are on all that is made where they are to be, annotations change nothing by themselves.
    async fn metadata_taken(&mut self, edit: &Edit, path: &str) -> Result<()> {
        ensure!(edit.verdict != Verdict::Refused, "it is taken, and nobody is told of it");
        let namespace = self.namespace();
        let before = labels::of_children(self.cluster, &namespace).await?;
        let wanted = labels::wanted(&before, &self.before.database, &self.cluster.get(path).await?);
        eventually(STEP_WITHIN, "labels are where they are to be", || async {
            let found = labels::of_children(self.cluster, &namespace).await?;
            Ok(Eventually::when(found == wanted, || format!("{found:#?} instead of {wanted:#?}")))
        })
        .await?;
        ensure!(self.cluster.look(&namespace, &self.base.class).await?.pods == self.before.pods, "pods restart");
        self.tally.undone += 1;
        self.undo(edit, path).await
    }

    /// Puts back what an edit changed, and waits until all is as it was.
    async fn undo(&mut self, edit: &Edit, path: &str) -> Result<()> {
        let part = edit.target.root.pointer(edit.target.part).unwrap_or(&Value::Null);
        if let Err(message) = self.cluster.replace(path, edit.target.part, part, false).await? {
            bail!("it cannot be undone: {message}");
        }
        let namespace = self.namespace();
        match self.taken(&namespace, Verdict::Taken).await? {
            Taken::Settled => {}
            Taken::Waits(message) => bail!("it is undone, and something is missing: {message}"),
            Taken::Not(message) => bail!("it is undone, and not accepted: {message}"),
        }
        let before = &self.before;
        let back = eventually(STEP_WITHIN, "what is undone is as it was", || async {
            let now = self.cluster.look(&namespace, &self.base.class).await?;
            let difference = before.dump.difference(&now.dump);
            Ok(if difference.is_empty() { Eventually::Now(now) } else { Eventually::NotYet(difference) })
        });
        self.before = back.await?;
        Ok(())
    }

    /// Compares with what a fresh controller makes of the same Database and class.
    async fn compare(&mut self, number: u32) -> Result<()> {
        let (namespace, twin) = (self.namespace(), format!("again-{:02}-{number:04}", self.number));
        let now = self.cluster.look(&namespace, &self.base.class).await?;
        let moved =
            |value: &Value| -> Result<Value> { Ok(serde_json::from_str(&value.to_string().replace(&namespace, &twin))?) };
        let (mut database, class) = (moved(&now.database)?, moved(&now.class)?);
        // How partitions share clusters was decided when the database was made.
        database["spec"]["partitionsPerCluster"] = database["status"]["partitionsPerCluster"].clone();
        self.make(&twin, &database["spec"], &database["metadata"], &class["spec"]).await?;
        if let Taken::Not(message) = self.taken(&twin, Verdict::Taken).await? {
            bail!("it is taken, and a fresh controller does not take it: {message}");
        }
        let before = &self.before.dump;
        let equal = eventually(STEP_WITHIN, "all is as a fresh controller makes it (-), and not otherwise (+)", || async {
            let (found, fresh) = tokio::try_join!(
                self.cluster.look(&namespace, &self.base.class),
                self.cluster.look(&twin, &self.base.class)
            )?;
            // Claims of what was scaled away are kept.
            let expected = fresh.dump.with_others_of("PersistentVolumeClaim", before);
            let difference = expected.difference(&found.dump);
            Ok(if difference.is_empty() { Eventually::Now(found) } else { Eventually::NotYet(difference) })
        });
        self.before = equal.await?;
        for path in [
            Cluster::path(DATABASES, &twin, "databases", "db"),
            Cluster::path(self.base.class.api, &twin, self.base.class.plural, "c"),
            Cluster::path("api/v1", &twin, "persistentvolumeclaims", ""),
        ] {
            self.cluster.delete(&path).await?;
        }
        self.tally.compared += 1;
        Ok(())
    }

    /// Makes a namespace with a class and a Database of it.
    async fn make(&self, namespace: &str, spec: &Value, metadata: &Value, class_spec: &Value) -> Result<()> {
        let class = &self.base.class;
        self.cluster.create("/api/v1/namespaces", &json!({"metadata": {"name": namespace}})).await?;
        let api_version = |api: &str| api.trim_start_matches("apis/").to_owned();
        let of_class =
            json!({"apiVersion": api_version(class.api), "kind": class.kind, "metadata": {"name": "c"}, "spec": class_spec});
        self.cluster.create(&Cluster::path(class.api, namespace, class.plural, ""), &of_class).await?;
        let mut metadata = json!({"labels": metadata["labels"], "annotations": metadata["annotations"]});
        metadata["name"] = json!("db");
        let database = json!({"apiVersion": api_version(DATABASES), "kind": "Database", "metadata": metadata, "spec": spec});
        self.cluster.create(&Cluster::path(DATABASES, namespace, "databases", ""), &database).await?;
        Ok(())
    }

    /// Waits until the status speaks of the newest Database and class, and says how it goes.
    async fn taken(&self, namespace: &str, expected: Verdict) -> Result<Taken> {
        let class = &self.base.class;
        let paths =
            [Cluster::path(DATABASES, namespace, "databases", "db"), Cluster::path(class.api, namespace, class.plural, "c")];
        let since = Instant::now();
        let is_stuck = || match expected {
            Verdict::Taken => false,
            Verdict::Waits => since.elapsed() > STUCK_AFTER,
            Verdict::Refused | Verdict::Either => since.elapsed() > STUCK_FOR_SURE_AFTER,
        };
        eventually(STEP_WITHIN, "the edit is seen and written", || async {
            let (database, class) = tokio::try_join!(self.cluster.get(&paths[0]), self.cluster.get(&paths[1]))?;
            let status = &database["status"];
            let speaks = status["observedGeneration"] == database["metadata"]["generation"]
                && status["storageClass"]["generation"] == class["metadata"]["generation"];
            let condition = |kind: &str| status["conditions"].as_array().into_iter().flatten().find(|it| it["type"] == kind);
            let is = |kind: &str, status: &str| condition(kind).is_some_and(|it| it["status"] == status);
            let of = |kind: &str, field: &str| {
                condition(kind).map_or(String::new(), |it| it[field].as_str().unwrap_or_default().to_owned())
            };
            if speaks && of("Degraded", "reason") == "PluginFailed" {
                let message = of("Degraded", "message");
                // Of pods alone it is the class's doing: what goes beyond Pod Security's profile baseline is not written.
                let of_pods = message.contains("is not admitted") && message.contains("securityContext");
                return Ok(if of_pods { Eventually::Now(Taken::Not(message)) } else { Eventually::Never(message) });
            }
            let passes = ["Starting", "Terminating", "ClassNotFound", "NoPlugin", "DefinitionMissing"];
            Ok(match () {
                () if !speaks => Eventually::NotYet(format!("of another generation: {status}")),
                () if is("Accepted", "False") && !passes.contains(&of("Accepted", "reason").as_str()) => {
                    Eventually::Now(Taken::Not(of("Accepted", "message")))
                }
                () if is("Accepted", "True")
                    && is("Progressing", "False")
                    && is("Degraded", "False")
                    && condition("Reconciling").is_none() =>
                {
                    Eventually::Now(Taken::Settled)
                }
                () if is("Accepted", "True") && is("Degraded", "True") && is_stuck() => {
                    Eventually::Now(Taken::Waits(of("Degraded", "message")))
                }
                () => Eventually::NotYet(status.to_string()),
            })
        })
        .await
    }

    /// What stands in the namespace once two looks in a row are alike.
    async fn at_rest(&self, namespace: &str) -> Result<State> {
        eventually(STEP_WITHIN, "nothing changes any more", || async {
            let before = self.cluster.look(namespace, &self.base.class).await?;
            tokio::time::sleep(Duration::from_millis(700)).await; // nothing announces that nothing comes
            let after = self.cluster.look(namespace, &self.base.class).await?;
            let difference = before.dump.difference(&after.dump);
            Ok(if difference.is_empty() { Eventually::Now(after) } else { Eventually::NotYet(difference) })
        })
        .await
    }

    async fn nothing_changed(&self, namespace: &str) -> Result<()> {
        let now = self.cluster.look(namespace, &self.base.class).await?;
        let difference = self.before.dump.difference(&now.dump);
        ensure!(
            difference.is_empty() && now.pods == self.before.pods,
            "it is refused, and yet changes something: {difference}"
        );
        Ok(())
    }

    async fn children_unchanged(&self, namespace: &str) -> Result<()> {
        let difference = self.changes(namespace).await?;
        ensure!(difference.is_empty(), "it is not taken, and yet changes something: {difference}");
        let now = self.cluster.look(namespace, &self.base.class).await?;
        ensure!(now.pods == self.before.pods, "it is not taken, and yet pods restart");
        Ok(())
    }

    /// What has changed of all that is made of Database and class.
    async fn changes(&self, namespace: &str) -> Result<String> {
        let now = self.cluster.look(namespace, &self.base.class).await?;
        let edited = ["Database", self.base.class.kind];
        Ok(self.before.dump.without(&edited).difference(&now.dump.without(&edited)))
    }

    /// Chooses an edit that changes something.
    async fn choose(&self) -> Result<Edit> {
        let target = self.target().await?;
        let place_of_metadata =
            || vec![places::Place { path: Path::of(&target.part[1..].split('/').collect::<Vec<_>>()), schema: json!({}) }];
        let schema = self.schemas.get(&format!("{}/{}", target.api, target.plural)).context("a definition is installed")?;
        let places = match target.part {
            "/spec" => places::places(&Path::of(&["spec"]), schema, target.root.get("spec")),
            _ => place_of_metadata(),
        };
        for _ in 0..10_000 {
            let place = self.dice.one_of(&places);
            let fields = place.path.fields();
            let spec = &target.root["spec"];
            let known = meanings::values(target.kind, &fields, spec);
            let (put, verdict) = match known.is_empty() || target.part == "/spec" && self.dice.below(5) < 2 {
                true => (places::one_of(&self.dice, &places::puts(&place.schema)), Verdict::Either),
                false => self.dice.one_of(&known).clone(),
            };
            let Some(object) = places::with(&target.root, &place.path, &put) else { continue };
            if object == target.root {
                continue;
            }
            let wanted = object.pointer(target.part).cloned().unwrap_or(Value::Null);
            let has_null = |value: &Value| value.to_string().contains("null"); // an API server drops some of them
            let errors = schema::errors("spec", schema, &wanted);
            let last = fields.last().copied().unwrap_or_default();
            let judged_with = meanings::related(last).iter().any(|other| *other != last && !spec[*other].is_null());
            let verdict = match verdict {
                _ if target.part == "/spec" && !errors.is_empty() && !has_null(&wanted) => Verdict::Refused,
                Verdict::Taken | Verdict::Waits if judged_with => Verdict::Either,
                verdict => verdict,
            };
            let reach = meanings::reach(target.kind, &fields);
            let says = |value: Option<&Value>| value.is_some_and(|value| !is_nothing(value));
            let (from, to) = (places::at(&target.root, &place.path), put.as_ref());
            let is_word = !place.schema["enum"].is_null() || place.schema["type"] == "boolean";
            let matters = match verdict {
                Verdict::Taken => says(from) || says(to),
                Verdict::Either => is_word && says(from) && says(to),
                Verdict::Waits | Verdict::Refused => false,
            };
            let is_default = from.is_none() && to.is_some() && place.schema.get("default") == to;
            let matters = matters && !is_default && reach != Reach::Nothing && target.part == "/spec";
            return Ok(Edit { path: place.path.clone(), put, wanted, verdict, reach, matters, target });
        }
        bail!("there is nothing to edit")
    }

    /// Chooses what is edited.
    async fn target(&self) -> Result<Target> {
        let class = &self.base.class;
        let of_database = |api: &str, part| (api.to_owned(), "databases", "db", "Database", part);
        let (api, plural, name, kind, part) = match self.dice.below(20) {
            0..4 => of_database(DATABASES, "/spec"),
            4..6 => of_database(OLD_DATABASES, "/spec"),
            6 => of_database(DATABASES, "/metadata/labels"),
            7 => of_database(DATABASES, "/metadata/annotations"),
            _ => ((*self.dice.one_of(self.base.versions)).to_owned(), class.plural, "c", class.kind, "/spec"),
        };
        let object = self.cluster.get(&Cluster::path(&api, &self.namespace(), plural, name)).await?;
        let root = match part {
            "/spec" => json!({"spec": object["spec"]}),
            "/metadata/labels" => json!({"metadata": {"labels": or_empty(&object["metadata"]["labels"])}}),
            _ => json!({"metadata": {"annotations": or_empty(&object["metadata"]["annotations"])}}),
        };
        Ok(Target { api, plural, name, kind, part, root })
    }
}

/// Whether a value means as much as if it were absent.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

fn or_empty(value: &Value) -> Value {
    if value.is_null() { json!({}) } else { value.clone() }
}

/// Whether an edit would make more partitions than a walk has time for.
fn is_large(edit: &Edit) -> bool {
    let counts = ["partitions", "clusters"].contains(&edit.path.fields().last().copied().unwrap_or_default());
    let count = edit.put.as_ref().and_then(Value::as_i64);
    edit.target.kind == "Database" && counts && count.is_some_and(|count| count > PARTITIONS_MAX)
}

/// Whether a message names the field, or one within that was put there, or the one around it.
fn is_named(edit: &Edit, message: &str) -> bool {
    let fields = edit.path.fields();
    let mut names: Vec<&str> = fields.iter().rev().take(2).filter(|name| **name != "spec").copied().collect();
    names.extend(names.clone().iter().flat_map(|name| meanings::related(name)));
    let mut inner = Vec::new();
    keys(edit.put.as_ref().unwrap_or(&Value::Null), &mut inner);
    names.extend(inner.iter().map(String::as_str));
    names.iter().any(|name| is_word(message, name))
}

/// Names of all fields in a value.
fn keys(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| {
            into.push(name.clone());
            keys(value, into);
        }),
        Value::Array(items) => items.iter().for_each(|item| keys(item, into)),
        _ => {}
    }
}
