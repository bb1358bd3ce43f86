//! The example `terraform`: what a state backend for Terraform and OpenTofu has to answer, request by request on every
//! store, and with the real program.
//!
//! - `terraform/backend.rs` the protocol, without Terraform;
//! - `terraform/hostile.rs` bodies, names and numbers that no Terraform sends;
//! - `terraform/applies.rs` the program itself, through a relay that writes down what passes and loses answers.
#![cfg(unix)]

mod support;

#[path = "terraform/applies.rs"]
mod applies;
#[path = "terraform/backend.rs"]
mod backend;
#[path = "terraform/hostile.rs"]
mod hostile;
#[path = "terraform/http.rs"]
mod http;
#[path = "terraform/program.rs"]
mod program;
#[path = "terraform/relay.rs"]
mod relay;
