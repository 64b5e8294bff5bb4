//! Cluster tests: sentences about states, on a real control plane.

#![allow(clippy::unwrap_used)]

mod cluster;
