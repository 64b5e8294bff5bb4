//! One file a subject.

mod controlplane;
mod golden;
mod guard;
mod hostile;
