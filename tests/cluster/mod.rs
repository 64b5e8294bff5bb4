//! One file a subject.

mod controlplane;
mod guard;
