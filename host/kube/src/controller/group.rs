//! What the class of a database means as a group of the old gRPC API. The answer changes only with the class or the plugin,
//! so that the plugin is called only then.

use k8s_openapi::ByteString;

use super::Memory;
use crate::catalog::Plugin;
use atomix_decide::observe::Class;
use atomix_decide::pass::Planned;
use atomix_model::contract::Group;
use atomix_model::crd::database::{GroupProtocol, GroupStatus};
use atomix_model::fault::Fault;

/// A plugin's last answer.
#[derive(Debug)]
pub(super) struct CachedGroup {
    /// UID and generation of the class, and digest of the plugin.
    stamp: (String, i64, String),
    /// A plugin that failed would fail again.
    answer: Result<Option<GroupStatus>, Fault>,
}

impl CachedGroup {
    /// The answer in a pass, if it came so far.
    pub(super) fn of(planned: &Planned) -> Option<CachedGroup> {
        let ((uid, generation), plugin) = (&planned.observed.planned_from, &planned.observed.resolved.plugin);
        let stamp = (uid.clone(), *generation, plugin.digest.clone());
        Some(CachedGroup { stamp, answer: planned.group.clone()? })
    }
}

/// What the type URL of a message starts with, see google/protobuf/any.proto.
const TYPE_URL: &str = "type.googleapis.com";

/// What the class means as a group. The failure of a plugin is reported, and the rest of the pass goes on.
pub(super) async fn of(plugin: &Plugin, class: &Class, memory: &Memory) -> Result<Option<GroupStatus>, Fault> {
    let stamp = (class.live.uid.clone(), class.live.generation(), plugin.revision.digest().to_owned());
    match memory.group.as_ref().filter(|cached| cached.stamp == stamp) {
        Some(cached) => cached.answer.clone(),
        None => call(plugin, class).await,
    }
}

/// Calls the plugin, off the async threads.
async fn call(plugin: &Plugin, class: &Class) -> Result<Option<GroupStatus>, Fault> {
    let (revision, kind, spec) = (plugin.revision.clone(), class.in_use.kind.clone(), class.spec());
    let answer = tokio::task::spawn_blocking(move || revision.group_of(&kind, &spec)).await;
    let answer = answer.map_err(|stopped| Fault::Plugin { message: format!("the call was cut short: {stopped}") })?;
    let group = answer.map_err(|fault| Fault::Plugin { message: fault.to_string() })?;
    Ok(group.map(status))
}

fn status(group: Group) -> GroupStatus {
    GroupStatus {
        partition_size: i32::try_from(group.partition_size).unwrap_or(i32::MAX), // the sandbox lets no such group through
        protocol: GroupProtocol { type_url: format!("{TYPE_URL}/{}", group.protocol), value: ByteString(group.value) },
    }
}
