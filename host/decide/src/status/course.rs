//! Since when things go as they go: what makes a status of something that lasts rather than of a moment. Pure: time is an argument.

use k8s_openapi::jiff::Timestamp;

use atomix_model::condition::Reason;
use atomix_model::contract;
use atomix_model::limits;

use super::later;

/// How the members of a partition, or of all of them, have gone up to now. Lost with the controller: what is shown in the status
/// stays, and its times begin anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Course {
    /// Since when nothing is missing.
    pub well_since: Option<Timestamp>,
    /// Since when the plugin gives no cause for what is missing.
    pub unexplained_since: Option<Timestamp>,
    /// Since when there is a cause.
    pub cause_since: Option<Timestamp>,
    /// When there was a cause last.
    pub cause_seen: Option<Timestamp>,
}

impl Course {
    /// The course after another look, at the problem in the plugin's plan (`planned`), and at the one with causes found
    /// besides (`found`).
    pub fn after(self, planned: Option<&contract::Reason>, found: Option<&contract::Reason>, now: Timestamp) -> Course {
        let Some(planned) = planned else {
            return Course { well_since: self.well_since.or(Some(now)), ..Course::default() };
        };
        let silent = !is_cause(planned);
        let caused = !silent || found.is_some_and(is_cause);
        Course {
            well_since: None,
            unexplained_since: silent.then(|| self.unexplained_since.unwrap_or(now)),
            cause_since: caused.then(|| self.cause_since.unwrap_or(now)),
            cause_seen: if caused { Some(now) } else { self.cause_seen.or(Some(now)) },
        }
    }

    /// Whether causes are looked for where only Events report them, and when that begins.
    pub fn asks_events(&self, now: Timestamp) -> Option<Result<(), Timestamp>> {
        let from = later(self.unexplained_since?, limits::EVENTS_AFTER);
        Some(if now >= from { Ok(()) } else { Err(from) })
    }
}

/// Whether a problem names a cause, rather than only that members are not ready.
pub fn is_cause(problem: &contract::Reason) -> bool {
    Reason::of(&problem.code) != Reason::MembersNotReady
}

/// What a condition Degraded becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing that counts.
    Fine,
    /// True, as it stands: it is not better until it is better.
    Stays,
    /// True, for what is missing now.
    Bad,
    /// True, since there has been no progress for too long.
    Overdue,
}

/// What it is judged by, besides the course.
#[derive(Clone, Debug)]
pub struct Circumstances {
    /// Reason of the condition, if it is True.
    pub degraded: Option<Reason>,
    /// From when on what is missing is a loss, if it is ready.
    pub settled_at: Option<Timestamp>,
    /// Whether members restart as planned.
    pub rolling: bool,
    /// Whether there has been no progress for too long.
    pub overdue: bool,
    /// Until when containers that kept exiting may do so again.
    pub unsteady_until: Option<Timestamp>,
}

/// The verdict, and when it would be another although nothing happens.
pub fn verdict(
    problem: Option<&contract::Reason>,
    course: Course,
    under: &Circumstances,
    now: Timestamp,
) -> (Verdict, Option<Timestamp>) {
    let pending = |at: Timestamp| Some(at).filter(|at| *at > now);
    let settled = !under.rolling && under.settled_at.is_some_and(|at| at <= now);
    let Some(problem) = problem else {
        let steady = later(course.well_since.unwrap_or(now), limits::STEADY_AFTER);
        let steady = steady.max(under.unsteady_until.unwrap_or(steady));
        return match (&under.degraded, pending(steady)) {
            (Some(_), Some(steady)) => (Verdict::Stays, Some(steady)),
            _ if under.overdue => (Verdict::Overdue, None),
            _ => (Verdict::Fine, None),
        };
    };
    if is_cause(problem) {
        let counts = later(course.cause_since.unwrap_or(now), limits::CAUSE_AFTER);
        let at_once = under.degraded.is_some() || under.overdue || settled;
        return match pending(counts).filter(|_| !at_once) {
            Some(counts) => (Verdict::Fine, Some(counts)),
            None => (Verdict::Bad, None),
        };
    }
    if under.overdue {
        return (Verdict::Overdue, None);
    }
    match under.degraded {
        Some(Reason::MembersNotReady) => (Verdict::Bad, None),
        Some(_) => match pending(later(course.cause_seen.unwrap_or(now), limits::CAUSE_KEPT)) {
            Some(gone) => (Verdict::Stays, Some(gone)),
            None => (Verdict::Bad, None),
        },
        None if settled => (Verdict::Bad, None),
        None => (Verdict::Fine, under.settled_at.filter(|_| !under.rolling)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use atomix_model::contract::MEMBERS_NOT_READY;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    fn problem(code: &str) -> contract::Reason {
        contract::Reason { code: code.into(), message: format!("{code} in words") }
    }

    const QUIET: Circumstances =
        Circumstances { degraded: None, settled_at: None, rolling: false, overdue: false, unsteady_until: None };

    #[test]
    fn a_cause_counts_when_it_has_stood_for_a_while_and_at_once_on_what_has_settled() {
        let cause = problem("ImagePullBackOff");
        let course = Course::default().after(Some(&cause), None, at(0));
        assert_eq!(verdict(Some(&cause), course, &QUIET, at(0)), (Verdict::Fine, Some(later(at(0), limits::CAUSE_AFTER))));
        let again = course.after(Some(&cause), None, at(60));
        assert_eq!(again.cause_since, Some(at(0)));
        assert_eq!(verdict(Some(&cause), again, &QUIET, at(60)).0, Verdict::Bad);
        let settled = Circumstances { settled_at: Some(at(0)), ..QUIET };
        assert_eq!(verdict(Some(&cause), course, &settled, at(0)).0, Verdict::Bad);
        let rolling = Circumstances { rolling: true, ..settled.clone() };
        assert_eq!(verdict(Some(&cause), course, &rolling, at(0)).0, Verdict::Fine, "a moment of a planned restart");
    }

    #[test]
    fn a_member_that_is_missing_without_a_cause_is_a_loss_only_where_none_should_be_missing() {
        let missing = problem(MEMBERS_NOT_READY);
        let course = Course::default().after(Some(&missing), None, at(0));
        for (settled, rolling, expected) in
            [(false, false, Verdict::Fine), (true, true, Verdict::Fine), (true, false, Verdict::Bad)]
        {
            let under = Circumstances { settled_at: settled.then(|| at(0)), rolling, ..QUIET };
            assert_eq!(verdict(Some(&missing), course, &under, at(600)).0, expected, "{settled} {rolling}");
        }
        let overdue = Circumstances { rolling: true, overdue: true, ..QUIET };
        assert_eq!(verdict(Some(&missing), course, &overdue, at(600)).0, Verdict::Overdue);
    }

    #[test]
    fn what_was_bad_stays_so_until_it_has_been_better_for_a_while() {
        let degraded = Circumstances { degraded: Some(Reason::of("CrashLoopBackOff")), ..QUIET };
        let well = Course::default().after(None, None, at(0));
        assert_eq!(verdict(None, well, &degraded, at(1)).0, Verdict::Stays);
        let later_on = at(i64::try_from(limits::STEADY_AFTER.as_secs()).unwrap());
        assert_eq!(verdict(None, well, &degraded, later_on).0, Verdict::Fine);
        let unsteady = Circumstances { unsteady_until: Some(at(90)), ..degraded.clone() };
        assert_eq!(verdict(None, well, &unsteady, later_on), (Verdict::Stays, Some(at(90))));
        assert_eq!(verdict(None, well, &QUIET, at(1)).0, Verdict::Fine, "what was fine is so at once");
    }

    #[test]
    fn between_two_signs_of_a_cause_the_last_one_stays() {
        let degraded = Circumstances { degraded: Some(Reason::of("CrashLoopBackOff")), ..QUIET };
        let missing = problem(MEMBERS_NOT_READY);
        let course = Course::default().after(Some(&problem("CrashLoopBackOff")), None, at(0));
        let between = course.after(Some(&missing), None, at(5));
        assert_eq!(verdict(Some(&missing), between, &degraded, at(5)).0, Verdict::Stays);
        let gone = between.after(Some(&missing), None, at(600));
        assert_eq!(
            verdict(Some(&missing), gone, &degraded, at(600)).0,
            Verdict::Bad,
            "still degraded, the cause is not known"
        );
    }
}
