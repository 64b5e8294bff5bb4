//! The map.

pub mod cli;
pub mod crd;
pub mod limits;
pub mod sandbox;
pub mod wit;
