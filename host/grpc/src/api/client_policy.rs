//! What clients may do. The API has no credentials of users, so one policy, set by flags, holds for all clients.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use tonic::Status;

/// What clients may do.
#[derive(Clone, Debug)]
pub struct ClientPolicy {
    /// Whether clients may write nothing at all.
    pub read_only: bool,
    /// Namespaces that may be written to; all if it is empty.
    pub write_namespaces: Vec<String>,
    /// The one namespace whose databases this controller runs; those of all if there is none.
    pub scope: Option<String>,
    /// A namespace in which no database is run: the controller's own.
    pub without_databases: Option<String>,
    /// Most groups in one namespace.
    pub groups_max: usize,
    /// Most primitives in one namespace.
    pub primitives_max: usize,
    /// Whether a member is taken only from the address of its Pod.
    pub member_addresses: bool,
}

impl ClientPolicy {
    /// Whether clients may write to a namespace.
    pub fn may_write(&self, namespace: &str) -> Result<(), Status> {
        if self.read_only {
            return Err(Status::permission_denied("this API is read-only (--grpc-read-only)"));
        }
        if !self.write_namespaces.is_empty() && !self.write_namespaces.iter().any(|allowed| allowed == namespace) {
            let allowed = self.write_namespaces.join(", ");
            return Err(Status::permission_denied(format!(
                "clients may not write to namespace {namespace}, only to {allowed} (--grpc-write-namespaces)"
            )));
        }
        Ok(())
    }

    /// Whether clients may make a group in a namespace: not where it would never become a running database.
    pub fn may_make_group(&self, namespace: &str) -> Result<(), Status> {
        self.may_write(namespace)?;
        if self.without_databases.as_deref() == Some(namespace) {
            return Err(Status::failed_precondition(format!(
                "no database runs in {namespace}, the controller's own namespace (--allow-own-namespace)"
            )));
        }
        match self.scope.as_deref().filter(|scope| *scope != namespace) {
            Some(scope) => Err(Status::failed_precondition(format!(
                "this controller runs the databases of namespace {scope} alone, and none in {namespace} (--scope)"
            ))),
            None => Ok(()),
        }
    }

    /// Whether a call from `from` may act for a Pod that has these addresses.
    pub fn may_join(&self, pod: &str, addresses: &[IpAddr], from: Option<IpAddr>) -> Result<(), Status> {
        let from = from.map(|from| from.to_canonical());
        if !self.member_addresses || from.is_some_and(|from| addresses.contains(&from)) {
            return Ok(());
        }
        tracing::debug!(?from, pod, ?addresses, "a member is not taken from another address than that of its Pod");
        // The message holds no address but the caller's own, which a proxy may have changed.
        let from = from.map_or_else(|| "an unknown address".to_owned(), |from| from.to_string());
        Err(Status::permission_denied(format!(
            "a member is taken only from the address of its Pod, and this call comes from {from}, which is not that of Pod {pod} (--grpc-member-addresses)"
        )))
    }
}

/// How many objects of a kind are being created in each namespace, beyond those that exist: several calls together keep to the limit.
#[derive(Clone, Default)]
pub struct Reservations(Arc<Mutex<BTreeMap<String, usize>>>);

/// Room for one object, given back when it is dropped.
pub struct Reservation {
    reserved: Reservations,
    namespace: String,
}

impl Reservations {
    /// Reserves room for one object, unless the namespace is full.
    pub fn reserve(&self, what: &str, namespace: &str, there: usize, max: usize) -> Result<Reservation, Status> {
        let mut reserved = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let count = reserved.get(namespace).copied().unwrap_or(0);
        if there + count >= max {
            return Err(Status::resource_exhausted(format!("namespace {namespace} holds {max} {what}, which is the limit")));
        }
        *reserved.entry(namespace.to_owned()).or_default() += 1;
        Ok(Reservation { reserved: self.clone(), namespace: namespace.to_owned() })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut reserved = self.reserved.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(count) = reserved.get_mut(&self.namespace) {
            *count -= 1;
            if *count == 0 {
                reserved.remove(&self.namespace);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    fn policy() -> ClientPolicy {
        let write_namespaces = vec!["a".to_owned()];
        ClientPolicy {
            read_only: false,
            write_namespaces,
            scope: None,
            without_databases: None,
            groups_max: 1,
            primitives_max: 1,
            member_addresses: true,
        }
    }

    #[test]
    fn writes_go_where_they_are_allowed() {
        assert!(policy().may_write("a").is_ok());
        assert_eq!(policy().may_write("b").unwrap_err().code(), Code::PermissionDenied);
        assert!(ClientPolicy { read_only: true, ..policy() }.may_write("a").is_err());
        assert!(ClientPolicy { write_namespaces: Vec::new(), ..policy() }.may_write("b").is_ok());
    }

    #[test]
    fn groups_are_made_where_databases_run() {
        let all = ClientPolicy { write_namespaces: Vec::new(), without_databases: Some("own".to_owned()), ..policy() };
        let one = ClientPolicy { scope: Some("a".to_owned()), ..all.clone() };
        let code = |policy: &ClientPolicy, namespace| policy.may_make_group(namespace).err().map(|status| status.code());
        assert_eq!(["a", "b", "own"].map(|it| code(&all, it)), [None, None, Some(Code::FailedPrecondition)]);
        assert_eq!(["a", "b"].map(|it| code(&one, it)), [None, Some(Code::FailedPrecondition)]);
        assert_eq!(code(&policy(), "b"), Some(Code::PermissionDenied), "what may not be written to first");
    }

    #[test]
    fn a_pod_joins_from_its_own_address() {
        let [own, other, mapped] = ["10.0.0.1", "10.0.0.2", "::ffff:10.0.0.1"].map(|ip| ip.parse::<IpAddr>().unwrap());
        assert!(policy().may_join("p", &[own], Some(own)).is_ok());
        assert!(policy().may_join("p", &[own], Some(mapped)).is_ok());
        for (addresses, from) in [(&[own][..], Some(other)), (&[own], None), (&[], Some(own))] {
            let refused = policy().may_join("p", addresses, from).unwrap_err();
            assert_eq!(refused.code(), Code::PermissionDenied);
            let leaked =
                addresses.iter().find(|it| refused.message().contains(&it.to_string()) && from.as_ref() != Some(*it));
            assert_eq!(leaked, None, "no client learns another's address here: {refused}");
        }
        assert!(ClientPolicy { member_addresses: false, ..policy() }.may_join("p", &[], None).is_ok());
    }

    #[test]
    fn places_come_back() {
        let reserved = Reservations::default();
        let first = reserved.reserve("things", "n", 1, 2).unwrap();
        assert_eq!(reserved.reserve("things", "n", 1, 2).map(drop).unwrap_err().code(), Code::ResourceExhausted);
        drop(first);
        assert!(reserved.reserve("things", "n", 1, 2).is_ok());
        for at in 0..1000 {
            assert!(reserved.reserve("things", &format!("full-{at}"), 2, 2).is_err());
        }
        assert_eq!(reserved.0.lock().unwrap().len(), 0, "nothing is kept of a refused call");
    }
}
