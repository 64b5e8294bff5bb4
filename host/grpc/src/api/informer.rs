//! Fills the view from watches of its own, in every replica. Knows no call.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use super::Api;
use crate::view::{DatabaseSeen, Group, MemberSeen, PartitionSeen, PrimitiveId, PrimitiveSeen};
use atomix_controller_io::cache::{Change, Wanted, Watches};
use atomix_model::crd::database::GroupStatus;
use atomix_model::crd::member::MemberProperties;
use atomix_model::crd::{
    Database, DatabaseSpec, Endpoint, Member, Partition, PartitionSpec, Primitive, PrimitiveProperties,
};
use atomix_model::object::Objects as _;
use atomix_model::object::{Key, Kind, Live, State, Trim};
use atomix_model::{limits, names};

/// Port of partitions that name no other.
const PORT: i32 = 5678;

/// The kinds that are watched.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // its fields explain themselves
pub struct Kinds {
    pub database: Kind,
    pub partition: Kind,
    pub member: Kind,
    pub primitive: Kind,
}

impl Default for Kinds {
    fn default() -> Self {
        Self {
            database: Kind::of::<Database>(),
            partition: Kind::of::<Partition>(),
            member: Kind::of::<Member>(),
            primitive: Kind::of::<Primitive>(),
        }
    }
}

/// Follows the cluster for ever. `ready` becomes true when everything is listed.
pub async fn run(api: Arc<Api>, scope: Option<String>, ready: watch::Sender<bool>) {
    let (changes_in, mut changes) = mpsc::channel(limits::CHANGES_WAITING);
    let watches = Watches::new(api.client.clone(), api.caches.clone(), changes_in);
    let reads = |pointers: &[&str]| Trim::whole(pointers.iter().map(|pointer| (*pointer).to_owned()));
    let kinds = &api.kinds;
    let wanted = [
        (&kinds.database, reads(&["/status/group"])),
        (&kinds.partition, reads(&["/status/endpoints", "/status/election"])),
        (&kinds.member, reads(&[])),
        (&kinds.primitive, reads(&[])),
    ];
    let wanted = wanted.map(|(kind, trim)| (kind.clone(), Wanted::all(trim, scope.clone())));
    watches.want(BTreeMap::from(wanted.clone()));
    while let Some(change) = changes.recv().await {
        match change {
            Change::Object(kind, object) => {
                let key = object.key();
                api.refresh(&kind, &key);
                api.restore_member(&kind, &key);
                if kind == api.kinds.partition {
                    let election = object.live().body.pointer("/status/election").and_then(parse).unwrap_or_default();
                    api.reenter_candidates(&key, &election);
                }
            }
            Change::State(kind) => {
                if let State::Failing(why) = api.caches.state(&kind) {
                    tracing::warn!(kind = kind.kind, why, "the gRPC API cannot watch a kind; trying again");
                }
                let all = wanted.iter().all(|(kind, _)| api.caches.state(kind) == State::Synced);
                ready.send_if_modified(|ready| all && !std::mem::replace(ready, all));
            }
        }
    }
}

impl Api {
    /// The API's answer to a write of ours: clients of this replica see it at once.
    pub(super) fn wrote(&self, kind: &Kind, object: &impl serde::Serialize) {
        if let Some(live) = serde_json::to_value(object).ok().and_then(|object| self.caches.wrote(kind, object)) {
            self.refresh(kind, &live.key());
        }
    }

    /// Shows an object as the caches hold it now.
    pub(super) fn refresh(&self, kind: &Kind, key: &Key) {
        let (namespace, name) = (key.namespace.as_str(), key.name.as_str());
        let now = self.caches.find(kind, key).filter(|live| !live.terminating());
        let now = now.as_deref();
        if *kind == self.kinds.database {
            self.view.databases.write().put_database(namespace, name, now.and_then(database));
        } else if *kind == self.kinds.partition {
            let seen = now.and_then(|live| Some((live.database_label()?, partition(live, &self.cluster_domain)?)));
            self.view.databases.write().put_partition(namespace, name, seen);
            match now {
                Some(live) => {
                    let election = live.body.pointer("/status/election").and_then(parse);
                    self.view.elections.write().put(namespace, name, election);
                }
                None => self.view.elections.write().gone(namespace, name),
            }
        } else if *kind == self.kinds.member {
            self.view.members.write().put(namespace, name, now.and_then(member));
        } else if *kind == self.kinds.primitive {
            self.view.primitives.write().put(namespace, name, now.and_then(primitive));
        }
    }
}

fn database(live: &Live) -> Option<DatabaseSeen> {
    let spec: DatabaseSpec = parse(live.body.get("spec")?)?;
    let group = live.body.pointer("/status/group").and_then(parse::<GroupStatus>);
    let group = group.map(|group| Group {
        partition_size: u32::try_from(group.partition_size).unwrap_or(0),
        type_url: group.protocol.type_url,
        value: group.protocol.value.0,
    });
    Some(DatabaseSeen { uid: live.uid.clone(), partitions: u32::try_from(spec.partitions).ok()?, group })
}

fn partition(live: &Live, domain: &str) -> Option<PartitionSeen> {
    let spec: PartitionSpec = parse(live.body.get("spec")?)?;
    let endpoints: Vec<Endpoint> = live.body.pointer("/status/endpoints").and_then(parse).unwrap_or_default();
    let service = if spec.service_name.is_empty() { &live.name } else { &spec.service_name };
    let endpoints = match endpoints.is_empty() {
        true => vec![Endpoint { host: format!("{service}.{}.svc.{domain}", live.namespace), port: PORT }],
        false => endpoints,
    };
    Some(PartitionSeen { owner: live.owner()?.to_owned(), id: spec.partition_id, endpoints })
}

fn member(live: &Live) -> Option<MemberSeen> {
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
    let MemberProperties { metadata, service, port } = parse(live.body.get("properties")?)?;
    let port = match port {
        Some(IntOrString::Int(port)) => port,
        Some(IntOrString::String(port)) => port.parse().unwrap_or(0),
        None => 0,
    };
    let replica = live.annotation(names::HELD_BY).unwrap_or_default().to_owned();
    Some(MemberSeen { group: metadata.namespace, name: metadata.name, host: service, port, replica })
}

fn primitive(live: &Live) -> Option<PrimitiveSeen> {
    let PrimitiveProperties { metadata, database, type_ } = parse(live.body.get("properties")?)?;
    let id = PrimitiveId { namespace: live.namespace.clone(), database, scope: metadata.namespace, name: metadata.name };
    Some(PrimitiveSeen { id, type_, owner: live.owner().map(str::to_owned) })
}

/// What does not fit its schema is not shown; the rest is.
fn parse<T: DeserializeOwned>(value: &Value) -> Option<T> {
    serde_json::from_value(value.clone())
        .inspect_err(|error| tracing::debug!(%error, "an object does not fit its schema"))
        .ok()
}
