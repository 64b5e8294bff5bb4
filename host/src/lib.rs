//! The map.

pub mod cli;
pub mod crd;
pub mod wit;
