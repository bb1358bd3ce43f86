//! For callers of a 423: a retry policy, and locks held over HTTP. Feature `client`.
