//! The flags of `atomix-controller run` that concern the gRPC API.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgAction, Args};

use atomix_controller_grpc::api::{ClientPolicy, Options, Tls};
use atomix_model::limits;

/// How the gRPC API is served, and what its clients may do.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "gRPC API")]
pub struct Flags {
    /// Address for the gRPC API.
    #[arg(long, env = "ATOMIX_GRPC_ADDR", default_value = "0.0.0.0:5679", value_name = "IP:PORT")]
    grpc_addr: SocketAddr,

    /// Certificate chain for the gRPC API (PEM); read again when it changes. Without one it is served in the clear.
    #[arg(long, env = "ATOMIX_GRPC_TLS_CERT", value_name = "FILE", requires = "grpc_tls_key")]
    grpc_tls_cert: Option<PathBuf>,

    /// Private key of that certificate (PEM).
    #[arg(long, env = "ATOMIX_GRPC_TLS_KEY", value_name = "FILE", requires = "grpc_tls_cert")]
    grpc_tls_key: Option<PathBuf>,

    /// Authorities of which gRPC clients must have a certificate (PEM).
    #[arg(long, env = "ATOMIX_GRPC_CLIENT_CA", value_name = "FILE", requires = "grpc_tls_cert")]
    grpc_client_ca: Option<PathBuf>,

    /// Let gRPC clients write nothing: no groups, primitives, members or elections.
    #[arg(long, env = "ATOMIX_GRPC_READ_ONLY")]
    grpc_read_only: bool,

    /// Namespaces that gRPC clients may write to, separated by commas. Without any, all of them.
    #[arg(long, env = "ATOMIX_GRPC_WRITE_NAMESPACES", value_delimiter = ',', value_name = "NAMES")]
    grpc_write_namespaces: Vec<String>,

    /// Most gRPC calls that go on at a time, streams included; calls beyond end with RESOURCE_EXHAUSTED.
    #[arg(long, env = "ATOMIX_GRPC_CALLS_MAX", default_value_t = limits::GRPC_CALLS_MAX, value_name = "NUMBER")]
    grpc_calls_max: usize,

    /// Most groups (databases) in a namespace in which gRPC clients may still create one.
    #[arg(long, env = "ATOMIX_GRPC_GROUPS_MAX", default_value_t = limits::GROUPS_MAX, value_name = "NUMBER")]
    grpc_groups_max: usize,

    /// Most primitives that a namespace may hold.
    #[arg(long, env = "ATOMIX_GRPC_PRIMITIVES_MAX", default_value_t = limits::PRIMITIVES_MAX, value_name = "NUMBER")]
    grpc_primitives_max: usize,

    /// Take a member into a group of peers only from the address of the Pod that it names.
    #[arg(long, env = "ATOMIX_GRPC_MEMBER_ADDRESSES", default_value_t = true, action = ArgAction::Set, value_name = "BOOL")]
    grpc_member_addresses: bool,
}

impl Flags {
    /// The API's options.
    pub fn options(
        self,
        scope: Option<String>,
        without_databases: Option<String>,
        cluster_domain: &str,
        replica: &str,
    ) -> Options {
        let tls = self.grpc_tls_cert.zip(self.grpc_tls_key);
        Options {
            listen: self.grpc_addr,
            tls: tls.map(|(certificate, key)| Tls { certificate, key, client_authorities: self.grpc_client_ca }),
            scope: scope.clone(),
            cluster_domain: cluster_domain.to_owned(),
            replica: replica.to_owned(),
            calls_max: self.grpc_calls_max,
            policy: ClientPolicy {
                read_only: self.grpc_read_only,
                write_namespaces: self.grpc_write_namespaces,
                scope,
                without_databases,
                groups_max: self.grpc_groups_max,
                primitives_max: self.grpc_primitives_max,
                member_addresses: self.grpc_member_addresses,
            },
        }
    }
}
