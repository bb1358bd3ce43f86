//! Random bulk writes: what is kept keeps its bytes and its order, and no result of the service is lost or moved.

use bytes::Bytes;
use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::Value;
use tower_lock::{
    Refusal, RefusalCode, RequestView,
    batch::{BatchCodec, ResponsesBatch, VaultBatch},
};

use super::kit::{answer, bulk, read, verdicts};

/// JSON in all its spellings.
fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        select(vec!["null", "true", "1.0", "-0", "1e400", "0.10", "[]", "{}", "[ ]", "123456789012345678901234567890"])
            .prop_map(str::to_owned),
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        select(vec![r#""\ud83d""#, r#""\u0069d""#, r#""]},{\"id\":\"9\"}""#, r#""\\""#, r#""\/""#]).prop_map(str::to_owned),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|each| format!("[ {} ]", each.join(" ,\n"))),
            vec((name(), inner), 0..4).prop_map(|each| {
                let members: Vec<String> = each.into_iter().map(|(name, value)| format!("{name}\t: {value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

/// Names of members, also such as are read at the top of an item.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        select(vec![r#""id""#, r#""ID""#, r#""items""#, r#""responses""#, r#""data""#]).prop_map(str::to_owned),
        "[a-z]{0,8}".prop_map(|name| format!("\"x{name}\"")),
    ]
}

/// An item, with its id.
fn item() -> impl Strategy<Value = String> {
    (0..9_u32, vec(("[a-z]{0,8}", value()), 0..4), vec(("[a-z]{0,8}", value()), 0..3)).prop_map(|(id, before, after)| {
        let members = |each: Vec<(String, String)>| each.into_iter().map(|(name, value)| format!("\"x{name}\": {value}"));
        let all: Vec<String> = members(before).chain([format!("\"id\" :{id}")]).chain(members(after)).collect();
        format!("{{ {}\n}}", all.join(" , "))
    })
}

fn blank() -> impl Strategy<Value = &'static str> {
    select(vec!["", " ", "\n", "\t\r\n "])
}

/// Items, and which of them are kept.
fn items() -> impl Strategy<Value = (Vec<String>, Vec<bool>)> {
    vec((item(), any::<bool>()), 1..12).prop_map(|items| items.into_iter().unzip())
}

fn positions(kept: &[bool], of: bool) -> Vec<usize> {
    kept.iter().enumerate().filter(|(_, kept)| **kept == of).map(|(at, _)| at).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn kept_items_keep_their_bytes_and_their_order(
        (items, kept) in items(),
        [before, between, after] in [blank(), blank(), blank()],
        (first, last) in (value(), value()),
    ) {
        let array = format!("{before}[{between}{}{between}]{after}", items.join(&format!("{between},{before}")));
        let positions = positions(&kept, true);
        let left: Vec<&str> = positions.iter().map(|at| items[*at].as_str()).collect();

        let put = bulk("PUT", "/api/v1/objects/capa__c");
        let vault = VaultBatch::new();
        prop_assert_eq!(read(&vault, &put, &array).unwrap().len(), items.len());
        let taken = vault.keep(RequestView::of(&put), &array.into(), &positions).unwrap();
        prop_assert_eq!(std::str::from_utf8(&taken).unwrap(), format!("{before}[{}]{after}", left.join(",")));
        prop_assert_eq!(read(&vault, &put, &taken).unwrap().len(), left.len());

        let put = bulk("PUT", "/records");
        let responses = ResponsesBatch::at(["/records"]).items_in("items");
        let around = |items: &str| format!("{{\"a\":{first},{before}\"items\"{after}:{items}{between}, \"b\" :{last}}}");
        let body = around(&format!("[{}]", items.join(",")));
        prop_assert_eq!(read(&responses, &put, &body).unwrap().len(), items.len());
        let taken = responses.keep(RequestView::of(&put), &body.into(), &positions).unwrap();
        prop_assert_eq!(std::str::from_utf8(&taken).unwrap(), around(&format!("[{}]", left.join(","))));
    }

    #[test]
    fn every_refusal_is_put_at_its_position_and_no_result_is_lost_or_moved(
        (results, kept) in items(),
        (first, last) in (value(), value()),
    ) {
        let refusal = Refusal::new(RefusalCode::Locked, "Locked.");
        let (refused, admitted) = (positions(&kept, false), positions(&kept, true));
        let verdicts = verdicts(kept.len(), &refused, &refusal);
        let results: Vec<&str> = admitted.iter().map(|at| results[*at].as_str()).collect();
        let codecs: [(&dyn BatchCodec, &str); 2] = [
            (&VaultBatch::new(), "data"),
            (&ResponsesBatch::at(["/records"]), "responses"),
        ];
        for (codec, member) in codecs {
            let body = |results: &[&str]| format!("{{\"a\": {first},\"{member}\":[{}],\"b\":{last}}}", results.join(","));
            let merged = codec.merge(&verdicts, Some(answer(body(&results)))).unwrap();
            let merged = std::str::from_utf8(merged.body()).unwrap();
            // What was made is taken out again: what is left is what the service said, to the byte.
            let mark = codec.merge(&super::kit::verdicts(1, &[0], &refusal), None).unwrap();
            let mark: &str = std::str::from_utf8(mark.body()).unwrap();
            let mark = &mark[mark.find('[').unwrap() + 1..mark.rfind(']').unwrap()];
            let mut expected = Vec::new();
            let mut rest = results.iter();
            for kept in &kept {
                expected.push(if *kept { *rest.next().unwrap() } else { mark });
            }
            prop_assert_eq!(merged, body(&expected));

            for wrong in [results.len() + 1, results.len().wrapping_sub(1)] {
                let body = body(&vec!["{}"; if wrong == usize::MAX { 7 * (results.len() + 1) } else { wrong }]);
                prop_assert!(codec.merge(&verdicts, Some(answer(body))).is_err());
            }
        }
    }

    #[test]
    fn nothing_that_is_read_has_another_id_for_a_reader_that_takes_the_last_of_two(body in any::<Vec<u8>>(), text in value()) {
        for body in [Bytes::from(body), Bytes::from(format!("[{text}]")), Bytes::from(text)] {
            let Ok(items) = read(&VaultBatch::new(), &bulk("POST", "/api/v1/objects/capa__c"), &body) else { continue };
            let read: Value = serde_json::from_slice(&body).unwrap_or_default();
            let Value::Array(read) = read else { continue };
            prop_assert_eq!(items.len(), read.len());
            for (item, read) in items.iter().zip(&read) {
                let id = read.get("id").filter(|id| !id.is_null());
                let id = id.map(|id| id.as_str().map_or_else(|| id.to_string(), str::to_owned));
                prop_assert_eq!(item.name(), id.as_deref());
            }
        }
    }
}
