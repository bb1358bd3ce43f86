//! One path of a repository is one lock: no two paths share one, and no path has two.

use serde_json::json;

use super::kit::{Client, in_query, server};

#[test]
fn paths_that_git_tells_apart_are_locked_apart() {
    let server = server("memory:");
    let [ann, ben] = ["ann", "ben"].map(|user| Client::new(&server, "paint", user));
    let paths = [
        "a.bin",
        "A.bin",
        "a.bin ",
        " a.bin",
        "a bin",
        "a+bin",
        "a%20bin",
        "a%2520bin",
        "a%2Fb",
        "a%2fb",
        "a/b",
        "a\\b",
        "%",
        "%%",
        "%25",
        "%00",
        "%2E%2E/a.bin",
        "100% sure.psd",
        "ä.bin",
        "a\u{308}.bin",
        "深い/絵.psd",
        "🎨.psd",
        "a?b#c",
        "a;v=1",
        "a&b=c",
        "a\"b'c",
        "a\nb",
        "a\tb\u{7f}",
        "\u{202e}a.bin",
        "...",
        "..a",
        ".gitattributes",
        "a/.gitignore",
        "~",
        "con",
        "x/y/z",
        "-rf",
    ];
    let mut ids = Vec::new();
    for path in paths {
        let granted = ann.lock(path);
        assert_eq!(granted.status, 201, "{path:?} {granted:?}");
        assert_eq!(granted.json()["lock"]["path"], path, "it is shown as it was sent");
        ids.push(granted.json()["lock"]["id"].as_str().unwrap().to_owned());
    }
    for (path, id) in paths.iter().zip(&ids) {
        let refused = ben.lock(path);
        refused.failure(409);
        assert_eq!(refused.json()["lock"]["id"], id[..], "{path:?}");
        let (found, _) = ben.list(&format!("path={}", in_query(path))).locks();
        assert_eq!(found.len(), 1, "{path:?}");
        assert_eq!((&found[0]["id"], &found[0]["path"]), (&json!(id), &json!(path)));
    }
    assert_eq!(ben.list("").locks().0.len(), paths.len());
    // Escapes of JSON are no part of a path.
    ben.raw("locks", br#"{"path":"\u0061.bin"}"#).failure(409);
}

/// `art` may be a file on one branch, and a folder on another.
#[test]
fn a_lock_covers_its_file_alone() {
    let server = server("memory:");
    let [ann, ben] = ["ann", "ben"].map(|user| Client::new(&server, "paint", user));
    ann.locked("art");
    ben.locked("art/cover.psd");
    ann.locked("art/cover.psd/x");
    assert_eq!(ann.list("path=art").locks().0.len(), 1);
    assert_eq!(ben.may_push(&["art/other.psd", "art/cover.psd"]).status, 200);
    assert_eq!(ben.may_push(&["art"]).status, 409);
}

#[test]
fn what_is_no_path_of_a_file_cannot_be_locked() {
    let server = server("memory:");
    let ann = Client::new(&server, "paint", "ann");
    for path in [
        "",
        "/",
        "/a.bin",
        "a.bin/",
        "a//b",
        "//a",
        ".",
        "..",
        "./a.bin",
        "a/.",
        "a/./b",
        "../a.bin",
        "a/../b",
        "a/..",
        ".git",
        ".git/config",
        "a/.GIT/hooks",
        "a\0b",
        "\0",
    ] {
        ann.lock(path).failure(422);
        // Nor is it anything that a push could change. To the hook a NUL ends a path.
        if !path.is_empty() && !path.contains('\0') {
            assert_eq!(ann.may_push(&[path]).status, 422, "{path:?}");
        }
    }
    assert_eq!(ann.list("").locks().0.len(), 0);

    // As long as a root may be, and longer: a percent sign takes three octets of it.
    ann.locked(&"a".repeat(8_191));
    ann.lock(&"a".repeat(8_192)).failure(400);
    ann.lock(&"%".repeat(2_731)).failure(400);
    assert_eq!(ann.list(&format!("path={}", "a".repeat(8_192))).locks().0.len(), 0);
}
