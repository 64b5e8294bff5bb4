//! A real Kubernetes control plane on any machine, shared by tests, demo and benchmarks.
//!
//! ```text
//! assets ──► guard ──► controlplane ◄── kwok_nodes      a cluster: programs (built by `go`), processes, users, nodes
//!                           ▲  ▲                        that kwok plays,
//!                           │  └── real_nodes           or real ones, in linux_namespaces of their own,
//!                           │          ▲                with images that are made here (image, images) and shared volumes
//!                           │       volumes
//!             kubectl, audit, eventually, local_http    what one does with it; proxy withholds answers of the API server
//!                           ▲
//!               dist ──► deploy ──► controller          the controller on it, under its own account: a process, or pods
//!                           ▲               ▲           (deployed_controller); and its clients: grpc in Rust, goclient in Go
//!                        fixture    dev_cluster ◄── demo  for tests; for a person
//!
//!             manifests, conditions                     what a test writes, and what it looks for
//!             golden, hostile, seed                     plugins as cases, and as they should not be; what is random
//!             usage                                     what a process takes, for benchmarks
//! ```
//!
//! Nothing here reads `KUBECONFIG`: a person's own cluster is never touched.

pub mod paths;

pub mod assets;
pub mod go;
pub mod guard;
pub mod pki;
pub mod ports;
pub mod signal;

pub mod controlplane;
pub mod kwok_nodes;

pub mod image;
pub mod images;
pub mod linux_namespaces;
pub mod reads;
pub mod real_nodes;
pub mod volumes;

pub mod audit;
pub mod eventually;
pub mod kubectl;
pub mod local_http;
pub mod proxy;
pub mod usage;

pub mod controller;
pub mod deploy;
pub mod deployed_controller;
pub mod dist;
pub mod gitops;
pub mod goclient;
pub mod grpc;
pub mod load_generator;
pub mod oldclients;
pub mod rights;

pub mod conditions;
pub mod golden;
pub mod hostile;
pub mod manifests;
pub mod seed;

pub mod demo;
pub mod dev_cluster;
pub mod fixture;
