//! What is explored, to which bound, and which faults that finds.

use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model as _};

use super::{Disturbance, Meddling, Reconciliation, Revision, Seeded, Slot};

use Disturbance::{Accept, Crash, Depose, Image, Install, Object, Scale};
use Meddling::{Delete, Edit, Replace, Vacate};

/// What others do to objects that keep a database from what it should be.
const MEDDLINGS: [Disturbance; 9] = [
    Object(Slot::Set, Edit),
    Object(Slot::ConfigMap, Edit),
    Object(Slot::Set, Delete),
    Object(Slot::ConfigMap, Replace),
    Object(Slot::ConfigMap, Vacate),
    Object(Slot::Guard, Replace),
    Object(Slot::Guard, Vacate),
    Object(Slot::SecondPartition, Delete),
    Object(Slot::SecondPartition, Replace),
];

const REVISIONS: [Disturbance; 5] = [
    Install(Revision::First),
    Install(Revision::Trimmed),
    Install(Revision::Disturbing),
    Install(Revision::Failing),
    Accept,
];

fn explored(what: &str, model: Reconciliation) {
    let start = Instant::now();
    let checker = model.checker().threads(2).spawn_bfs().join();
    println!("{what}: {} states, depth {}, {:.1?}", checker.unique_state_count(), checker.max_depth(), start.elapsed());
    checker.assert_properties();
}

#[test]
fn a_database_that_is_being_created() {
    let model = Reconciliation { is_settled: false, ..Reconciliation::of([Scale, Image, Crash, Depose], 1) };
    explored("creation", model);
}

#[test]
fn edits_under_crashes_and_fail_overs() {
    explored("edits", Reconciliation::of([Scale, Image, Crash, Depose], 3));
}

#[test]
fn what_others_do_to_objects() {
    let disturbances = MEDDLINGS.into_iter().chain([Scale, Image, Crash, Depose]);
    explored("objects", Reconciliation::of(disturbances, 2));
}

#[test]
fn another_revision_of_the_plugin() {
    let disturbances = REVISIONS.into_iter().chain([Scale, Image, Crash, Depose]);
    explored("revisions", Reconciliation::of(disturbances, 2));
}

#[test]
fn a_new_leader_that_has_not_seen_the_newest_revision() {
    let disturbances = [Install(Revision::Trimmed), Install(Revision::Failing), Scale, Depose];
    explored("late catalogs", Reconciliation { has_late_catalogs: true, ..Reconciliation::of(disturbances, 2) });
}

/// Why a leader begins with the plugins as they are: with neither the newest revision nor the newest objects in its caches it would take the
/// plan of the revision before for a change that disturbs nothing.
#[test]
fn a_leader_that_did_not_wait_for_the_newest_revision_would_undo_what_was_accepted() {
    let disturbances = [Install(Revision::Disturbing), Accept, Depose];
    let model = Reconciliation { has_late_catalogs: true, ..Reconciliation::of(disturbances, 3) };
    let checker = model.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    assert!(checker.discovery("no write breaks a promise").is_some(), "it is found");
}

#[test]
fn without_the_admission_policy_nothing_of_others_is_removed() {
    let disturbances = [Scale, Object(Slot::SecondPartition, Delete), Object(Slot::SecondPartition, Replace), Crash];
    explored("no policy", Reconciliation { is_guarded: false, ..Reconciliation::of(disturbances, 3) });
}

#[test]
fn each_seeded_fault_is_found() {
    let new = |disturbances: &[Disturbance], most| Reconciliation {
        is_settled: false,
        ..Reconciliation::of(disturbances.iter().copied(), most)
    };
    let settled = |disturbances: &[Disturbance]| Reconciliation::of(disturbances.iter().copied(), disturbances.len());
    let unguarded = |model: Reconciliation| Reconciliation { is_guarded: false, ..model };
    let late = |model: Reconciliation| Reconciliation { has_late_catalogs: true, ..model };
    let ends = "it ends as the spec says";
    let breaks = "no write breaks a promise";
    let table = [
        (Seeded::NothingRecorded, new(&[], 0), breaks),
        (Seeded::RemovedByName, unguarded(settled(&[Scale, Object(Slot::SecondPartition, Replace)])), breaks),
        (Seeded::NoFence, settled(&[Scale, Image, Depose]), breaks),
        (Seeded::PassesOutliveTerms, settled(&[Scale, Depose, Scale, Depose]), breaks),
        (Seeded::NothingConfirmed, settled(&[Scale, Depose]), breaks),
        (Seeded::OnlyGenerationsConfirmed, late(settled(&[Install(Revision::Trimmed), Depose])), breaks),
        (Seeded::NothingHeld, settled(&[Install(Revision::Disturbing)]), breaks),
        (Seeded::NothingCompared, new(&[], 0), "it falls silent"),
        (Seeded::NoDriftSeen, settled(&[Object(Slot::Set, Edit)]), ends),
        (Seeded::PrunesAnyway, settled(&[Scale, Object(Slot::ConfigMap, Replace)]), breaks),
        (Seeded::NoLookAgain, new(&[Depose], 1), ends),
        (Seeded::RepairsUnconfirmed, settled(&[Object(Slot::Set, Edit), Image, Depose]), breaks),
    ];
    let mut missed = Vec::new();
    for (seeded, model, broken) in table {
        let start = Instant::now();
        let model = Reconciliation { seeded: Some(seeded), ..model };
        let checker = model.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
        let (states, found) = (checker.unique_state_count(), checker.discovery(broken).is_some());
        println!("{seeded:?}: {states} states, {:.1?}, found: {found}", start.elapsed());
        if !found {
            missed.push(seeded);
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
