//! A push past the client's own check: it goes through, by the protocol, unless the repository's hook asks the server.

use std::{fs, os::unix::fs::PermissionsExt};

use super::kit::{Client, Git, left_out, server};

#[test]
fn the_hook_is_told_every_path_that_somebody_else_has_locked() {
    let server = server("memory:");
    let [ann, ben] = ["ann", "ben"].map(|user| Client::new(&server, "paint", user));
    ann.locked("a b.bin");
    ann.locked("ä%.bin");
    ben.locked("c.bin");
    assert_eq!(ben.may_push(&[]).status, 200);
    assert_eq!(ben.may_push(&["c.bin", "d.bin"]).status, 200);
    let refused = ben.may_push(&["c.bin", "ä%.bin", "d.bin", "a b.bin", "a b.bin"]);
    let told: Vec<_> = refused.text().lines().map(|line| line.split(" since ").next().unwrap().to_owned()).collect();
    assert_eq!(
        (refused.status, &told[..]),
        (409, &["a b.bin is locked by ann".into(), "ä%.bin is locked by ann".into()][..])
    );
    assert_eq!(ann.may_push(&["a b.bin", "ä%.bin"]).status, 200);
    assert_eq!(ann.may_push(&["c.bin"]).status, 409);
    assert_eq!(Client::new(&server, "music", "ben").may_push(&["a b.bin"]).status, 200);
    let many: Vec<String> = (0..3_000).map(|number| number.to_string()).chain(["ä%.bin".to_owned()]).collect();
    assert_eq!(ben.may_push(&many.iter().map(String::as_str).collect::<Vec<_>>()).status, 409, "it is the last of many");
    let many: Vec<String> = (0..10_001).map(|number| number.to_string()).collect();
    assert_eq!(ben.may_push(&many.iter().map(String::as_str).collect::<Vec<_>>()).status, 413);
}

#[test]
fn a_repository_that_asks_takes_no_push_of_what_somebody_else_has_locked() {
    let server = server("memory:");
    let Some(git) = Git::found(&server) else { return };
    if !git.command(".").args(["-c", "alias.curl=!curl", "curl", "--version"]).output().is_ok_and(|it| it.status.success()) {
        return left_out("the hook of git_lfs is not tried; to have it: apt-get install curl");
    }
    let ann = Client::new(&server, "paint", "ann");
    git.clone("ben");
    git.run("ben", &["config", &format!("lfs.{}.locksverify", git.url("ben")), "false"]);
    git.run("ben", &["lfs", "track", "*.bin"]);
    git.commit("ben", "a cover.bin", "first");
    git.commit("ben", "ä.txt", "no pointer, and locked all the same");
    git.run("ben", &["push", "--quiet", "origin", "HEAD:main"]);

    // Without the hook the lock is a courtesy.
    let id = ann.locked("a cover.bin");
    git.commit("ben", "a cover.bin", "second");
    git.run("ben", &["push", "--quiet", "origin", "HEAD:main"]);

    let hook = git.path("origin.git/hooks/pre-receive");
    fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/git_lfs/pre-receive"), &hook).expect("the hook is there");
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).expect("it can be run");
    let push = |user: &str, arguments: &[&str]| {
        let mut command = git.command("ben");
        command.env("LOCKS", git.hook_url()).env("REMOTE_USER", user).args(["push", "origin"]).args(arguments);
        git.ran(&mut command)
    };
    let refused = |arguments: &[&str], path: &str| {
        let told = push("ben", arguments).expect_err(path);
        assert!(told.contains(&format!("{path} is locked by ann")) && told.contains("pre-receive hook declined"), "{told}");
    };

    // An update, a new branch, several at once, and one that only moves back.
    git.commit("ben", "a cover.bin", "third");
    refused(&["HEAD:main"], "a cover.bin");
    refused(&["HEAD:refs/heads/other"], "a cover.bin");
    refused(&["HEAD~1:refs/heads/fine", "HEAD:main"], "a cover.bin");
    refused(&["--force", "HEAD~2:main"], "a cover.bin");
    // A change that a later one undoes is in the history all the same.
    git.commit("ben", "a cover.bin", "second");
    refused(&["HEAD:main"], "a cover.bin");
    git.run("ben", &["reset", "--quiet", "--hard", "HEAD~2"]);
    // Moved, and so gone from where it was.
    git.run("ben", &["mv", "a cover.bin", "b cover.bin"]);
    git.run("ben", &["commit", "--quiet", "--message", "moved"]);
    refused(&["HEAD:main"], "a cover.bin");
    git.run("ben", &["reset", "--quiet", "--hard", "HEAD~1"]);
    ann.locked("ä.txt");
    git.commit("ben", "ä.txt", "changed");
    refused(&["HEAD:main"], "ä.txt");

    // Who holds it, what it does not touch, a branch of what is known, and one that goes.
    push("ann", &["HEAD:main"]).expect("ann has locked it");
    // A merge brings that to another branch, and is no change of his who merges. One that throws it away is.
    let merged = |strategy: &str| {
        git.run("ben", &["checkout", "--quiet", "--detach", "main~1"]);
        git.commit("ben", "topic.bin", "first");
        git.run("ben", &["merge", "--quiet", "--no-edit", &format!("--strategy={strategy}"), "main"]);
    };
    merged("ours");
    refused(&["HEAD:main"], "ä.txt");
    merged("ort");
    push("ben", &["HEAD:refs/heads/topic"]).expect("what is new in it is free");
    git.run("ben", &["checkout", "--quiet", "main"]);
    git.commit("ben", "free.bin", "first");
    push("ben", &["HEAD:main"]).expect("nobody has locked this");
    push("ben", &["HEAD~1:refs/heads/old"]).expect("nothing of this is new");
    push("ben", &[":refs/heads/old"]).expect("a branch is no file");
    assert_eq!(ann.unlock(&id, false).status, 200);
    git.commit("ben", "a cover.bin", "fourth");
    push("ben", &["HEAD:main"]).expect("it is free");

    // Whom nobody knows, and a server that is not there: nothing is pushed.
    git.commit("ben", "free.bin", "second");
    push("", &["HEAD:main"]).expect_err("nobody says who pushes");
    drop(server);
    // The objects went there before; only the branch is left to push.
    let mut command = git.command("ben");
    command.env("LOCKS", git.hook_url()).env("REMOTE_USER", "ben").args(["push", "--no-verify", "origin", "HEAD:main"]);
    assert!(git.ran(&mut command).expect_err("nobody can be asked").contains("hook declined"));
}
