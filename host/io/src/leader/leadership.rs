//! Whether this replica leads, until when, and what runs meanwhile: passes, and the loops that keep the Leases. Knows no Lease.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::Moment;
use atomix_model::limits;

/// Whether this replica leads. Cheap to share, and correct at any moment: the end of a lease counts even if no task has
/// noticed it.
#[derive(Clone, Debug)]
pub struct Leadership(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Until when writes may be begun, in nanoseconds since the machine booted; zero if never.
    until: AtomicU64,
    state: watch::Sender<State>,
    activity: Mutex<Activity>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    leads: bool,
    /// How often it began to lead; also when its time was up for a moment, since passes were refused then.
    term: u64,
    passes: usize,
}

/// When passes, writes and loops were last active.
#[derive(Clone, Debug, Default)]
struct Activity {
    /// When each pass that runs began, by its number.
    passes: BTreeMap<u64, Moment>,
    last: u64,
    /// When a write ended last, however it did.
    written: Option<Moment>,
    /// When each loop went round last.
    loops: BTreeMap<Loop, Moment>,
}

/// A loop that must go round again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loop {
    /// The loop that renews or awaits the leader's Lease.
    Lead,
    /// The loop that renews this replica's own Lease.
    Replicas,
    /// The loop that begins passes over databases.
    Queue,
    /// The loop that receives changes and enqueues the databases concerned.
    Changes,
}

/// Something that only the leader does. While there is one, the Lease is not handed over (for a while).
#[derive(Debug)]
pub struct RunningPass {
    leading: Leadership,
    number: u64,
    term: u64,
}

impl Default for Leadership {
    fn default() -> Leadership {
        let inner =
            Inner { until: AtomicU64::new(0), state: watch::Sender::new(State::default()), activity: Mutex::default() };
        Leadership(Arc::new(inner))
    }
}

impl Leadership {
    /// Whether a write may be begun at this moment.
    pub fn may_write(&self, now: Moment) -> bool {
        now.nanos() < self.0.until.load(Ordering::Acquire)
    }

    /// Begins something that only the leader does; none if this replica does not lead.
    pub fn begin_pass(&self) -> Option<RunningPass> {
        let (mut begun, mut term, now) = (false, 0, Moment::now());
        self.0.state.send_if_modified(|state| {
            (begun, term) = (state.leads && self.may_write(now), state.term);
            state.passes += usize::from(begun);
            false // no task waits for a pass to begin
        });
        begun.then(|| {
            let mut activity = self.0.activity.lock();
            activity.last += 1;
            let number = activity.last;
            activity.passes.insert(number, now);
            RunningPass { leading: self.clone(), number, term }
        })
    }

    /// Waits until this replica begins to lead, for another term than the `last` (0 for the first). Returns the term.
    pub async fn next_term(&self, last: u64) -> u64 {
        let mut state = self.0.state.subscribe();
        match state.wait_for(|state| state.leads && state.term > last).await {
            Ok(state) => state.term,
            Err(_) => last, // cannot be: the sender lives in self
        }
    }

    /// What stands still that should not, if anything does: a pass that neither ends nor writes, or a loop that does not go round.
    ///
    /// # Errors
    /// What stands still, as a sentence for the answer of `/healthz`.
    pub fn check_progress(&self, now: Moment) -> Result<(), String> {
        self.0.activity.lock().check(now)
    }

    /// Records that a loop has gone round once more.
    pub fn loop_ran(&self, which: Loop, now: Moment) {
        self.0.activity.lock().loops.insert(which, now);
    }

    /// Records that a write has ended, whatever its result.
    pub(super) fn wrote(&self, now: Moment) {
        self.0.activity.lock().written = Some(now);
    }

    /// Waits until writes may not be begun any more.
    pub(super) async fn runs_out(&self) {
        while self.may_write(Moment::now()) {
            super::reached(Moment::of_nanos(self.0.until.load(Ordering::Acquire))).await; // it may have been renewed by then
        }
    }

    /// Sets until when this replica leads. Returns whether it leads now and did not before, or the other way round.
    ///
    /// Passes of an earlier term end before another begins: another replica may have led in between, and they would go on from what
    /// they saw before that.
    pub(super) fn until(&self, until: Option<Moment>) -> bool {
        let may_begin = {
            let state = self.0.state.borrow();
            state.leads || state.passes == 0
        };
        let until = until.filter(|_| may_begin);
        let leads = until.is_some();
        let before = self.0.until.swap(until.map_or(0, Moment::nanos), Ordering::AcqRel);
        let ran_out = before <= Moment::now().nanos(); // read after the swap: a write that was refused was refused before
        let mut news = false;
        self.0.state.send_if_modified(|state| {
            news = std::mem::replace(&mut state.leads, leads) != leads;
            let begins = leads && (news || ran_out);
            state.term += u64::from(begins);
            news || begins
        });
        news
    }

    /// Begins no pass any more, waits at most `within` for those that run, and forbids all writes from then on.
    pub(super) async fn end(&self, within: Duration) {
        self.0.state.send_modify(|state| state.leads = false);
        let mut state = self.0.state.subscribe();
        if tokio::time::timeout(within, state.wait_for(|state| state.passes == 0)).await.is_err() {
            tracing::info!("passes that still run are cut short");
        }
        self.0.until.store(0, Ordering::Release);
    }
}

impl Activity {
    fn check(&self, now: Moment) -> Result<(), String> {
        for (which, at) in &self.loops {
            let still = now.since(*at);
            let most = match which {
                Loop::Lead | Loop::Replicas => limits::LOOP_STILL_MAX,
                Loop::Queue | Loop::Changes => limits::PASS_STILL_MAX, // they wait for passes when there are many
            };
            if still > most {
                let which = match which {
                    Loop::Lead => "the loop that keeps the leader's Lease",
                    Loop::Replicas => "the loop that keeps this replica's Lease",
                    Loop::Queue => "the queue of databases",
                    Loop::Changes => "the loop that hears what changed",
                };
                return Err(format!("{which} has stood still for {} s", still.as_secs()));
            }
        }
        let oldest = self.passes.values().min().copied();
        let Some(began) = oldest else { return Ok(()) };
        let still = now.since(began.max(self.written.unwrap_or_default()));
        match still > limits::PASS_STILL_MAX {
            true => Err(format!("a pass has neither ended nor written anything for {} s", still.as_secs())),
            false => Ok(()),
        }
    }
}

impl RunningPass {
    /// The term in which this replica leads, as [`Leadership::next_term`] returns it.
    pub fn term(&self) -> u64 {
        self.term
    }
}

impl Drop for RunningPass {
    fn drop(&mut self) {
        self.leading.0.activity.lock().passes.remove(&self.number);
        self.leading.0.state.send_if_modified(|state| {
            state.passes -= 1;
            state.passes == 0 && !state.leads
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    #[test]
    fn no_replica_leads_before_it_is_set_or_after_the_time_is_up() {
        let leading = Leadership::default();
        assert!(leading.begin_pass().is_none());
        let now = Moment::now();
        assert!(leading.until(Some(now + Duration::from_secs(9))));
        assert!(!leading.until(Some(now + Duration::from_secs(10))), "a renewal is no news");
        assert!(leading.begin_pass().is_some());
        assert!(leading.may_write(now + Duration::from_secs(9)));
        assert!(!leading.may_write(now + Duration::from_secs(10)), "no task had to notice");
        leading.until(Some(now));
        assert!(leading.begin_pass().is_none());
        assert!(leading.until(None));
    }

    #[tokio::test]
    async fn a_renewal_that_comes_late_begins_a_term_since_passes_were_refused_meanwhile() {
        let (leading, now, minute) = (Leadership::default(), Moment::now(), Duration::from_secs(60));
        leading.until(Some(now + minute));
        assert_eq!(leading.next_term(0).await, 1);
        leading.until(Some(now + 2 * minute));
        leading.until(Some(now));
        assert!(leading.next_term(1).now_or_never().is_none(), "renewed in time: the same term");
        assert!(leading.begin_pass().is_none());
        assert!(!leading.until(Some(now + 3 * minute)), "no task noticed that it had run out");
        assert_eq!(leading.next_term(1).await, 2);
        leading.until(None);
        leading.until(Some(now + minute));
        assert_eq!(leading.next_term(2).await, 3, "also if it was over only for a moment");
    }

    #[test]
    fn a_term_begins_when_the_passes_of_the_one_before_have_ended() {
        let (leading, minute) = (Leadership::default(), Duration::from_secs(60));
        leading.until(Some(Moment::now() + minute));
        let pass = leading.begin_pass().unwrap();
        leading.until(None);
        assert!(!leading.until(Some(Moment::now() + minute)), "another may have led meanwhile");
        assert!(!leading.may_write(Moment::now()) && leading.begin_pass().is_none());
        drop(pass);
        assert!(leading.until(Some(Moment::now() + minute)) && leading.may_write(Moment::now()));
    }

    #[tokio::test]
    async fn at_the_end_running_passes_may_write_and_no_new_one_begins() {
        let leading = Leadership::default();
        leading.until(Some(Moment::now() + Duration::from_secs(60)));
        let pass = leading.begin_pass().unwrap();
        let ending = tokio::spawn({
            let leading = leading.clone();
            async move { leading.end(Duration::from_secs(60)).await }
        });
        let _ = leading.0.state.subscribe().wait_for(|state| !state.leads).await.unwrap();
        assert!(leading.begin_pass().is_none() && leading.may_write(Moment::now()));
        drop(pass);
        ending.await.unwrap();
        assert!(!leading.may_write(Moment::now()));
    }

    #[tokio::test]
    async fn a_pass_that_never_ends_is_cut_short() {
        let leading = Leadership::default();
        leading.until(Some(Moment::now() + Duration::from_secs(60)));
        let _pass = leading.begin_pass().unwrap();
        leading.end(Duration::from_millis(1)).await;
        assert!(!leading.may_write(Moment::now()));
    }

    #[test]
    fn what_stands_still_is_reported_and_what_moves_or_rests_is_not() {
        let (start, second) = (Moment::now(), Duration::from_secs(1));
        let (most, of_loop) = (limits::PASS_STILL_MAX, limits::LOOP_STILL_MAX);
        let still = |activity: &Activity, after: Duration| activity.check(start + after).err();
        let mut activity = Activity::default();
        assert_eq!(still(&activity, most * 100), None, "a settled cluster has no passes");
        activity.passes.insert(1, start);
        activity.passes.insert(2, start + most);
        assert_eq!(still(&activity, most), None);
        let text = format!("a pass has neither ended nor written anything for {} s", most.as_secs() + 1);
        assert_eq!(still(&activity, most + second), Some(text));
        activity.written = Some(start + most);
        assert_eq!(still(&activity, most * 2), None, "a long pass that writes moves");
        assert!(still(&activity, most * 2 + second).is_some());
        activity.passes.clear();
        assert_eq!(still(&activity, most * 100), None);
        activity.loops.insert(Loop::Replicas, start);
        assert_eq!(still(&activity, of_loop), None);
        assert!(
            still(&activity, of_loop + second).is_some_and(|text| text.contains("this replica's Lease has stood still"))
        );
        activity.loops = [(Loop::Changes, start)].into();
        assert_eq!(still(&activity, most), None, "it waits for passes");
        assert!(
            still(&activity, most + second).is_some_and(|text| text.starts_with("the loop that hears what changed has"))
        );
    }

    #[test]
    fn a_pass_counts_from_its_begin_to_its_end() {
        let leading = Leadership::default();
        leading.until(Some(Moment::now() + Duration::from_secs(60)));
        let pass = leading.begin_pass().unwrap();
        let later = Moment::now() + limits::PASS_STILL_MAX + Duration::from_secs(1);
        assert!(leading.check_progress(later).is_err());
        drop(pass);
        assert_eq!(leading.check_progress(later), Ok(()));
        assert!(leading.0.activity.lock().passes.is_empty());
    }
}
