//! `atomix-controller render`: what the controller would write, without a cluster.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use serde_json::{Value, json};

use super::plugin::{Plugin, load};
use crate::pack;
use atomix_decide::admission::{self, Kept};
use atomix_decide::{observe, schema};
use atomix_model::contract::{ClassKind, FieldError, Plan, Refusal, plain};
use atomix_model::crd::database::ClassInUse;
use atomix_model::crd::{Database, GROUP, STORAGE_GROUP, VERSION, conversion, definitions, rules};
use atomix_model::grants::Grants;
use atomix_model::names;
use atomix_model::object::Live;
use atomix_sandbox::Sandbox;

/// Print what the controller would write for databases, as YAML, without a cluster.
///
/// Databases (v1beta2 or v1beta3) and their storage classes are read from files, plugins from components. Each is checked against its
/// schema, as the API server would, and each class by its plugin too. What is refused is printed on standard error, and the exit code is 1.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Files of Databases and storage classes; - for standard input.
    #[arg(short, long = "filename", env = "ATOMIX_FILENAME", value_name = "FILE", required = true, num_args = 1.., value_delimiter = ',')]
    filenames: Vec<PathBuf>,

    /// Components of plugins, as they are or in gzip.
    #[arg(short, long = "plugin", env = "ATOMIX_PLUGIN", value_name = "WASM", required = true, num_args = 1.., value_delimiter = ',')]
    plugins: Vec<PathBuf>,

    /// Namespace of objects that name none.
    #[arg(short, long, env = "ATOMIX_NAMESPACE", default_value = "default")]
    namespace: String,

    /// DNS domain of the cluster: ends the host names that clients are given.
    #[arg(long, env = "CLUSTER_DOMAIN", default_value = "cluster.local")]
    cluster_domain: String,
}

/// Renders every Database of the files.
pub fn run(args: Args) -> anyhow::Result<()> {
    let sandbox = Sandbox::on_demand().map_err(anyhow::Error::from)?;
    let plugins: Vec<Plugin> = args.plugins.iter().map(|file| load(&sandbox, file)).collect::<anyhow::Result<_>>()?;
    let given = Given::read(&args.filenames, &args.namespace)?;
    let mut wrong: Vec<String> = given.classes.iter().filter_map(|class| invalid(class, &plugins).err()).collect();
    let mut manifests = Vec::new();
    let databases = if wrong.is_empty() { given.databases.as_slice() } else { &[] }; // a wrong class spoils its databases
    for database in databases {
        match rendered(database, &given.classes, &plugins, &args.cluster_domain) {
            Ok(rendered) => manifests.extend(rendered),
            Err(error) => wrong.push(format!("Database {}: {error:#}", named(&json!(database.metadata)))),
        }
    }
    std::io::stdout()
        .write_all(super::yaml_documents(&manifests)?.as_bytes())
        .context("could not write to standard output")?;
    match wrong.is_empty() {
        true => Ok(()),
        false => bail!("{}", wrong.join("\n")),
    }
}

/// What files hold.
pub(super) struct Given {
    pub(super) databases: Vec<Database>,
    pub(super) classes: Vec<Value>,
}

impl Given {
    /// Reads files, and holds Databases to their schema.
    pub(super) fn read(files: &[PathBuf], namespace: &str) -> anyhow::Result<Self> {
        let mut given = Self { databases: Vec::new(), classes: Vec::new() };
        for file in files {
            let text = match file == Path::new("-") {
                true => std::io::read_to_string(std::io::stdin()),
                false => std::fs::File::open(file).and_then(std::io::read_to_string),
            };
            let text = text.with_context(|| format!("could not read {}", file.display()))?;
            let documents: Vec<Value> =
                serde_saphyr::from_multiple(&text).with_context(|| format!("{} is not YAML", file.display()))?;
            for document in documents.into_iter().filter(|document| !document.is_null()) {
                given.sort(document, namespace).with_context(|| format!("in {}", file.display()))?;
            }
        }
        match given.databases.is_empty() {
            true => bail!("there is no Database in the files"),
            false => Ok(given),
        }
    }

    fn sort(&mut self, mut object: Value, namespace: &str) -> anyhow::Result<()> {
        let text = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (version, kind) = (text("apiVersion"), text("kind"));
        if object.pointer("/metadata/name").and_then(Value::as_str).is_none() {
            bail!("an object of apiVersion {version:?} and kind {kind:?} has no metadata.name");
        }
        if object.pointer("/metadata/namespace").is_none() {
            object["metadata"]["namespace"] = namespace.into();
        }
        match (version.split('/').next(), kind.as_str()) {
            (Some(GROUP), "Database") => {
                let broken: String = rules::errors(&object).iter().map(|wrong| format!("\n  {wrong}")).collect();
                let wrong = broken + &misfits(&object, &database_schema(&version)?);
                if !wrong.is_empty() {
                    bail!("Database {}:{}", named(&object["metadata"]), wrong);
                }
                let converted = conversion::convert(object, &format!("{GROUP}/{VERSION}")).map_err(|why| anyhow!(why))?;
                self.databases.push(serde_json::from_value(converted).context("not a Database")?);
            }
            (Some(STORAGE_GROUP), _) => self.classes.push(object),
            _ => eprintln!("note: {kind} {} is neither a Database nor a storage class", named(&object["metadata"])),
        }
        Ok(())
    }
}

fn rendered(database: &Database, classes: &[Value], plugins: &[Plugin], domain: &str) -> anyhow::Result<Vec<Value>> {
    let (plan, manifests) = planned(database, classes, plugins, domain)?;
    print_remarks(database, &plan);
    Ok(manifests.into_iter().map(offline).collect())
}

/// The plan for a new database, and its objects as they would be written.
pub(super) fn planned(
    database: &Database,
    classes: &[Value],
    plugins: &[Plugin],
    domain: &str,
) -> anyhow::Result<(Plan, Vec<Value>)> {
    let wanted = &database.spec.storage_class;
    let (plugin, kind) = served(&wanted.kind, plugins)?;
    let class = class_of(database, kind, classes)?;
    let descriptor = plugin.revision.descriptor();
    let per_cluster = observe::partitions_per_cluster(database, &class);
    let request = observe::request(database, &class, per_cluster, Vec::new(), domain);
    let plan = plugin.revision.plan(&request)?.map_err(refused)?;
    let grants = Grants::of(&pack::role(descriptor, false));
    let admitted =
        admission::admit(&plan, &request, database, descriptor, &grants, "kube-system.atomix-controller", &Kept::default())
            .map_err(|why| anyhow!("plugin {} {} planned what may not be: {why}", descriptor.name, descriptor.version))?;
    Ok((plan, admitted.objects.into_iter().map(|object| object.manifest).collect()))
}

/// The plugin that serves a kind of class.
fn served<'a>(kind: &str, plugins: &'a [Plugin]) -> anyhow::Result<(&'a Plugin, &'a ClassKind)> {
    let kinds =
        || plugins.iter().flat_map(|plugin| plugin.revision.descriptor().class_kinds.iter().map(move |kind| (plugin, kind)));
    kinds().find(|(_, served)| served.kind == kind).ok_or_else(|| {
        let known: Vec<&str> = kinds().map(|(_, kind)| kind.kind.as_str()).collect();
        anyhow!("kind {kind} is served by none of the plugins; they serve {}", known.join(", "))
    })
}

/// The class of a database: in the namespace that the reference names, else in the database's own.
fn class_of(database: &Database, kind: &ClassKind, classes: &[Value]) -> anyhow::Result<observe::Class> {
    let wanted = &database.spec.storage_class;
    let own = database.metadata.namespace.clone().unwrap_or_default();
    if let Some(version) = wanted.version.as_ref().filter(|version| !kind.versions.contains(version)) {
        bail!("spec.storageClass.version is {version}; {} is served in {}", kind.kind, kind.versions.join(", "));
    }
    let wanted_namespace = wanted.namespace.clone().unwrap_or_default();
    let places = [if wanted_namespace.is_empty() { own.clone() } else { wanted_namespace.clone() }, own];
    let found = places.iter().find_map(|namespace| {
        let is_it = |class: &&Value| {
            class["kind"] == kind.kind
                && class["metadata"]["name"] == wanted.name
                && class["metadata"]["namespace"] == *namespace
        };
        classes.iter().find(is_it).map(|class| (namespace.clone(), class.clone()))
    });
    let Some((namespace, body)) = found else {
        bail!("there is no {} {} in namespace {}", kind.kind, wanted.name, places.join(" nor in namespace "));
    };
    let version = wanted.version.clone().or_else(|| kind.versions.first().cloned()).unwrap_or_default();
    Ok(observe::Class {
        fallback: !wanted_namespace.is_empty() && wanted_namespace != namespace,
        version: version.clone(),
        live: Arc::new(Live {
            namespace: namespace.clone(),
            name: wanted.name.clone(),
            uid: String::new(),
            version: 0,
            body,
        }),
        in_use: ClassInUse {
            kind: kind.kind.clone(),
            own_namespace: Some(database.metadata.namespace.as_ref() == Some(&namespace)),
            namespace,
            name: wanted.name.clone(),
            generation: 0,
            wanted_namespace,
            version: Some(version),
        },
    })
}

/// The schema of a Database's spec in one of its versions.
fn database_schema(version: &str) -> anyhow::Result<Value> {
    let schema = definitions::database_spec(version.rsplit('/').next().unwrap_or_default());
    Ok(json!(schema.map_err(|served| anyhow!("Database is not served in {version}; {} are", served.join(", ")))?))
}

/// What the API server would refuse in an object: unknown fields, and a spec that does not fit its schema.
fn misfits(object: &Value, schema: &Value) -> String {
    let known = ["apiVersion", "kind", "metadata", "spec", "status"];
    let unknown =
        object.as_object().into_iter().flatten().map(|(field, _)| field).filter(|it| !known.contains(&it.as_str()));
    let mut wrong: Vec<String> =
        unknown.map(|field| format!("{field} is unknown; metadata and spec are accepted")).collect();
    wrong.extend(schema::errors("spec", schema, object.get("spec").unwrap_or(&json!({}))));
    wrong.iter().map(|wrong| format!("\n  {}", plain(wrong))).collect()
}

/// Whether a class fits the schema of its kind, and whether its plugin accepts it.
pub(super) fn invalid(class: &Value, plugins: &[Plugin]) -> Result<(), String> {
    let kind = class["kind"].as_str().unwrap_or_default();
    let (plugin, described) = served(kind, plugins).map_err(|error| error.to_string())?;
    let version = class["apiVersion"].as_str().unwrap_or_default().rsplit('/').next().unwrap_or_default();
    if !described.versions.iter().any(|served| served == version) {
        let (versions, name) = (described.versions.join(", "), named(&class["metadata"]));
        return Err(format!("{kind} {name}: apiVersion {STORAGE_GROUP}/{version} is not served; {versions} are"));
    }
    let misfits = misfits(class, &described.spec_schema);
    if !misfits.is_empty() {
        return Err(format!("{kind} {}:{misfits}", named(&class["metadata"])));
    }
    let spec = class.get("spec").cloned().unwrap_or_else(|| json!({}));
    let answer = plugin.revision.validate(kind, &spec).map_err(|fault| fault.to_string())?;
    answer.map_err(|errors| format!("{kind} {}:{}", named(&class["metadata"]), listed(&errors)))
}

fn refused(refusal: Refusal) -> anyhow::Error {
    match refusal {
        Refusal::Invalid(errors) => anyhow!("refused:{}", listed(&errors)),
        Refusal::Waiting(reason) => anyhow!("waiting ({}): {}", reason.code, reason.message),
    }
}

fn listed(errors: &[FieldError]) -> String {
    errors.iter().map(|error| format!("\n  {}: {}", error.path, error.message)).collect()
}

fn print_remarks(database: &Database, plan: &Plan) {
    let name = named(&json!(database.metadata));
    for note in &plan.notes {
        let weight = if note.warning { "warning" } else { "note" };
        eprintln!("{weight}: Database {name}: {}: {}", note.reason.code, note.reason.message);
    }
    for change in &plan.unsupported {
        eprintln!("warning: Database {name}: {} stays {}, not {}: {}", change.field, change.kept, change.wanted, change.why);
    }
}

/// Removes what is stamped on for a live Database only: its UID is unknown here, and hashes are of no use.
fn offline(mut manifest: Value) -> Value {
    if let Some(metadata) = manifest.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("ownerReferences");
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove(names::HASH);
            annotations.remove(names::TEMPLATE_HASH);
        }
    }
    manifest
}

/// Namespace and name.
pub(super) fn named(metadata: &Value) -> String {
    let text = |field: &str| metadata.get(field).and_then(Value::as_str).unwrap_or_default();
    format!("{}/{}", text("namespace"), text("name"))
}
