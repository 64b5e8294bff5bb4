//! A program that reads the addresses of a database's partitions, as README shows it.

use harness::grpc::database::database_service_client::DatabaseServiceClient;
use harness::grpc::database::{DatabaseId, GetDatabaseRequest};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut databases = DatabaseServiceClient::connect("http://127.0.0.1:5679").await?;
    let id = DatabaseId { name: "raft".into(), namespace: "default".into() };
    let answer = databases.get_database(GetDatabaseRequest { id: Some(id) }).await?.into_inner();
    for partition in answer.database.unwrap_or_default().partitions {
        println!("{}: {}", partition.partition_id.unwrap_or_default().partition, partition.endpoints[0].host);
    }
    Ok(())
}
