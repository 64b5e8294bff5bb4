//! `atomix.primitive.PrimitiveService`: what is known of primitives, as Primitive objects.

use std::sync::Arc;

use kube::api::{DeleteParams, PostParams, Preconditions};
use serde_json::json;
use tonic::{Request, Response, Status};

use super::{Api, given, is_conflict, is_missing, named, namespace, refused};
use crate::cache::Key;
use crate::crd::PrimitiveType as Type;
use crate::limits;
use crate::names;
use crate::proto::database::DatabaseId;
use crate::proto::primitive::primitive_service_server::PrimitiveService;
use crate::proto::primitive::{
    CreatePrimitiveRequest, CreatePrimitiveResponse, DeletePrimitiveRequest, DeletePrimitiveResponse, GetPrimitiveRequest,
    GetPrimitiveResponse, GetPrimitivesRequest, GetPrimitivesResponse, PrimitiveId as WireId, PrimitiveMetadata,
    PrimitiveType,
};
use crate::view::{Filter, PrimitiveId, PrimitiveSeen};

pub(super) struct Primitives(pub Arc<Api>);

#[tonic::async_trait]
impl PrimitiveService for Primitives {
    async fn create_primitive(
        &self,
        request: Request<CreatePrimitiveRequest>,
    ) -> Result<Response<CreatePrimitiveResponse>, Status> {
        let request = request.into_inner();
        let seen = PrimitiveSeen { id: id(&request.database, &request.primitive)?, type_: stored(request.r#type)? };
        self.0.create_primitive(&seen).await?;
        Ok(Response::new(CreatePrimitiveResponse { primitive: Some(metadata(&seen)) }))
    }

    async fn get_primitive(&self, request: Request<GetPrimitiveRequest>) -> Result<Response<GetPrimitiveResponse>, Status> {
        let request = request.into_inner();
        let id = id(&request.database, &request.primitive)?;
        let primitives = self.0.view.primitives.read();
        let (seen, _) = primitives.find(&id).ok_or_else(|| none(&id))?;
        Ok(Response::new(GetPrimitiveResponse { primitive: Some(metadata(seen)) }))
    }

    async fn get_primitives(
        &self,
        request: Request<GetPrimitivesRequest>,
    ) -> Result<Response<GetPrimitivesResponse>, Status> {
        let request = request.into_inner();
        let said = |text: String| (!text.is_empty()).then_some(text);
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
            database: said(database.name),
            scope: said(primitive.namespace),
            name: said(primitive.name),
            type_: (type_ != Type::Unknown).then_some(type_),
        };
        let primitives = self.0.view.primitives.read().list(&filter).into_iter().map(metadata).collect();
        Ok(Response::new(GetPrimitivesResponse { primitives }))
    }

    async fn delete_primitive(
        &self,
        request: Request<DeletePrimitiveRequest>,
    ) -> Result<Response<DeletePrimitiveResponse>, Status> {
        let request = request.into_inner();
        let seen = self.0.delete_primitive(&id(&request.database, &request.primitive)?).await?;
        Ok(Response::new(DeletePrimitiveResponse { primitive: Some(metadata(&seen)) }))
    }
}

impl Api {
    async fn create_primitive(&self, wanted: &PrimitiveSeen) -> Result<(), Status> {
        let PrimitiveId { namespace, database, scope, name } = &wanted.id;
        self.bounds.may_write(namespace)?;
        if let Some((there, _)) = self.view.primitives.read().find(&wanted.id) {
            return same(there, wanted);
        }
        let owner = self.view.databases.read().seen(namespace, database).map(|seen| seen.uid.clone());
        let owner = owner.ok_or_else(|| Status::not_found(format!("there is no database {namespace}/{database}")))?;
        let there = self.view.primitives.read().count(namespace);
        let _place = self.making_primitives.place("primitives", namespace, there, self.bounds.primitives_max)?;
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
                let there = objects.get(&object_name).await.map_err(|error| refused("read the primitive", &error))?;
                self.wrote(kind, &there);
            }
            Err(error) => return Err(refused(&format!("create primitive {name:?}"), &error)),
        }
        match self.view.primitives.read().find(&wanted.id) {
            Some((there, _)) => same(there, wanted),
            None => Err(Status::aborted(format!("primitive {name:?} is being deleted; try again"))),
        }
    }

    async fn delete_primitive(&self, id: &PrimitiveId) -> Result<PrimitiveSeen, Status> {
        self.bounds.may_write(&id.namespace)?;
        let found = self.view.primitives.read().find(id).map(|(seen, object)| (seen.clone(), object.to_owned()));
        let (seen, object) = found.ok_or_else(|| none(id))?;
        let kind = &self.kinds.primitive;
        let key = Key::new(&id.namespace, &object);
        let live = self.caches.find(kind, &key).ok_or_else(|| none(id))?;
        let preconditions = Preconditions { uid: Some(live.uid.clone()), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match self.objects(kind, &id.namespace).delete(&object, &params).await {
            Ok(_) => {}
            Err(error) if is_missing(&error) || is_conflict(&error) => {}
            Err(error) => return Err(refused(&format!("delete primitive {:?}", id.name), &error)),
        }
        self.caches.deleted(kind, &key, &live.uid);
        self.refresh(kind, &live);
        Ok(seen)
    }
}

/// Who a primitive is, from a request's ids.
fn id(database: &Option<DatabaseId>, primitive: &Option<WireId>) -> Result<PrimitiveId, Status> {
    let (database, primitive) = (given(database, "database")?, given(primitive, "primitive")?);
    if primitive.namespace.len() > limits::CLIENT_NAME_BYTES_MAX {
        return Err(Status::invalid_argument(format!(
            "primitive.namespace has {} bytes; at most {} are accepted",
            primitive.namespace.len(),
            limits::CLIENT_NAME_BYTES_MAX
        )));
    }
    Ok(PrimitiveId {
        namespace: namespace(&database.namespace)?.to_owned(),
        database: named(&database.name, "database.name")?.to_owned(),
        scope: primitive.namespace.clone(),
        name: named(&primitive.name, "primitive.name")?.to_owned(),
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
