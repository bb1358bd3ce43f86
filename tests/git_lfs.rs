//! The example `git_lfs` keeps the locking protocol of Git LFS, on every store, whatever is sent to it; and the real client
//! works with it, where there is one.
#![cfg(unix)]

mod support;

mod git_lfs {
    mod hook;
    mod hostile;
    mod kit;
    mod objects;
    mod paths;
    mod protocol;
    mod races;
    mod real;
}
