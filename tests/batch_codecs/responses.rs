//! `ResponsesBatch` by itself.

use serde_json::{Value, json};
use tower_lock::{
    Refusal, RefusalCode,
    batch::{BatchCodec, Item, ResponsesBatch, Unmergeable, Verdicts},
};

use super::kit::{answer, bulk, keep, locked, merged, read, refused, verdicts};

fn plain() -> ResponsesBatch {
    ResponsesBatch::at(["/records"])
}

/// Items as OData and Graph have them.
fn requests() -> ResponsesBatch {
    plain().items_in("requests").urls_in("url").methods_in("method")
}

#[test]
fn items_may_be_a_member_of_the_body() {
    let codec = plain().items_in("items");
    let post = bulk("POST", "/records");
    let items = read(&codec, &post, r#"{"x":[{"id":9}],"items":[{"id":1},{}],"y":{"items":7}}"#).unwrap();
    assert_eq!(items, [Item::write_or_create("1").named("1"), Item::nothing()]);
    for body in [
        r#"[{"id":1}]"#,
        "{}",
        r#"{"items":null}"#,
        r#"{"items":{}}"#,
        r#"{"items":[{"id":1}],"items":[{"id":2}]}"#,
        r#"{"items":[{"id":1}],"Items":[{"id":2}]}"#,
        r#"{"Items":[{"id":1}]}"#,
    ] {
        assert_eq!(refused(&codec, &post, body).0, 400, "{body}");
    }
    let body = r#" {"v":1e0, "items" : [ {"id":1} , {"id":2}, {"id":3} ] ,"w":[ ]} "#;
    assert_eq!(keep(&codec, &post, body, &[0, 2]), r#" {"v":1e0, "items" : [{"id":1},{"id":3}] ,"w":[ ]} "#);
}

#[test]
fn ids_may_be_those_of_another_collection() {
    let codec = plain().members_of("/archive/records/").ids_in("key");
    let items = read(&codec, &bulk("DELETE", "/records"), r#"[{"key":"a b","id":7}]"#).unwrap();
    assert_eq!(items, [Item::unlink("/archive/records/a%20b").named("a b")]);
    let root = plain().members_of("/");
    assert_eq!(read(&root, &bulk("PUT", "/records"), r#"[{"id":1}]"#).unwrap(), [Item::write_or_create("/1").named("1")]);
}

#[test]
fn items_may_name_a_url_and_a_method() {
    let items = read(
        &requests(),
        &bulk("POST", "/records"),
        r#"{"requests":[
            {"id":"a","method":"PUT","url":"/docs/1"},
            {"id":2,"method":"delete","url":"/docs/a%20b","body":{"url":"/x","url":"/y"}},
            {"method":"GET","url":"/docs/3"},
            {"url":"/docs/4"}
        ]}"#,
    );
    assert_eq!(
        items.unwrap(),
        [
            Item::write_or_create("/docs/1").named("a"),
            Item::unlink("/docs/a%20b").named("2"),
            Item::nothing(),
            Item::write_or_create("/docs/4"),
        ]
    );
    for item in [
        r#"{"method":"PUT"}"#,
        r#"{"method":"PUT","url":null}"#,
        r#"{"method":"PUT","url":""}"#,
        r#"{"method":"PUT","url":"docs/1"}"#,
        r#"{"method":"PUT","url":"../docs/1"}"#,
        r#"{"method":"PUT","url":"//host/docs/1"}"#,
        r#"{"method":"PUT","url":"http://host/docs/1"}"#,
        r#"{"method":"PUT","url":"/docs?id=1"}"#,
        r#"{"method":"PUT","url":"/docs/1#x"}"#,
        r#"{"method":"PUT","url":"/docs/a b"}"#,
        r#"{"method":"PUT","url":"/docs\\1"}"#,
        r#"{"method":"PUT","url":"/docs/\u00fc"}"#,
        r#"{"method":"PUT","url":"/docs/1","URL":"/docs/2"}"#,
        r#"{"method":"PUT","url":"/docs/1","url":"/docs/2"}"#,
        r#"{"method":"GET","method":"PUT","url":"/docs/1"}"#,
        r#"{"method":"GET","Method":"PUT","url":"/docs/1"}"#,
        r#"{"method":"MOVE","url":"/docs/1"}"#,
        r#"{"method":"PROPFIND","url":"/docs/1"}"#,
        r#"{"method":"","url":"/docs/1"}"#,
        r#"{"method":" GET","url":"/docs/1"}"#,
        r#"{"method":true,"url":"/docs/1"}"#,
    ] {
        let body = format!(r#"{{"requests":[{item}]}}"#);
        assert_eq!(refused(&requests(), &bulk("POST", "/records"), body).0, 400, "{item}");
    }
}

#[test]
fn urls_may_be_below_a_root_of_the_service() {
    let body = r#"{"requests":[{"method":"PUT","url":"/docs/1"}]}"#;
    for (root, path) in [("/v1.0", "/v1.0/docs/1"), ("v1.0/", "/v1.0/docs/1"), ("/", "/docs/1"), ("", "/docs/1")] {
        let items = read(&requests().urls_below(root), &bulk("POST", "/records"), body).unwrap();
        assert_eq!(items, [Item::write_or_create(path)], "{root}");
    }
}

#[test]
fn an_item_depends_on_those_that_it_names() {
    let item = |id: &str| Item::write_or_create(id).named(id);
    let read_as = |body: &str| read(&plain(), &bulk("PUT", "/records"), body);
    assert_eq!(
        read_as(r#"[{"id":"a","dependsOn":["c","b","c"]},{"id":"b","dependsOn":3},{"id":"c","dependsOn":"a"},{"id":3,"dependsOn":[]},{"id":"e","dependsOn":null}]"#)
            .unwrap(),
        [item("a").after(1).after(2), item("b").after(3), item("c").after(0), item("3"), item("e")]
    );
    assert_eq!(read_as(r#"[{"id":"a","dependsOn":"a"}]"#).unwrap(), [item("a").after(0)], "it depends on itself anyhow");
    for body in [
        r#"[{"id":"a","dependsOn":"b"}]"#,
        r#"[{"id":"a","dependsOn":0}]"#,
        r#"[{"id":"a","dependsOn":["b"]},{"id":"b"},{"id":"b"}]"#,
        r#"[{"id":"a","dependsOn":{"b":1}},{"id":"b"}]"#,
        r#"[{"id":"a","dependsOn":[["b"]]},{"id":"b"}]"#,
        r#"[{"id":"a","dependsOn":true},{"id":"b"}]"#,
        r#"[{"id":"a","dependsOn":"b","dependsOn":[]},{"id":"b"}]"#,
        r#"[{"id":"a","dependson":"b"},{"id":"b"}]"#,
        r#"[{"id":"a","dependsOn":"B"},{"id":"b"}]"#,
    ] {
        assert_eq!(refused(&plain(), &bulk("PUT", "/records"), body).0, 400, "{body}");
    }
    let many = |count: usize| format!(r#"[{{"id":"a","dependsOn":[{}]}}]"#, vec![r#""a""#; count].join(","));
    assert_eq!(read_as(&many(1_000)).unwrap(), [item("a").after(0)]);
    assert_eq!(refused(&plain(), &bulk("PUT", "/records"), many(1_001)).0, 400);
    let same = read_as(r#"[{"id":"a"},{"id":"a"},{"id":"b","dependsOn":[]}]"#).unwrap();
    assert_eq!(same, [item("a"), item("a"), item("b")], "a name twice is no fault unless somebody goes by it");
}

#[test]
fn items_of_a_group_depend_on_each_other() {
    let item = |id: &str| Item::write_or_create(id).named(id);
    let read_as = |body: &str| read(&plain(), &bulk("PUT", "/records"), body);
    let body = r#"[{"id":"a","atomicityGroup":"g"},{"id":"b"},{"id":"c","atomicityGroup":"g","dependsOn":"b"},
        {"id":"d","dependsOn":"g"},{"id":"e","atomicityGroup":"g"},{"id":"f","atomicityGroup":7},{"id":"h","atomicityGroup":null}]"#;
    assert_eq!(
        read_as(body).unwrap(),
        [
            item("a").after(2).after(4),
            item("b"),
            item("c").after(0).after(1),
            item("d").after(0),
            item("e").after(0),
            item("f"),
            item("h"),
        ]
    );
    for body in [
        r#"[{"id":"a","atomicityGroup":["g"]}]"#,
        r#"[{"id":"a","atomicityGroup":"g","atomicityGroup":"h"}]"#,
        r#"[{"id":"a","atomicitygroup":"g"}]"#,
        r#"[{"id":"g"},{"id":"b","atomicityGroup":"g"},{"id":"c","dependsOn":"g"}]"#,
    ] {
        assert_eq!(refused(&plain(), &bulk("PUT", "/records"), body).0, 400, "{body}");
    }
    let other = plain().groups_in("together");
    let items =
        read(&other, &bulk("PUT", "/records"), r#"[{"id":"a","together":1},{"id":"b","together":"1","atomicityGroup":[]}]"#);
    assert_eq!(items.unwrap(), [item("a").after(1), item("b").after(0)]);
}

#[test]
fn positions_are_written_anew_where_items_are_taken_out() {
    let codec = plain().depends_on_positions_in("after");
    let put = bulk("PUT", "/records");
    let body = r#"[{"id":"a"},{"id":"b","after": [0]},{"id":"c"},{"id":"d","after":[ 2,4 ],"x":1},{"id":"e","after":2}]"#;
    let items = read(&codec, &put, body).unwrap();
    assert_eq!(items[3], Item::write_or_create("d").named("d").after(2).after(4));
    assert_eq!(keep(&codec, &put, body, &[2, 3, 4]), r#"[{"id":"c"},{"id":"d","after":[0,2],"x":1},{"id":"e","after":0}]"#);
    let view = tower_lock::RequestView::of(&put);
    assert!(codec.keep(view, &body.into(), &[3, 4]).is_err(), "nobody is kept without those that it depends on");
    for body in [
        r#"[{"id":"a","after":1}]"#,
        r#"[{"id":"a","after":-1}]"#,
        r#"[{"id":"a","after":"a"}]"#,
        r#"[{"id":"a","after":0.0}]"#,
        r#"[{"id":"a","after":"+0"}]"#,
        r#"[{"id":"a","after":"00"}]"#,
    ] {
        assert_eq!(refused(&codec, &put, body).0, 400, "{body}");
    }
}

#[test]
fn other_types_are_read_where_that_was_said() {
    let mut request = bulk("PUT", "/records");
    request.headers_mut().insert("content-type", "application/vnd.bulk+json".parse().unwrap());
    assert_eq!(refused(&plain(), &request, "[]").0, 415);
    assert!(read(&plain().media_type("application/vnd.bulk+json"), &request, "[]").is_ok());
}

#[tokio::test]
async fn the_answer_to_a_refused_item_is_the_problem_that_it_would_have_been_alone() {
    let refusal = locked().await;
    let verdicts =
        Verdicts::new([(Some("a".to_owned()), None), (Some("b".to_owned()), Some(refusal.clone())), (None, None)]);
    let body = r#"{"responses":[{"id":"a","status":204},{"status":201,"body":1.0}],"x":1}"#;
    let merged = merged(&plain(), &verdicts, body).unwrap();
    let problem: Value = serde_json::from_slice(&tower_lock::respond::Problem::of(&refusal).to_json()).unwrap();
    assert_eq!(
        merged,
        json!({
            "responses": [{"id": "a", "status": 204}, {"id": "b", "status": 423, "body": problem}, {"status": 201, "body": 1.0}],
            "x": 1,
        })
    );
    assert_eq!(problem["locks"][0]["owner"]["id"], "qa");
    assert!(problem["retry_after"].is_u64() && problem["locks"][0]["expires_at"].is_string());
}

#[tokio::test]
async fn where_all_are_refused_the_answer_is_207() {
    let refusal = Refusal::new(RefusalCode::FailedDependency, "Item 0 is refused.");
    let verdicts = Verdicts::new([(None, Some(locked().await)), (Some("b".to_owned()), Some(refusal))]);
    let response = plain().responses_in("results").merge(&verdicts, None).unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-type"]),
        (207, &"application/json".parse().unwrap())
    );
    let body: Value = serde_json::from_slice(response.body()).unwrap();
    let results = body["results"].as_array().unwrap();
    let statuses: Vec<&Value> = results.iter().map(|result| &result["status"]).collect();
    assert_eq!((statuses, results.len()), (vec![&json!(423), &json!(424)], 2));
    assert_eq!((&results[1]["id"], &results[1]["body"]["code"]), (&json!("b"), &json!("failed_dependency")));
    assert!(results[0].get("id").is_none(), "it has no name");
}

#[tokio::test]
async fn an_answer_that_does_not_fit_is_not_passed_on() {
    let verdicts = verdicts(3, &[1], &locked().await);
    for body in [
        "",
        "[]",
        "[{},{}]",
        "{}",
        r#"{"responses":[]}"#,
        r#"{"responses":[{}]}"#,
        r#"{"responses":[{},{},{}]}"#,
        r#"{"responses":[{},1]}"#,
        r#"{"responses":[{},{}],"responses":[]}"#,
        r#"{"responses":[{},{}]"#,
    ] {
        assert!(matches!(merged(&plain(), &verdicts, body), Err(Unmergeable { .. })), "{body}");
    }
}

#[tokio::test]
async fn done_is_what_the_service_says_it_has_done() {
    let name = |name: &str| Some(name.to_owned());
    let verdicts = Verdicts::new([
        (name("a"), None),
        (name("b"), Some(locked().await)),
        (name("c"), None),
        (name("same"), None),
        (name("same"), None),
        (None, None),
    ]);
    let done = |responses: &str| {
        let mut done = plain().done(&verdicts, &answer(format!(r#"{{"responses":[{responses}]}}"#)));
        done.sort_unstable();
        done
    };
    let each = |status: u16| format!(r#"{{"status":{status}}}"#);
    assert_eq!(done(&[200, 204, 201, 299, 200].map(each).join(",")), [0, 2, 3, 4, 5]);
    assert_eq!(done(&[202, 207, 404, 500, 200].map(each).join(",")), [5]);
    assert_eq!(done(&[200, 200].map(each).join(",")), Vec::<usize>::new(), "as many as were sent, or nothing is known");
    let named = |id: &str, status: u16| format!(r#"{{"id":"{id}","status":{status}}}"#);
    assert_eq!(
        done(&[named("c", 500), named("a", 204), each(500), named("same", 200), each(500)].join(",")),
        [0, 4],
        "by name"
    );
    assert_eq!(
        done(&[named("b", 200), named("x", 200), each(500), each(500), named("same", 200)].join(",")),
        Vec::<usize>::new(),
        "a refused one, one that nobody knows, and one of two of a name are not done"
    );
    assert_eq!(done(&[r#"{"status":"204"}"#; 5].join(",")).len(), 5);
    assert_eq!(done(&[r#"{"status":2e2}"#; 5].join(",")), Vec::<usize>::new());
    assert_eq!(done(&[r#"{"status":500,"status":200}"#; 5].join(",")), Vec::<usize>::new());
}
