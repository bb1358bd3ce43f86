//! The object store beside the locks keeps what it was sent, under the name that its content has.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::kit::{Client, server};

fn oid(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn an_object_is_sent_once_and_had_back_whole() {
    let server = server("memory:");
    let [ann, ben] = ["ann", "ben"].map(|user| Client::new(&server, "paint", user));
    let content: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();
    let oid = oid(&content);
    let batch = |client: Client<'_>, operation: &str| {
        let body = json!({
            "operation": operation, "transfers": ["lfs-standalone-file", "basic"], "hash_algo": "sha256",
            "ref": { "name": "refs/heads/main" }, "objects": [{ "oid": oid, "size": content.len() }],
        });
        let answer = client.post("objects/batch", &body);
        assert_eq!((answer.status, &answer.json()["transfer"]), (200, &json!("basic")), "{answer:?}");
        answer.json()["objects"][0].clone()
    };
    assert_eq!(batch(ben, "download")["error"]["code"], 404);
    let upload = batch(ann, "upload");
    let href = upload["actions"]["upload"]["href"].as_str().unwrap();
    assert_eq!(href, format!("http://{}/paint/info/lfs/objects/{oid}", server.address()));
    assert!(upload["actions"]["upload"]["header"]["Authorization"].as_str().unwrap().starts_with("Basic "));

    let path = format!("objects/{oid}");
    let [cut, changed] = [&content[1..], &[&content[1..], b"x"].concat()];
    for wrong in [cut, changed, b""] {
        ann.send("PUT", &path, &[], wrong).failure(422);
    }
    ben.send("GET", &path, &[], b"").failure(404);
    assert_eq!(ann.send("PUT", &path, &[], &content).status, 200);
    assert_eq!(ann.send("PUT", &path, &[], &content).status, 200, "once more does no harm");

    assert_eq!(batch(ben, "upload").get("actions"), None::<&Value>, "it is here already");
    assert!(batch(ben, "download")["actions"]["download"]["href"].is_string());
    let had = ben.send("GET", &path, &[], b"");
    assert!((had.status, had.header("content-type")) == (200, Some("application/octet-stream")) && had.body == content);
    let music = Client::new(&server, "music", "ann");
    music.send("GET", &path, &[], b"").failure(404);
}

#[test]
fn a_batch_that_means_nothing_is_refused() {
    let server = server("memory:");
    let ann = Client::new(&server, "paint", "ann");
    let some = json!([{ "oid": "0".repeat(64), "size": 1 }]);
    for (body, status) in [
        (json!({ "operation": "verify", "objects": some }), 422),
        (json!({ "operation": "upload", "transfers": ["tus"], "objects": some }), 422),
        (json!({ "operation": "upload", "hash_algo": "sha512", "objects": some }), 409),
        (json!({ "operation": "upload" }), 400),
        (json!({ "operation": "upload", "objects": [{ "oid": "x" }] }), 400),
        (json!({ "operation": "upload", "objects": [{ "oid": "x", "size": -1 }] }), 400),
        (json!({ "operation": "upload", "objects": vec![some[0].clone(); 1_001] }), 413),
    ] {
        ann.post("objects/batch", &body).failure(status);
    }
    for oid in ["", "x", "../../x", &"0".repeat(63), &"0".repeat(65), &"G".repeat(64), &"A".repeat(64)] {
        let body = json!({ "operation": "upload", "objects": [{ "oid": oid, "size": 1 }] });
        let object = &ann.post("objects/batch", &body).json()["objects"][0];
        assert_eq!((&object["error"]["code"], object.get("actions")), (&json!(422), None), "{oid}");
    }
}

/// 64 MiB. It is not even read to its end.
#[test]
fn an_object_that_is_too_large_is_refused() {
    let server = server("memory:");
    let ann = Client::new(&server, "paint", "ann");
    let large = vec![0; 64 * 1024 * 1024 + 1];
    let path = format!("objects/{}", "0".repeat(64));
    assert_eq!(ann.send("PUT", &path, &[], &large).status, 413);
    ann.send("GET", &path, &[], b"").failure(404);
}
