//! The map.

pub mod crd;
pub mod wit;
