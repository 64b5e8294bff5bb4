//! The types that every other crate uses: the resources that users write, the contract with plugins, kinds and live objects
//! of Kubernetes, grants, faults, names and limits. Plain data and plain functions: nothing here does I/O, waits or knows
//! the time.

#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod condition;
pub mod contract;
pub mod crd;
pub mod denied_kinds;
pub mod fault;
pub mod grants;
pub mod json_text;
pub mod labels;
pub mod limits;
pub mod message_text;
pub mod names;
pub mod object;
