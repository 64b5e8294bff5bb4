//! Who is primary of each partition. An election lives in the status of its Partition, under the object's resourceVersion, so that
//! it is the same through every replica and outlives them all; here it is told to those who watch, and its steps are decided.

use std::collections::{BTreeMap, HashMap};

use tokio::sync::watch;

use crate::crd::{Candidate, Election};

/// All elections.
#[derive(Default)]
pub struct Elections {
    /// Elections by namespace and name of the Partition.
    known: BTreeMap<(String, String), Election>,
    /// The highest term seen of each Partition, also of one that went and may come again.
    floors: BTreeMap<(String, String), i64>,
    /// Those who watch.
    watched: HashMap<(String, String), watch::Sender<Election>>,
}

impl Elections {
    /// A Partition's election came, changed or went.
    pub fn put(&mut self, namespace: &str, partition: &str, election: Option<Election>) {
        let key = (namespace.to_owned(), partition.to_owned());
        let Some(now) = election else {
            self.known.remove(&key);
            return;
        };
        let floor = self.floors.entry(key.clone()).or_default();
        *floor = now.term.max(*floor);
        if let Some(told) = self.watched.get(&key) {
            told.send_if_modified(|before| {
                let news = before.term <= now.term && *before != now; // a term never falls
                if news {
                    before.clone_from(&now);
                }
                news
            });
            if told.is_closed() {
                self.watched.remove(&key);
            }
        }
        self.known.insert(key, now);
    }

    /// A Partition went: who watches is told by the end of the stream.
    pub fn gone(&mut self, namespace: &str, partition: &str) {
        let key = (namespace.to_owned(), partition.to_owned());
        self.known.remove(&key);
        self.watched.remove(&key);
    }

    /// A Database went, and will not come again: its partitions' terms need not be remembered.
    pub fn forget(&mut self, namespace: &str, database: &str) {
        let of = |partition: &str| partition.rsplit_once('-').is_some_and(|(of, _)| of == database);
        self.floors.retain(|(within, partition), _| within != namespace || !of(partition));
    }

    /// The highest term seen of a Partition.
    pub fn floor(&self, namespace: &str, partition: &str) -> i64 {
        self.floors.get(&(namespace.to_owned(), partition.to_owned())).copied().unwrap_or(0)
    }

    /// The election of a Partition now and whenever it is another.
    pub fn watch(&mut self, namespace: &str, partition: &str) -> watch::Receiver<Election> {
        let key = (namespace.to_owned(), partition.to_owned());
        let now = self.known.get(&key).cloned().unwrap_or_default();
        self.watched.entry(key).or_insert_with(|| watch::Sender::new(now)).subscribe()
    }

    /// Elections in which a replica's clients stand: namespace and name of the Partition, and the candidates' names.
    pub fn of_replica(&self, replica: &str) -> Vec<((String, String), Vec<String>)> {
        let names = |election: &Election| -> Vec<String> {
            election.candidates.iter().filter(|it| it.replica == replica).map(|it| it.name.clone()).collect()
        };
        let all = self.known.iter().map(|(key, election)| (key.clone(), names(election)));
        all.filter(|(_, names)| !names.is_empty()).collect()
    }

    /// All replicas that candidates name.
    pub fn replicas(&self) -> impl Iterator<Item = &str> {
        let candidates = self.known.values().flat_map(|election| &election.candidates);
        candidates.map(|candidate| candidate.replica.as_str()).filter(|replica| !replica.is_empty())
    }
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
    fn who_came_first_is_primary_and_the_next_takes_over() {
        let election = after(&[("a", true), ("b", true), ("c", true), ("a", true)]);
        assert_eq!((election.term, election.primary.as_str(), names(&election)), (1, "a", vec!["a", "b", "c"]));
        let election = left(&election, &["a".to_owned()], "r");
        assert_eq!((election.term, election.primary.as_str(), names(&election)), (2, "b", vec!["b", "c"]));
        let election = left(&election, &["c".to_owned()], "r");
        assert_eq!((election.term, election.primary.as_str()), (2, "b"), "who was not primary leaves the term as it is");
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
        let mut watcher = elections.watch("n", "p");
        elections.put("n", "p", Some(after(&[("a", true), ("b", true), ("a", false)])));
        elections.put("n", "p", Some(after(&[("c", true)])));
        elections.put("n", "p", None);
        assert_eq!(watcher.borrow_and_update().term, 2);
    }

    proptest! {
        #[test]
        fn a_term_has_one_primary(steps in proptest::collection::vec((0..4_usize, any::<bool>()), 0..60)) {
            let (mut election, mut primaries) = (Election::default(), BTreeMap::new());
            for (who, enters) in steps {
                let name = ["a", "b", "c", "d"][who];
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
