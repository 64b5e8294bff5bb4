//! Tests on real nodes: a real kubelet, real containers, real storage. As root on Linux. One file a subject.

#![allow(clippy::unwrap_used)]

mod bare_nodes;
mod controller;
mod data_safety;
mod edits;
mod etcd;
mod inputs;
mod install;
mod member_failures;
mod oldclients;
mod start_script;
mod storage;
mod valkey;
