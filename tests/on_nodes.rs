//! Tests on real nodes: a real kubelet, real containers, real storage. As root on Linux.

#![allow(clippy::unwrap_used)]

mod nodes;
