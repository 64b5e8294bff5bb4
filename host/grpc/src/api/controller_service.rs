//! `atomix.controller.ControllerService`, the first generation: databases, groups and elections in one service.

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use tonic::{Request, Response, Status};

use super::{Api, answer, listen, namespace};
use crate::proto::Encoded;
use crate::proto::controller::controller_service_server::ControllerService;
use crate::proto::controller::{
    CreatePartitionGroupRequest, CreatePartitionGroupResponse, DeletePartitionGroupRequest, DeletePartitionGroupResponse,
    GetDatabasesRequest, GetPartitionGroupsRequest, PartitionElectionRequest, PartitionElectionResponse,
};

pub(super) struct ControllerApi(pub Arc<Api>);

#[tonic::async_trait]
impl ControllerService for ControllerApi {
    async fn create_partition_group(
        &self,
        request: Request<CreatePartitionGroupRequest>,
    ) -> Result<Response<CreatePartitionGroupResponse>, Status> {
        let from = listen::remote(&request);
        self.0.create_group(request.into_inner(), from).await?;
        Ok(Response::new(CreatePartitionGroupResponse {}))
    }

    async fn delete_partition_group(
        &self,
        request: Request<DeletePartitionGroupRequest>,
    ) -> Result<Response<DeletePartitionGroupResponse>, Status> {
        let from = listen::remote(&request);
        self.0.delete_group(request.into_inner(), from).await?;
        Ok(Response::new(DeletePartitionGroupResponse {}))
    }

    async fn get_partition_groups(&self, request: Request<GetPartitionGroupsRequest>) -> Result<Response<Encoded>, Status> {
        let id = request.into_inner().id.unwrap_or_default();
        let namespace = namespace(&id.namespace)?;
        answer(self.0.view.databases.read().groups(namespace, &id.name), namespace, &id.name)
    }

    async fn get_databases(&self, request: Request<GetDatabasesRequest>) -> Result<Response<Encoded>, Status> {
        let id = request.into_inner().id.unwrap_or_default();
        let namespace = namespace(&id.namespace)?;
        answer(self.0.view.databases.read().first(namespace, &id.name), namespace, &id.name)
    }

    type EnterElectionStream = Pin<Box<dyn Stream<Item = Result<PartitionElectionResponse, Status>> + Send>>;

    async fn enter_election(
        &self,
        request: Request<PartitionElectionRequest>,
    ) -> Result<Response<Self::EnterElectionStream>, Status> {
        let from = listen::remote(&request);
        let terms = self.0.clone().enter_election(request.into_inner(), from).await?;
        Ok(Response::new(Box::pin(terms)))
    }
}
