//! What clients may do: the old API knows no credentials, so the host says it for all of them alike.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use tonic::Status;

/// What clients may do.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Nothing may be written.
    pub read_only: bool,
    /// Namespaces that may be written to; all if it is empty.
    pub write_namespaces: Vec<String>,
    /// Most groups in one namespace.
    pub groups_max: usize,
    /// Most primitives in one namespace.
    pub primitives_max: usize,
    /// Whether a member is taken only from the address of its Pod.
    pub member_addresses: bool,
}

impl Bounds {
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

    /// Whether a call from `from` may speak for a Pod that has these addresses.
    pub fn may_join(&self, pod: &str, addresses: &[IpAddr], from: Option<IpAddr>) -> Result<(), Status> {
        let from = from.map(|from| from.to_canonical());
        if !self.member_addresses || from.is_some_and(|from| addresses.contains(&from)) {
            return Ok(());
        }
        let from = from.map_or_else(|| "an unknown address".to_owned(), |from| from.to_string());
        let has = match addresses {
            [] => "has no address yet".to_owned(),
            addresses => format!("has {}", addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ")),
        };
        Err(Status::permission_denied(format!(
            "a member is taken only from the address of its Pod: the call comes from {from}, Pod {pod} {has} (--grpc-member-addresses)"
        )))
    }
}

/// How many objects of a kind are being made in each namespace, beyond those that are there.
#[derive(Clone, Default)]
pub struct Making(Arc<Mutex<BTreeMap<String, usize>>>);

/// A place that is taken until it is dropped.
pub struct Place {
    making: Making,
    namespace: String,
}

impl Making {
    /// Takes a place, unless the namespace is full.
    pub fn place(&self, what: &str, namespace: &str, there: usize, max: usize) -> Result<Place, Status> {
        let mut making = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let count = making.entry(namespace.to_owned()).or_default();
        if there + *count >= max {
            return Err(Status::resource_exhausted(format!("namespace {namespace} holds {max} {what}, which is the limit")));
        }
        *count += 1;
        Ok(Place { making: self.clone(), namespace: namespace.to_owned() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut making = self.making.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(count) = making.get_mut(&self.namespace) {
            *count -= 1;
            if *count == 0 {
                making.remove(&self.namespace);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    fn bounds() -> Bounds {
        let write_namespaces = vec!["a".to_owned()];
        Bounds { read_only: false, write_namespaces, groups_max: 1, primitives_max: 1, member_addresses: true }
    }

    #[test]
    fn writes_go_where_they_are_allowed() {
        assert!(bounds().may_write("a").is_ok());
        assert_eq!(bounds().may_write("b").unwrap_err().code(), Code::PermissionDenied);
        assert!(Bounds { read_only: true, ..bounds() }.may_write("a").is_err());
        assert!(Bounds { write_namespaces: Vec::new(), ..bounds() }.may_write("b").is_ok());
    }

    #[test]
    fn a_pod_speaks_from_its_own_address() {
        let [own, other, mapped] = ["10.0.0.1", "10.0.0.2", "::ffff:10.0.0.1"].map(|ip| ip.parse::<IpAddr>().unwrap());
        assert!(bounds().may_join("p", &[own], Some(own)).is_ok());
        assert!(bounds().may_join("p", &[own], Some(mapped)).is_ok());
        for (addresses, from) in [(&[own][..], Some(other)), (&[own], None), (&[], Some(own))] {
            assert_eq!(bounds().may_join("p", addresses, from).unwrap_err().code(), Code::PermissionDenied);
        }
        assert!(Bounds { member_addresses: false, ..bounds() }.may_join("p", &[], None).is_ok());
    }

    #[test]
    fn places_come_back() {
        let making = Making::default();
        let first = making.place("things", "n", 1, 2).unwrap();
        assert_eq!(making.place("things", "n", 1, 2).map(drop).unwrap_err().code(), Code::ResourceExhausted);
        drop(first);
        assert!(making.place("things", "n", 1, 2).is_ok());
    }
}
