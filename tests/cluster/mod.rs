//! One file a subject.

mod account;
mod api;
mod classes;
mod controlplane;
mod conversion;
mod diff;
mod drift;
mod example;
mod foreign;
mod frames;
mod golden;
mod groups;
mod guard;
mod hostile;
mod members;
mod orders;
mod packaging;
mod peers;
mod plugins;
mod quiet;
mod replicas;
mod resources;
mod scale;
mod tidy;
mod tls;
mod wire;
