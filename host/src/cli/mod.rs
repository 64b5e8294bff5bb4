//! The commands: flags in, parts built, tasks joined.

pub mod crds;
