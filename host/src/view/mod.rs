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

use std::ops::{Deref, DerefMut};
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

    /// To change; who waits for a change is woken when it is done.
    pub fn write(&self) -> Changing<'_, T> {
        let value = self.value.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        Changing { value, _done: Done(&self.changes) }
    }

    /// Wakes after a change.
    pub fn changed(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }
}

/// Something while it is changed.
pub struct Changing<'a, T> {
    value: RwLockWriteGuard<'a, T>,
    /// Dropped after the lock, as fields are in their order: who is woken finds the change.
    _done: Done<'a>,
}

struct Done<'a>(&'a watch::Sender<()>);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.send_replace(());
    }
}

impl<T> Deref for Changing<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Changing<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_is_woken_when_the_change_can_be_seen() {
        let shared = Shared::<u8>::default();
        let changed = shared.changed();
        let mut changing = shared.write();
        *changing = 1;
        assert!(!changed.has_changed().unwrap(), "not while it goes on");
        drop(changing);
        assert!(changed.has_changed().unwrap() && *shared.read() == 1);
    }
}
