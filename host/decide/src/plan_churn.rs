//! Plans that change although nothing was edited. A plan may proceed in steps, as the objects it waits for appear; a plan
//! that changes the same object again and again depends on what it wrote itself. Pure: time is an argument.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::objects::Backoff;
use atomix_model::fault::Fault;

/// For each object, by its title: how often it was changed in a row since the last edit, and the message for the user.
#[derive(Debug, Default)]
pub struct PlanChurn(BTreeMap<String, (Backoff, String)>);

impl PlanChurn {
    /// Whether a plan that would change these objects may be written now.
    ///
    /// # Errors
    /// One of them has been changed so often that it has to wait.
    pub fn may_be_written(&self, changed: &[(String, String)], now: Instant) -> Result<(), Fault> {
        let waits = |(title, _): &(String, String)| self.0.get(title).filter(|(backoff, _)| backoff.delay(now).is_some());
        match changed.iter().find_map(waits) {
            Some((_, message)) => Err(Fault::Unsettled { message: message.clone() }),
            None => Ok(()),
        }
    }

    /// Records that these objects, each with the field that differs, are about to be changed.
    pub fn written(&mut self, plugin: &str, changed: Vec<(String, String)>, now: Instant) {
        self.0.retain(|_, (backoff, _)| backoff.is_active(now));
        for (title, field) in changed {
            let before = self.0.get(&title);
            let backoff = before.map_or_else(|| Backoff::start(now), |(backoff, _)| backoff.repeat(now));
            let what = if field.is_empty() { title.clone() } else { format!("{title}: {field}") };
            let message = format!(
                "{plugin} plans something else again and again although nobody edited anything; it changed {what} last; its plans are \
                 written less and less often; a plan may not depend on what it writes itself: report it to the plugin's author"
            );
            self.0.insert(title, (backoff, message));
        }
    }

    /// The fault to report while the plan keeps changing.
    pub fn fault(&self, now: Instant) -> Option<Fault> {
        let (_, message) = self.0.values().find(|(backoff, _)| backoff.reported_for(now).is_some())?;
        Some(Fault::Unsettled { message: message.clone() })
    }

    /// How long from now until a plan that had to wait may be written, or the fault is no longer reported.
    pub fn again(&self, now: Instant) -> Option<Duration> {
        self.0.values().filter_map(|(backoff, _)| backoff.delay(now).or_else(|| backoff.reported_for(now))).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use atomix_model::limits;

    #[test]
    fn a_plan_that_goes_from_object_to_object_is_no_trouble_and_one_that_changes_the_same_is() {
        let now = Instant::now();
        let object = |at: u32| vec![(format!("StatefulSet db-{at}"), "spec.template".to_owned())];
        let mut churn = PlanChurn::default();
        for at in 0..1000 {
            assert_eq!(churn.may_be_written(&object(at), now), Ok(()));
            churn.written("plugin p", object(at), now);
        }
        assert_eq!((churn.fault(now), churn.again(now)), (None, None));
        for _ in 0..limits::REPEATS_WITHOUT_DELAY {
            assert_eq!(churn.may_be_written(&object(7), now), Ok(()));
            churn.written("plugin p", object(7), now);
        }
        let fault = churn.may_be_written(&object(7), now).unwrap_err();
        assert!(fault.message().contains("StatefulSet db-7: spec.template"), "{fault}");
        assert_eq!(churn.fault(now), Some(fault));
        assert_eq!(churn.may_be_written(&object(8), now), Ok(()), "others go on");
    }
}
