//! What gRPC clients may see, as the bytes they are sent. Filled by `api/feed`, read by `api`; wakes watchers only on change. Knows no
//! client of Kubernetes and no gRPC server.

mod databases;
pub mod elections;
mod members;
mod primitives;

pub use databases::{DatabaseSeen, Databases, Group, PartitionSeen};
pub use elections::Elections;
pub use members::{MemberSeen, Members};
pub use primitives::{Filter, PrimitiveId, PrimitiveSeen, Primitives};

use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::watch;

/// All that clients may see. Cheap to share; locks are held for an instant only.
#[derive(Default)]
pub struct View {
    /// Databases and their partitions.
    pub databases: Shared<Databases>,
    /// Groups of peers.
    pub members: Shared<Members>,
    /// Primitives.
    pub primitives: Shared<Primitives>,
    /// Elections of primaries.
    pub elections: Shared<Elections>,
}

/// Something that many read and one changes.
pub struct Shared<T> {
    value: RwLock<T>,
    changes: watch::Sender<()>,
}

impl<T: Default> Default for Shared<T> {
    fn default() -> Self {
        Self { value: RwLock::default(), changes: watch::Sender::new(()) }
    }
}

impl<T> Shared<T> {
    /// To look at.
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        self.value.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// To change.
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.changes.send_replace(()); // whoever is woken waits for the lock
        self.value.write().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Wakes after a change.
    pub fn changed(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }
}
