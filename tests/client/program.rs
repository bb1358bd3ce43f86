//! The example `client`, against the example `hyper`.
#![cfg(unix)]

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use crate::support::example::{Example, built};

#[test]
fn who_holds_and_who_waits_come_to_their_ends() {
    let server = Example::start("hyper", &[]);
    let site = format!("http://{}", server.address());
    let run = |arguments: &[&str]| {
        let mut command = Command::new(built("client"));
        command.arg(&site).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("the example runs");
        let lines = BufReader::new(process.stdout.take().expect("its output is ours")).lines().map_while(Result::ok);
        (process, lines)
    };

    let (mut ann, mut ann_says) = run(&["ann", "hold", "/notes"]);
    assert_eq!(ann_says.next().as_deref(), Some("ann holds /notes; press enter to let go"));
    let (mut ben, mut ben_hears) = run(&["ben", "write", "/notes/1", "new text"]);
    let refusal = ben_hears.next().expect("he is told");
    assert!(refusal.starts_with("/notes/1 is locked through /notes until 20"), "{refusal}");
    // Enter, or the end of what is typed.
    drop(ann.stdin.take());
    assert_eq!(ann_says.next().as_deref(), Some("ann has let go of /notes"));
    let last = ben_hears.last().expect("he is answered");
    assert_eq!(last, "ben was answered 201 Created");
    assert!(ann.wait().unwrap().success() && ben.wait().unwrap().success());

    let (mut nobody, _) = run(&["ann", "hold"]);
    assert!(!nobody.wait().unwrap().success());
}
