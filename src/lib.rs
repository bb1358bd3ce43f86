//! Resource locking for HTTP as tower middleware.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod lock;
pub mod request;
