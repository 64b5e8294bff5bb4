//! The edges that reconciling and serving share: caches that watches keep true, Leases that say who may write, clients of the API server
//! that give up in time, connections that others hold open, tasks that must never end, and counts of all
//! of it. Knows no plan and no plugin.

pub mod api_client;
pub mod cache;
pub mod connections;
pub mod leader;
pub mod metrics;

pub mod tasks;
