//! The gRPC API of Atomix: its messages, what clients may see, and its services. It shares caches and Leases with the rest
//! of the controller, and nothing else: what it changes, it changes in Kubernetes.

pub mod api;
pub mod proto;
pub mod view;
