//! Statuses while another revision of the plugin plans than before, or the newest plan is not written.

use super::tests::{Case, at, both, condition, database, pass_with, settled};
use super::*;
use crate::pass::Health;
use atomix_model::crd::database::{PlanInUse, PluginInUse};

#[test]
fn the_plan_of_another_revision_is_a_change_as_an_edit_is() {
    let by = |digest: &str, hash: &str| Case {
        plan: PlanInUse { hash: hash.into(), ..PlanInUse::default() },
        plugin: PluginInUse { digest: digest.into(), ..PluginInUse::default() },
        ..pass_with(both())
    };
    let before = database(&DatabaseStatus::default(), &by("old", "h"), at(0));
    let about_to_write = |case: Case| Case { is_about_to_write: true, ..case };
    let reason = |case: Case| condition(&database(&before, &about_to_write(case), at(1)), "Progressing").1.to_owned();
    assert_eq!(reason(by("new", "i")), "Applying", "it was accepted, or disturbs nothing");
    assert_eq!(reason(by("new", "h")), "Settled", "it is the same plan");
    assert_eq!(reason(by("old", "i")), "Settled", "it follows what happens");
}

#[test]
fn an_edit_on_which_the_plugin_fails_is_not_accepted_while_another_plan_goes_on() {
    let runs = PlanInUse { hash: "h".into(), generation: 1, class_generation: 1, ..PlanInUse::default() };
    let before = database(&DatabaseStatus::default(), &Case { plan: runs.clone(), ..pass_with(both()) }, at(0));
    let goes_on = |class_generation| Case {
        class_generation,
        plan: runs.clone(),
        newest_fails: Some(Fault::Plugin { message: "plugin p trapped".into() }),
        ..pass_with(both())
    };
    let edited = database(&before, &goes_on(2), at(60));
    assert_eq!(condition(&edited, "Accepted"), ("Unknown", "PluginFailed", "plugin p trapped"));
    assert_eq!((condition(&edited, "Ready").0, condition(&edited, "Degraded").1), ("True", "PluginFailed"));
    let replaced = database(&before, &goes_on(1), at(60));
    assert_eq!(condition(&replaced, "Accepted").0, "True", "nothing was edited: another revision failed");
}

#[test]
fn what_is_held_or_not_taken_hides_no_rollout_of_what_was_taken() {
    let rollout = Rollout { rolling: true, members: 9, updated: 4, ready: 8, ..Rollout::default() };
    let health = || Health { rollout: rollout.clone(), ..Health::default() };
    let text = || "in words".to_owned();
    for fault in [
        Fault::Held { plan: text(), message: text() },
        Fault::user(Reason::Invalid, text()),
        Fault::waiting(Reason::ClassNotFound, text()),
    ] {
        let with = |health: Health| Case { faults: vec![fault.clone()], health, ..pass_with(both()) };
        let rolls = database(&settled(), &with(health()), at(60));
        let expected = "4 of 9 members run the new revision";
        assert_eq!(condition(&rolls, "Progressing"), ("True", "RollingOut", expected), "{fault:?}");
        assert_eq!(condition(&rolls, "Accepted").0, "False");
        let ended = database(&rolls, &with(Health::default()), at(120));
        assert_eq!(condition(&ended, "Progressing").0, "False", "{fault:?}");
    }
}
