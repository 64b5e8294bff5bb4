//! The primary of each partition. An election is kept in the status of its Partition, under the object's resourceVersion, so
//! that it is the same through every replica and outlives them all; here it is published to watchers, and its steps are
//! decided.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::sync::watch;

use super::{Shared, Watch, Watched};
use atomix_model::crd::{Candidate, Election};

/// The elections of all partitions, and their watchers.
#[derive(Default)]
pub struct Elections {
    /// Elections by namespace and name of the Partition.
    known: BTreeMap<(String, String), Known>,
    /// A channel for each partition that is watched.
    watched: HashMap<Watched, watch::Sender<Election>>,
}

/// The newest election of one partition.
#[derive(Debug, Default)]
struct Known {
    election: Election,
    /// The highest term seen while the Partition was there: an edit of its status does not take terms back.
    floor: i64,
}

impl Elections {
    /// A Partition's election came, changed or went.
    pub fn put(&mut self, namespace: &str, partition: &str, election: Option<Election>) {
        let key = (namespace.to_owned(), partition.to_owned());
        let Some(now) = election else {
            self.known.remove(&key);
            return;
        };
        if let Some(channel) = self.watched.get(&key) {
            channel.send_if_modified(|before| {
                let news = before.term <= now.term && *before != now; // a term never falls
                if news {
                    before.clone_from(&now);
                }
                news
            });
            if channel.is_closed() {
                self.watched.remove(&key);
            }
        }
        let known = self.known.entry(key).or_default();
        *known = Known { floor: known.floor.max(now.term), election: now };
    }

    /// A Partition went: its watchers' streams end.
    pub fn gone(&mut self, namespace: &str, partition: &str) {
        let key = (namespace.to_owned(), partition.to_owned());
        self.known.remove(&key);
        self.watched.remove(&key);
    }

    /// The highest term seen of a Partition that is there.
    pub fn floor(&self, namespace: &str, partition: &str) -> i64 {
        self.known.get(&(namespace.to_owned(), partition.to_owned())).map_or(0, |known| known.floor)
    }

    /// The election of a Partition now and whenever it is another.
    pub fn watch(shared: &Arc<Shared<Elections>>, namespace: &str, partition: &str) -> Watch<Election, Elections> {
        Watch::new(shared, (namespace.to_owned(), partition.to_owned()), Self::begin, Self::end)
    }

    fn begin(&mut self, partition: &Watched) -> watch::Receiver<Election> {
        let now = self.known.get(partition).map(|known| known.election.clone()).unwrap_or_default();
        self.watched.entry(partition.clone()).or_insert_with(|| watch::Sender::new(now)).subscribe()
    }

    fn end(&mut self, partition: &Watched) {
        if self.watched.get(partition).is_some_and(watch::Sender::is_closed) {
            self.watched.remove(partition);
        }
    }

    /// Elections in which a replica's clients stand: namespace and name of the Partition, and the candidates' names.
    pub fn of_replica(&self, replica: &str) -> Vec<((String, String), Vec<String>)> {
        let names = |election: &Election| -> Vec<String> {
            election.candidates.iter().filter(|it| it.replica == replica).map(|it| it.name.clone()).collect()
        };
        let all = self.known.iter().map(|(key, known)| (key.clone(), names(&known.election)));
        all.filter(|(_, names)| !names.is_empty()).collect()
    }

    /// All replicas that candidates name.
    pub fn replicas(&self) -> impl Iterator<Item = &str> {
        let candidates = self.known.values().flat_map(|known| &known.election.candidates);
        candidates.map(|candidate| candidate.replica.as_str()).filter(|replica| !replica.is_empty())
    }
}

/// The election that a step begins from: what is stored, in no lower a term than `floor`. One that has had no term yet
/// begins above `version`, the resourceVersion of its Partition. Versions grow with every write and each term takes one, so
/// that no term is ever above the version in which it stands, and a Partition that is made anew goes on above all terms of
/// the one before, whether any replica remembers them or none.
fn current(stored: &Election, version: u64, floor: i64) -> Election {
    let fresh = match stored.term {
        0 => i64::try_from(version).unwrap_or(i64::MAX / 2),
        term => term,
    };
    Election { term: fresh.max(floor), ..stored.clone() }
}

/// What is to be written so that an election goes one step further; none if it is so already.
pub fn advanced(stored: &Election, version: u64, floor: i64, step: impl FnOnce(&Election) -> Election) -> Option<Election> {
    let after = step(&current(stored, version, floor));
    let is_nothing = after.candidates.is_empty() && after == Election { term: after.term, ..stored.clone() };
    (after != *stored && !is_nothing).then_some(after)
}

/// The election after a client has entered through a replica. One that is there already keeps its place.
pub fn entered(before: &Election, name: &str, replica: &str) -> Election {
    let mut after = before.clone();
    match after.candidates.iter_mut().find(|candidate| candidate.name == name) {
        Some(candidate) => replica.clone_into(&mut candidate.replica),
        None => after.candidates.push(Candidate { name: name.to_owned(), replica: replica.to_owned() }),
    }
    with_primary(after)
}

/// The election after candidates that a replica held have left; one that another replica holds by now stays.
pub fn left(before: &Election, names: &[String], replica: &str) -> Election {
    let mut after = before.clone();
    after.candidates.retain(|candidate| candidate.replica != replica || !names.contains(&candidate.name));
    with_primary(after)
}

/// Whoever has waited longest takes the place of a primary that is gone, in a term of its own.
fn with_primary(mut election: Election) -> Election {
    if election.candidates.iter().any(|candidate| candidate.name == election.primary) {
        return election;
    }
    match election.candidates.first() {
        Some(next) => {
            election.primary.clone_from(&next.name);
            election.term += 1;
        }
        None => election.primary.clear(),
    }
    election
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn after(steps: &[(&str, bool)]) -> Election {
        steps.iter().fold(Election::default(), |election, (name, enters)| match enters {
            true => entered(&election, name, "r"),
            false => left(&election, &[(*name).to_owned()], "r"),
        })
    }

    fn names(election: &Election) -> Vec<&str> {
        election.candidates.iter().map(|candidate| candidate.name.as_str()).collect()
    }

    #[test]
    fn the_first_candidate_is_primary_and_the_next_takes_over() {
        let election = after(&[("a", true), ("b", true), ("c", true), ("a", true)]);
        assert_eq!((election.term, election.primary.as_str(), names(&election)), (1, "a", vec!["a", "b", "c"]));
        let election = left(&election, &["a".to_owned()], "r");
        assert_eq!((election.term, election.primary.as_str(), names(&election)), (2, "b", vec!["b", "c"]));
        let election = left(&election, &["c".to_owned()], "r");
        assert_eq!(
            (election.term, election.primary.as_str()),
            (2, "b"),
            "a candidate that was not primary leaves the term as it is"
        );
    }

    #[test]
    fn an_election_without_candidates_remembers_its_term() {
        let election = after(&[("a", true), ("a", false)]);
        assert_eq!((election.term, election.primary.as_str()), (1, ""));
        assert_eq!(entered(&election, "a", "r").term, 2);
    }

    #[test]
    fn a_candidate_that_another_replica_holds_by_now_stays() {
        let election = entered(&entered(&Election::default(), "a", "old"), "a", "new");
        assert_eq!(left(&election, &["a".to_owned()], "old"), election);
    }

    #[test]
    fn watchers_never_see_a_term_fall() {
        let mut elections = Elections::default();
        let mut watcher = elections.begin(&("n".to_owned(), "p".to_owned()));
        elections.put("n", "p", Some(after(&[("a", true), ("b", true), ("a", false)])));
        elections.put("n", "p", Some(after(&[("c", true)])));
        elections.put("n", "p", None);
        assert_eq!(watcher.borrow_and_update().term, 2);
    }

    #[test]
    fn what_is_kept_is_what_is_watched_and_what_is_there() {
        let shared = Arc::<Shared<Elections>>::default();
        for at in 0..1000 {
            let name = format!("p{at}");
            shared.write().put("n", &name, Some(after(&[("a", true)])));
            let watching = Elections::watch(&shared, "n", &name);
            if at % 2 == 0 {
                drop(watching);
                shared.write().gone("n", &name);
            } else {
                shared.write().gone("n", &name);
                drop(watching);
            }
        }
        assert_eq!((shared.read().known.len(), shared.read().watched.len()), (0, 0));
        shared.write().put("n", "p", Some(after(&[("a", true), ("b", true), ("a", false)])));
        shared.write().put("n", "p", Some(Election::default()));
        assert_eq!(shared.read().floor("n", "p"), 2, "an edit takes no term back");
    }

    /// Partitions of one name after each other, and how their terms go when no replica remembers anything but what is
    /// stored.
    fn terms_of(lives: &[Vec<(usize, bool)>], mut version: u64) -> Vec<i64> {
        let mut terms = Vec::new();
        for life in lives {
            version += 1; // made
            let mut stored = Election::default();
            for (client, enters) in life {
                let name = ["a", "b", "c"][*client];
                let after = advanced(&stored, version, 0, |before| match enters {
                    true => entered(before, name, "r"),
                    false => left(before, &[name.to_owned()], "r"),
                });
                if let Some(after) = after {
                    (stored, version) = (after, version + 1);
                    terms.push(stored.term);
                }
            }
            version += 1; // deleted
        }
        terms
    }

    proptest! {
        #[test]
        fn terms_never_go_back_though_partitions_are_made_anew_and_no_replica_remembers(
            lives in proptest::collection::vec(proptest::collection::vec((0..3_usize, any::<bool>()), 0..20), 1..6),
            version in 0..1000_u64,
        ) {
            let terms = terms_of(&lives, version);
            prop_assert!(terms.is_sorted(), "{terms:?}");
        }

        #[test]
        fn a_term_has_one_primary(steps in proptest::collection::vec((0..4_usize, any::<bool>()), 0..60)) {
            let (mut election, mut primaries) = (Election::default(), BTreeMap::new());
            for (client, enters) in steps {
                let name = ["a", "b", "c", "d"][client];
                let next = if enters { entered(&election, name, "r") } else { left(&election, &[name.to_owned()], "r") };
                prop_assert!(next.term >= election.term);
                if !next.primary.is_empty() {
                    prop_assert_eq!(&*primaries.entry(next.term).or_insert(next.primary.clone()), &next.primary);
                    prop_assert!(names(&next).contains(&next.primary.as_str()));
                }
                prop_assert_eq!(next.primary.is_empty(), next.candidates.is_empty());
                election = next;
            }
        }
    }
}
