use http::{HeaderValue, Request};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::{lock::KeyRules, request::ResolveFn};

fn token(number: u128) -> LockToken {
    LockToken::from_uuid(Uuid::from_u128(number)).unwrap()
}

/// `$1` in a header stands for the URN of token 1.
fn fill(text: &str) -> String {
    (1..=4).fold(text.to_owned(), |text, at| text.replace(&format!("${at}"), &token(at).urn().to_string()))
}

fn with(name: &'static str, values: &[&[u8]]) -> Request<()> {
    let mut request = Request::put("/a/b").body(()).unwrap();
    for value in values {
        request.headers_mut().append(name, HeaderValue::from_bytes(value).unwrap());
    }
    request
}

/// The error's text, or what `check` says of the conditions.
fn read<T>(request: &Request<()>, check: impl FnOnce(&Conditions<'_>) -> T) -> Result<T, String> {
    let conditions = Conditions::parse(RequestView::of(request), &KeyRules::new(), None);
    conditions.map(|conditions| check(&conditions)).map_err(|error| error.to_string())
}

fn read_if<T>(value: &str, check: impl FnOnce(&Conditions<'_>) -> T) -> Result<T, String> {
    read(&with("if", &[fill(value).as_bytes()]), check)
}

/// Token 1 covers `/a` and below, token 2 `/c`, the others nothing.
fn matches(candidate: &LockToken, resource: &ResourceKey<'_>) -> bool {
    (*candidate == token(1) && resource.path().starts_with("/a")) || (*candidate == token(2) && resource.path() == "/c")
}

#[test]
fn what_holds() {
    for (value, holds) in [
        ("(<$1>)", true),
        ("(<$2>)", false),
        ("(<$3>)", false),
        ("(<$1>) (<$2>)", true),
        ("(<$2>) (<$1>)", true),
        ("(<$1> <$2>)", false),
        ("(Not <$1>)", false),
        ("(Not <$2>)", true),
        ("(not<$2>nOT<$3>)", true),
        ("(<$1>)(Not <DAV:no-lock>)", true),
        ("(<$3>) (Not <DAV:no-lock>)", true),
        ("(<DAV:no-lock>)", false),
        ("(<opaquelocktoken:foobar>)", false),
        ("(Not <opaquelocktoken:foobar>)", true),
        ("(<urn:uuid:00000000-0000-0000-0000-000000000000>)", false),
        ("(<$1> [\"x\"])", true),
        ("([\"x\"])", true),
        ("(Not [W/\"x\"])", true),
        ("(<DAV:no-lock> [\"x\"])", false),
        ("(<$2> [\"x\"]) (Not <DAV:no-lock> [\"x\"])", true),
        ("</c> (<$2>)", true),
        ("</c> (<$1>)", false),
        ("<http://h/a/x> (<$1>)", true),
        ("<http://elsewhere/%63/> (<$2>)", true),
        ("</x> (<$1>) </c> (<$1>) (<$2>)", true),
        ("</x> (<$1>) </c> (<$1>) </x> (<$2>)", false),
        ("  \t( \t<$1>\t ) ", true),
    ] {
        assert_eq!(read_if(value, |conditions| conditions.holds(matches).is_true()), Ok(holds), "{value}");
    }
}

#[test]
fn a_false_header_tells_which_tokens_failed() {
    for (value, failed) in [
        ("(<$3> <$1> <$2>)", &[3, 2][..]),
        ("(<$3>) (<$3> <$4>)", &[3, 4]),
        ("(Not <$1>)", &[]),
        ("(<DAV:no-lock>)", &[]),
        ("(<$2>) (<DAV:no-lock>)", &[2]),
        ("</c> (<$1>)", &[1]),
    ] {
        let expected: Vec<_> = failed.iter().map(|number| token(*number)).collect();
        assert_eq!(read_if(value, |conditions| conditions.holds(matches).failed().to_vec()), Ok(expected), "{value}");
    }
    assert_eq!(read_if("(<$3>) (<$1>)", |conditions| conditions.holds(matches)), Ok(Held::True));
}

#[test]
fn a_token_is_submitted_wherever_it_stands() {
    for (value, tokens) in [
        ("(<$1>)", &[1][..]),
        ("(Not <$1>) (<$2> <$1>)", &[1, 2]),
        ("(<DAV:no-lock> <$3>)", &[3]),
        ("</x> (<$1>) </y> (Not <$2> [\"e\"])", &[1, 2]),
        ("(Not <DAV:no-lock>)", &[]),
        ("(<opaquelocktoken:foobar>) (<DAV:NO-LOCK>)", &[]),
        ("<$1> (<$2>)", &[]),
    ] {
        let expected: Vec<_> = tokens.iter().map(|number| token(*number)).collect();
        let read = read_if(value, |conditions| conditions.tokens().to_vec());
        if value.starts_with("<$1>") {
            assert!(read.is_err(), "a lock token is no resource");
        } else {
            assert_eq!(read, Ok(expected), "{value}");
        }
    }
}

#[test]
fn what_is_no_if_header_is_named() {
    for value in [
        "",
        " ",
        "(",
        ")",
        "()",
        "( )",
        "(<$1>",
        "(<$1",
        "<$1>)",
        "(<>)",
        "((<$1>))",
        "(<$1>))",
        "(<$1>) x",
        "x (<$1>)",
        "(Not)",
        "(Not Not <$1>)",
        "(NotNot <$1>)",
        "(Not (<$1>))",
        "(No <$1>)",
        "($1)",
        "(<$1>,<$2>)",
        "(<$1>), (<$2>)",
        "(<a<$1>>)",
        "(< $1>)",
        "(<$1 >)",
        "(<noscheme>)",
        "(<1a:b>)",
        "(<:a>)",
        "(<a:>)",
        "(<a b:c>)",
        "([])",
        "([x])",
        "([\"x])",
        "([\"x\"",
        "([\"x\" ])",
        "([w/\"x\"])",
        "([W/x])",
        "([\"a b\"])",
        "([\"x\"\"])",
        "[\"x\"]",
        "<$1>",
        "</a>",
        "</a> </b> (<$1>)",
        "</a> (<$1>) </b>",
        "</a>",
        "<> (<$1>)",
        "</a",
        "<a> (<$1>)",
        "(<$1>) </a> (<$2>)",
        "Not (<$1>)",
        "\"(<$1>)\"",
        "*",
        "\"etag\"",
        "W/\"etag\"",
        "</a b> (<$1>)",
        "</a\tb> (<$1>)",
        "<</a>> (<$1>)",
    ] {
        let error = read_if(value, |_| ()).unwrap_err();
        assert!(error.starts_with("malformed If: "), "{value}: {error}");
    }
    for value in ["<//h/a> (<$1>)", "<http:/a> (<$1>)", "</a\\b> (<$1>)", "</a/../b> (<$1>)", "</a#b> (<$1>)"] {
        let request = with("if", &[fill(value).as_bytes()]);
        let error = Conditions::parse(RequestView::of(&request), &KeyRules::new(), None).unwrap_err();
        assert_eq!(error.code(), "ambiguous_path", "{value}: {error}");
    }
}

#[test]
fn a_header_that_comes_twice_is_refused() {
    let list = fill("(<$1>)");
    let error = read(&with("if", &[list.as_bytes(), list.as_bytes()]), |_| ()).unwrap_err();
    assert_eq!(error, "malformed If: there is more than one");
    let error = read(&with("lock-token", &[b"<a:b>", b"<a:b>"]), |_| ()).unwrap_err();
    assert_eq!(error, "malformed Lock-Token: there is more than one");
}

#[test]
fn the_lock_token_header_names_one_token() {
    for value in ["<$1>", "$1", " <$1>\t"] {
        let request = with("lock-token", &[fill(value).as_bytes()]);
        let read =
            read(&request, |conditions| (conditions.lock_token(), conditions.tokens().to_vec(), conditions.is_empty()));
        assert_eq!(read, Ok((Some(StateToken::Lock(token(1))), vec![token(1)], false)), "{value}");
    }
    for (value, state) in [("<DAV:no-lock>", StateToken::NoLock), ("<opaquelocktoken:foobar>", StateToken::Foreign)] {
        let request = with("lock-token", &[value.as_bytes()]);
        assert_eq!(read(&request, |conditions| (conditions.lock_token(), conditions.tokens().len())), Ok((Some(state), 0)));
    }
    for value in
        ["", "<>", "<$1", "$1>", "<<$1>>", "<$1> <$2>", "<$1>,<$2>", "(<$1>)", "$1 $2", "nonsense", "< $1>", "\u{fc}"]
    {
        let error = read(&with("lock-token", &[fill(value).as_bytes()]), |_| ()).unwrap_err();
        assert!(error.starts_with("malformed Lock-Token: "), "{value}: {error}");
    }
}

#[test]
fn without_headers_there_are_no_conditions_and_nobody_is_asked() {
    let request = Request::put("/a/../b").body(()).unwrap();
    let resolver = ResolveFn::new(|_| panic!("asked"));
    let conditions = Conditions::parse(RequestView::of(&request), &resolver, None).unwrap();
    assert!(conditions.is_empty() && conditions.tokens().is_empty() && conditions.lists().is_empty());
    assert!(conditions.lock_token().is_none() && conditions.holds(|_, _| false).is_true());
    assert!(Conditions::NONE.is_empty() && Conditions::default().holds(|_, _| false).is_true());
}

#[test]
fn lists_say_what_they_are_about() {
    let request = with("if", &[fill("<http://h/x%79/> (<$1> Not [W/\"a)]\"]) ([\"\"])").as_bytes()]);
    let tenant = Cow::Borrowed("tenant");
    let conditions = Conditions::parse(RequestView::of(&request), &KeyRules::new(), Some(&tenant)).unwrap();
    let [first, second] = conditions.lists() else { panic!("two lists") };
    assert_eq!(first.resources(), [ResourceKey::from_canonical("/xy").in_namespace("tenant")]);
    assert_eq!(second.resources(), first.resources());
    let [Condition::State(Expected::Match, StateToken::Lock(lock)), Condition::EntityTag(Expected::NoMatch, weak)] =
        first.conditions()
    else {
        panic!("a lock and an entity tag")
    };
    assert_eq!((*lock, weak.is_weak(), weak.opaque(), weak.as_bytes()), (token(1), true, &b"a)]"[..], &b"W/\"a)]\""[..]));
    let [Condition::EntityTag(Expected::Match, empty)] = second.conditions() else { panic!("an entity tag") };
    assert_eq!((empty.is_weak(), empty.opaque()), (false, &b""[..]));
    assert_eq!(read_if("(<$1>)", |conditions| conditions.lists()[0].resources()[0].path().to_owned()), Ok("/a/b".into()));
}

#[test]
fn octets_that_are_not_utf_8_are_carried() {
    let request = with("if", &[b"</\xFF> ([\"\xE4\"] <a:\xFF>)"]);
    let read = read(&request, |conditions| conditions.lists()[0].resources()[0].path().to_owned());
    assert_eq!(read, Ok("/\u{FFFD}".into()));
}

#[test]
fn a_folded_line_is_white_space() {
    let items: Result<Vec<_>, _> = Parser::new(b"(<a:b>\r\n [\"x\"]\r\n\t)").collect();
    assert_eq!(items.map(|items| items.len()), Ok(3));
    for bad in [&b"(<a:\r\nb>)"[..], b"(\x00<a:b>)", b"(<a:\x00>)", b"([\"\x01\"])", b"(<a:b>)\x0B"] {
        assert!(Parser::new(bad).any(|item| item.is_err()), "{bad:?}");
    }
}

#[test]
fn tokens_and_conditions_are_bounded() {
    let list = |count: u128| (1..=count).map(|at| format!("(<{}>)", token(at).urn())).collect::<String>();
    assert_eq!(read_if(&list(64), |conditions| conditions.tokens().len()), Ok(64));
    assert_eq!(read_if(&list(65), |_| ()), Err("more than 64 lock tokens".into()));
    assert_eq!(read_if(&"(<a:b>)".repeat(256), |conditions| conditions.lists().len()), Ok(256));
    assert_eq!(read_if(&"(<a:b>)".repeat(257), |_| ()), Err("more than 256 conditions in If".into()));
    assert_eq!(read_if(&format!("({})", "Not[\"x\"]".repeat(257)), |_| ()), Err("more than 256 conditions in If".into()));
    for huge in
        ["(".repeat(1 << 20), "<".repeat(1 << 20), "</a>".repeat(1 << 18), " ".repeat(1 << 20), "Not".repeat(1 << 18)]
    {
        assert!(read_if(&huge, |_| ()).is_err());
    }
    let mut conditions = Conditions::NONE;
    for at in 1..=64 {
        conditions.submit(token(at)).unwrap();
    }
    assert_eq!(conditions.submit(token(7)), Ok(()), "submitted already");
    assert!(matches!(conditions.submit(token(65)), Err(RequestError::TooMany { limit: 64, .. })));
    assert!(!conditions.is_empty());
}

#[test]
fn conditions_shrink_to_a_shorter_life() {
    fn shrink<'short>(conditions: &'short Conditions<'static>) -> &'short Conditions<'short> {
        conditions
    }
    assert!(shrink(&Conditions::NONE).is_empty());
}

#[test]
fn nothing_shows_a_token() {
    let shown = read_if("(<$1>)", |conditions| format!("{conditions:?} {:?}", conditions.holds(|_, _| false))).unwrap();
    assert!(!shown.contains("0000"), "{shown}");
}

/// One condition, as its text and as the token that it submits.
fn condition() -> impl Strategy<Value = (String, Option<u128>)> {
    let body = prop_oneof![
        (1u128..40).prop_map(|at| (format!("<{}>", token(at).urn()), Some(at))),
        Just(("<DAV:no-lock>".to_owned(), None)),
        "[a-z]{1,5}:[!-;=?-~]{1,9}".prop_map(|uri| (format!("<{uri}>"), None)),
        "(W/)?\"[!#-~]{0,9}\"".prop_map(|tag| (format!("[{tag}]"), None)),
    ];
    (prop_oneof![Just(""), Just("Not "), Just("not\t")], body)
        .prop_map(|(not, (text, token))| (format!("{not}{text}"), token))
}

proptest! {
    #[test]
    fn whatever_is_sent_nothing_panics(value in prop_oneof![
        proptest::collection::vec(prop_oneof![0x20u8..0x7F, 0x80u8..=0xFF, Just(b'\t')], 0..80),
        proptest::collection::vec(prop::sample::select(&b"()<>[]\"W/Not a:\xFF"[..]), 0..80),
    ]) {
        for name in ["if", "lock-token", "destination"] {
            let mut request = with(name, &[&value]);
            *request.method_mut() = http::Method::from_bytes(b"MOVE").unwrap();
            let view = RequestView::of(&request);
            if let Ok(conditions) = Conditions::parse(view, &KeyRules::new(), None) {
                prop_assert!(conditions.lists().iter().all(|list| !list.conditions().is_empty()));
                conditions.holds(|_, _| false);
            }
            let _ = crate::request::targets(view, &KeyRules::new(), None);
        }
        Parser::new(&value).for_each(drop);
    }

    #[test]
    fn conditions_about_one_token_hold_as_all_do(
        tag in any::<bool>(),
        lists in proptest::collection::vec(proptest::collection::vec(condition(), 1..3), 0..3),
        lock_token in proptest::option::of(1u128..4),
        submitted in proptest::option::of(1u128..4),
        (covers, own) in any::<(bool, bool)>(),
    ) {
        let list = |list: &Vec<(String, Option<u128>)>| {
            let conditions: Vec<_> = list.iter().map(|(text, _)| text.as_str()).collect();
            format!("{}({})", if tag { "</a> " } else { "" }, conditions.join(" "))
        };
        let mut request = with("if", &[]);
        if !lists.is_empty() {
            let text: String = lists.iter().map(list).collect();
            request.headers_mut().insert("if", HeaderValue::try_from(text).unwrap());
        }
        if let Some(number) = lock_token {
            request.headers_mut().insert("lock-token", fill(&format!("<${number}>")).parse().unwrap());
        }
        let mut conditions = Conditions::parse(RequestView::of(&request), &KeyRules::new(), None).unwrap();
        if let Some(number) = submitted {
            conditions.submit(token(number)).unwrap();
        }
        if let Some(Sole { resource, demanded }) = conditions.sole() {
            prop_assert_eq!(conditions.tokens().len(), 1);
            let failed = conditions.failed_on_write(|_, _| covers, |_| own);
            prop_assert_eq!(failed.is_none(), (resource.is_none() || covers) && (!demanded || own));
            let about = if tag { "/a" } else { "/a/b" };
            prop_assert!(resource.is_none_or(|key| key.path() == about));
        }
    }

    #[test]
    fn what_is_well_formed_is_accepted_and_yields_its_tokens(
        tags in any::<bool>(),
        lists in proptest::collection::vec(proptest::collection::vec(condition(), 1..5), 1..6),
    ) {
        let text: String = lists.iter().enumerate().map(|(at, list)| {
            let conditions: Vec<_> = list.iter().map(|(text, _)| text.as_str()).collect();
            format!("{}({})", if tags { format!("</{at}> ") } else { String::new() }, conditions.join(" "))
        }).collect();
        let mut expected: Vec<_> = Vec::new();
        for number in lists.iter().flatten().filter_map(|(_, number)| *number) {
            if !expected.contains(&token(number)) {
                expected.push(token(number));
            }
        }
        let read = read(&with("if", &[text.as_bytes()]), |conditions| {
            (conditions.tokens().to_vec(), conditions.lists().iter().map(|list| list.conditions().len()).collect::<Vec<_>>())
        });
        prop_assert_eq!(read, Ok((expected, lists.iter().map(Vec::len).collect())), "{}", text);
    }
}

#[test]
fn entity_tags_are_decided_before_tokens() {
    // The target has the entity tag "x", `/c` has W/"y", nothing else has one.
    let decided = |value: &str| {
        read_if(value, |conditions| {
            let decided = conditions.clone().decide_entity_tags(|list, tag| match list.tag() {
                None => Some(tag.matches(b"\"x\"")),
                Some(b"/c") => Some(tag.matches(b"W/\"y\"")),
                Some(b"/unknown") => None,
                Some(_) => Some(false),
            });
            match decided {
                Ok(left) => left.holds(matches).is_true(),
                Err(left) => {
                    assert_eq!(left.tokens(), conditions.tokens(), "tokens stay submitted");
                    assert!(left.lists().is_empty());
                    false
                }
            }
        })
        .unwrap()
    };
    for value in [
        "([\"x\"])",
        "([W/\"x\"])",
        "(Not [\"y\"])",
        "(<$1> [\"x\"])",
        "(<$2> [\"x\"]) (Not <DAV:no-lock> [\"x\"])",
        "([\"n\"]) (<$1>)",
        "</c> (<$2> [\"y\"])",
        "</x> ([\"x\"]) </c> ([W/\"y\"])",
        "</x> (Not [\"x\"])",
    ] {
        assert!(decided(value), "{value}");
    }
    for value in [
        "([\"y\"])",
        "([\"X\"])",
        "(Not [\"x\"])",
        "(<$2> [\"x\"])",
        "(<$1> [\"y\"])",
        "(<$1> [\"y\"]) (Not <DAV:no-lock> [\"n\"])",
        "</c> ([\"x\"])",
        "</x> ([\"x\"])",
        "</unknown> ([\"x\"])",
        "</unknown> (Not [\"x\"])",
    ] {
        assert!(!decided(value), "{value}");
    }
}

#[test]
fn the_only_entity_tag_that_must_match() {
    let sole =
        |value: &str| read_if(value, |conditions| conditions.sole_entity_tag().map(|tag| tag.as_bytes().to_vec())).unwrap();
    assert_eq!(sole("(<$1> [\"x\"])").as_deref(), Some(&b"\"x\""[..]));
    for value in ["(<$1>)", "([W/\"x\"])", "(Not [\"x\"])", "([\"x\"]) (<$1>)", "</a/b> ([\"x\"])"] {
        assert_eq!(sole(value), None, "{value}");
    }
}

#[test]
fn conditions_are_found_among_however_many_fields() {
    for others in [0, 1, 5, 23, 24, 25, 60] {
        for name in ["if", "If", "LOCK-TOKEN", "Lock-Token"] {
            let mut headers = HeaderMap::new();
            for other in 0..others {
                // Names beside them, and one that comes twice.
                let name: HeaderName = ["if-match", "ig", "lock-tokem", "x"][other % 4].parse().unwrap();
                headers.append(name, HeaderValue::from(other));
                headers.append(HeaderName::try_from(format!("x-{other}")).unwrap(), HeaderValue::from(other));
            }
            assert!(!ConditionFields::are_in(&headers), "{others}");
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("garbage"));
            assert!(ConditionFields::are_in(&headers), "{others} {name}");
        }
    }
}

#[test]
fn a_field_is_read_once_or_counted_among_however_many_others() {
    for others in [0, 1, 22, 23, 24, 25, 60] {
        for (first, second) in [("if", "lock-token"), ("lock-token", "if")] {
            let mut headers = HeaderMap::new();
            for other in 0..others {
                headers.append(HeaderName::try_from(format!("x-{other}")).unwrap(), HeaderValue::from(other));
            }
            assert!(ConditionFields::of(&headers).is_none());
            let add = |headers: &mut HeaderMap, name: &'static str, value: &'static str| {
                headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
            };
            let said = |headers: &HeaderMap| {
                let fields = ConditionFields::of(headers).expect("there are some");
                [fields.conditions.only(IF), fields.lock_token.only(LOCK_TOKEN)]
                    .map(|field| field.map(|field| field.map(<[u8]>::to_vec)).map_err(drop))
            };
            let in_order = |one, other| if first == "if" { [one, other] } else { [other, one] };
            add(&mut headers, first, "one");
            assert_eq!(said(&headers), in_order(Ok(Some(b"one".to_vec())), Ok(None)));
            add(&mut headers, second, "other");
            assert_eq!(said(&headers), in_order(Ok(Some(b"one".to_vec())), Ok(Some(b"other".to_vec()))));
            add(&mut headers, first, "one");
            assert_eq!(said(&headers), in_order(Err(()), Ok(Some(b"other".to_vec()))));
            add(&mut headers, first, "one");
            assert_eq!(said(&headers), in_order(Err(()), Ok(Some(b"other".to_vec()))), "three are several");
        }
    }
}
