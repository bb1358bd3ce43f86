//! The real git-lfs: two clones of one repository, two users and an administrator.

use serde_json::Value;

use super::kit::{Git, server};

#[test]
fn people_lock_and_unlock_and_are_kept_from_pushing_what_others_have_locked() {
    let server = server("memory:");
    let Some(git) = Git::found(&server) else { return };
    git.clone("ann");
    git.run("ann", &["lfs", "track", "--lockable", "*.bin"]);
    git.commit("ann", "art/a cover.bin", "first");
    git.commit("ann", "notes.txt", "not for git-lfs");
    git.run("ann", &["push", "--quiet", "origin", "HEAD:main"]);
    // What is in the repository itself is a pointer, so what ben has comes from the object store.
    assert!(git.run("ann", &["show", "HEAD:art/a cover.bin"]).starts_with("version https://git-lfs"));
    git.clone("ben");
    assert_eq!(git.read("ben/art/a cover.bin"), "first");

    // Nobody has locked it.
    assert_eq!(git.run("ben", &["lfs", "locks"]).trim(), "");
    assert_eq!(git.run("ben", &["lfs", "locks", "--json"]).trim(), "[]");
    assert!(git.run("ann", &["lfs", "lock", "art/a cover.bin"]).contains("Locked art/a cover.bin"));

    let listed = git.run("ben", &["lfs", "locks"]);
    assert!(listed.contains("art/a cover.bin") && listed.contains("ann"), "{listed}");
    let listed: Value = serde_json::from_str(&git.run("ben", &["lfs", "locks", "--json"])).expect("JSON");
    assert_eq!((&listed[0]["path"], &listed[0]["owner"]["name"]), (&"art/a cover.bin".into(), &"ann".into()));
    let id = listed[0]["id"].as_str().expect("an id").to_owned();
    let verified = git.run("ann", &["lfs", "locks", "--verify"]);
    assert!(verified.starts_with("O art/a cover.bin"), "{verified}");
    let verified = git.run("ben", &["lfs", "locks", "--verify"]);
    assert!(verified.starts_with("  art/a cover.bin"), "{verified}");

    // Ben is told who has it.
    let refused = git.fails("ben", &["lfs", "lock", "art/a cover.bin"]);
    assert!(refused.contains("already created lock") && refused.contains("locked by ann"), "{refused}");

    // He changes it all the same, and does not get rid of it, nor of anything that comes with it.
    git.commit("ben", "art/a cover.bin", "by ben");
    git.commit("ben", "art/other.bin", "also by ben");
    let refused = git.fails("ben", &["push", "origin", "HEAD:main"]);
    assert!(refused.contains("Unable to push locked files") && refused.contains("art/a cover.bin - ann"), "{refused}");

    let refused = git.fails("ben", &["lfs", "unlock", "art/a cover.bin"]);
    assert!(refused.contains("locked by ann"), "{refused}");
    let refused = git.fails("ben", &["lfs", "unlock", "--force", "art/a cover.bin"]);
    assert!(refused.contains("you may not unlock it by force"), "{refused}");
    let refused = git.fails("ben", &["lfs", "unlock", "--force", "--id", &id]);
    assert!(refused.contains("you may not unlock it by force"), "{refused}");

    // Who holds it pushes.
    git.commit("ann", "art/a cover.bin", "by ann");
    git.run("ann", &["push", "--quiet", "origin", "HEAD:main"]);

    // An administrator ends it, and ben pushes.
    let admin = format!("lfs.url={}", git.url("admin"));
    git.run("ann", &["-c", &admin, "lfs", "unlock", "--force", "art/a cover.bin"]);
    assert_eq!(git.run("ann", &["lfs", "locks"]).trim(), "");
    git.run("ben", &["pull", "--quiet", "--rebase", "--strategy-option=theirs", "origin", "main"]);
    git.run("ben", &["push", "--quiet", "origin", "HEAD:main"]);
    git.run("ann", &["pull", "--quiet", "origin", "main"]);
    assert_eq!(git.read("ann/art/a cover.bin"), "by ben");
    assert_eq!(git.read("ann/art/other.bin"), "also by ben");

    // And now it is ben who has it.
    git.run("ben", &["lfs", "lock", "art/a cover.bin"]);
    let refused = git.fails("ann", &["lfs", "lock", "art/a cover.bin"]);
    assert!(refused.contains("locked by ben"), "{refused}");
    assert!(git.run("ben", &["lfs", "unlock", "art/a cover.bin"]).contains("Unlocked"));
    assert_eq!(git.run("ann", &["lfs", "locks"]).trim(), "");
}

/// More than a page of locks that are somebody else's: the client reads all of them before it pushes.
#[test]
fn a_lock_on_the_last_page_is_heeded() {
    let server = server("memory:");
    let Some(git) = Git::found(&server) else { return };
    git.clone("ben");
    git.run("ben", &["lfs", "track", "*.bin"]);
    let ann = super::kit::Client::new(&server, "paint", "ann");
    (0..150).for_each(|number| _ = ann.locked(&format!("art/{number}.bin")));
    ann.locked("zzz.bin");
    git.commit("ben", "zzz.bin", "by ben");
    let refused = git.fails("ben", &["push", "origin", "HEAD:main"]);
    assert!(refused.contains("Unable to push locked files") && refused.contains("zzz.bin - ann"), "{refused}");
    let listed = git.run("ben", &["lfs", "locks", "--json"]);
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    assert_eq!(listed.as_array().unwrap().len(), 151);
}
