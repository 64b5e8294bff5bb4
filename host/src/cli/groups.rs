//! Looks up in the catalog which plugin serves a group of the gRPC API, and calls it.

use std::sync::Arc;

use atomix_controller_grpc::api::plugins::{Class, GroupRequest, Plugins};
use atomix_controller_kube::catalog::Catalog;
use atomix_model::object::Kind;
use futures::FutureExt as _;
use futures::future::BoxFuture;

/// The plugins of the catalog, for groups that clients create.
pub struct Catalogued(pub Arc<Catalog>);

impl Plugins for Catalogued {
    fn protocols(&self) -> Vec<(String, String)> {
        self.0.protocols()
    }

    fn understands(&self, protocol: &str) -> bool {
        self.0.for_protocol(protocol).is_some()
    }

    fn loaded(&self) -> BoxFuture<'_, ()> {
        self.0.loaded().boxed()
    }

    fn class_of(&self, request: &GroupRequest) -> Result<Option<Class>, String> {
        let Some(plugin) = self.0.for_protocol(&request.protocol) else { return Ok(None) };
        let answer = plugin.revision.class_of(&request.protocol, &request.value, request.partition_size);
        let answer = answer.map_err(|fault| fault.to_string())?;
        let with_kind = |class: atomix_model::contract::GroupClass| {
            let kind = plugin.class_kind(&class.kind).map(Kind::from);
            (class, kind)
        };
        Ok(answer.map(|class| class.map(with_kind)))
    }
}
