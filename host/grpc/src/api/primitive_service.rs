//! `atomix.primitive.PrimitiveService`: primitives, as Primitive objects.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use kube::api::{DeleteParams, PostParams, Preconditions};
use prost::Message as _;
use serde_json::json;
use tonic::{Request, Response, Status};

use super::deletion_wait::DeletionWait;
use super::{Api, is_conflict, is_missing, listen, namespace, required, required_name, status_of};
use crate::proto::database::DatabaseId;
use crate::proto::primitive::primitive_service_server::PrimitiveService;
use crate::proto::primitive::{
    CreatePrimitiveRequest, CreatePrimitiveResponse, DeletePrimitiveRequest, DeletePrimitiveResponse, GetPrimitiveRequest,
    GetPrimitiveResponse, GetPrimitivesRequest, GetPrimitivesResponse, PrimitiveId as WireId, PrimitiveMetadata,
    PrimitiveType,
};
use crate::view::{Filter, PrimitiveId, PrimitiveSeen};
use atomix_model::crd::PrimitiveType as Type;
use atomix_model::limits;
use atomix_model::names;
use atomix_model::object::Key;
use atomix_model::object::Objects as _;

pub(super) struct PrimitiveApi(pub Arc<Api>);

#[tonic::async_trait]
impl PrimitiveService for PrimitiveApi {
    async fn create_primitive(
        &self,
        request: Request<CreatePrimitiveRequest>,
    ) -> Result<Response<CreatePrimitiveResponse>, Status> {
        let from = listen::remote(&request);
        let request = request.into_inner();
        let id = id(&request.database, &request.primitive)?;
        let seen = PrimitiveSeen { id, type_: stored(request.r#type)?, owner: None };
        self.0.create_primitive(&seen, from).await?;
        Ok(Response::new(CreatePrimitiveResponse { primitive: Some(metadata(&seen)) }))
    }

    async fn get_primitive(&self, request: Request<GetPrimitiveRequest>) -> Result<Response<GetPrimitiveResponse>, Status> {
        let request = request.into_inner();
        let id = id(&request.database, &request.primitive)?;
        let primitives = self.0.view.primitives.read();
        let (seen, _) = primitives.find(&id).filter(|(seen, _)| self.0.stays(seen)).ok_or_else(|| none(&id))?;
        Ok(Response::new(GetPrimitiveResponse { primitive: Some(metadata(seen)) }))
    }

    async fn get_primitives(
        &self,
        request: Request<GetPrimitivesRequest>,
    ) -> Result<Response<GetPrimitivesResponse>, Status> {
        let request = request.into_inner();
        let non_empty = |text: String| (!text.is_empty()).then_some(text);
        let database = request.database.unwrap_or_default();
        // A database of no namespace is one of `default`, as everywhere; without a database every namespace is meant.
        let in_namespace = match (database.namespace.as_str(), database.name.as_str()) {
            ("", "") => None,
            (given, _) => Some(namespace(given)?.to_owned()),
        };
        let primitive = request.primitive.unwrap_or_default();
        let type_ = stored(request.r#type)?;
        let filter = Filter {
            namespace: in_namespace,
            database: non_empty(database.name),
            scope: non_empty(primitive.namespace),
            name: non_empty(primitive.name),
            type_: (type_ != Type::Unknown).then_some(type_),
        };
        let all = self.0.view.primitives.read();
        let primitives = bounded(all.list(&filter).filter(|seen| self.0.stays(seen)))?;
        Ok(Response::new(GetPrimitivesResponse { primitives }))
    }

    async fn delete_primitive(
        &self,
        request: Request<DeletePrimitiveRequest>,
    ) -> Result<Response<DeletePrimitiveResponse>, Status> {
        let from = listen::remote(&request);
        let request = request.into_inner();
        let seen = self.0.delete_primitive(&id(&request.database, &request.primitive)?, from).await?;
        Ok(Response::new(DeletePrimitiveResponse { primitive: Some(metadata(&seen)) }))
    }
}

impl Api {
    /// Whether a primitive is not merely left over from an older database of the name, about to be garbage collected.
    fn stays(&self, seen: &PrimitiveSeen) -> bool {
        let Some(owner) = &seen.owner else { return true };
        self.view.databases.read().seen(&seen.id.namespace, &seen.id.database).is_some_and(|now| now.uid == *owner)
    }

    async fn create_primitive(&self, wanted: &PrimitiveSeen, from: Option<IpAddr>) -> Result<(), Status> {
        let PrimitiveId { namespace, database, name, .. } = &wanted.id;
        self.policy.may_write(namespace)?;
        let there = self.view.primitives.read().find(&wanted.id).map(|(there, _)| there.clone());
        if let Some(there) = there.filter(|there| self.stays(there)) {
            return same(&there, wanted);
        }
        let owner = self.view.databases.read().seen(namespace, database).map(|seen| seen.uid.clone());
        let owner = owner.ok_or_else(|| Status::not_found(format!("there is no database {namespace}/{database}")))?;
        self.write_rates.count(from, Instant::now())?;
        let mut patience = DeletionWait::default();
        loop {
            match self.make_primitive(wanted, &owner).await? {
                Some(()) => return Ok(()),
                None if !*self.stopping.borrow() && patience.wait().await => {}
                None => {
                    let message = format!("an older primitive {name:?} is being deleted; try again when it is gone");
                    return Err(Status::unavailable(message));
                }
            }
        }
    }

    /// Makes the object of a primitive, or finds it. None while an older one of that name goes.
    async fn make_primitive(&self, wanted: &PrimitiveSeen, owner: &str) -> Result<Option<()>, Status> {
        let PrimitiveId { namespace, database, scope, name } = &wanted.id;
        let there = self.view.primitives.read().count(namespace);
        let _place = self.reserved_primitives.reserve("primitives", namespace, there, self.policy.primitives_max)?;
        let object_name = names::object_name(name, &[database, scope, name]);
        let kind = &self.kinds.primitive;
        let object = json!({
            "apiVersion": format!("{}/{}", kind.group, kind.version),
            "kind": kind.kind,
            "metadata": {
                "name": object_name,
                "labels": {"app.kubernetes.io/managed-by": names::MANAGER},
                "ownerReferences": [{
                    "apiVersion": format!("{}/{}", self.kinds.database.group, self.kinds.database.version),
                    "kind": self.kinds.database.kind,
                    "name": database,
                    "uid": owner,
                }],
            },
            "properties": {
                "metadata": {"namespace": scope, "name": name},
                "database": database,
                "type": wanted.type_,
            },
        });
        let object = serde_json::from_value(object).map_err(|error| Status::internal(error.to_string()))?;
        let objects = self.objects(kind, namespace);
        let params = PostParams { field_manager: Some(names::API_MANAGER.to_owned()), ..PostParams::default() };
        match objects.create(&params, &object).await {
            Ok(made) => self.wrote(kind, &made),
            Err(error) if is_conflict(&error) => {
                match objects.get_opt(&object_name).await.map_err(|error| status_of("read the primitive", &error))? {
                    Some(there) => self.wrote(kind, &there),
                    None => return Ok(None),
                }
            }
            Err(error) => return Err(status_of(&format!("create primitive {name:?}"), &error)),
        }
        let there = self.view.primitives.read().find(&wanted.id).map(|(there, _)| there.clone());
        match there.filter(|there| there.owner.as_deref().is_none_or(|there| there == owner)) {
            Some(there) => same(&there, wanted).map(Some),
            None => Ok(None),
        }
    }

    async fn delete_primitive(&self, id: &PrimitiveId, from: Option<IpAddr>) -> Result<PrimitiveSeen, Status> {
        self.policy.may_write(&id.namespace)?;
        let found = self.view.primitives.read().find(id).map(|(seen, object)| (seen.clone(), object.to_owned()));
        let (seen, object) = found.filter(|(seen, _)| self.stays(seen)).ok_or_else(|| none(id))?;
        self.write_rates.count(from, Instant::now())?;
        let kind = &self.kinds.primitive;
        let key = Key::new(&id.namespace, &object);
        let live = self.caches.find(kind, &key).ok_or_else(|| none(id))?;
        let preconditions = Preconditions { uid: Some(live.uid.clone()), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match self.objects(kind, &id.namespace).delete(&object, &params).await {
            Ok(_) => {}
            Err(error) if is_missing(&error) || is_conflict(&error) => {}
            Err(error) => return Err(status_of(&format!("delete primitive {:?}", id.name), &error)),
        }
        self.caches.deleted(kind, &key, &live.uid);
        self.refresh(kind, &key);
        Ok(seen)
    }
}

/// A list that fits into a message. What does not is refused before it is made: it could be a hundred times as long.
fn bounded<'a>(all: impl Iterator<Item = &'a PrimitiveSeen>) -> Result<Vec<PrimitiveMetadata>, Status> {
    let (mut list, mut bytes) = (Vec::new(), 0);
    for seen in all {
        let one = metadata(seen);
        bytes += 1 + prost::length_delimiter_len(one.encoded_len()) + one.encoded_len();
        if bytes > limits::LIST_BYTES_MAX {
            return Err(Status::resource_exhausted(format!(
                "more primitives than fit into {} bytes; ask for those of one namespace, database, scope, name or type",
                limits::LIST_BYTES_MAX
            )));
        }
        list.push(one);
    }
    Ok(list)
}

/// The identity of a primitive, from a request's ids.
fn id(database: &Option<DatabaseId>, primitive: &Option<WireId>) -> Result<PrimitiveId, Status> {
    let (database, primitive) = (required(database, "database")?, required(primitive, "primitive")?);
    if primitive.namespace.len() > limits::CLIENT_NAME_BYTES_MAX {
        return Err(Status::invalid_argument(format!(
            "primitive.namespace has {} bytes; at most {} are accepted",
            primitive.namespace.len(),
            limits::CLIENT_NAME_BYTES_MAX
        )));
    }
    Ok(PrimitiveId {
        namespace: namespace(&database.namespace)?.to_owned(),
        database: required_name(&database.name, "database.name")?.to_owned(),
        scope: primitive.namespace.clone(),
        name: required_name(&primitive.name, "primitive.name")?.to_owned(),
    })
}

fn same(there: &PrimitiveSeen, wanted: &PrimitiveSeen) -> Result<(), Status> {
    if there.type_ == wanted.type_ {
        return Ok(());
    }
    let (name, database) = (&wanted.id.name, &wanted.id.database);
    Err(Status::already_exists(format!(
        "primitive {name:?} of database {database} exists and is a {:?}, not a {:?}",
        there.type_, wanted.type_
    )))
}

fn none(id: &PrimitiveId) -> Status {
    Status::not_found(format!("there is no primitive {:?} in database {}/{}", id.name, id.namespace, id.database))
}

fn metadata(seen: &PrimitiveSeen) -> PrimitiveMetadata {
    let PrimitiveId { namespace, database, scope, name } = seen.id.clone();
    PrimitiveMetadata {
        database: Some(DatabaseId { name: database, namespace }),
        primitive: Some(WireId { name, namespace: scope }),
        r#type: wire(seen.type_).into(),
    }
}

fn stored(type_: i32) -> Result<Type, Status> {
    let type_ = PrimitiveType::try_from(type_).map_err(|_| {
        Status::invalid_argument(format!("{type_} is no type of primitive; those from 0 (unknown) to 10 (value) are known"))
    })?;
    Ok(match type_ {
        PrimitiveType::Unknown => Type::Unknown,
        PrimitiveType::Counter => Type::Counter,
        PrimitiveType::Election => Type::Election,
        PrimitiveType::IndexedMap => Type::IndexedMap,
        PrimitiveType::LeaderLatch => Type::LeaderLatch,
        PrimitiveType::List => Type::List,
        PrimitiveType::Lock => Type::Lock,
        PrimitiveType::Log => Type::Log,
        PrimitiveType::Map => Type::Map,
        PrimitiveType::Set => Type::Set,
        PrimitiveType::Value => Type::Value,
    })
}

fn wire(type_: Type) -> PrimitiveType {
    match type_ {
        Type::Unknown => PrimitiveType::Unknown,
        Type::Counter => PrimitiveType::Counter,
        Type::Election => PrimitiveType::Election,
        Type::IndexedMap => PrimitiveType::IndexedMap,
        Type::LeaderLatch => PrimitiveType::LeaderLatch,
        Type::List => PrimitiveType::List,
        Type::Lock => PrimitiveType::Lock,
        Type::Log => PrimitiveType::Log,
        Type::Map => PrimitiveType::Map,
        Type::Set => PrimitiveType::Set,
        Type::Value => PrimitiveType::Value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_does_not_fit_into_a_message_is_refused_and_one_that_just_does_is_answered() {
        let id = PrimitiveId { namespace: "n".into(), database: "d".into(), scope: "s".repeat(900), name: "p".repeat(100) };
        let seen = PrimitiveSeen { id, type_: Type::Map, owner: None };
        let one = GetPrimitivesResponse { primitives: vec![metadata(&seen)] }.encoded_len();
        let most = limits::LIST_BYTES_MAX / one;
        let list = bounded(std::iter::repeat_n(&seen, most)).unwrap();
        let bytes = GetPrimitivesResponse { primitives: list }.encoded_len();
        assert!(bytes <= limits::LIST_BYTES_MAX && bytes + one > limits::LIST_BYTES_MAX, "{bytes}");
        let refused = bounded(std::iter::repeat(&seen)).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        assert!(refused.message().contains("ask for those of one namespace, database"), "{refused}");
    }
}
