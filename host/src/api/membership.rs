//! `atomix.membership.MembershipService`: groups of peers, as Member objects that their Pods own. A member stays while a stream of it
//! is open in some replica; its object names the replica.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::json;
use tokio_stream::wrappers::WatchStream;
use tonic::{Request, Response, Status};

use super::{Api, given, is_conflict, is_missing, listen, named, namespace, refused};
use crate::cache::{Key, Kind, Live};
use crate::proto::Encoded;
use crate::proto::membership::JoinGroupRequest;
use crate::proto::membership::membership_service_server::MembershipService;
use crate::{limits, names};

pub(super) struct Memberships(pub Arc<Api>);

/// Members whose streams this replica holds, by their object.
#[derive(Default)]
pub(super) struct Joined(Mutex<HashMap<Key, Seat>>);

struct Seat {
    streams: usize,
    wanted: Wanted,
    /// Whoever writes the object holds this.
    writing: Arc<tokio::sync::Mutex<()>>,
}

/// What the object of a member should say.
#[derive(Clone, Debug, PartialEq)]
struct Wanted {
    group: String,
    name: String,
    host: String,
    port: i32,
    pod_uid: String,
}

/// A stream's hold on its member: when the last is dropped, the member leaves.
struct Hold {
    api: Arc<Api>,
    key: Key,
}

#[tonic::async_trait]
impl MembershipService for Memberships {
    type JoinGroupStream = Pin<Box<dyn Stream<Item = Result<Encoded, Status>> + Send>>;

    async fn join_group(&self, request: Request<JoinGroupRequest>) -> Result<Response<Self::JoinGroupStream>, Status> {
        let from = listen::remote(&request);
        let request = request.into_inner();
        let group = request.group_id.unwrap_or_default();
        let namespace = namespace(&group.namespace)?;
        if !group.name.is_empty() {
            named(&group.name, "group_id.name")?;
        }
        let hold = match request.member {
            None => None,
            Some(member) => {
                let id = given(&member.id, "member.id")?;
                if !id.namespace.is_empty() && id.namespace != namespace {
                    return Err(Status::invalid_argument(format!(
                        "member.id.namespace is {:?}; a member lives in the namespace of its group, {namespace:?}",
                        id.namespace
                    )));
                }
                if !names::is_subdomain(&id.name) {
                    return Err(Status::invalid_argument(format!(
                        "member.id.name is {:?}; the name of the member's Pod is expected",
                        id.name
                    )));
                }
                if !(0..=i32::from(u16::MAX)).contains(&member.port) {
                    return Err(Status::invalid_argument(format!(
                        "member.port is {}; 0 to 65535 are accepted",
                        member.port
                    )));
                }
                if member.host.len() > limits::CLIENT_NAME_BYTES_MAX {
                    return Err(Status::invalid_argument("member.host is no host name: it is too long"));
                }
                self.0.bounds.may_write(namespace)?;
                let pod_uid = self.0.pod(namespace, &id.name, from).await?;
                let (name, host, port) = (id.name.clone(), member.host.clone(), member.port);
                Some(self.0.clone().join(namespace, Wanted { group: group.name.clone(), name, host, port, pod_uid }).await?)
            }
        };
        let memberships = WatchStream::new(self.0.view.members.write().watch(namespace, &group.name));
        let memberships = memberships.map(move |membership| {
            let _held = &hold; // as long as the stream
            Ok(membership)
        });
        Ok(Response::new(Box::pin(memberships)))
    }
}

impl Api {
    /// UID of the Pod that a member is, if the call may speak for it.
    async fn pod(&self, namespace: &str, name: &str, from: Option<IpAddr>) -> Result<String, Status> {
        let pods: kube::Api<Pod> = kube::Api::namespaced(self.client.clone(), namespace);
        let pod = pods.get(name).await.map_err(|error| match is_missing(&error) {
            true => Status::not_found(format!("there is no Pod {namespace}/{name}: a member is the Pod of its name")),
            false => refused(&format!("read Pod {namespace}/{name}"), &error),
        })?;
        let status = pod.status.as_ref();
        let addresses = status.and_then(|status| status.pod_ips.as_ref()).into_iter().flatten();
        let addresses: Vec<IpAddr> = addresses.filter_map(|ip| ip.ip.parse().ok()).collect();
        self.bounds.may_join(name, &addresses, from)?;
        Ok(pod.uid().unwrap_or_default())
    }

    async fn join(self: Arc<Self>, namespace: &str, wanted: Wanted) -> Result<Hold, Status> {
        let key = Key::new(namespace, names::object_name(&wanted.name, &[&wanted.group, &wanted.name]));
        {
            let mut seats = self.joined.seats();
            let seat = seats.entry(key.clone()).or_insert_with(|| Seat::new(wanted.clone()));
            seat.streams += 1;
            seat.wanted = wanted;
        }
        let hold = Hold { api: self.clone(), key: key.clone() }; // from here on, whatever happens, it is given back
        self.take_seat(&key).await?;
        Ok(hold)
    }

    /// Makes the object of a member say what its streams want.
    async fn take_seat(&self, key: &Key) -> Result<(), Status> {
        let Some(writing) = self.joined.writing(key) else { return Ok(()) };
        let _writing = writing.lock().await;
        let Some(wanted) = self.joined.wanted(key) else { return Ok(()) };
        let kind = &self.kinds.member;
        if self.caches.find(kind, key).is_some_and(|live| self.says(&live, &wanted)) {
            return Ok(());
        }
        let object = json!({
            "apiVersion": format!("{}/{}", kind.group, kind.version),
            "kind": kind.kind,
            "metadata": {
                "name": key.name,
                "labels": {"app.kubernetes.io/managed-by": names::MANAGER},
                "annotations": {names::HELD_BY: self.replica},
                "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": wanted.name, "uid": wanted.pod_uid}],
            },
            "properties": {
                "metadata": {"namespace": wanted.group, "name": wanted.name},
                "service": wanted.host,
                "port": wanted.port,
            },
        });
        let params = PatchParams::apply(names::API_MANAGER).force();
        let written = self.objects(kind, &key.namespace).patch(&key.name, &params, &Patch::Apply(object)).await;
        let written = written.map_err(|error| refused(&format!("write Member {key}"), &error))?;
        self.wrote(kind, &written);
        Ok(())
    }

    fn says(&self, live: &Live, wanted: &Wanted) -> bool {
        let text = |pointer: &str| live.body.pointer(pointer).and_then(serde_json::Value::as_str).unwrap_or_default();
        live.annotation(names::HELD_BY) == Some(&self.replica)
            && !live.terminating()
            && text("/metadata/ownerReferences/0/uid") == wanted.pod_uid
            && text("/properties/metadata/namespace") == wanted.group
            && text("/properties/metadata/name") == wanted.name
            && text("/properties/service") == wanted.host
            && live.body.pointer("/properties/port").and_then(serde_json::Value::as_i64) == Some(i64::from(wanted.port))
    }

    /// Removes the object of a member that `replica` held, unless it has a stream here or another replica holds it by now.
    pub(super) async fn vacate(&self, key: &Key, replica: &str) {
        let kind = &self.kinds.member;
        let writing = self.joined.writing(key).unwrap_or_default();
        let _writing = writing.lock().await;
        for _ in 0..limits::CONFLICT_TRIES {
            if self.joined.wanted(key).is_some() {
                return;
            }
            let Some(live) = self.caches.find(kind, key) else { break };
            if live.annotation(names::HELD_BY) != Some(replica) {
                break;
            }
            let exactly = Preconditions { uid: Some(live.uid.clone()), resource_version: Some(live.version.to_string()) };
            let params = DeleteParams { preconditions: Some(exactly), ..DeleteParams::default() };
            let objects = self.objects(kind, &key.namespace);
            match objects.delete(&key.name, &params).await {
                Ok(_) => {}
                Err(error) if is_missing(&error) => {}
                Err(error) if is_conflict(&error) => {
                    match objects.get(&key.name).await {
                        Ok(newer) => self.wrote(kind, &newer),
                        Err(error) if is_missing(&error) => {}
                        Err(_) => tokio::time::sleep(limits::RETRY_AFTER_MIN).await,
                    }
                    continue;
                }
                Err(error) => {
                    tracing::debug!(%error, %key, "a member that left could not be removed; trying again");
                    tokio::time::sleep(limits::RETRY_AFTER_MIN).await;
                    continue;
                }
            }
            self.caches.deleted(kind, key, &live.uid);
            self.refresh(kind, &live);
            break;
        }
        self.joined.forget(key);
    }

    /// Makes a Member anew that somebody removed although a stream of it is open and its Pod is there.
    pub(super) fn restore(self: &Arc<Self>, kind: &Kind, live: &Live) {
        let key = live.key();
        if *kind != self.kinds.member || self.caches.find(kind, &key).is_some() {
            return;
        }
        let Some(wanted) = self.joined.wanted(&key) else { return };
        let api = self.clone();
        tokio::spawn(async move {
            let pods: kube::Api<Pod> = kube::Api::namespaced(api.client.clone(), &key.namespace);
            let there = pods.get(&wanted.name).await.is_ok_and(|pod| pod.uid().as_deref() == Some(&wanted.pod_uid));
            if there && let Err(error) = api.take_seat(&key).await {
                tracing::warn!(%error, %key, "a Member was removed and could not be made anew");
            }
        });
    }

    /// Members that the sweep should look at: those of this replica without a stream here.
    pub(super) fn streamless(&self) -> Vec<Key> {
        let members = self.view.members.read();
        let own = members.of_replica(&self.replica).map(|((namespace, object), _)| Key::new(namespace, object));
        own.filter(|key| self.joined.wanted(key).is_none()).collect()
    }
}

impl Seat {
    fn new(wanted: Wanted) -> Self {
        Self { streams: 0, wanted, writing: Arc::default() }
    }
}

impl Joined {
    fn seats(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Seat>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn writing(&self, key: &Key) -> Option<Arc<tokio::sync::Mutex<()>>> {
        Some(self.seats().get(key)?.writing.clone())
    }

    /// What the streams of a member want, while there are some.
    fn wanted(&self, key: &Key) -> Option<Wanted> {
        self.seats().get(key).filter(|seat| seat.streams > 0).map(|seat| seat.wanted.clone())
    }

    fn forget(&self, key: &Key) {
        let mut seats = self.seats();
        if seats.get(key).is_some_and(|seat| seat.streams == 0) {
            seats.remove(key);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut seats = self.api.joined.seats();
        let Some(seat) = seats.get_mut(&self.key) else { return };
        seat.streams -= 1;
        if seat.streams > 0 || *self.api.stopping.borrow() {
            return; // told to stop, this replica leaves its members to those that their clients go to
        }
        drop(seats);
        let (api, key) = (self.api.clone(), self.key.clone());
        tokio::spawn(async move { api.vacate(&key, &api.replica).await });
    }
}
