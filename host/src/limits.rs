//! Every limit in one place, each with its reason. Knows no other room.

