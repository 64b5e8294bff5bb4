//! Waits until an older object of the same name is deleted. Kubernetes' garbage collector takes a moment to delete what a deleted owner
//! leaves behind, and clients of Atomix' first year do not try again. Knows no object.

use std::time::Duration;

use tokio::time::Instant;

use atomix_model::limits;

/// How long a call still waits, and how long until it looks again: pauses double up to a limit.
pub(super) struct DeletionWait {
    end: Instant,
    pause: Duration,
}

impl Default for DeletionWait {
    fn default() -> Self {
        DeletionWait { end: Instant::now() + limits::OLDER_GONE_WAIT, pause: limits::OLDER_GONE_LOOK / 16 }
    }
}

impl DeletionWait {
    /// Waits for one pause. False once the time for waiting is over.
    pub(super) async fn wait(&mut self) -> bool {
        if Instant::now() + self.pause > self.end {
            return false;
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(limits::OLDER_GONE_LOOK);
        true
    }
}
