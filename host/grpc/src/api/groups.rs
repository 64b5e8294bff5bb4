//! Groups that clients create: a Database, and a class that it owns, made from a protocol's message by the plugin that
//! serves it.

use std::net::IpAddr;
use std::time::Instant;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;
use kube::api::{DeleteParams, DynamicObject, PostParams, Preconditions};
use serde_json::json;
use tonic::Status;

use super::deletion_wait::DeletionWait;
use super::plugins::GroupRequest;
use super::{Api, is_conflict, is_missing, namespace, required, required_name, status_of};
use crate::proto::controller::{CreatePartitionGroupRequest, DeletePartitionGroupRequest, PartitionGroupSpec};
use crate::view::{DatabaseSeen, Group};
use atomix_model::contract::GroupClass;
use atomix_model::crd::STORAGE_GROUP;
use atomix_model::object::Objects as _;
use atomix_model::object::{Key, Kind};
use atomix_model::{limits, names};

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
    pub(super) async fn create_group(
        &self,
        request: CreatePartitionGroupRequest,
        from: Option<IpAddr>,
    ) -> Result<(), Status> {
        let id = required(&request.id, "id")?;
        let (namespace, name) = (namespace(&id.namespace)?, required_name(&id.name, "id.name")?);
        let legal = names::is_label(name) && name.starts_with(|first: char| first.is_ascii_lowercase());
        if !legal || name.len() > NAME_MAX {
            return Err(Status::invalid_argument(format!(
                "id.name is {name:?}; at most {NAME_MAX} lower case letters, digits and '-' are accepted, starting with a letter and ending with a letter or digit"
            )));
        }
        self.policy.may_make_group(namespace)?;
        let spec = required(&request.spec, "spec")?;
        let wanted = self.wanted(namespace, name, spec).await?;
        self.write_rates.count(from, Instant::now())?;
        let (mut patience, mut made) = (DeletionWait::default(), None);
        loop {
            match self.make_group(&wanted, &mut made).await? {
                Step::Done => break,
                Step::Older(_) if !*self.stopping.borrow() && patience.wait().await => {}
                Step::Older(kind) => {
                    let message = format!("an older {kind} {namespace}/{name} is being deleted; try again when it is gone");
                    return Err(Status::unavailable(message));
                }
            }
        }
        self.listed(namespace, name).await;
        Ok(())
    }

    pub(super) async fn delete_group(
        &self,
        request: DeletePartitionGroupRequest,
        from: Option<IpAddr>,
    ) -> Result<(), Status> {
        let id = required(&request.id, "id")?;
        let (namespace, name) = (namespace(&id.namespace)?, required_name(&id.name, "id.name")?);
        self.policy.may_write(namespace)?;
        let (kind, key) = (&self.kinds.database, Key::new(namespace, name));
        let missing = || Status::not_found(format!("there is no group {namespace}/{name}"));
        let live = self.caches.find(kind, &key).filter(|live| !live.terminating()).ok_or_else(missing)?;
        self.write_rates.count(from, Instant::now())?;
        let preconditions = Preconditions { uid: Some(live.uid.clone()), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match self.objects(kind, namespace).delete(name, &params).await {
            Ok(_) => {}
            Err(error) if is_missing(&error) || is_conflict(&error) => return Err(missing()),
            Err(error) => return Err(status_of(&format!("delete Database {key}"), &error)),
        }
        self.caches.deleted(kind, &key, &live.uid);
        self.refresh(kind, &key);
        Ok(()) // what the Database owns, its class too, goes with it
    }

    /// Calls the plugin that serves the protocol for a class.
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
        let protocol = required(&spec.protocol, "spec.protocol")?;
        let mut loaded = self.loaded.clone();
        if tokio::time::timeout(limits::GRPC_START_WAIT, loaded.wait_for(|loaded| *loaded)).await.is_err() {
            return Err(Status::unavailable("the controller starts: its plugins are not loaded yet"));
        }
        let message = protocol.type_url.rsplit('/').next().unwrap_or_default();
        if !self.plugins.understands(message) {
            let _ = tokio::time::timeout(limits::GRPC_START_WAIT, self.plugins.loaded()).await; // it may be one that is new
        }
        let size = spec.partition_size;
        let request = GroupRequest { protocol: message.to_owned(), value: protocol.value.clone(), partition_size: size };
        let plugins = self.plugins.clone();
        let answer = tokio::task::spawn_blocking(move || plugins.class_of(&request)).await;
        let answer = answer.map_err(|stopped| Status::internal(stopped.to_string()))?.map_err(Status::internal)?;
        let (class, kind) = match answer {
            Some(Ok((class, Some(kind)))) => (class, kind),
            Some(Ok((_, None))) => return Err(Status::unavailable("the plugin is being replaced; try again")),
            Some(Err(errors)) => {
                let errors: Vec<_> = errors.iter().map(|error| format!("{}: {}", error.path, error.message)).collect();
                return Err(Status::invalid_argument(format!("the group is not accepted: {}", errors.join("; "))));
            }
            None => return Err(self.unknown_protocol(&protocol.type_url)),
        };
        let group = Group { partition_size: size, type_url: protocol.type_url.clone(), value: protocol.value.clone() };
        let hash = names::hash_json(&json!([spec.partitions, size, group.type_url, group.value]));
        Ok(Wanted { namespace, name, spec, group, class, plural: kind.plural, hash })
    }

    fn unknown_protocol(&self, type_url: &str) -> Status {
        let known: Vec<_> =
            self.plugins.protocols().into_iter().map(|(plugin, it)| format!("{it} (plugin {plugin})")).collect();
        let known = match known.is_empty() {
            true => "no plugin is installed that knows any".to_owned(),
            false => format!("known are {}", known.join(", ")),
        };
        Status::invalid_argument(format!("no plugin knows protocol {type_url:?}; {known}"))
    }

    /// Makes the Database and its class, or finds them as they were made before. `made` is the UID of a Database that this call made.
    async fn make_group(&self, wanted: &Wanted<'_>, made: &mut Option<String>) -> Result<Step, Status> {
        let Wanted { namespace, name, .. } = wanted;
        let kind = &self.kinds.database;
        let objects = self.objects(kind, namespace);
        let read = async || {
            let there = objects.get_opt(name).await;
            there.map_err(|error| status_of(&format!("read Database {namespace}/{name}"), &error))
        };
        if self.view.databases.read().seen(namespace, name).is_some()
            && let Some(there) = read().await?
        {
            return self.group_there(wanted, &there, made).await;
        }
        // A class of that name would be used as soon as the Database is there: whose is it?
        match self.group_class(wanted).await? {
            Some(class) if older(&class, name, None) => return Ok(Step::Older(wanted.class.kind.clone())),
            Some(_) => return Err(wanted.class_taken()),
            None => {}
        }
        let there = self.view.databases.read().count(namespace);
        let _place = self.reserved_groups.reserve("groups", namespace, there, self.policy.groups_max)?;
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
            Ok(database) => {
                self.wrote(kind, &database);
                *made = database.uid();
                self.make_class(wanted, &database, made).await
            }
            Err(error) if is_conflict(&error) => match read().await? {
                Some(there) => self.group_there(wanted, &there, made).await,
                None => Ok(Step::Older(kind.kind.clone())),
            },
            Err(error) => Err(status_of(&format!("create Database {namespace}/{name}"), &error)),
        }
    }

    /// Goes on with a Database that is there, if it is the group that is asked for.
    async fn group_there(&self, wanted: &Wanted<'_>, there: &DynamicObject, made: &Option<String>) -> Result<Step, Status> {
        let Wanted { namespace, name, .. } = wanted;
        let kind = &self.kinds.database;
        self.wrote(kind, there);
        if there.metadata.deletion_timestamp.is_some() {
            return Ok(Step::Older(kind.kind.clone()));
        }
        let recorded = there.annotations().get(names::GROUP_SPEC);
        let seen = self.view.databases.read().seen(namespace, name).cloned();
        match recorded.is_some_and(|recorded| *recorded == wanted.hash) || seen.is_some_and(|seen| same(&seen, wanted)) {
            true => self.make_class(wanted, there, made).await,
            false => Err(Status::already_exists(format!("group {namespace}/{name} exists with another spec"))),
        }
    }

    /// Makes the class, if the Database was made here and has none yet: a crash may have come between the two. A Database
    /// that this call made in vain is removed again.
    async fn make_class(
        &self,
        wanted: &Wanted<'_>,
        database: &DynamicObject,
        made: &Option<String>,
    ) -> Result<Step, Status> {
        let Wanted { namespace, name, class, .. } = wanted;
        if !database.annotations().contains_key(names::GROUP_SPEC) {
            return Ok(Step::Done); // a person made it
        }
        let (kind, owner) = (wanted.class_kind(), &self.kinds.database);
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
            Ok(_) => return Ok(Step::Done),
            Err(error) if is_conflict(&error) => {}
            Err(error) => return Err(status_of(&format!("create {} {namespace}/{name}", kind.kind), &error)),
        }
        let uid = database.uid().unwrap_or_default();
        match self.group_class(wanted).await? {
            None => Ok(Step::Older(kind.kind)),
            Some(there) if older(&there, name, Some(&uid)) => Ok(Step::Older(kind.kind)),
            Some(there) if owners(&there).any(|owner| owner.uid == uid) => Ok(Step::Done),
            Some(_) => {
                if made.as_deref() == Some(&*uid) {
                    let preconditions = Preconditions { uid: Some(uid), resource_version: None };
                    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
                    let deleted = self.objects(owner, namespace).delete(name, &params).await;
                    deleted.map_err(|error| status_of(&format!("remove Database {namespace}/{name} again"), &error))?;
                }
                Err(wanted.class_taken())
            }
        }
    }

    /// The class object of the group's name.
    async fn group_class(&self, wanted: &Wanted<'_>) -> Result<Option<DynamicObject>, Status> {
        let kind = wanted.class_kind();
        let found = self.objects(&kind, wanted.namespace).get_opt(wanted.name).await;
        found.map_err(|error| status_of(&format!("read {} {}/{}", kind.kind, wanted.namespace, wanted.name), &error))
    }

    /// Waits a while until the group is listed, so that the next call finds it; not while the server stops.
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

/// What to do next for a group that is being created.
enum Step {
    Done,
    /// An object of this kind and of the group's name, of an earlier group, is still there.
    Older(String),
}

impl Wanted<'_> {
    fn class_kind(&self) -> Kind {
        Kind {
            group: STORAGE_GROUP.to_owned(),
            version: self.class.version.clone(),
            kind: self.class.kind.clone(),
            plural: self.plural.clone(),
        }
    }

    fn class_taken(&self) -> Status {
        let Self { namespace, name, class, .. } = self;
        Status::already_exists(format!(
            "{} {namespace}/{name} exists and is of no group; a group needs that name for a class of its own",
            class.kind
        ))
    }
}

/// Databases that own an object.
fn owners(object: &DynamicObject) -> impl Iterator<Item = &OwnerReference> {
    let of_ours = |owner: &&OwnerReference| {
        owner.kind == "Database"
            && owner.api_version.split_once('/').is_some_and(|(group, _)| group == atomix_model::crd::GROUP)
    };
    object.owner_references().iter().filter(of_ours)
}

/// Whether a class is what an earlier group of that name left behind, and will go: it is on its way out, or owned by a Database that
/// was there before the one of this UID, or before there was none.
fn older(class: &DynamicObject, name: &str, database: Option<&str>) -> bool {
    let (mut before, mut now) = (false, false);
    for owner in owners(class).filter(|owner| owner.name == name) {
        match database == Some(&owner.uid) {
            true => now = true,
            false => before = true,
        }
    }
    class.metadata.deletion_timestamp.is_some() || before && !now
}

fn same(seen: &DatabaseSeen, wanted: &Wanted<'_>) -> bool {
    let message = |group: &Group| group.type_url.rsplit('/').next().map(str::to_owned);
    let means = |group: &Group| (group.partition_size, message(group), group.value.clone());
    seen.partitions == wanted.spec.partitions && seen.group.as_ref().map(means) == Some(means(&wanted.group))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_group_left_behind_is_distinguished_from_what_others_own() {
        let class = |owners: serde_json::Value, deleted: Option<&str>| -> DynamicObject {
            let metadata = json!({"name": "g", "ownerReferences": owners, "deletionTimestamp": deleted});
            let object = json!({"apiVersion": "storage.cloud.atomix.io/v1", "kind": "C", "metadata": metadata});
            serde_json::from_value(object).unwrap()
        };
        let owner = |version: &str, kind: &str, name: &str, uid: &str| json!({"apiVersion": version, "kind": kind, "name": name, "uid": uid});
        let of_us = |uid: &str| owner("cloud.atomix.io/v1beta3", "Database", "g", uid);
        for (what, class, with_database, without) in [
            ("nobody's", class(json!([]), None), false, false),
            ("nobody's, and deleted", class(json!([]), Some("2026-01-01T00:00:00Z")), true, true),
            ("the group's own", class(json!([of_us("now")]), None), false, true),
            ("an earlier group's", class(json!([of_us("before")]), None), true, true),
            ("both's", class(json!([of_us("before"), of_us("now")]), None), false, true),
            (
                "another database's",
                class(json!([owner("cloud.atomix.io/v1beta2", "Database", "h", "h")]), None),
                false,
                false,
            ),
            ("another kind's", class(json!([owner("v1", "ConfigMap", "g", "x")]), None), false, false),
        ] {
            assert_eq!(older(&class, "g", Some("now")), with_database, "{what}, with a database");
            assert_eq!(older(&class, "g", None), without, "{what}, without one");
        }
    }
}
