//! The members of groups of peers. One encoding for each change, however many watch.

use std::collections::{BTreeMap, HashMap};

use std::sync::Arc;

use tokio::sync::watch;

use super::{Shared, Watch, Watched};
use crate::proto::{Encoded, membership as wire, put};

/// A Member, as much of it as clients may know, and which replica of the controller holds its streams.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // its fields explain themselves
pub struct MemberSeen {
    pub group: String,
    /// Name within the group.
    pub name: String,
    /// Host name or address.
    pub host: String,
    pub port: i32,
    /// Replica that holds its streams; empty for one that another client made.
    pub replica: String,
}

/// The members of all groups, and their watchers.
#[derive(Default)]
pub struct Members {
    /// Members by namespace and name of the object.
    objects: BTreeMap<(String, String), MemberSeen>,
    /// Names of objects by namespace, group, and name of the member.
    groups: BTreeMap<(String, String), BTreeMap<(String, String), ()>>,
    /// Channels to watchers, by namespace and group.
    watched: HashMap<Watched, watch::Sender<Encoded>>,
}

impl Members {
    /// A Member came, changed or went.
    pub fn put(&mut self, namespace: &str, object: &str, seen: Option<MemberSeen>) {
        let key = (namespace.to_owned(), object.to_owned());
        let before = match seen.clone() {
            Some(seen) => self.objects.insert(key, seen),
            None => self.objects.remove(&key),
        };
        let mut touched = Vec::new();
        if let Some(before) = before {
            let group = (namespace.to_owned(), before.group.clone());
            if let Some(names) = self.groups.get_mut(&group) {
                names.remove(&(before.name, object.to_owned()));
                if names.is_empty() {
                    self.groups.remove(&group);
                }
            }
            touched.push(group);
        }
        if let Some(seen) = seen {
            let group = (namespace.to_owned(), seen.group.clone());
            self.groups.entry(group.clone()).or_default().insert((seen.name, object.to_owned()), ());
            if !touched.contains(&group) {
                touched.push(group);
            }
        }
        for group in touched {
            self.notify(&group);
        }
    }

    /// The membership of a group now and whenever it is another, as encoded `JoinGroupResponse`s. A slow reader gets the
    /// latest.
    pub fn watch(shared: &Arc<Shared<Members>>, namespace: &str, group: &str) -> Watch<Encoded, Members> {
        Watch::new(shared, (namespace.to_owned(), group.to_owned()), Self::begin, Self::end)
    }

    fn begin(&mut self, group: &Watched) -> watch::Receiver<Encoded> {
        let now = self.encoded(group);
        self.watched.entry(group.clone()).or_insert_with(|| watch::Sender::new(now)).subscribe()
    }

    fn end(&mut self, group: &Watched) {
        if self.watched.get(group).is_some_and(watch::Sender::is_closed) {
            self.watched.remove(group);
        }
    }

    /// In how many groups a member is.
    pub fn groups_of(&self, namespace: &str, member: &str) -> usize {
        let within = self.objects.range((namespace.to_owned(), String::new())..);
        let within = within.take_while(|((of, _), _)| of == namespace);
        within.filter(|(_, seen)| seen.name == member).count()
    }

    /// Members whose streams a replica holds, or held: namespace and name of the object.
    pub fn of_replica<'a>(&'a self, replica: &'a str) -> impl Iterator<Item = (&'a (String, String), &'a MemberSeen)> {
        self.objects.iter().filter(move |(_, seen)| seen.replica == replica)
    }

    /// All replicas that members name.
    pub fn replicas(&self) -> impl Iterator<Item = &str> {
        self.objects.values().map(|seen| seen.replica.as_str()).filter(|replica| !replica.is_empty())
    }

    /// The Member of that object.
    pub fn object(&self, namespace: &str, object: &str) -> Option<&MemberSeen> {
        self.objects.get(&(namespace.to_owned(), object.to_owned()))
    }

    fn notify(&mut self, group: &(String, String)) {
        let Some(channel) = self.watched.get(group) else { return };
        if channel.is_closed() {
            self.watched.remove(group);
            return;
        }
        let now = self.encoded(group);
        channel.send_if_modified(|before| {
            let another = *before != now;
            *before = now;
            another
        });
    }

    fn encoded(&self, group: &(String, String)) -> Encoded {
        let (namespace, name) = group;
        let mut bytes = Vec::new();
        put(1, &wire::GroupId { name: name.clone(), namespace: namespace.clone() }, &mut bytes);
        let mut last = None;
        for (member, object) in self.groups.get(group).into_iter().flat_map(BTreeMap::keys) {
            if last.replace(member) == Some(member) {
                continue; // a second object for the same member
            }
            let Some(seen) = self.object(namespace, object) else { continue };
            let id = wire::MemberId { name: member.clone(), namespace: namespace.clone() };
            put(2, &wire::Member { id: Some(id), host: seen.host.clone(), port: seen.port }, &mut bytes);
        }
        Encoded(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(namespace: &str, name: &str) -> Watched {
        (namespace.to_owned(), name.to_owned())
    }

    fn member(name: &str, replica: &str) -> Option<MemberSeen> {
        let text = str::to_owned;
        Some(MemberSeen { group: text("g"), name: text(name), host: text("h"), port: 1, replica: text(replica) })
    }

    #[test]
    fn the_bytes_are_those_of_the_message() {
        let mut members = Members::default();
        members.put("n", "x", member("a", ""));
        // group_id=1 {name=1 "g", namespace=2 "n"}, members=2 {id=1 {name=1 "a", namespace=2 "n"}, host=2 "h", port=3 1}
        let expected = b"\x0a\x06\x0a\x01g\x12\x01n\x12\x0d\x0a\x06\x0a\x01a\x12\x01n\x12\x01h\x18\x01";
        assert_eq!(members.begin(&group("n", "g")).borrow().0, expected.as_slice());
    }

    #[test]
    fn watchers_wake_only_when_the_membership_is_another() {
        let mut members = Members::default();
        let mut watcher = members.begin(&group("n", "g"));
        members.put("n", "x", member("a", "one"));
        assert!(watcher.has_changed().unwrap());
        watcher.mark_unchanged();
        members.put("n", "x", member("a", "two"));
        assert!(!watcher.has_changed().unwrap(), "which replica holds a stream is not a client's business");
        members.put("n", "y", member("a", "two"));
        assert!(!watcher.has_changed().unwrap(), "a member is there once");
        members.put("n", "x", None);
        assert!(!watcher.has_changed().unwrap(), "and stays while an object has it");
        members.put("n", "y", None);
        assert_eq!(watcher.borrow_and_update().0, b"\x0a\x06\x0a\x01g\x12\x01n".as_slice());
    }

    #[test]
    fn what_is_kept_is_what_is_watched() {
        let shared = Arc::<Shared<Members>>::default();
        for at in 0..1000 {
            drop(Members::watch(&shared, &format!("n{at}"), &format!("g{at}")));
        }
        assert_eq!(shared.read().watched.len(), 0);
        let [first, second, other] = ["g", "g", "h"].map(|group| Members::watch(&shared, "n", group));
        drop(first);
        assert_eq!(shared.read().watched.len(), 2, "another still watches the same");
        drop((second, other));
        shared.write().put("n", "x", member("a", ""));
        assert_eq!((shared.read().watched.len(), shared.read().groups.len(), shared.read().objects.len()), (0, 1, 1));
        shared.write().put("n", "x", None);
        assert_eq!((shared.read().groups.len(), shared.read().objects.len()), (0, 0));
    }
}
