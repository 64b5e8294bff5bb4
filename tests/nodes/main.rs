//! Tests on real nodes: a real kubelet, real containers, real storage. As root on Linux. One file a subject.

#![allow(clippy::unwrap_used)]

mod controller;
mod etcd;
mod install;
mod machines;
mod oldclients;
mod storage;
mod valkey;
