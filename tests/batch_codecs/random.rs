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

/// An object in which something may look like an id, to somebody.
fn hostile() -> impl Strategy<Value = String> {
    let names = vec![
        r#""id""#,
        r#""id""#,
        r#""id""#,
        r#""ID""#,
        r#""iD""#,
        r#""\u0069d""#,
        r#""\u0049\u0064""#,
        r#""id ""#,
        r#""\tid""#,
        r#""id\u0000""#,
        r#""id\u0000x""#,
        r#""ıd""#,
        r#""idx""#,
        r#""i""#,
        r#""x""#,
        r#""""#,
        r#""\u0000""#,
    ];
    let values = vec![
        "1",
        "1",
        "2",
        "-1",
        "0",
        "-0",
        "1.0",
        "1e0",
        "10e-1",
        "9007199254740991",
        "9007199254740992",
        "9007199254740993",
        "18446744073709551616",
        "null",
        "true",
        "[]",
        r#"{"id":1}"#,
        r#""1""#,
        r#""\u0031""#,
        r#"" 1""#,
        r#""1\n""#,
        r#""1\u00a0""#,
        r#""1\u0000""#,
        r#""1\u0000x""#,
        r#""%31""#,
        r#""x/1""#,
        r#""x/../1""#,
        r#""1?x""#,
        r#""1#x""#,
        r#""..\\1""#,
        r#""V1""#,
        r#""v1""#,
        r#""ü""#,
        r#""""#,
    ];
    vec((select(names), select(values)), 0..4).prop_map(|members| {
        let members: Vec<String> = members.into_iter().map(|(name, value)| format!("{name}:{value}")).collect();
        format!("{{{}}}", members.join(","))
    })
}

/// The members of an object as they stand there, also those of one name.
struct Pairs(Vec<(String, Value)>);

impl<'de> serde::Deserialize<'de> for Pairs {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> serde::de::Visitor<'de> for Read {
            type Value = Pairs;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Read)
    }
}

/// The ids that services of many kinds would find in an object.
fn readings(object: &Pairs) -> Vec<Option<String>> {
    fn until_nul(text: &str) -> &str {
        text.split('\0').next().unwrap()
    }
    fn fold(text: &str) -> String {
        text.to_uppercase().to_lowercase()
    }
    let names: [fn(&str) -> bool; 4] =
        [|name| name == "id", |name| fold(name) == "id", |name| fold(name.trim()) == "id", |name| until_nul(name) == "id"];
    let numbers: [fn(&serde_json::Number) -> String; 2] =
        [|number| number.to_string(), |number| (number.as_f64().unwrap() as i128).to_string()];
    let texts: [fn(&str) -> String; 5] = [
        str::to_owned,
        |text| text.trim().to_owned(),
        |text| until_nul(text).to_owned(),
        |text| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned(),
        // The last segment of a URL that it was put into.
        |text| {
            let path = text.split(['?', '#']).next().unwrap();
            let mut segments = vec!["records"];
            for segment in path.split(['/', '\\']) {
                match segment {
                    ".." => _ = segments.pop(),
                    "." => {}
                    segment => segments.push(segment),
                }
            }
            segments[1..].join("/")
        },
    ];
    let mut readings = Vec::new();
    for is_id in names {
        let found: Vec<&Value> = object.0.iter().filter(|(name, _)| is_id(name)).map(|(_, value)| value).collect();
        for value in [found.first(), found.last()] {
            match value {
                None | Some(Value::Null) => readings.push(None),
                Some(Value::Number(number)) => readings.extend(numbers.map(|read| Some(read(number)))),
                Some(Value::String(text)) => readings.extend(texts.map(|read| Some(read(text)))),
                Some(other) => readings.push(Some(other.to_string())),
            }
        }
    }
    readings
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
    fn what_is_read_is_the_same_id_to_every_reader(objects in vec(hostile(), 1..3)) {
        let body = format!("[{}]", objects.join(","));
        let pairs: Vec<Pairs> = objects.iter().map(|object| serde_json::from_str(object).unwrap()).collect();
        for (method, target) in [("POST", "/api/v1/objects/capa__c"), ("DELETE", "/records")] {
            let request = bulk(method, target);
            let items = if target == "/records" {
                read(&ResponsesBatch::at(["/records"]), &request, &body)
            } else {
                read(&VaultBatch::new(), &request, &body)
            };
            let Ok(items) = items else { continue };
            prop_assert_eq!(items.len(), pairs.len());
            for (item, object) in items.iter().zip(&pairs) {
                for reading in readings(object) {
                    prop_assert_eq!(item.name(), reading.as_deref(), "{}", body);
                }
            }
        }
    }

    #[test]
    fn whatever_comes_is_read_or_refused(body in any::<Vec<u8>>(), text in value()) {
        for body in [Bytes::from(body), Bytes::from(format!("[{text}]")), Bytes::from(text)] {
            match read(&VaultBatch::new(), &bulk("POST", "/api/v1/objects/capa__c"), &body) {
                Ok(items) => prop_assert_eq!(items.len(), serde_json::from_slice::<Vec<serde::de::IgnoredAny>>(&body).unwrap().len()),
                Err(refusal) => prop_assert_eq!(refusal.status().as_u16(), 400),
            }
        }
    }
}
