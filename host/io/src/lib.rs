//! The edges that reconciling and serving share: caches that watches keep current, Leases that decide which replica may
//! write, clients of the API server that give up in time, bounded connections, tasks that must never end, and metrics of all
//! of it. Knows no plan and no plugin.

pub mod api_client;
pub mod cache;
pub mod connections;
pub mod leader;
pub mod metrics;

pub mod tasks;
