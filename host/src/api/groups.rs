//! Groups that clients create: a Database, and a class that it owns, made from a protocol by the plugin that understands it.

use kube::ResourceExt;
use kube::api::{DeleteParams, DynamicObject, PostParams, Preconditions};
use serde_json::json;
use tonic::Status;

use super::{Api, given, is_conflict, is_missing, named, namespace, refused};
use crate::cache::Key;
use crate::catalog::Plugin;
use crate::crd::STORAGE_GROUP;
use crate::proto::controller::{CreatePartitionGroupRequest, DeletePartitionGroupRequest, PartitionGroupSpec};
use crate::view::{DatabaseSeen, Group};
use crate::wit::GroupClass;
use crate::{limits, names, observe};

/// Most partitions of a database, by its schema.
const PARTITIONS_MAX: u32 = 1024;
/// Longest name of a database, by its schema.
const NAME_MAX: usize = 47;

/// A group as it was asked for, and what it becomes.
struct Wanted<'a> {
    namespace: &'a str,
    name: &'a str,
    spec: &'a PartitionGroupSpec,
    group: Group,
    class: GroupClass,
    plural: String,
    hash: String,
}

impl Api {
    pub(super) async fn create_group(&self, request: CreatePartitionGroupRequest) -> Result<(), Status> {
        let id = given(&request.id, "id")?;
        let (namespace, name) = (namespace(&id.namespace)?, named(&id.name, "id.name")?);
        let legal = names::is_label(name) && name.starts_with(|first: char| first.is_ascii_lowercase());
        if !legal || name.len() > NAME_MAX {
            return Err(Status::invalid_argument(format!(
                "id.name is {name:?}; at most {NAME_MAX} lower case letters, digits and '-' are accepted, starting with a letter and ending with a letter or digit"
            )));
        }
        self.bounds.may_write(namespace)?;
        let spec = given(&request.spec, "spec")?;
        let wanted = self.wanted(namespace, name, spec).await?;
        let database = self.group_database(&wanted).await?;
        self.group_class(&wanted, &database).await?;
        self.listed(namespace, name).await;
        Ok(())
    }

    pub(super) async fn delete_group(&self, request: DeletePartitionGroupRequest) -> Result<(), Status> {
        let id = given(&request.id, "id")?;
        let (namespace, name) = (namespace(&id.namespace)?, named(&id.name, "id.name")?);
        self.bounds.may_write(namespace)?;
        let (kind, key) = (&self.kinds.database, Key::new(namespace, name));
        let missing = || Status::not_found(format!("there is no group {namespace}/{name}"));
        let live = self.caches.find(kind, &key).filter(|live| !live.terminating()).ok_or_else(missing)?;
        let preconditions = Preconditions { uid: Some(live.uid.clone()), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match self.objects(kind, namespace).delete(name, &params).await {
            Ok(_) => {}
            Err(error) if is_missing(&error) || is_conflict(&error) => return Err(missing()),
            Err(error) => return Err(refused(&format!("delete Database {key}"), &error)),
        }
        self.caches.deleted(kind, &key, &live.uid);
        self.refresh(kind, &live);
        Ok(()) // what the Database owns, its class too, goes with it
    }

    /// Asks the plugin that understands the protocol for a class.
    async fn wanted<'a>(
        &self,
        namespace: &'a str,
        name: &'a str,
        spec: &'a PartitionGroupSpec,
    ) -> Result<Wanted<'a>, Status> {
        if !(1..=PARTITIONS_MAX).contains(&spec.partitions) {
            return Err(Status::invalid_argument(format!(
                "spec.partitions is {}; 1 to {PARTITIONS_MAX} are accepted",
                spec.partitions
            )));
        }
        let protocol = given(&spec.protocol, "spec.protocol")?;
        let mut loaded = self.loaded.clone();
        if tokio::time::timeout(limits::GRPC_START_WAIT, loaded.wait_for(|loaded| *loaded)).await.is_err() {
            return Err(Status::unavailable("the controller starts: its plugins are not loaded yet"));
        }
        let message = protocol.type_url.rsplit('/').next().unwrap_or_default();
        let plugin = self.catalog.for_protocol(message).ok_or_else(|| self.unknown(&protocol.type_url))?;
        let (value, size) = (protocol.value.clone(), spec.partition_size);
        let (revision, asked) = (plugin.revision.clone(), message.to_owned());
        let answer = tokio::task::spawn_blocking(move || revision.class_of(&asked, &value, size)).await;
        let answer = answer.map_err(|stopped| Status::internal(stopped.to_string()))?;
        let class = match answer.map_err(|fault| Status::internal(fault.to_string()))? {
            Some(Ok(class)) => class,
            Some(Err(errors)) => {
                let errors: Vec<_> = errors.iter().map(|error| format!("{}: {}", error.path, error.message)).collect();
                return Err(Status::invalid_argument(format!("the group is not accepted: {}", errors.join("; "))));
            }
            None => return Err(self.unknown(&protocol.type_url)),
        };
        let group = Group { partition_size: size, type_url: protocol.type_url.clone(), value: protocol.value.clone() };
        let hash = names::hash_json(&json!([spec.partitions, size, group.type_url, group.value]));
        let plural = plural(&plugin, &class.kind)?;
        Ok(Wanted { namespace, name, spec, group, class, plural, hash })
    }

    fn unknown(&self, type_url: &str) -> Status {
        let known: Vec<_> =
            self.catalog.protocols().into_iter().map(|(plugin, it)| format!("{it} (plugin {plugin})")).collect();
        let known = match known.is_empty() {
            true => "no plugin is installed that knows any".to_owned(),
            false => format!("known are {}", known.join(", ")),
        };
        Status::invalid_argument(format!("no plugin knows protocol {type_url:?}; {known}"))
    }

    /// Makes the Database, or finds it as it was made before.
    async fn group_database(&self, wanted: &Wanted<'_>) -> Result<DynamicObject, Status> {
        let Wanted { namespace, name, .. } = wanted;
        let kind = &self.kinds.database;
        let objects = self.objects(kind, namespace);
        if self.view.databases.read().seen(namespace, name).is_none() {
            let there = self.view.databases.read().count(namespace);
            let _place = self.making_groups.place("groups", namespace, there, self.bounds.groups_max)?;
            let object = json!({
                "apiVersion": format!("{}/{}", kind.group, kind.version),
                "kind": kind.kind,
                "metadata": {
                    "name": name,
                    "labels": {"app.kubernetes.io/managed-by": names::MANAGER},
                    "annotations": {names::GROUP_SPEC: wanted.hash},
                },
                "spec": {
                    "partitions": wanted.spec.partitions,
                    "storageClass": {
                        "group": STORAGE_GROUP,
                        "version": wanted.class.version,
                        "kind": wanted.class.kind,
                        "namespace": namespace,
                        "name": name,
                    },
                },
            });
            let object = serde_json::from_value(object).map_err(|error| Status::internal(error.to_string()))?;
            let params = PostParams { field_manager: Some(names::API_MANAGER.to_owned()), ..PostParams::default() };
            match objects.create(&params, &object).await {
                Ok(made) => {
                    self.wrote(kind, &made);
                    return Ok(made);
                }
                Err(error) if is_conflict(&error) => {}
                Err(error) => return Err(refused(&format!("create Database {namespace}/{name}"), &error)),
            }
        }
        let there =
            objects.get(name).await.map_err(|error| refused(&format!("read Database {namespace}/{name}"), &error))?;
        self.wrote(kind, &there);
        if there.metadata.deletion_timestamp.is_some() {
            return Err(Status::unavailable(format!(
                "group {namespace}/{name} is being deleted; try again when it is gone"
            )));
        }
        let asked = there.annotations().get(names::GROUP_SPEC);
        let seen = self.view.databases.read().seen(namespace, name).cloned();
        match asked.is_some_and(|asked| *asked == wanted.hash) || seen.is_some_and(|seen| same(&seen, wanted)) {
            true => Ok(there),
            false => Err(Status::already_exists(format!("group {namespace}/{name} exists with another spec"))),
        }
    }

    /// Makes the class, if the Database was made here and has none yet: a crash may have come between the two.
    async fn group_class(&self, wanted: &Wanted<'_>, database: &DynamicObject) -> Result<(), Status> {
        let Wanted { namespace, name, class, .. } = wanted;
        if !database.annotations().contains_key(names::GROUP_SPEC) {
            return Ok(()); // a person made it
        }
        let kind = crate::cache::Kind {
            group: STORAGE_GROUP.to_owned(),
            version: class.version.clone(),
            kind: class.kind.clone(),
            plural: wanted.plural.clone(),
        };
        let owner = &self.kinds.database;
        let object = json!({
            "apiVersion": format!("{}/{}", kind.group, kind.version),
            "kind": kind.kind,
            "metadata": {
                "name": name,
                "labels": {"app.kubernetes.io/managed-by": names::MANAGER},
                "ownerReferences": [{
                    "apiVersion": format!("{}/{}", owner.group, owner.version),
                    "kind": owner.kind,
                    "name": name,
                    "uid": database.uid(),
                }],
            },
            "spec": class.spec,
        });
        let object = serde_json::from_value(object).map_err(|error| Status::internal(error.to_string()))?;
        let params = PostParams { field_manager: Some(names::API_MANAGER.to_owned()), ..PostParams::default() };
        match self.objects(&kind, namespace).create(&params, &object).await {
            Ok(_) => Ok(()),
            Err(error) if is_conflict(&error) => Ok(()),
            Err(error) => Err(refused(&format!("create {} {namespace}/{name}", kind.kind), &error)),
        }
    }

    /// Waits a while until the group is listed, so that who asks next finds it; not while the server stops.
    async fn listed(&self, namespace: &str, name: &str) {
        let mut stopping = self.stopping.clone();
        let mut changed = self.view.databases.changed();
        let listed =
            async { while self.view.databases.read().one(namespace, name).is_none() && changed.changed().await.is_ok() {} };
        tokio::select! {
            _ = tokio::time::timeout(limits::GROUP_LISTED_WAIT, listed) => {}
            _ = stopping.wait_for(|stopping| *stopping) => {}
        }
    }
}

fn plural(plugin: &Plugin, kind: &str) -> Result<String, Status> {
    let class = plugin.class_kind(kind).map(observe::class_kind);
    Ok(class.ok_or_else(|| Status::unavailable("the plugin is being replaced; try again"))?.plural)
}

fn same(seen: &DatabaseSeen, wanted: &Wanted<'_>) -> bool {
    let message = |group: &Group| group.type_url.rsplit('/').next().map(str::to_owned);
    let means = |group: &Group| (group.partition_size, message(group), group.value.clone());
    seen.partitions == wanted.spec.partitions && seen.group.as_ref().map(means) == Some(means(&wanted.group))
}
