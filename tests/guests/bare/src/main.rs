//! What tonic does by itself: `atomix-bare-grpc ADDRESS DATABASE GROUP GROUPS` answers GetDatabase with the bytes of the first file, and
//! GetPartitionGroups with those of the second if a group is named, else of the third. Knows no view, no metrics, no deadline.

use anyhow::{Context, bail};
use atomix_controller_grpc::proto::Encoded;
use atomix_controller_grpc::proto::controller as first;
use atomix_controller_grpc::proto::controller::controller_service_server::{ControllerService, ControllerServiceServer};
use atomix_controller_grpc::proto::database::database_service_server::{DatabaseService, DatabaseServiceServer};
use atomix_controller_grpc::proto::database::{GetDatabaseRequest, GetDatabasesRequest};
use tonic::transport::Server;
use tonic::{Request, Response, Status};

#[derive(Clone)]
struct Bare {
    database: Encoded,
    group: Encoded,
    groups: Encoded,
}

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [address, database, group, groups] = args.as_slice() else {
        bail!("an address and three files are expected");
    };
    let bytes = |file: &String| anyhow::Ok(Encoded(std::fs::read(file).with_context(|| file.clone())?.into()));
    let bare = Bare { database: bytes(database)?, group: bytes(group)?, groups: bytes(groups)? };
    let server = Server::builder()
        .add_service(ControllerServiceServer::new(bare.clone()))
        .add_service(DatabaseServiceServer::new(bare))
        .serve(address.parse()?);
    // As the controller makes its own.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(server).context("could not serve")
}

#[tonic::async_trait]
impl DatabaseService for Bare {
    async fn get_database(&self, _: Request<GetDatabaseRequest>) -> Result<Response<Encoded>, Status> {
        Ok(Response::new(self.database.clone()))
    }

    async fn get_databases(&self, _: Request<GetDatabasesRequest>) -> Result<Response<Encoded>, Status> {
        Err(unmeasured())
    }
}

#[tonic::async_trait]
impl ControllerService for Bare {
    async fn get_partition_groups(
        &self,
        request: Request<first::GetPartitionGroupsRequest>,
    ) -> Result<Response<Encoded>, Status> {
        let named = request.get_ref().id.as_ref().is_some_and(|id| !id.name.is_empty());
        Ok(Response::new(if named { self.group.clone() } else { self.groups.clone() }))
    }

    async fn create_partition_group(
        &self,
        _: Request<first::CreatePartitionGroupRequest>,
    ) -> Result<Response<first::CreatePartitionGroupResponse>, Status> {
        Err(unmeasured())
    }

    async fn delete_partition_group(
        &self,
        _: Request<first::DeletePartitionGroupRequest>,
    ) -> Result<Response<first::DeletePartitionGroupResponse>, Status> {
        Err(unmeasured())
    }

    async fn get_databases(&self, _: Request<first::GetDatabasesRequest>) -> Result<Response<Encoded>, Status> {
        Err(unmeasured())
    }

    type EnterElectionStream = futures::stream::Empty<Result<first::PartitionElectionResponse, Status>>;

    async fn enter_election(
        &self,
        _: Request<first::PartitionElectionRequest>,
    ) -> Result<Response<Self::EnterElectionStream>, Status> {
        Err(unmeasured())
    }
}

fn unmeasured() -> Status {
    Status::unimplemented("this is not measured")
}
