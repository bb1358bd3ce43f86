//! Spellings of one URI: what the tests of the key rules and those against real servers go through.

pub const LOCKED: &str = "/docs/locked";

/// What becomes of a write to a spelling while [`LOCKED`] is locked with all below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// 423 `locked`.
    Locked,
    /// 400 `ambiguous_path`: servers read it in different ways.
    Ambiguous,
    /// 400 `bad_request`.
    Malformed,
    /// It reaches the service: another resource is meant.
    Served,
}

use Outcome::{Ambiguous, Locked, Malformed, Served};

/// Paths, as they stand in a request target or in `Destination`.
pub const PATHS: &[(&str, Outcome)] = &[
    // As it is.
    ("/docs/locked", Locked),
    // Percent-encodings, in either case.
    ("/%64ocs/locked", Locked),
    ("/docs/%6Cocked", Locked),
    ("/docs/%6cocked", Locked),
    ("/docs/locke%64", Locked),
    ("/%64%6F%63%73/%6C%6F%63%6B%65%64", Locked),
    ("/%64%6f%63%73/%6c%6f%63%6b%65%64", Locked),
    // Encoded slashes.
    ("/docs%2Flocked", Locked),
    ("/docs%2flocked", Locked),
    ("/%2Fdocs/locked", Locked),
    ("/%2F%2fdocs%2F%2flocked%2f", Locked),
    ("/docs/locked%2F", Locked),
    // Dot segments, plain and encoded.
    ("/./docs/locked", Locked),
    ("/docs/./locked", Locked),
    ("/docs/././locked/.", Locked),
    ("/docs/%2E/locked", Locked),
    ("/docs/%2e/locked", Locked),
    ("/docs%2F.%2Flocked", Locked),
    ("/docs/x/../locked", Ambiguous),
    ("/x/../docs/locked", Ambiguous),
    ("/../docs/locked", Ambiguous),
    ("/docs/locked/..", Ambiguous),
    ("/docs/locked/x/..", Ambiguous),
    ("/docs/x/%2E%2E/locked", Ambiguous),
    ("/docs/x/%2e%2E/locked", Ambiguous),
    ("/docs/x/.%2e/locked", Ambiguous),
    ("/docs/x/%2E./locked", Ambiguous),
    ("/docs/x%2F..%2Flocked", Ambiguous),
    ("/docs/x%2f%2e%2e%2flocked", Ambiguous),
    ("/x%2F..%2F..%2Fdocs%2Flocked", Ambiguous),
    // Doubled and trailing slashes.
    ("/docs//locked", Locked),
    ("/docs/locked/", Locked),
    ("/docs/locked//", Locked),
    ("/docs///locked///", Locked),
    // Query.
    ("/docs/locked?", Locked),
    ("/docs/locked?x=1", Locked),
    ("/docs/locked?/../free", Locked),
    ("/docs/locked/?a=%2F", Locked),
    // What lies below it.
    ("/docs/locked/child", Locked),
    ("/docs/locked%2Fchild", Locked),
    ("/docs/locked/a%00b", Locked),
    ("/docs/locked/%zz", Locked),
    ("/docs/locked/%", Locked),
    ("/docs/locked/%FF", Locked),
    ("/docs/locked/%25", Locked),
    ("/docs/locked/a;v=1", Locked),
    // Other names, which only look like it.
    ("/docs/%256Cocked", Served),
    ("/docs%252Flocked", Served),
    ("/docs/x/%252E%252E/locked", Served),
    ("/docs/locked%00", Served),
    ("/docs/%00locked", Served),
    ("/docs/locked%", Served),
    ("/docs/locked%2", Served),
    ("/docs/%6locked", Served),
    ("/docs/locked%20", Served),
    ("/docs/locked%23x", Served),
    ("/docs/locked%3Fx", Served),
    ("/docs/locked%5C", Served),
    ("/docs/locked;v=1", Served),
    ("/docs/locked%3Bv=1", Served),
    ("/docs/locked.", Served),
    ("/docs/.locked", Served),
    ("/docs/...", Served),
    ("/docs/..locked", Served),
    ("/docs/Locked", Served),
    ("/docs/locked%FF", Served),
    ("/docs%C0%AFlocked", Served),
    ("/docs/%E2%85%BCocked", Served),
    ("/docs/free", Served),
    ("/docs", Served),
    ("/", Served),
];

/// Targets that only a request line can have.
pub const TARGETS: &[(&str, Outcome)] = &[
    ("//docs/locked", Locked),
    ("///docs/locked", Locked),
    ("http://example.org/docs/locked", Locked),
    ("https://other.example:8443/docs/locked", Locked),
    ("http://user:secret@example.org/docs/locked", Locked),
    ("http://[::1]/docs//locked/", Locked),
    ("http://example.org/%64ocs%2flocked?x", Locked),
    ("http://example.org//docs/locked", Locked),
    ("http://example.org/docs/x/../locked", Ambiguous),
    ("/docs/locked#fragment", Locked),
    ("/docs/locked?x#fragment", Locked),
    ("/docs/locked?x#/../free", Locked),
    ("/docs\\locked", Served),
    ("http://example.org", Served),
    ("*", Served),
];

/// `Destination`s that are more than a path, or no path at all.
pub const DESTINATIONS: &[(&str, Outcome)] = &[
    ("http://example.org/docs/locked", Locked),
    ("HTTP://EXAMPLE.ORG/docs/locked", Locked),
    ("https://other.example:8443/docs/locked", Locked),
    ("http://example.org:80/%64ocs%2Flocked/", Locked),
    ("http://user:secret@example.org/docs/locked", Locked),
    ("http://[::1]/docs/locked", Locked),
    ("http://example.org//docs//locked", Locked),
    ("http://example.org/docs/locked?x=1", Locked),
    ("dav://example.org/docs/locked", Locked),
    (" /docs/locked ", Locked),
    ("\t/docs/locked", Locked),
    ("http://example.org/docs/x/../locked", Ambiguous),
    ("http://example.org/x/%2e%2e/docs/locked", Ambiguous),
    // A path or a host.
    ("//docs/locked", Ambiguous),
    ("//example.org/docs/locked", Ambiguous),
    ("///docs/locked", Ambiguous),
    ("http:/docs/locked", Ambiguous),
    ("http:///docs/locked", Ambiguous),
    ("file:///docs/locked", Ambiguous),
    ("http://docs%2Flocked/free", Ambiguous),
    ("http://example.org?/docs/locked", Ambiguous),
    // A slash or not.
    ("/docs\\locked", Ambiguous),
    ("/docs/x\\..\\locked", Ambiguous),
    ("\\docs\\locked", Ambiguous),
    ("http:\\\\example.org\\docs\\locked", Ambiguous),
    ("http://example.org\\@other.example/docs/locked", Ambiguous),
    // A part of the path or not.
    ("/docs/locked#fragment", Ambiguous),
    ("http://example.org/docs/locked#fragment", Ambiguous),
    ("/docs/locked?x#fragment", Ambiguous),
    // Dropped or not.
    ("/docs/lo\tcked", Malformed),
    ("/docs/locked x", Malformed),
    ("/docs/free /../locked", Malformed),
    ("http://example.org\t/docs/locked", Malformed),
    // Relative to something, or nothing at all.
    ("", Malformed),
    ("locked", Malformed),
    ("./locked", Malformed),
    ("../docs/locked", Malformed),
    ("docs/locked", Malformed),
    ("?/docs/locked", Malformed),
    ("http:", Malformed),
    ("http:docs/locked", Malformed),
    ("<http://example.org/docs/locked>", Malformed),
    ("*", Malformed),
];
