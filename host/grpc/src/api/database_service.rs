//! `atomix.database.DatabaseService`: databases and where their partitions answer.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{Api, answer, namespace, required, required_name};
use crate::proto::Encoded;
use crate::proto::database::database_service_server::DatabaseService;
use crate::proto::database::{GetDatabaseRequest, GetDatabasesRequest};

pub(super) struct DatabaseApi(pub Arc<Api>);

#[tonic::async_trait]
impl DatabaseService for DatabaseApi {
    async fn get_database(&self, request: Request<GetDatabaseRequest>) -> Result<Response<Encoded>, Status> {
        let id = required(&request.get_ref().id, "id")?;
        let (namespace, name) = (namespace(&id.namespace)?, required_name(&id.name, "id.name")?);
        let databases = self.0.view.databases.read();
        if let Some(database) = databases.one(namespace, name) {
            return answer(database, namespace, name);
        }
        Err(match databases.seen(namespace, name) {
            Some(_) => Status::not_found(format!("the partitions of database {namespace}/{name} do not all exist yet")),
            None => Status::not_found(format!("there is no database {namespace}/{name}")),
        })
    }

    async fn get_databases(&self, request: Request<GetDatabasesRequest>) -> Result<Response<Encoded>, Status> {
        let namespace = namespace(&request.get_ref().namespace)?;
        answer(self.0.view.databases.read().all(namespace), namespace, "")
    }
}
