//! Databases with their partitions. A database is shown once all its partitions exist; while it grows, as it was.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use prost::Message;

use crate::proto::{Encoded, controller as first, database as second, put};
use atomix_model::crd::Endpoint;
use atomix_model::limits;

/// A Database, as much of it as clients may know.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // its fields explain themselves
pub struct DatabaseSeen {
    pub uid: String,
    /// How many partitions it should have.
    pub partitions: u32,
    /// What its class means to those who create groups through the API, if its plugin serves groups.
    pub group: Option<Group>,
}

/// What a class means to those who create groups through the API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Members of each partition.
    pub partition_size: u32,
    /// Type URL of the protocol's configuration.
    pub type_url: String,
    /// The configuration, encoded.
    pub value: Vec<u8>,
}

/// A Partition, as much of it as clients may know.
#[derive(Clone, Debug, PartialEq)]
pub struct PartitionSeen {
    /// UID of the Database that owns it.
    pub owner: String,
    /// Number, from 1.
    pub id: i32,
    /// Where clients connect to; at least one.
    pub endpoints: Vec<Endpoint>,
}

/// All databases, by namespace.
#[derive(Default)]
pub struct Databases(BTreeMap<String, Namespace>);

#[derive(Default)]
struct Namespace {
    databases: BTreeMap<String, Held>,
    /// Which database each Partition names as its own, by the name of the object.
    homes: BTreeMap<String, String>,
    /// The answers to requests for all, until something changes.
    all: OnceLock<Answers>,
}

#[derive(Default)]
struct Held {
    seen: Option<DatabaseSeen>,
    /// Partitions by the name of the object.
    partitions: BTreeMap<String, PartitionSeen>,
    /// UID of the database and the answers to requests for it.
    answers: Option<(String, Answers)>,
}

/// More bytes than an answer may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

/// Encoded lists of databases, those that fit into a message.
struct Answers {
    groups: Result<Encoded, TooLong>,
    first: Result<Encoded, TooLong>,
    second: Result<Encoded, TooLong>,
}

impl Databases {
    /// A Database came, changed or went.
    pub fn put_database(&mut self, namespace: &str, name: &str, seen: Option<DatabaseSeen>) {
        self.change(namespace, name, |held| held.seen = seen);
    }

    /// A Partition of a database came, changed, went over to another database, or went.
    pub fn put_partition(&mut self, namespace: &str, name: &str, seen: Option<(&str, PartitionSeen)>) {
        let home = self.0.get_mut(namespace).and_then(|place| place.homes.remove(name));
        if let Some(left) = home.filter(|home| seen.as_ref().is_none_or(|(database, _)| database != home)) {
            self.change(namespace, &left, |held| _ = held.partitions.remove(name));
        }
        if let Some((database, seen)) = seen {
            self.change(namespace, database, |held| _ = held.partitions.insert(name.to_owned(), seen));
            if let Some(place) = self.0.get_mut(namespace) {
                place.homes.insert(name.to_owned(), database.to_owned());
            }
        }
    }

    /// What a Database is, if there is one.
    pub fn seen(&self, namespace: &str, name: &str) -> Option<&DatabaseSeen> {
        self.0.get(namespace)?.databases.get(name)?.seen.as_ref()
    }

    /// How many Databases there are in a namespace.
    pub fn count(&self, namespace: &str) -> usize {
        let held = self.0.get(namespace).into_iter().flat_map(|namespace| namespace.databases.values());
        held.filter(|held| held.seen.is_some()).count()
    }

    /// Whether there is a partition of that number that belongs to the database of that name, and the name of its object.
    pub fn partition(&self, namespace: &str, database: &str, id: i32) -> Option<&str> {
        let held = self.0.get(namespace)?.databases.get(database)?;
        let uid = &held.seen.as_ref()?.uid;
        held.partitions.iter().find(|(_, seen)| seen.id == id && seen.owner == *uid).map(|(name, _)| name.as_str())
    }

    /// A `GetDatabaseResponse` of the second generation, if the database is shown.
    pub fn one(&self, namespace: &str, name: &str) -> Option<Result<Encoded, TooLong>> {
        Some(self.answers(namespace, name)?.second.clone())
    }

    /// A `GetDatabasesResponse` of the second generation.
    pub fn all(&self, namespace: &str) -> Result<Encoded, TooLong> {
        self.list(namespace, "").map_or_else(|| Ok(Encoded::default()), |list| list.second.clone())
    }

    /// A `GetDatabasesResponse` of the first generation; all of the namespace for an empty name.
    pub fn first(&self, namespace: &str, name: &str) -> Result<Encoded, TooLong> {
        self.list(namespace, name).map_or_else(|| Ok(Encoded::default()), |list| list.first.clone())
    }

    /// A `GetPartitionGroupsResponse`; all of the namespace for an empty name.
    pub fn groups(&self, namespace: &str, name: &str) -> Result<Encoded, TooLong> {
        self.list(namespace, name).map_or_else(|| Ok(Encoded::default()), |list| list.groups.clone())
    }

    fn answers(&self, namespace: &str, name: &str) -> Option<&Answers> {
        Some(&self.0.get(namespace)?.databases.get(name)?.answers.as_ref()?.1)
    }

    fn list(&self, namespace: &str, name: &str) -> Option<&Answers> {
        if !name.is_empty() {
            return self.answers(namespace, name);
        }
        let namespace = self.0.get(namespace)?;
        Some(namespace.all.get_or_init(|| {
            let shown = || namespace.databases.values().filter_map(|held| Some(&held.answers.as_ref()?.1));
            Answers {
                groups: joined(shown().map(|it| &it.groups)),
                first: joined(shown().map(|it| &it.first)),
                second: joined(shown().map(|it| &it.second)),
            }
        }))
    }

    fn change(&mut self, namespace: &str, name: &str, change: impl FnOnce(&mut Held)) {
        let place = self.0.entry(namespace.to_owned()).or_default();
        let held = place.databases.entry(name.to_owned()).or_default();
        change(held);
        held.answers = held.answer(namespace, name);
        place.all = OnceLock::new();
        if held.seen.is_none() && held.partitions.is_empty() {
            place.databases.remove(name);
        }
        if place.databases.is_empty() {
            self.0.remove(namespace);
        }
    }
}

impl Held {
    fn answer(&mut self, namespace: &str, name: &str) -> Option<(String, Answers)> {
        let seen = self.seen.as_ref()?;
        let mut partitions: Vec<&PartitionSeen> = self.partitions.values().filter(|it| it.owner == seen.uid).collect();
        partitions.sort_by_key(|partition| partition.id);
        partitions.dedup_by_key(|partition| partition.id);
        let shown = partitions.iter().zip(1..=seen.partitions).take_while(|(it, id)| i64::from(it.id) == i64::from(*id));
        if shown.count() < seen.partitions as usize {
            return self.answers.take().filter(|(uid, _)| *uid == seen.uid); // as it was: clients never see half of a database
        }
        partitions.truncate(seen.partitions as usize);
        Some((seen.uid.clone(), answers(namespace, name, seen, &partitions)))
    }
}

fn answers(namespace: &str, name: &str, seen: &DatabaseSeen, partitions: &[&PartitionSeen]) -> Answers {
    let (namespace, name) = (namespace.to_owned(), name.to_owned());
    let shares: Vec<_> = partitions.iter().map(|partition| first_partition(partition)).collect();
    let group = first::PartitionGroup {
        id: Some(first::PartitionGroupId { name: name.clone(), namespace: namespace.clone() }),
        spec: Some(spec(seen)),
        partitions: shares.clone(),
    };
    let id = first::DatabaseId { name: name.clone(), namespace: namespace.clone() };
    let shares2 = partitions.iter().map(|partition| second_partition(partition)).collect();
    let id2 = second::DatabaseId { name, namespace };
    Answers {
        groups: item(&group),
        first: item(&first::Database { id: Some(id), partitions: shares }),
        second: item(&second::Database { id: Some(id2), partitions: shares2 }),
    }
}

/// A list of one item.
fn item(message: &impl Message) -> Result<Encoded, TooLong> {
    let mut list = Vec::new();
    put(1, message, &mut list);
    match list.len() > limits::LIST_BYTES_MAX {
        true => Err(TooLong),
        false => Ok(Encoded(list.into())),
    }
}

/// Lists as one. One that is too long is given up before it is made.
fn joined<'a>(lists: impl Iterator<Item = &'a Result<Encoded, TooLong>>) -> Result<Encoded, TooLong> {
    let mut all = Vec::new();
    for list in lists {
        let Encoded(list) = list.as_ref().map_err(|too_long| *too_long)?;
        if all.len() + list.len() > limits::LIST_BYTES_MAX {
            return Err(TooLong);
        }
        all.extend_from_slice(list);
    }
    Ok(Encoded(all.into()))
}

/// The spec that was requested, or would have been.
fn spec(seen: &DatabaseSeen) -> first::PartitionGroupSpec {
    let group = seen.group.as_ref();
    first::PartitionGroupSpec {
        partitions: seen.partitions,
        partition_size: group.map_or(0, |group| group.partition_size),
        protocol: group.map(|group| prost_types::Any { type_url: group.type_url.clone(), value: group.value.clone() }),
    }
}

fn first_partition(seen: &PartitionSeen) -> first::Partition {
    let endpoints = seen.endpoints.iter().map(|it| first::PartitionEndpoint { host: it.host.clone(), port: it.port });
    first::Partition { partition_id: seen.id, endpoints: endpoints.collect() }
}

fn second_partition(seen: &PartitionSeen) -> second::Partition {
    let endpoints = seen.endpoints.iter().map(|it| second::PartitionEndpoint { host: it.host.clone(), port: it.port });
    let partition_id = Some(second::PartitionId { partition: seen.id });
    second::Partition { partition_id, endpoints: endpoints.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(uid: &str, partitions: u32) -> Option<DatabaseSeen> {
        Some(DatabaseSeen { uid: uid.into(), partitions, group: None })
    }

    fn partition(owner: &str, id: i32) -> Option<PartitionSeen> {
        let endpoints = vec![Endpoint { host: format!("d-{id}"), port: 5678 }];
        Some(PartitionSeen { owner: owner.into(), id, endpoints })
    }

    fn view(database_seen: Option<DatabaseSeen>, partitions: &[Option<PartitionSeen>]) -> Databases {
        let mut view = Databases::default();
        view.put_database("n", "d", database_seen);
        for (at, seen) in partitions.iter().enumerate() {
            view.put_partition("n", &format!("d-{}", at + 1), seen.clone().map(|seen| ("d", seen)));
        }
        view
    }

    #[test]
    fn a_database_is_shown_when_all_its_partitions_exist() {
        let mut view = view(database("u", 2), &[partition("u", 1)]);
        assert_eq!((view.one("n", "d"), view.all("n")), (None, Ok(Encoded::default())));
        view.put_partition("n", "d-2", partition("u", 2).map(|seen| ("d", seen)));
        assert_eq!(view.one("n", "d"), Some(view.all("n")));
        assert!(view.partition("n", "d", 2).is_some() && view.partition("n", "d", 3).is_none());
    }

    #[test]
    fn partitions_of_an_older_database_of_the_name_do_not_count() {
        let view = view(database("new", 1), &[partition("old", 1)]);
        assert_eq!(view.one("n", "d"), None);
    }

    #[test]
    fn a_database_that_grows_is_shown_as_it_was() {
        let mut view = view(database("u", 1), &[partition("u", 1)]);
        let before = view.one("n", "d");
        view.put_database("n", "d", database("u", 2));
        assert_eq!(view.one("n", "d"), before);
        view.put_partition("n", "d-2", partition("u", 2).map(|seen| ("d", seen)));
        assert_ne!(view.one("n", "d"), before);
        view.put_database("n", "d", database("other", 2));
        assert_eq!(view.one("n", "d"), None, "another database of the name is another database");
    }

    #[test]
    fn lists_are_sorted_and_forget_what_went() {
        let mut view = Databases::default();
        for name in ["b", "a"] {
            view.put_database("n", name, database(name, 1));
            view.put_partition("n", &format!("{name}-1"), partition(name, 1).map(|seen| (name, seen)));
        }
        let first = |view: &Databases, name: &str| view.first("n", name).unwrap().0;
        let (a, b) = (first(&view, "a"), first(&view, "b"));
        assert_eq!(first(&view, ""), [a.clone(), b].concat());
        view.put_database("n", "b", None);
        assert_eq!(first(&view, ""), a);
        assert_eq!(view.groups("m", ""), Ok(Encoded::default()));
    }

    #[test]
    fn a_list_that_fits_into_no_message_is_not_made_and_each_database_is_answered_still() {
        let mut view = Databases::default();
        let database_of = |view: &mut Databases, name: &str, endpoints: usize| {
            let endpoint = Endpoint { host: "h".repeat(250), port: 5678 };
            let seen = PartitionSeen { owner: "u".into(), id: 1, endpoints: vec![endpoint; endpoints] };
            view.put_database("n", name, database("u", 1));
            view.put_partition("n", &format!("{name}-1"), Some((name, seen)));
        };
        let each = limits::LIST_BYTES_MAX / 260 / 4;
        (0..3).for_each(|at| database_of(&mut view, &format!("d{at}"), each));
        let bytes = view.all("n").unwrap().0.len();
        assert!((limits::LIST_BYTES_MAX / 2..=limits::LIST_BYTES_MAX).contains(&bytes), "{bytes}");
        (3..5).for_each(|at| database_of(&mut view, &format!("d{at}"), each));
        assert_eq!((view.all("n"), view.first("n", ""), view.groups("n", "")), (Err(TooLong), Err(TooLong), Err(TooLong)));
        assert!(view.one("n", "d4").unwrap().is_ok() && view.first("n", "d4").is_ok() && view.groups("n", "d4").is_ok());
        database_of(&mut view, "d0", 5 * each);
        assert_eq!(view.one("n", "d0"), Some(Err(TooLong)));
    }

    #[test]
    fn nothing_is_kept_of_what_went_or_changed_its_label() {
        let mut view = Databases::default();
        for at in 0..1000 {
            let (name, seen) = (format!("d{at}"), partition("u", 1).unwrap());
            view.put_database("n", &name, database("u", 1));
            view.put_partition("n", "p", Some((&name, seen)));
            view.put_database("n", &name, None);
        }
        let place = &view.0["n"];
        assert_eq!((place.databases.len(), place.homes.len()), (1, 1), "the last one that it names");
        view.put_partition("n", "p", None);
        assert!(view.0.is_empty());
    }
}
