//! Tests without a cluster: real components in a sandbox of this process, and the checkout itself. One file a subject.

#![allow(clippy::unwrap_used)]

mod catalog;
mod components;
mod contract;
mod edit_tables;
mod fuzz;
mod golden;
mod groups;
mod hostile;
mod links;
mod packaging;
mod process_guard;
mod reference;
mod render;
mod rights;
mod sdk;
mod tidy;
