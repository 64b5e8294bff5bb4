//! Every limit in one place, each with its reason. Knows no other room.

/// Longest value in the text of a difference, in characters: a log line stays readable when a whole list differs.
pub const DIFFERENCE_CHARS_MAX: usize = 160;
