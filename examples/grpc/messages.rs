//! What a generator would make of the service's `.proto`: one message and five methods.
//!
//! ```proto
//! package docs.v1;
//! message Text { string text = 1; }
//! service Documents {
//!   // The document is named by the metadata `document-id`, in all of them.
//!   rpc Get(Text) returns (Text);
//!   rpc Save(Text) returns (Text);
//!   rpc Erase(Text) returns (Text);
//!   // With a reason; answers with the token.
//!   rpc Lock(Text) returns (Text);
//!   // With the token.
//!   rpc Unlock(Text) returns (Text);
//! }
//! ```

/// The one message there is.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Text {
    #[prost(string, tag = "1")]
    pub(crate) text: String,
}

impl Text {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into() }
    }
}

/// Their paths.
pub(crate) mod method {
    pub(crate) const GET: &str = "/docs.v1.Documents/Get";
    pub(crate) const SAVE: &str = "/docs.v1.Documents/Save";
    pub(crate) const ERASE: &str = "/docs.v1.Documents/Erase";
    pub(crate) const LOCK: &str = "/docs.v1.Documents/Lock";
    pub(crate) const UNLOCK: &str = "/docs.v1.Documents/Unlock";
}
