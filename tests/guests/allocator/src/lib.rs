//! The plugin of `tests/guests/web` with an allocator of its own, here the standard one. Built together with a plugin that has the SDK's
//! feature `allocator` it would have that too, so it is built alone.

#[path = "../../web/src/lib.rs"]
mod web;

pub use web::{WebClass, plugin};

#[global_allocator]
static MEMORY: std::alloc::System = std::alloc::System;
