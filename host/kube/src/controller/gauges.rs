//! Plugins and databases by phase, as metrics.

use super::Context;
use atomix_controller_io::cache::RawObject;
use atomix_controller_io::metrics::{DatabasePhase, PluginPhase};
use atomix_model::condition::{self, Phase, Reason};

/// Counts plugins and databases by phase.
pub(super) fn set(ctx: &Context) {
    let plugins = ctx.catalog.phases();
    for phase in PluginPhase::ALL {
        ctx.metrics.plugins(phase, plugins.iter().filter(|it| plugin_phase(**it) == phase).count());
    }
    let databases: Vec<_> = ctx.databases.state().iter().map(|object| database_phase(object)).collect();
    for phase in DatabasePhase::ALL {
        ctx.metrics.databases(phase, databases.iter().filter(|it| **it == phase).count());
    }
}

fn plugin_phase(phase: condition::PluginPhase) -> PluginPhase {
    match phase {
        condition::PluginPhase::Serving => PluginPhase::Serving,
        condition::PluginPhase::Loading => PluginPhase::Loading,
        condition::PluginPhase::Refused => PluginPhase::Refused,
        condition::PluginPhase::Removed => PluginPhase::Removed,
        condition::PluginPhase::Pinned => PluginPhase::Pinned,
        condition::PluginPhase::RevisionNotKept => PluginPhase::RevisionNotKept,
    }
}

fn database_phase(object: &RawObject) -> DatabasePhase {
    match object.field::<String>(&["status", "phase"]).as_deref().map(Phase::of) {
        Some(Phase::Ready | Phase::Blocked(Reason::ChangeNotTaken)) => DatabasePhase::Ready,
        Some(Phase::Degraded) => DatabasePhase::Degraded,
        None | Some(Phase::Progressing) => DatabasePhase::Progressing,
        Some(Phase::Blocked(_)) => DatabasePhase::Blocked,
    }
}
