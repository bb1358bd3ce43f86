//! What can be read in two ways is not read, by any codec: each row is a way round a lock in some service.

use tower_lock::batch::{BatchCodec, Item, ResponsesBatch, VaultBatch};

use super::kit::{bulk, read, refused};

const VAULT: &str = "/api/v23.2/objects/capa__c";

fn each(test: impl Fn(&dyn BatchCodec, &str)) {
    test(&VaultBatch::new(), VAULT);
    test(&ResponsesBatch::at(["/records"]), "/records");
}

#[test]
fn an_item_is_the_member_of_its_id() {
    each(|codec, target| {
        for (body, id) in [
            (r#"[{"id":"7"}]"#, "7"),
            (r#"[{"id":7}]"#, "7"),
            (r#"[{"id":-7}]"#, "-7"),
            (r#"[{"id":0}]"#, "0"),
            (r#"[{"id":9007199254740991}]"#, "9007199254740991"),
            (r#" [ { "x" : {"id":"8","id":"9"} , "id" : "7" } ] "#, "7"),
            (r#"[{"\u0069d":"7"}]"#, "7"),
            (r#"[{"id":"\u0037"}]"#, "7"),
            (r#"[{"id":"7","ids":"8","i":1,"d":2,"idx":3," di":4}]"#, "7"),
            (r#"[{"id":"ü b;v=1"}]"#, "ü b;v=1"),
            (r#"[{"id":"\ud83d\ude00"}]"#, "😀"),
            (r#"[{"id":"..."}]"#, "..."),
            (r#"[{"id":"null"}]"#, "null"),
        ] {
            for (method, item) in [
                ("PUT", Item::write_or_create(Item::segment(id))),
                ("PATCH", Item::write_or_create(Item::segment(id))),
                ("POST", Item::write_or_create(Item::segment(id))),
                ("DELETE", Item::unlink(Item::segment(id))),
            ] {
                assert_eq!(read(codec, &bulk(method, target), body).unwrap(), [item.named(id)], "{method} {body}");
            }
        }
    });
}

#[test]
fn an_id_is_one_segment() {
    for (id, segment) in
        [("7", "7"), ("a b", "a%20b"), ("50%", "50%25"), ("a/b", "a%2Fb"), ("a?b#c", "a%3Fb%23c"), ("ü", "%C3%BC")]
    {
        assert_eq!(Item::segment(id), segment);
    }
}

#[test]
fn an_id_that_can_be_read_in_two_ways_is_refused() {
    each(|codec, target| {
        for body in [
            // Which of two counts, is for each reader to say.
            r#"[{"id":"7","id":"8"}]"#,
            r#"[{"id":"7","id":"7"}]"#,
            r#"[{"id":"7","\u0069\u0064":"8"}]"#,
            r#"[{"id":null,"id":"8"}]"#,
            // As is, whether case and blanks of names do.
            r#"[{"id":"7","ID":"8"}]"#,
            r#"[{"Id":"8","id":"7"}]"#,
            r#"[{"ID":"8"}]"#,
            r#"[{"iD":"8"}]"#,
            r#"[{" id":"8","id":"7"}]"#,
            r#"[{"id\t":"8","id":"7"}]"#,
            r#"[{"id\u0000x":"8","id":"7"}]"#,
            r#"[{"\u0131d":"8","id":"7"}]"#,
            // Numbers that are one for some and two for others.
            r#"[{"id":7.0}]"#,
            r#"[{"id":7e0}]"#,
            r#"[{"id":70e-1}]"#,
            r#"[{"id":-0}]"#,
            r#"[{"id":9007199254740992}]"#,
            r#"[{"id":-9007199254740993}]"#,
            r#"[{"id":99999999999999999999999}]"#,
            r#"[{"id":1e400}]"#,
            // No ids at all.
            r#"[{"id":true}]"#,
            r#"[{"id":["7"]}]"#,
            r#"[{"id":{"id":"7"}}]"#,
            r#"[{"id":""}]"#,
            // Texts that become others when they are trimmed, decoded once more, or put into a path.
            r#"[{"id":" 7"}]"#,
            r#"[{"id":"7 "}]"#,
            r#"[{"id":"7\n"}]"#,
            r#"[{"id":"\u00a07"}]"#,
            r#"[{"id":"\u30007"}]"#,
            r#"[{"id":"7\u0000"}]"#,
            r#"[{"id":"7\u0000x"}]"#,
            r#"[{"id":"7\u0085x"}]"#,
            r#"[{"id":"%37"}]"#,
            r#"[{"id":"7%"}]"#,
            r#"[{"id":"x/7"}]"#,
            r#"[{"id":"x%2F7"}]"#,
            r#"[{"id":"7/"}]"#,
            r#"[{"id":"/7"}]"#,
            r#"[{"id":"x\\7"}]"#,
            r#"[{"id":"."}]"#,
            r#"[{"id":".."}]"#,
            r#"[{"id":"../7"}]"#,
            r#"[{"id":"7?x"}]"#,
            r#"[{"id":"7#x"}]"#,
            // Half a character.
            r#"[{"id":"\ud83d"}]"#,
            r#"[{"id":"7","\ud83d":1}]"#,
        ] {
            for method in ["PUT", "POST", "DELETE"] {
                assert_eq!(refused(codec, &bulk(method, target), body).0, 400, "{method} {body}");
            }
        }
    });
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    each(|codec, target| {
        let told = |body| refused(codec, &bulk("PUT", target), body).1;
        assert_eq!(told(r#"[{"id":"7"},{"id":"7","id":"8"}]"#), "item 1: id: the member stands twice");
        assert_eq!(told(r#"[{"id":"7"},{"name":"8"}]"#), "item 1: id: it is missing");
        assert_eq!(told(r#"[{"id":"7"},{"id":7.5}]"#), "item 1: id: a text or a whole number, without point and exponent");
        assert!(told(r#"[{"id":"7"},7]"#).starts_with("item 1: expected an object"));
        assert!(told("[").starts_with("this is not JSON: "));
    });
}

#[test]
fn only_json_to_the_letter_is_read() {
    each(|codec, target| {
        let utf_16: Vec<u8> = r#"[{"id":"7"}]"#.encode_utf16().flat_map(u16::to_le_bytes).collect();
        for body in [
            &b""[..],
            b" ",
            b"null",
            b"{}",
            br#"{"id":"7"}"#,
            br#""[]""#,
            br#"[["7"]]"#,
            br#"["7"]"#,
            br"[7]",
            br"[null]",
            br#"[{"id":"7"}"#,
            br#"[{"id":"7"}]]"#,
            br#"[{"id":"7"}][]"#,
            br#"[{"id":"7"}] x"#,
            br#"[{"id":"7"},]"#,
            br#"[{"id":"7",}]"#,
            br#"[{"id":'7'}]"#,
            br#"[{id:"7"}]"#,
            br#"[{"id":"7"} /* {"id":"8"} */]"#,
            br#"[{"id":"7","n":NaN}]"#,
            br#"[{"id":"7","n":-Infinity}]"#,
            br#"[{"id":"7","n":01}]"#,
            br#"[{"id":"7","n":+1}]"#,
            br#"[{"id":"7","n":.5}]"#,
            b"[{\"id\":\"7\",\"t\":\"a\nb\"}]",
            br#"[{"id":"7","t":"\x"}]"#,
            b"\xef\xbb\xbf[{\"id\":\"7\"}]",
            b"[{\"id\":\"7\xff\"}]",
            b"[{\"id\":\"7\",\"t\":\"\xed\xa0\xbd\"}]",
            b"[{\"id\":\"7\",\"t\":\"\xff\"}]",
            b"{\"id\":\"7\"}\n{\"id\":\"8\"}",
            b"id,name\n7,x",
            &utf_16,
        ] {
            assert_eq!(refused(codec, &bulk("PUT", target), body).0, 400, "{:?}", String::from_utf8_lossy(body));
        }
        assert_eq!(read(codec, &bulk("PUT", target), "[]").unwrap(), []);
    });
}

#[test]
fn another_type_than_json_in_utf_8_is_415() {
    each(|codec, target| {
        for media in ["text/csv", "text/plain", "application/json; charset=utf-16", "application/xml", "multipart/form-data"]
        {
            let mut request = bulk("PUT", target);
            request.headers_mut().insert("content-type", media.parse().unwrap());
            assert_eq!(refused(codec, &request, r#"[{"id":"7"}]"#).0, 415, "{media}");
        }
        let mut request = bulk("PUT", target);
        request.headers_mut().remove("content-type");
        assert_eq!(refused(codec, &request, r#"[{"id":"7"}]"#).0, 415);
    });
}

#[test]
fn another_method_in_a_header_or_a_parameter_is_400() {
    each(|codec, target| {
        let mut request = bulk("POST", target);
        request.headers_mut().insert("x-http-method-override", "DELETE".parse().unwrap());
        assert_eq!(refused(codec, &request, "[]").0, 400);
        assert_eq!(refused(codec, &bulk("POST", &format!("{target}?_method=DELETE")), "[]").0, 400);
        assert_eq!(refused(codec, &bulk("MERGE", target), "[]").0, 400);
    });
}

#[test]
fn a_value_that_is_not_read_may_be_as_deep_and_as_long_as_it_likes() {
    each(|codec, target| {
        let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
        let long = "x".repeat(9 << 20);
        let body = format!(r#"[{{"deep":{deep},"id":"7","long":"{long}"}}]"#);
        assert_eq!(read(codec, &bulk("PUT", target), body).unwrap().len(), 1);
        // Where it is read, it is no id.
        assert_eq!(refused(codec, &bulk("PUT", target), format!(r#"[{{"id":{deep}}}]"#)).0, 400);
    });
}

#[test]
fn more_items_than_there_may_be_are_413_however_small_they_are() {
    let many = |count: usize| format!("[{}]", vec![r#"{"id":7}"#; count].join(","));
    let codecs: [(&dyn BatchCodec, &str, usize); 4] = [
        (&VaultBatch::new(), VAULT, 500),
        (&VaultBatch::new().most(3), VAULT, 3),
        (&ResponsesBatch::at(["/records"]), "/records", 1_000),
        (&ResponsesBatch::at(["/records"]).most(0), "/records", 0),
    ];
    for (codec, target, most) in codecs {
        assert_eq!(read(codec, &bulk("PUT", target), many(most)).unwrap().len(), most);
        assert_eq!(refused(codec, &bulk("PUT", target), many(most + 1)).0, 413);
        assert_eq!(refused(codec, &bulk("PUT", target), many(1_000_000)).0, 413);
        assert_eq!(refused(codec, &bulk("PUT", target), format!("{}x", many(most + 1))).0, 400, "it is no JSON either");
    }
}

#[test]
fn every_spelling_of_its_path_is_a_bulk_write() {
    let codec = VaultBatch::new();
    let is_bulk = |target: &str| codec.is_bulk(tower_lock::RequestView::of(&http::Request::put(target).body(()).unwrap()));
    for target in [
        VAULT,
        "/api/v23.2/vobjects/capa__c?x=1",
        "//api/v23.2/vobjects/capa__c/",
        "/api/v23.2/%6fbjects/capa__c",
        "/api/v23.2/OBJECTS/capa__c",
        "/api/v23.2/vobjects;v=2/capa__c",
        "/api/v23.2/x/../objects/capa__c",
        "http://vault.example/api/v23.2/objects/capa__c",
        // What is left of it where a router has stripped the rest.
        "/v23.2/vobjects/capa__c",
        "/objects/capa__c",
    ] {
        assert!(is_bulk(target), "{target}");
    }
    for target in ["/api/v23.2/objects", "/api/v23.2/objects/capa__c/V1", "/api/v23.2/objects/documents/1/lock", "/"] {
        assert!(!is_bulk(target), "{target}");
    }
    let elsewhere = VaultBatch::new().at(["/bulk/{object}"]);
    let view = |target: &str| http::Request::put(target).body(()).unwrap();
    assert!(elsewhere.is_bulk(tower_lock::RequestView::of(&view("/bulk/capa__c"))));
    assert!(!elsewhere.is_bulk(tower_lock::RequestView::of(&view(VAULT))));
}
