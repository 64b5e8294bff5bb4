//! Clients of the controller's gRPC API, generated from `proto/`.

use std::time::Duration;

use anyhow::{Context, Result};
use tonic::transport::{Channel, Endpoint};

/// Package `atomix.controller`.
#[allow(missing_docs, clippy::all)]
pub mod controller {
    tonic::include_proto!("atomix.controller");
}
/// Package `atomix.database`.
#[allow(missing_docs, clippy::all)]
pub mod database {
    tonic::include_proto!("atomix.database");
}
/// Package `atomix.membership`.
#[allow(missing_docs, clippy::all)]
pub mod membership {
    tonic::include_proto!("atomix.membership");
}
/// Package `atomix.primitive`.
#[allow(missing_docs, clippy::all)]
pub mod primitive {
    tonic::include_proto!("atomix.primitive");
}

/// Clients of all services, over one connection.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // its fields explain themselves
pub struct Clients {
    /// The first generation.
    pub first: controller::controller_service_client::ControllerServiceClient<Channel>,
    pub databases: database::database_service_client::DatabaseServiceClient<Channel>,
    pub membership: membership::membership_service_client::MembershipServiceClient<Channel>,
    pub primitives: primitive::primitive_service_client::PrimitiveServiceClient<Channel>,
}

/// Dials an address, e.g. `127.0.0.1:5679`.
///
/// # Errors
/// No server answers there.
pub async fn dial(address: &str) -> Result<Clients> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?.connect_timeout(Duration::from_secs(10));
    let channel = endpoint.connect().await.with_context(|| format!("could not dial {address}"))?;
    Ok(Clients::over(channel))
}

impl Clients {
    /// Clients over a connection.
    pub fn over(channel: Channel) -> Clients {
        const ANSWER_BYTES_MAX: usize = 64 << 20; // a list of all databases of a large cluster
        Clients {
            first: controller::controller_service_client::ControllerServiceClient::new(channel.clone())
                .max_decoding_message_size(ANSWER_BYTES_MAX),
            databases: database::database_service_client::DatabaseServiceClient::new(channel.clone())
                .max_decoding_message_size(ANSWER_BYTES_MAX),
            membership: membership::membership_service_client::MembershipServiceClient::new(channel.clone()),
            primitives: primitive::primitive_service_client::PrimitiveServiceClient::new(channel),
        }
    }
}
