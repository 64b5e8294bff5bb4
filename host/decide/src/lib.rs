//! What is decided, as plain functions over plain data: what a plan may depend on, which plans may be written, what differs
//! from what is live, what that would disturb, and how status reports it. Nothing here waits, knows a client, or reads the
//! time.

#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod admission;
pub mod diff;
pub mod intent;
pub mod last_taken;
pub mod misfit;
pub mod objects;
pub mod observe;
pub mod pass;
pub mod plan_churn;
pub mod schema;
pub mod status;
