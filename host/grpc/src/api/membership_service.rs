//! `atomix.membership.MembershipService`: groups of peers, as Member objects that their Pods own. A member stays while a stream of it
//! is open in some replica; its object names the replica.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::json;
use tonic::{Code, Request, Response, Status};

use super::{Api, is_conflict, is_missing, listen, namespace, required, required_name, status_of};
use crate::proto::Encoded;
use crate::proto::membership::JoinGroupRequest;
use crate::proto::membership::membership_service_server::MembershipService;
use crate::view::Members;
use atomix_model::object::Objects as _;
use atomix_model::object::{Key, Kind, Live};
use atomix_model::{limits, names};

pub(super) struct MembershipApi(pub Arc<Api>);

/// Members whose streams this replica holds, by their object.
#[derive(Default)]
pub(super) struct LocalMembers(Mutex<HashMap<Key, LocalMember>>);

struct LocalMember {
    streams: usize,
    wanted: Wanted,
    /// Held while the object is written.
    writing: Arc<tokio::sync::Mutex<()>>,
}

/// What the object of a member should hold.
#[derive(Clone, Debug, PartialEq)]
struct Wanted {
    group: String,
    name: String,
    host: String,
    port: i32,
    pod_uid: String,
}

/// A stream's hold on its member: when the last is dropped, the member leaves.
struct MemberStream {
    api: Arc<Api>,
    key: Key,
}

#[tonic::async_trait]
impl MembershipService for MembershipApi {
    type JoinGroupStream = Pin<Box<dyn Stream<Item = Result<Encoded, Status>> + Send>>;

    async fn join_group(&self, request: Request<JoinGroupRequest>) -> Result<Response<Self::JoinGroupStream>, Status> {
        let from = listen::remote(&request);
        let request = request.into_inner();
        let group = request.group_id.unwrap_or_default();
        let namespace = namespace(&group.namespace)?;
        if !group.name.is_empty() {
            required_name(&group.name, "group_id.name")?;
        }
        let hold = match request.member {
            None => None,
            Some(member) => {
                let id = required(&member.id, "member.id")?;
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
                self.0.policy.may_write(namespace)?;
                let pod_uid = self.0.pod_uid(namespace, &id.name, from).await?;
                self.0.has_room(namespace, &group.name, &id.name)?;
                let (name, host, port) = (id.name.clone(), member.host.clone(), member.port);
                Some(self.0.clone().join(namespace, Wanted { group: group.name.clone(), name, host, port, pod_uid }).await?)
            }
        };
        let memberships = Members::watch(&self.0.view.members, namespace, &group.name);
        let memberships = memberships.map(move |membership| {
            let _held = &hold; // as long as the stream
            Ok(membership)
        });
        Ok(Response::new(Box::pin(memberships)))
    }
}

impl Api {
    /// UID of the Pod that a member is, if the call may act for it. Costs a request, which counts as a write of the
    /// client's, and none if the same was refused a moment ago.
    async fn pod_uid(&self, namespace: &str, name: &str, from: Option<IpAddr>) -> Result<String, Status> {
        let caller = (namespace.to_owned(), name.to_owned(), from);
        if let Some(refusal) = self.refused_joins.recent(&caller, Instant::now()) {
            return Err(refusal);
        }
        self.write_rates.count(from, Instant::now())?;
        let found = self.read_pod_uid(namespace, name, from).await;
        if let Err(status) = &found
            && matches!(status.code(), Code::NotFound | Code::PermissionDenied)
        {
            self.refused_joins.record(caller, status, Instant::now());
        }
        found
    }

    async fn read_pod_uid(&self, namespace: &str, name: &str, from: Option<IpAddr>) -> Result<String, Status> {
        let pods: kube::Api<Pod> = kube::Api::namespaced(self.client.clone(), namespace);
        let pod = pods.get(name).await.map_err(|error| match is_missing(&error) {
            true => Status::not_found(format!("there is no Pod {namespace}/{name}: a member is the Pod of its name")),
            false => status_of(&format!("read Pod {namespace}/{name}"), &error),
        })?;
        let status = pod.status.as_ref();
        let addresses = status.and_then(|status| status.pod_ips.as_ref()).into_iter().flatten();
        let addresses: Vec<IpAddr> = addresses.filter_map(|ip| ip.ip.parse().ok()).collect();
        self.policy.may_join(name, &addresses, from)?;
        Ok(pod.uid().unwrap_or_default())
    }

    /// Whether a member may be in one more group.
    fn has_room(&self, namespace: &str, group: &str, name: &str) -> Result<(), Status> {
        let object = names::object_name(name, &[group, name]);
        let members = self.view.members.read();
        if members.object(namespace, &object).is_some() || members.groups_of(namespace, name) < limits::GROUPS_OF_MEMBER_MAX
        {
            return Ok(());
        }
        let most = limits::GROUPS_OF_MEMBER_MAX;
        Err(Status::resource_exhausted(format!("{namespace}/{name} is a member of {most} groups, which is the limit")))
    }

    async fn join(self: Arc<Self>, namespace: &str, wanted: Wanted) -> Result<MemberStream, Status> {
        let key = Key::new(namespace, names::object_name(&wanted.name, &[&wanted.group, &wanted.name]));
        {
            let mut members = self.members.lock();
            let member = members.entry(key.clone()).or_insert_with(|| LocalMember::new(wanted.clone()));
            member.streams += 1;
            member.wanted = wanted;
        }
        let hold = MemberStream { api: self.clone(), key: key.clone() }; // from here on, whatever happens, it is given back
        self.write_member(&key).await?;
        Ok(hold)
    }

    /// Writes the object of a member as its streams want it.
    async fn write_member(&self, key: &Key) -> Result<(), Status> {
        let Some(writing) = self.members.write_lock(key) else { return Ok(()) };
        let _writing = writing.lock().await;
        let Some(wanted) = self.members.wanted(key) else { return Ok(()) };
        let kind = &self.kinds.member;
        if self.caches.find(kind, key).is_some_and(|live| self.is_up_to_date(&live, &wanted)) {
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
        let written = written.map_err(|error| status_of(&format!("write Member {key}"), &error))?;
        self.wrote(kind, &written);
        Ok(())
    }

    fn is_up_to_date(&self, live: &Live, wanted: &Wanted) -> bool {
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
    pub(super) async fn remove_member(&self, key: &Key, replica: &str) {
        let kind = &self.kinds.member;
        let writing = self.members.write_lock(key).unwrap_or_default();
        let _writing = writing.lock().await;
        for _ in 0..limits::CONFLICT_TRIES {
            if self.members.wanted(key).is_some() {
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
            self.refresh(kind, key);
            break;
        }
        self.members.forget(key);
    }

    /// Makes a Member anew that was removed although a stream of it is open and its Pod is there.
    pub(super) fn restore_member(self: &Arc<Self>, kind: &Kind, key: &Key) {
        if *kind != self.kinds.member || self.caches.find(kind, key).is_some() {
            return;
        }
        let Some(wanted) = self.members.wanted(key) else { return };
        let (api, key) = (self.clone(), key.clone());
        tokio::spawn(async move {
            let pods: kube::Api<Pod> = kube::Api::namespaced(api.client.clone(), &key.namespace);
            let there = pods.get(&wanted.name).await.is_ok_and(|pod| pod.uid().as_deref() == Some(&wanted.pod_uid));
            if there && let Err(error) = api.write_member(&key).await {
                tracing::warn!(%error, %key, "a Member was removed and could not be made anew");
            }
        });
    }

    /// Members that garbage collection should look at: those of this replica without a stream here.
    pub(super) fn members_without_stream(&self) -> Vec<Key> {
        let members = self.view.members.read();
        let own = members.of_replica(&self.replica).map(|((namespace, object), _)| Key::new(namespace, object));
        own.filter(|key| self.members.wanted(key).is_none()).collect()
    }
}

impl LocalMember {
    fn new(wanted: Wanted) -> Self {
        Self { streams: 0, wanted, writing: Arc::default() }
    }
}

impl LocalMembers {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, LocalMember>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn write_lock(&self, key: &Key) -> Option<Arc<tokio::sync::Mutex<()>>> {
        Some(self.lock().get(key)?.writing.clone())
    }

    /// What the streams of a member want, while there are some.
    fn wanted(&self, key: &Key) -> Option<Wanted> {
        self.lock().get(key).filter(|member| member.streams > 0).map(|member| member.wanted.clone())
    }

    fn forget(&self, key: &Key) {
        let mut members = self.lock();
        if members.get(key).is_some_and(|member| member.streams == 0) {
            members.remove(key);
        }
    }
}

impl Drop for MemberStream {
    fn drop(&mut self) {
        let mut members = self.api.members.lock();
        let Some(member) = members.get_mut(&self.key) else { return };
        member.streams -= 1;
        if member.streams > 0 || *self.api.stopping.borrow() {
            return; // when it stops, this replica leaves its members to those that their clients go to
        }
        drop(members);
        let (api, key) = (self.api.clone(), self.key.clone());
        tokio::spawn(async move { api.remove_member(&key, &api.replica).await });
    }
}
