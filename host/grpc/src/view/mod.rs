//! What gRPC clients may see, as the bytes they are sent. Filled by `api/informer`, read by `api`; notifies watchers only of
//! changes. Knows no client of Kubernetes and no gRPC server.

mod databases;
pub mod elections;
mod members;
mod primitives;

pub use databases::{DatabaseSeen, Databases, Group, PartitionSeen, TooLong};
pub use elections::Elections;
pub use members::{MemberSeen, Members};
pub use primitives::{Filter, PrimitiveId, PrimitiveSeen, Primitives};

use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::task::{Context, Poll};

use futures::Stream;
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;

/// All that clients may see. Cheap to share; locks are held for an instant only.
#[derive(Default)]
#[allow(missing_docs)] // its fields explain themselves
pub struct View {
    /// Databases and their partitions.
    pub databases: Shared<Databases>,
    pub members: Arc<Shared<Members>>,
    pub primitives: Shared<Primitives>,
    pub elections: Arc<Shared<Elections>>,
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
    /// Locks the value for reading.
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        self.value.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Locks the value for a change; receivers are notified when the lock is released.
    pub fn write(&self) -> WriteGuard<'_, T> {
        let value = self.value.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        WriteGuard { value, _done: WakeOnDrop(&self.changes) }
    }

    /// A receiver that is notified after each change.
    pub fn changed(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }
}

/// Namespace and name of something that is watched.
type Watched = (String, String);

/// A watched value: what it is now, and whenever it is another. With the last watcher of the same thing goes what was kept
/// for it, so that what is kept is bounded by the watchers, whatever they name.
pub struct Watch<T, V: Default> {
    values: WatchStream<T>,
    /// Dropped after the values, as fields are in their order: this one no longer counts as a watcher.
    _end: EndOfWatch<V>,
}

struct EndOfWatch<V: Default> {
    shared: Arc<Shared<V>>,
    what: Watched,
    ends: fn(&mut V, &Watched),
}

impl<T: Clone + Send + Sync + 'static, V: Default> Watch<T, V> {
    fn new(
        shared: &Arc<Shared<V>>,
        what: Watched,
        begins: fn(&mut V, &Watched) -> watch::Receiver<T>,
        ends: fn(&mut V, &Watched),
    ) -> Self {
        let values = WatchStream::new(begins(&mut shared.write(), &what));
        Watch { values, _end: EndOfWatch { shared: shared.clone(), what, ends } }
    }
}

impl<V: Default> Drop for EndOfWatch<V> {
    fn drop(&mut self) {
        (self.ends)(&mut self.shared.write(), &self.what);
    }
}

impl<T: Clone + Send + Sync + 'static, V: Default> Stream for Watch<T, V> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        Pin::new(&mut self.values).poll_next(context)
    }
}

/// A value that is locked for a change.
pub struct WriteGuard<'a, T> {
    value: RwLockWriteGuard<'a, T>,
    /// Dropped after the lock, as fields are in their order: a receiver that is notified finds the change.
    _done: WakeOnDrop<'a>,
}

struct WakeOnDrop<'a>(&'a watch::Sender<()>);

impl Drop for WakeOnDrop<'_> {
    fn drop(&mut self) {
        self.0.send_replace(());
    }
}

impl<T> Deref for WriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for WriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receivers_are_notified_when_the_change_can_be_seen() {
        let shared = Shared::<u8>::default();
        let changed = shared.changed();
        let mut changing = shared.write();
        *changing = 1;
        assert!(!changed.has_changed().unwrap(), "not while it goes on");
        drop(changing);
        assert!(changed.has_changed().unwrap() && *shared.read() == 1);
    }
}
