//! The messages of `google.rpc` that a refusal is told in (`google/rpc/status.proto`, `google/rpc/error_details.proto`), as
//! far as they are used here. Numbers are those of the wire.

use std::collections::BTreeMap;

use prost::{Message, Name};

/// `google.rpc.Status`: the value of `grpc-status-details-bin`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Status {
    #[prost(int32, tag = "1")]
    pub(super) code: i32,
    #[prost(string, tag = "2")]
    pub(super) message: String,
    #[prost(message, repeated, tag = "3")]
    pub(super) details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Any {
    #[prost(string, tag = "1")]
    pub(super) type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) value: Vec<u8>,
}

impl Any {
    /// `message` under its name.
    pub(super) fn of<M: Message + Name>(message: &M) -> Self {
        Self { type_url: format!("type.googleapis.com/{}.{}", M::PACKAGE, M::NAME), value: message.encode_to_vec() }
    }
}

macro_rules! named {
    ($($message:ident),*) => {
        $(impl Name for $message {
            const NAME: &'static str = stringify!($message);
            const PACKAGE: &'static str = "google.rpc";
        })*
    };
}

named!(ErrorInfo, RetryInfo, PreconditionFailure, ResourceInfo, Help);

/// Which error it is, for a program.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ErrorInfo {
    #[prost(string, tag = "1")]
    pub(super) reason: String,
    #[prost(string, tag = "2")]
    pub(super) domain: String,
    #[prost(btree_map = "string, string", tag = "3")]
    pub(super) metadata: BTreeMap<String, String>,
}

/// When to try again.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    pub(super) retry_delay: Option<Span>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Span {
    #[prost(int64, tag = "1")]
    pub(super) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(super) nanos: i32,
}

/// What is not as it has to be.
#[derive(Clone, PartialEq, Message)]
pub(super) struct PreconditionFailure {
    #[prost(message, repeated, tag = "1")]
    pub(super) violations: Vec<Violation>,
}

/// One thing that is not as it has to be.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Violation {
    #[prost(string, tag = "1")]
    pub(super) kind: String,
    #[prost(string, tag = "2")]
    pub(super) subject: String,
    #[prost(string, tag = "3")]
    pub(super) description: String,
}

/// What was accessed, and whose it is.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ResourceInfo {
    #[prost(string, tag = "1")]
    pub(super) resource_type: String,
    #[prost(string, tag = "2")]
    pub(super) resource_name: String,
    #[prost(string, tag = "3")]
    pub(super) owner: String,
    #[prost(string, tag = "4")]
    pub(super) description: String,
}

/// Where to go from here.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Help {
    #[prost(message, repeated, tag = "1")]
    pub(super) links: Vec<Link>,
}

/// A place to go.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Link {
    #[prost(string, tag = "1")]
    pub(super) description: String,
    #[prost(string, tag = "2")]
    pub(super) url: String,
}
