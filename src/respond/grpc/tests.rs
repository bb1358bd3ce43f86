use http::Request;

use super::*;

fn speaks_grpc(content_type: &[u8]) -> bool {
    let value = HeaderValue::from_bytes(content_type).unwrap();
    is_grpc(&HeaderMap::from_iter([(header::CONTENT_TYPE, value)]))
}

#[test]
fn a_grpc_call_is_known_by_its_content_type() {
    for content_type in [
        "application/grpc",
        "application/grpc+proto",
        "application/grpc+json",
        "application/grpc+custom;x=y",
        "application/grpc;charset=utf-8",
        "application/grpc ; x=y",
        "Application/gRPC+Proto",
    ] {
        assert!(speaks_grpc(content_type.as_bytes()), "{content_type}");
    }
    for content_type in [
        "",
        "application/grpc-web",
        "application/grpc-web+proto",
        "application/grpc-web-text",
        "application/grpcs",
        "application/grp",
        "application/json",
        "text/application/grpc",
        "application/json; application/grpc",
    ] {
        assert!(!speaks_grpc(content_type.as_bytes()), "{content_type}");
    }
    assert!(!speaks_grpc(b"application/grp\xff"));
    assert!(!is_grpc(Request::new(()).headers()));
}

#[test]
fn a_text_is_cut_between_letters() {
    assert_eq!(bounded("é".repeat(5), 10), "é".repeat(5));
    assert_eq!(bounded("é".repeat(6), 10), "ééé…");
    assert_eq!(bounded("x".repeat(11), 10), "xxxxxxx…");
}

#[test]
fn a_message_is_percent_encoded() {
    let refusal = Refusal::bad_request("100 % of\n\u{7f} café ~");
    let answer = answer::<()>(&refusal);
    // A sentence has no control characters.
    assert_eq!(answer.headers()[MESSAGE], "100 %25 of %EF%BF%BD caf%C3%A9 ~");
    assert_eq!(answer.headers()[STATUS], "3");
    assert_eq!(trailers(&refusal)[MESSAGE], answer.headers()[MESSAGE]);
}

#[test]
fn details_repeat_code_and_message() {
    let status = GrpcStatus::of(&Refusal::forbidden("No.").retry_in(u64::MAX));
    let details = Status::decode(status.details().clone()).unwrap();
    assert_eq!((details.code, details.message.as_str()), (7, "No."));
    let retry = details.details.iter().find(|any| any.type_url == "type.googleapis.com/google.rpc.RetryInfo").unwrap();
    let retry = RetryInfo::decode(&*retry.value).unwrap();
    assert_eq!(retry.retry_delay.unwrap().seconds, 315_576_000_000);
}

#[test]
fn an_answer_is_an_error_by_its_own_status() {
    let answer = |content_type: &'static str, status: Option<&'static str>| {
        let mut headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))]);
        headers.extend(status.map(|status| (STATUS, HeaderValue::from_static(status))));
        is_error(&headers)
    };
    assert!(answer("application/grpc", Some("5")));
    assert!(!answer("application/grpc", Some("0")) && !answer("application/grpc", None));
    assert!(!answer("text/plain", Some("5")));
}
