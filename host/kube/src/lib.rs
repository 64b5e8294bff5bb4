//! Everything that changes or reads the cluster for its own sake: plugins as they come and go, the pass over one database from what is
//! seen to what is written and reported, and the webhooks. Knows no gRPC.

pub mod apply;
pub mod catalog;
pub mod controller;
pub mod webhook;
