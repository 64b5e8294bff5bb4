//! What is explored of elections, to which bound, and which faults that finds.

use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model as _};

use super::{Elections, Seeded};

#[test]
fn no_two_replicas_write_at_a_time() {
    let start = Instant::now();
    let model = Elections { steps: 5, most: 1, seeded: None };
    let checker = model.checker().threads(2).spawn_bfs().join();
    println!("{} states, depth {}, {:.1?}", checker.unique_state_count(), checker.max_depth(), start.elapsed());
    checker.assert_properties();
}

#[test]
fn a_lease_of_any_version_and_a_renewal_that_counts_from_its_answer_are_found() {
    for seeded in [Seeded::AnyVersionTaken, Seeded::CountsFromAnswer] {
        let model = Elections { steps: 6, most: 1, seeded: Some(seeded) };
        let checker = model.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
        let found: Vec<_> =
            checker.discoveries().into_keys().filter(|name| *name != "the second follows the first").collect();
        assert!(!found.is_empty(), "{seeded:?} is not found");
    }
}
