//! One file a subject.

mod machines;
