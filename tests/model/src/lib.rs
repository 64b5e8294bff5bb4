//! The controller as a state machine, explored exhaustively to a stated bound: what one database's passes do
//! ([`reconciliation`]) and which replica may write ([`election`]). What is decided is decided by the functions that the
//! controller calls; what stands at its edges (the API server, caches, the sequence of a pass) is modelled here. Knows no
//! client.
//!
//! A model states what it leaves out. Here that is: watch events that come one by one (a cache jumps to what is there, kind
//! by kind), objects that are on their way out, the health of pods and what restarts them, statuses of Partitions, the gRPC
//! API, requests that the API server refuses as invalid, and pauses (a pass that waits is a pass that comes later). A
//! replica that begins to lead has seen which revision of the plugin is installed, unless a test sets it otherwise. Each
//! test states how many disturbances it interleaves with everything else; [`Seeded`](reconciliation::Seeded) faults show
//! that the model finds what it is for.

pub mod election;
pub mod reconciliation;
