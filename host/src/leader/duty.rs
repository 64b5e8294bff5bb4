//! Whether this replica leads, until when, and how many passes run meanwhile. Knows no Lease.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// Whether this replica leads. Cheap to share, and true at any instant: the end of a lease needs nobody to notice it.
#[derive(Clone, Debug)]
pub struct Leading(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Where counting begins.
    start: Instant,
    /// Until when writes may be begun, in nanoseconds from `start`; zero if never.
    until: AtomicU64,
    duty: watch::Sender<Duty>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Duty {
    leads: bool,
    /// How often it began to lead; also when its time was up for a moment, since passes were refused then.
    term: u64,
    passes: usize,
}

/// Something that only the leader does. While there is one, the Lease is not handed over (for a while).
#[derive(Debug)]
pub struct Pass(Leading);

impl Default for Leading {
    fn default() -> Leading {
        let inner = Inner { start: Instant::now(), until: AtomicU64::new(0), duty: watch::Sender::new(Duty::default()) };
        Leading(Arc::new(inner))
    }
}

impl Leading {
    /// Whether a write may be begun at this instant.
    pub fn may_write(&self, now: Instant) -> bool {
        nanos(now - self.0.start) < self.0.until.load(Ordering::Acquire)
    }

    /// Begins something that only the leader does; none if this replica does not lead.
    pub fn pass(&self) -> Option<Pass> {
        let mut begun = false;
        self.0.duty.send_if_modified(|duty| {
            begun = duty.leads && self.may_write(Instant::now());
            duty.passes += usize::from(begun);
            false // nobody waits for a pass to begin
        });
        begun.then(|| Pass(self.clone()))
    }

    /// Waits until this replica begins to lead, for another time than the `last` (0 for the first). Answers which time it is.
    pub async fn next_term(&self, last: u64) -> u64 {
        let mut duty = self.0.duty.subscribe();
        match duty.wait_for(|duty| duty.leads && duty.term > last).await {
            Ok(duty) => duty.term,
            Err(_) => last, // cannot be: the sender lives in self
        }
    }

    /// Waits until writes may not be begun any more.
    pub(super) async fn runs_out(&self) {
        while self.may_write(Instant::now()) {
            let until = self.0.start + Duration::from_nanos(self.0.until.load(Ordering::Acquire));
            tokio::time::sleep_until(until.into()).await; // it may have been renewed by then
        }
    }

    /// Says until when this replica leads. Answers whether that it leads, or does not, is new.
    pub(super) fn until(&self, until: Option<Instant>) -> bool {
        let leads = until.is_some();
        let before = self.0.until.swap(until.map_or(0, |until| nanos(until - self.0.start)), Ordering::AcqRel);
        let ran_out = before <= nanos(self.0.start.elapsed()); // looked at after the swap: who was refused was so before
        let mut news = false;
        self.0.duty.send_if_modified(|duty| {
            news = std::mem::replace(&mut duty.leads, leads) != leads;
            let begins = leads && (news || ran_out);
            duty.term += u64::from(begins);
            news || begins
        });
        news
    }

    /// Begins no pass any more, lets those that run end, and forbids all writes when they have, or when it takes too long.
    pub(super) async fn end(&self, within: Duration) {
        self.0.duty.send_modify(|duty| duty.leads = false);
        let mut duty = self.0.duty.subscribe();
        if tokio::time::timeout(within, duty.wait_for(|duty| duty.passes == 0)).await.is_err() {
            tracing::info!("passes that still run are cut short");
        }
        self.0.until.store(0, Ordering::Release);
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.0.0.duty.send_if_modified(|duty| {
            duty.passes -= 1;
            duty.passes == 0 && !duty.leads
        });
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    #[test]
    fn nobody_leads_before_it_is_said_or_after_the_time_is_up() {
        let leading = Leading::default();
        assert!(leading.pass().is_none());
        let now = Instant::now();
        assert!(leading.until(Some(now + Duration::from_secs(9))));
        assert!(!leading.until(Some(now + Duration::from_secs(10))), "a renewal is no news");
        assert!(leading.pass().is_some());
        assert!(leading.may_write(now + Duration::from_secs(9)));
        assert!(!leading.may_write(now + Duration::from_secs(10)), "nobody had to notice");
        leading.until(Some(now));
        assert!(leading.pass().is_none());
        assert!(leading.until(None));
    }

    #[tokio::test]
    async fn a_renewal_that_comes_late_begins_a_term_since_passes_were_refused_meanwhile() {
        let (leading, now, minute) = (Leading::default(), Instant::now(), Duration::from_secs(60));
        leading.until(Some(now + minute));
        assert_eq!(leading.next_term(0).await, 1);
        leading.until(Some(now + 2 * minute));
        leading.until(Some(now));
        assert!(leading.next_term(1).now_or_never().is_none(), "renewed in time: the same term");
        assert!(leading.pass().is_none());
        assert!(!leading.until(Some(now + 3 * minute)), "nobody noticed that it had run out");
        assert_eq!(leading.next_term(1).await, 2);
        leading.until(None);
        leading.until(Some(now + minute));
        assert_eq!(leading.next_term(2).await, 3, "also if it was over only for a moment");
    }

    #[tokio::test]
    async fn at_the_end_running_passes_may_write_and_no_new_one_begins() {
        let leading = Leading::default();
        leading.until(Some(Instant::now() + Duration::from_secs(60)));
        let pass = leading.pass().unwrap();
        let ending = tokio::spawn({
            let leading = leading.clone();
            async move { leading.end(Duration::from_secs(60)).await }
        });
        let _ = leading.0.duty.subscribe().wait_for(|duty| !duty.leads).await.unwrap();
        assert!(leading.pass().is_none() && leading.may_write(Instant::now()));
        drop(pass);
        ending.await.unwrap();
        assert!(!leading.may_write(Instant::now()));
    }

    #[tokio::test]
    async fn a_pass_that_never_ends_is_cut_short() {
        let leading = Leading::default();
        leading.until(Some(Instant::now() + Duration::from_secs(60)));
        let _pass = leading.pass().unwrap();
        leading.end(Duration::from_millis(1)).await;
        assert!(!leading.may_write(Instant::now()));
    }
}
