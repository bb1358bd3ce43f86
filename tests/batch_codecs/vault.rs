//! `VaultBatch` by itself.

use http::Response;
use serde_json::{Value, json};
use tower_lock::{
    Refusal, RefusalCode,
    batch::{BatchCodec, Item, Unmergeable, VaultBatch, Verdicts},
};

use super::kit::{answer, bulk, keep, locked, merged, read, refused, verdicts};

const RECORDS: &str = "/api/v23.2/vobjects/capa__c";

#[test]
fn a_record_without_an_id_is_made_by_a_post_and_by_nothing_else() {
    let codec = VaultBatch::new();
    for body in [r#"[{"name":"x"}]"#, r#"[{"id":null}]"#, "[{}]"] {
        assert_eq!(read(&codec, &bulk("POST", RECORDS), body).unwrap(), [Item::nothing()], "{body}");
        for method in ["PUT", "PATCH", "DELETE"] {
            assert_eq!(refused(&codec, &bulk(method, RECORDS), body), (400, "item 0: id: it is missing".to_owned()));
        }
    }
}

#[test]
fn records_are_named_by_another_field_only_where_that_was_told_of() {
    let plain = VaultBatch::new();
    let target = format!("{RECORDS}?idParam=external_id__v");
    let body = r#"[{"external_id__v":"E1"}]"#;
    assert_eq!(refused(&plain, &bulk("PUT", &target), body).0, 400);
    assert_eq!(read(&plain, &bulk("PUT", &format!("{RECORDS}?idParam=id")), r#"[{"id":"7"}]"#).unwrap().len(), 1);

    let codec = VaultBatch::new().id_param("external_id__v", |external| match external {
        "E1" => Some("V1".to_owned()),
        "8" => Some("V8".to_owned()),
        "dots" => Some("..".to_owned()),
        _ => None,
    });
    let read_as = |method: &str, body: &str| read(&codec, &bulk(method, &target), body);
    assert_eq!(read_as("PUT", body).unwrap(), [Item::write_or_create("V1").named("E1")]);
    assert_eq!(read_as("DELETE", r#"[{"external_id__v":8}]"#).unwrap(), [Item::unlink("V8").named("8")]);
    assert_eq!(
        read_as("POST", r#"[{"external_id__v":"new"},{}]"#).unwrap(),
        [Item::nothing().named("new"), Item::nothing()]
    );
    for body in [
        r#"[{"external_id__v":"new"}]"#,
        r#"[{"external_id__v":"E1","id":"V2"}]"#,
        r#"[{"external_id__v":"E1","id":null}]"#,
        r#"[{"external_id__v":"E1","External_ID__v":"8"}]"#,
        r#"[{"external_id__v":"E1","external_id__v":"8"}]"#,
        r#"[{"external_id__v":"dots"}]"#,
        r#"[{"id":"V1"}]"#,
    ] {
        assert_eq!(refused(&codec, &bulk("PUT", &target), body).0, 400, "{body}");
    }
    for query in [
        "idParam=other__v",
        "idParam=",
        "idParam=external_id__v&idParam=id",
        "idParam=external_id__v&idparam=id",
        "IDPARAM=external_id__v",
        "%69dParam=External_id__v",
        "+idParam=external_id__v",
        "idParam=id&idParam=id",
    ] {
        assert_eq!(refused(&codec, &bulk("PUT", &format!("{RECORDS}?{query}")), "[]").0, 400, "{query}");
    }
    // Without the parameter the field is one like any other.
    assert_eq!(
        read(&codec, &bulk("PUT", RECORDS), r#"[{"id":"7","external_id__v":"E1","External_id__v":1}]"#).unwrap(),
        [Item::write_or_create("7").named("7")]
    );
}

#[test]
fn kept_records_keep_their_bytes() {
    let body = " [ {\"id\" : 1,\t\"x\":1.00e+2} ,\n{\"id\":\"2\",\"\\u0061\":\"\\u00fc\"},{\"id\":3}\r\n] ";
    let kept = |kept: &[usize]| keep(&VaultBatch::new(), &bulk("PUT", RECORDS), body, kept);
    assert_eq!(kept(&[0, 2]), " [{\"id\" : 1,\t\"x\":1.00e+2},{\"id\":3}] ");
    assert_eq!(kept(&[1]), " [{\"id\":\"2\",\"\\u0061\":\"\\u00fc\"}] ");
    assert_eq!(kept(&[]), " [] ");
}

#[tokio::test]
async fn a_refused_record_is_a_failure_that_says_who_why_until_when_and_when_to_ask_again() {
    let refusal = locked().await;
    let lock = &refusal.locks()[0];
    let body = r#"{"responseStatus":"SUCCESS","data":[{"responseStatus":"SUCCESS","data":{"id":"2"}}],"more":1e2}"#;
    let merged = merged(&VaultBatch::new(), &verdicts(2, &[0], &refusal), body).unwrap();
    assert_eq!((&merged["responseStatus"], &merged["more"]), (&json!("SUCCESS"), &json!(1e2)));
    assert_eq!(merged["data"][1], json!({"responseStatus": "SUCCESS", "data": {"id": "2"}}));
    assert_eq!(
        merged["data"][0],
        json!({
            "responseStatus": "FAILURE",
            "errors": [{
                "type": "RECORD_LOCKED",
                "message": refusal.to_string(),
                "code": "locked",
                "resource": "/records/1",
                "lock_id": lock.lock_id,
                "owner": {"id": "qa"},
                "reason": "under review",
                "expires_at": lock.expires_at,
                "retry_after": refusal.retry_after(),
            }],
        })
    );
    assert!(refusal.retry_after().is_some() && lock.expires_at.is_some());
}

#[tokio::test]
async fn the_type_of_an_error_can_be_another() {
    let codec = VaultBatch::new().error_type("OPERATION_NOT_ALLOWED");
    let kind = |refusal: Refusal| {
        let response = codec.merge(&verdicts(1, &[0], &refusal), None).unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["content-type"]),
            (200, &"application/json".parse().unwrap())
        );
        let body: Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(body["responseStatus"], "SUCCESS");
        body["data"][0]["errors"][0].clone()
    };
    assert_eq!(kind(locked().await)["type"], "OPERATION_NOT_ALLOWED");
    let failed = kind(Refusal::new(RefusalCode::FailedDependency, "Item 3 is refused."));
    assert_eq!(failed, json!({"type": "FAILED_DEPENDENCY", "message": "Item 3 is refused.", "code": "failed_dependency"}));
}

#[tokio::test]
async fn refusals_stand_at_their_positions() {
    let (codec, refusal) = (VaultBatch::new(), locked().await);
    let body = r#"{"data":[{"n":1},{"n":2},{"n":3}]}"#;
    let merged = merged(&codec, &verdicts(6, &[0, 2, 5], &refusal), body).unwrap();
    let numbers: Vec<Option<u64>> = merged["data"].as_array().unwrap().iter().map(|result| result["n"].as_u64()).collect();
    assert_eq!(numbers, [None, Some(1), None, Some(2), Some(3), None]);
}

#[tokio::test]
async fn an_answer_that_does_not_fit_is_not_passed_on() {
    let (codec, refusal) = (VaultBatch::new(), locked().await);
    let verdicts = verdicts(3, &[1], &refusal);
    for body in [
        "",
        "done",
        "null",
        "[]",
        "{}",
        r#"{"responseStatus":"SUCCESS"}"#,
        r#"{"responseStatus":"SUCCESS","data":null}"#,
        r#"{"responseStatus":"SUCCESS","data":{}}"#,
        r#"{"responseStatus":"SUCCESS","data":[{}]}"#,
        r#"{"responseStatus":"SUCCESS","data":[{},{},{}]}"#,
        r#"{"responseStatus":"SUCCESS","data":[1,2]}"#,
        r#"{"responseStatus":"SUCCESS","data":[{},{}],"data":[{},{}]}"#,
        r#"{"responseStatus":"SUCCESS","data":[{},{}]"#,
        r#"{"responseStatus":"SUCCESS","data":[{},{}]}{}"#,
        r#"{"responseStatus":"WARNING"}"#,
        r#"{"responseStatus":1}"#,
    ] {
        assert!(matches!(merged(&codec, &verdicts, body), Err(Unmergeable { .. })), "{body}");
    }
}

#[tokio::test]
async fn a_failure_of_the_whole_is_one_of_each_record_that_was_sent() {
    let refusal = locked().await;
    let verdicts = verdicts(3, &[1], &refusal);
    let body = r#" {"responseStatus":"FAILURE","errors":[{"type":"INVALID_SESSION_ID","message":"no"}]} "#;
    let merged = merged(&VaultBatch::new(), &verdicts, body).unwrap();
    assert_eq!((&merged["responseStatus"], &merged["errors"][0]["type"]), (&json!("FAILURE"), &json!("INVALID_SESSION_ID")));
    let types: Vec<&Value> = merged["data"].as_array().unwrap().iter().map(|result| &result["errors"][0]["type"]).collect();
    assert_eq!(types, ["INVALID_SESSION_ID", "RECORD_LOCKED", "INVALID_SESSION_ID"]);
}

#[tokio::test]
async fn done_is_what_the_service_says_it_has_done() {
    let (codec, refusal) = (VaultBatch::new(), locked().await);
    let verdicts = verdicts(6, &[0, 3], &refusal);
    let done = |body: &'static str| codec.done(&verdicts, &answer(body));
    let body = r#"{"responseStatus":"SUCCESS","data":[{"responseStatus":"SUCCESS"},{"responseStatus":"FAILURE"},
        {"responseStatus":"WARNING"},{"responseStatus":"EXCEPTION"}]}"#;
    assert_eq!(done(body), [1, 4]);
    for body in [
        "",
        "{}",
        r#"{"responseStatus":"SUCCESS"}"#,
        r#"{"data":[{"responseStatus":"SUCCESS"}]}"#,
        r#"{"data":[{},{"responseStatus":"success"},{"responseStatus":1},{"responseStatus":"FAILURE","responseStatus":"SUCCESS"}]}"#,
    ] {
        assert_eq!(done(body), Vec::<usize>::new(), "{body}");
    }
}

#[tokio::test]
async fn the_head_of_the_services_answer_stays() {
    let refusal = locked().await;
    let response = Response::builder().status(202).header("x-job", "7").body(r#"{"data":[]}"#.into()).unwrap();
    let merged = VaultBatch::new().merge(&verdicts(1, &[0], &refusal), Some(response)).unwrap();
    assert_eq!((merged.status().as_u16(), merged.headers()["x-job"].to_str().unwrap()), (202, "7"));
    let all = Verdicts::new([(None, None)]);
    assert!(VaultBatch::new().refuse(&all, &refusal).is_none(), "a refusal of the whole is a problem document");
}
