//! A real Kubernetes control plane on any machine, shared by tests, demo and benchmarks.
//!
//! ```text
//! assets ──► guard ──► controlplane ◄── nodes           a cluster: programs (built by `go`), processes, who may do what, nodes
//!                           ▲  ▲                        that kwok plays,
//!                           │  └── machines ◄── realm   or real ones, in namespaces of their own,
//!                           │          ▲                with images that are made here (image, images) and shared volumes
//!                           │       volumes
//!             kubectl, audit, eventually, loopback      what one does with it
//!                           ▲
//!               dist ──► deploy ──► controller          the controller on it, under its own account: a process, or pods (deployed)
//!                           ▲               ▲           and who speaks with it: grpc in Rust, goclient in Go
//!                         world       cluster ◄── demo  for tests; for a person
//! ```
//!
//! Nothing here reads `KUBECONFIG`: nobody's own cluster is ever touched.

pub mod paths;

pub mod assets;
pub mod go;
pub mod guard;
pub mod pki;
pub mod ports;
pub mod signal;

pub mod controlplane;
pub mod nodes;

pub mod image;
pub mod images;
pub mod machines;
pub mod realm;
pub mod volumes;

pub mod audit;
pub mod eventually;
pub mod kubectl;
pub mod loopback;

pub mod controller;
pub mod deploy;
pub mod deployed;
pub mod dist;
pub mod goclient;
pub mod grpc;
pub mod load;
pub mod oldclients;

pub mod cluster;
pub mod demo;
pub mod world;
