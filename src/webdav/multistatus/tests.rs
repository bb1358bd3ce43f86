use proptest::prelude::*;
use roxmltree::Document;

use super::*;
use crate::webdav::xml::{decode, namespace};

const BOTH: Wanted = Wanted { lock_discovery: Form::Value, supported_lock: Form::Value };
const NAMES: Wanted = Wanted { lock_discovery: Form::Name, supported_lock: Form::Name };
const NEITHER: Wanted = Wanted { lock_discovery: Form::No, supported_lock: Form::No };

/// What is put where the `lockdiscovery` of response `index` is asked for.
fn value(index: usize) -> String {
    format!("<D:lockdiscovery xmlns:D=\"DAV:\"><ours>{index}</ours></D:lockdiscovery>")
}

fn rewritten(text: &str, wanted: Wanted) -> String {
    Multistatus::read(text).unwrap_or_else(|error| panic!("{error}: {text}")).apply(text, wanted, value)
}

/// Both properties of ours, for the first response.
fn ours() -> String {
    value(0) + SUPPORTED_LOCK
}

/// A propstat of ours.
fn apart(inside: &str) -> String {
    format!("<D:propstat xmlns:D=\"DAV:\"><D:prop>{inside}</D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat>")
}

/// A listing of one response, in which `D` is DAV.
fn listing(propstats: &str) -> String {
    format!(
        "<?xml version='1.0'?>\n<D:multistatus xmlns:D='DAV:'><D:response><D:href>/a</D:href>{propstats}</D:response></D:multistatus>\n"
    )
}

fn propstat(prop: &str, code: &str) -> String {
    format!("<D:propstat><D:prop>{prop}</D:prop><D:status>HTTP/1.1 {code}</D:status></D:propstat>")
}

/// A property as a client sees it: of which response, with what status, its namespace, name and content.
type Seen = (usize, Option<u16>, Option<String>, String, String);

fn properties(text: &str) -> Vec<Seen> {
    let document = Document::parse(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let mut seen = Vec::new();
    for (index, response) in dav_children(document.root_element(), "response").enumerate() {
        for propstat in dav_children(response, "propstat") {
            let code = dav_children(propstat, "status").next().and_then(|status| status_of(&status));
            for property in dav_children(propstat, "prop").flat_map(|prop| prop.children()).filter(Node::is_element) {
                let content: String =
                    property.descendants().map(|node| format!("{:?}{:?}", node.tag_name(), node.text())).collect();
                let namespace = namespace(&property).map(str::to_owned);
                seen.push((index, code, namespace, property.tag_name().name().to_owned(), content));
            }
        }
    }
    seen
}

fn is_lock_property((_, _, namespace, name, _): &Seen) -> bool {
    namespace.as_deref() == Some("DAV:") && ["lockdiscovery", "supportedlock"].contains(&name.as_str())
}

#[test]
fn a_property_that_the_handler_has_empty_is_replaced() {
    let before =
        listing(&propstat("<D:getetag>x</D:getetag><D:lockdiscovery/><D:supportedlock></D:supportedlock>\n", "200 OK"));
    let after = listing(&propstat(&format!("<D:getetag>x</D:getetag>\n{}", ours()), "200 OK"));
    assert_eq!(rewritten(&before, BOTH), after);
}

#[test]
fn a_property_that_the_handler_does_not_know_is_put_among_those_it_has() {
    let has = propstat("<D:getetag>x</D:getetag>", "200 OK");
    let lacks = |others: &str| propstat(&format!("{others}<D:lockdiscovery/><D:supportedlock/>"), "404 Not Found");
    let after = propstat(&format!("<D:getetag>x</D:getetag>{}", ours()), "200 OK");
    assert_eq!(rewritten(&listing(&(has.clone() + &lacks(""))), BOTH), listing(&after));
    assert_eq!(rewritten(&listing(&(lacks("") + &has)), BOTH), listing(&after));
    let rest = propstat("<e/>", "404 Not Found");
    assert_eq!(rewritten(&listing(&(lacks("<e/>") + &has)), BOTH), listing(&(rest + &after)));
}

#[test]
fn a_property_that_the_handler_leaves_out_is_put_in() {
    let before = listing(&propstat("<D:getetag>x</D:getetag>", "200 OK"));
    assert_eq!(rewritten(&before, BOTH), listing(&propstat(&format!("<D:getetag>x</D:getetag>{}", ours()), "200 OK")));
    assert_eq!(rewritten(&listing(&propstat("", "200 OK")), BOTH), listing(&propstat(&ours(), "200 OK")));
}

#[test]
fn where_nothing_was_found_there_is_a_propstat_of_ours() {
    let missing = propstat("<e/>", "404 Not Found");
    assert_eq!(rewritten(&listing(&missing), BOTH), listing(&(missing.clone() + &apart(&ours()))));
    assert_eq!(rewritten(&listing(""), BOTH), listing(&apart(&ours())));
    let all_missing = propstat("<D:lockdiscovery/>", "404 Not Found");
    assert_eq!(rewritten(&listing(&all_missing), BOTH), listing(&apart(&ours())));
    let described = format!("{missing}<D:responsedescription>d</D:responsedescription>");
    let after = format!("{missing}{}<D:responsedescription>d</D:responsedescription>", apart(&ours()));
    assert_eq!(rewritten(&listing(&described), BOTH), listing(&after));
}

#[test]
fn a_prop_that_is_one_tag_is_opened() {
    for (empty, start, end) in [
        ("<D:prop/>", "<D:prop>", "</D:prop>"),
        ("<D:prop \n/>", "<D:prop \n>", "</D:prop>"),
        ("<prop xmlns='DAV:' a='/>'/>", "<prop xmlns='DAV:' a='/>'>", "</prop>"),
    ] {
        let with = |prop: &str| listing(&format!("<D:propstat>{prop}<D:status>HTTP/1.1 200 OK</D:status></D:propstat>"));
        assert_eq!(rewritten(&with(empty), BOTH), with(&format!("{start}{}{end}", ours())));
    }
}

#[test]
fn the_handlers_own_is_removed_wherever_it_is_though_nothing_is_wanted() {
    let wrong = "<D:lockdiscovery><D:activelock/></D:lockdiscovery>";
    let before = propstat(&format!("{wrong}<D:a/>{wrong}"), "200 OK")
        + &propstat(wrong, "404 Not Found")
        + &propstat("<D:b/>", "403 Forbidden");
    let after = propstat("<D:a/>", "200 OK") + &propstat("<D:b/>", "403 Forbidden");
    assert_eq!(rewritten(&listing(&before), NEITHER), listing(&after));
}

#[test]
fn a_response_keeps_a_propstat() {
    let before = propstat("<D:lockdiscovery/>", "200 OK") + &propstat("<D:supportedlock/>", "404 Not Found");
    assert_eq!(rewritten(&listing(&before), NEITHER), listing(&propstat("", "200 OK")));
    let one = Wanted { lock_discovery: Form::No, supported_lock: Form::Name };
    assert_eq!(rewritten(&listing(&before), one), listing(&propstat(SUPPORTED_LOCK_NAME, "200 OK")));
}

#[test]
fn names_alone_are_put_where_names_alone_are_asked_for() {
    let before = listing(&propstat("<D:getetag/>", "200 OK"));
    let after = propstat(&format!("<D:getetag/>{LOCK_DISCOVERY_NAME}{SUPPORTED_LOCK_NAME}"), "200 OK");
    let read = Multistatus::read(&before).unwrap();
    assert_eq!(read.apply(&before, NAMES, |_| panic!("no value was asked for")), listing(&after));
}

#[test]
fn a_propstat_is_found_by_its_code_however_it_is_spaced() {
    for status in [
        "HTTP/1.1 200 OK",
        "\n  HTTP/1.1\t200 ",
        "HTTP/2 200",
        "HTTP/1.0  200  Fine",
        "<![CDATA[HTTP/1.1 200 OK]]>",
        "HTTP/1.1 2<!-- -->00 OK",
    ] {
        let with =
            |prop: &str| listing(&format!("<D:propstat><D:status>{status}</D:status><D:prop>{prop}</D:prop></D:propstat>"));
        assert_eq!(rewritten(&with(""), BOTH), with(&ours()), "{status}");
    }
    for status in ["HTTP/1.1 404 200", "HTTP/1.1 207 Multi-Status", "200OK", "", "HTTP/1.1", "HTTP/1.1 2000"] {
        let text = format!("<D:propstat><D:prop/><D:status>{status}</D:status></D:propstat>");
        assert_eq!(rewritten(&listing(&text), BOTH), listing(&format!("{text}{}", apart(&ours()))), "{status}");
    }
}

#[test]
fn only_the_first_propstat_that_is_ok_receives() {
    let before = propstat("<D:a/>", "200 OK") + &propstat("<D:b/><D:supportedlock/>", "200 OK");
    let after = propstat(&format!("<D:a/>{}", ours()), "200 OK") + &propstat("<D:b/>", "200 OK");
    assert_eq!(rewritten(&listing(&before), BOTH), listing(&after));
}

#[test]
fn a_member_that_failed_is_left_alone() {
    let text = listing("<D:status>HTTP/1.1 403 Forbidden</D:status><D:error><D:x/></D:error>");
    assert_eq!(rewritten(&text, BOTH), text);
    let read = Multistatus::read(&text).unwrap();
    assert_eq!((read.responses()[0].status(), read.responses()[0].hrefs()), (Some(403), &["/a".to_owned()][..]));
}

#[test]
fn hrefs_are_as_written_but_for_entities_and_space() {
    let text = "<multistatus xmlns='DAV:'>\
        <response><href>\n http://h:80/%C3%A4&amp;b/ </href><propstat><prop/><status>HTTP/1.1 200 OK</status></propstat></response>\
        <response><href>/a</href><href><![CDATA[/b?c&d]]></href><status>HTTP/1.1 423 Locked</status></response>\
        <response><href>/c<!-- d -->e</href></response><response/><x><response><href>no</href></response></x></multistatus>";
    let read = Multistatus::read(text).unwrap();
    let seen: Vec<(Vec<&str>, Option<u16>)> =
        read.responses().iter().map(|r| (r.hrefs().iter().map(String::as_str).collect(), r.status())).collect();
    assert_eq!(
        seen,
        [(vec!["http://h:80/%C3%A4&b/"], None), (vec!["/a", "/b?c&d"], Some(423)), (vec!["/ce"], None), (vec![], None),]
    );
    let mut asked = Vec::new();
    read.apply(text, BOTH, |index| {
        asked.push(index);
        String::new()
    });
    assert_eq!(asked, [0, 2], "a value is made for each response that takes one, in order");
}

#[test]
fn names_are_understood_by_their_namespace() {
    let elsewhere = "xmlns:D='urn:not-dav' xmlns='urn:neither'";
    let around = |prop: &str| {
        format!(
            "<x:multistatus xmlns:x='DAV:' {elsewhere}><x:response><x:href>/</x:href><x:propstat><x:prop>{prop}</x:prop>\
             <x:status>HTTP/1.1 200 OK</x:status></x:propstat></x:response></x:multistatus>"
        )
    };
    let kept = "<D:lockdiscovery/><lockdiscovery/><y:supportedlock xmlns:y='dav:'/><x:z><x:lockdiscovery/></x:z>";
    let removed = "<x:lockdiscovery>a</x:lockdiscovery><supportedlock xmlns='DAV:'/>";
    assert_eq!(rewritten(&around(&format!("{removed}{kept}")), BOTH), around(&format!("{kept}{}", ours())));
    let after = rewritten(&around(kept), BOTH);
    assert_eq!(properties(&after).iter().filter(|seen| is_lock_property(seen)).count(), 2);
}

#[test]
fn everything_else_stays_to_the_byte() {
    let dressed = |mine: &str, other: &str, end: &str| {
        format!(
            "\u{FEFF}<?xml version='1.0' encoding='UTF-8'?>\r\n<!-- <response> -->\n<?p <D:prop/>?>\n\
             <multistatus xmlns='DAV:'  xmlns:e = \"urn:e\" >\r\n<response e:x='>'>\t<href>/ä</href>\n\
             <propstat e:y=\"'\"><prop  ><!-- <lockdiscovery/> --><e:a b=\"1\"   c='2'><![CDATA[<lockdiscovery/>]]></e:a>{mine} \
             <getetag>&quot;x&quot;</getetag><e:lockdiscovery/>\n{end}</prop >\n<status> HTTP/1.1 200 OK </status>\
             <responsedescription>r</responsedescription></propstat>\n{other} <e:f/></response>\n\
             <responsedescription xml:lang='de'>&#228;</responsedescription></multistatus>\n<!-- end -->"
        )
    };
    let missing = "<propstat><prop><supportedlock/></prop><status>HTTP/1.1 404 Not Found</status><e:g/></propstat>";
    let before = dressed("<lockdiscovery ><!-- </prop> --><locktoken/></lockdiscovery>", missing, "");
    assert_eq!(rewritten(&before, BOTH), dressed("", "", &ours()));
    assert_eq!(rewritten(&dressed("", "", ""), NEITHER), dressed("", "", ""));
}

#[test]
fn utf_16_is_rewritten_as_utf_8() {
    let text = listing(&propstat("<D:displayname>ä</D:displayname>", "200 OK")).replace("'1.0'", "'1.0' encoding='utf-16'");
    let body: Vec<u8> = std::iter::once(0xFEFF).chain(text.encode_utf16()).flat_map(u16::to_be_bytes).collect();
    let text = decode(&body).unwrap();
    let after = rewritten(&text, BOTH);
    assert!(after.contains("encoding='utf-8'") && decode(after.as_bytes()).is_ok());
    assert_eq!(properties(&after).len(), 3);
}

#[test]
fn another_document_is_malformed() {
    for text in ["", "<multistatus/>", "<D:prop xmlns:D='DAV:'/>", "<multistatus xmlns='DAV:'>", "<html><br></html>"] {
        assert!(matches!(Multistatus::read(text), Err(XmlError::Malformed(_))), "{text}");
    }
    assert_eq!(rewritten("<multistatus xmlns='DAV:'/>", BOTH), "<multistatus xmlns='DAV:'/>");
}

#[test]
fn a_large_listing_is_read_once() {
    let count = 30_000;
    let response = "<D:response><D:href>/a</D:href><D:propstat><D:prop><D:a>b</D:a><D:lockdiscovery/></D:prop>\
                    <D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>";
    let text = format!("<D:multistatus xmlns:D='DAV:'>{}</D:multistatus>", response.repeat(count));
    let mut asked = 0;
    let after = Multistatus::read(&text).unwrap().apply(&text, BOTH, |index| {
        asked += 1;
        value(index)
    });
    assert_eq!(asked, count);
    assert!(after.contains(&value(count - 1)) && !after.contains("<D:lockdiscovery/>"));
}

/// A property, in documents where `D` and the default namespace are DAV and `x` is not.
fn property() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "<D:lockdiscovery/>",
        "<supportedlock><lockentry/></supportedlock>",
        "<z:lockdiscovery xmlns:z='DAV:'>\n<!-- </D:prop> --></z:lockdiscovery>",
        "<D:supportedlock a='/>' ></D:supportedlock >",
        "<x:lockdiscovery/>",
        "<lockdiscovery xmlns=''/>",
        "<D:getetag>\"1\"</D:getetag>",
        "<x:a><D:lockdiscovery/></x:a>",
        "<x:b><![CDATA[<D:lockdiscovery/></D:prop>]]></x:b>",
        "<!-- <D:lockdiscovery/> -->",
        "\n  ",
        "<?p?>",
    ])
}

fn any_propstat() -> impl Strategy<Value = String> {
    let status =
        prop::sample::select(vec!["HTTP/1.1 200 OK", "\nHTTP/1.1  200 ", "HTTP/1.1 404 Not Found", "HTTP/1.1 403 No"]);
    let more = prop::sample::select(vec!["", "<D:error><D:e/></D:error>", "\n", "<x:prop><D:lockdiscovery/></x:prop>"]);
    (prop::collection::vec(property(), 0..6), status, more, 0..4).prop_map(|(properties, status, more, shape)| {
        let prop = match (properties.concat(), shape) {
            (empty, _) if empty.is_empty() => "<prop a='b' />".to_owned(),
            (inside, 0) => format!("<z:prop xmlns:z='DAV:'>{inside}</z:prop>"),
            (inside, 1) => format!("<prop>{inside}</prop ><D:prop/>"),
            (inside, _) => format!("<D:prop>{inside}</D:prop>"),
        };
        format!("<D:propstat>{prop}<D:status>{status}</D:status>{more}</D:propstat>")
    })
}

fn any_multistatus() -> impl Strategy<Value = String> {
    let response = (prop::collection::vec(any_propstat(), 0..4), 0..5).prop_map(|(propstats, shape)| match shape {
        0 => "<D:response><D:href>/f</D:href><D:status>HTTP/1.1 403 No</D:status></D:response>\n".to_owned(),
        _ => format!("<response><D:href>/a</D:href>\n{}<x:more/></response>", propstats.join("\n")),
    });
    prop::collection::vec(response, 0..4).prop_map(|responses| {
        format!("<multistatus xmlns='DAV:' xmlns:D='DAV:' xmlns:x='urn:x'>{}</multistatus>", responses.concat())
    })
}

proptest! {
    #[test]
    fn nothing_changes_but_the_lock_properties(
        text in any_multistatus(),
        wanted in prop::sample::select(vec![BOTH, NAMES, NEITHER, Wanted { lock_discovery: Form::Value, ..NEITHER }]),
    ) {
        let after = rewritten(&text, wanted);
        let others = |text: &str| -> Vec<Seen> { properties(text).into_iter().filter(|seen| !is_lock_property(seen)).collect() };
        prop_assert_eq!(others(&text), others(&after));

        let document = Document::parse(&after).unwrap();
        let read = Multistatus::read(&after).unwrap();
        for (index, response) in dav_children(document.root_element(), "response").enumerate() {
            let failed = read.responses()[index].status().is_some();
            let found: Vec<_> =
                properties(&after).into_iter().filter(|seen| seen.0 == index && is_lock_property(seen)).collect();
            for (form, name) in [(wanted.lock_discovery, "lockdiscovery"), (wanted.supported_lock, "supportedlock")] {
                let of_name: Vec<_> = found.iter().filter(|seen| seen.3 == name).collect();
                prop_assert_eq!(of_name.len(), usize::from(form != Form::No && !failed));
                prop_assert!(of_name.iter().all(|seen| seen.1 == Some(200)));
            }
            let before = Document::parse(&text).unwrap();
            let before = dav_children(before.root_element(), "response").nth(index).unwrap();
            let had = dav_children(before, "propstat").next().is_some();
            prop_assert!(!had || dav_children(response, "propstat").next().is_some(), "no propstat is left");
        }
        // What is rewritten once stays as it is.
        prop_assert_eq!(properties(&rewritten(&after, wanted)).len(), properties(&after).len());
    }

    #[test]
    fn a_damaged_multistatus_is_rewritten_or_refused(
        text in any_multistatus(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..4),
    ) {
        // Bytes of the document itself, in other places: more of it stays XML than with any bytes.
        let mut body = text.into_bytes();
        for (to, from) in damage {
            let (to, from) = (to.index(body.len()), from.index(body.len()));
            body[to] = body[from];
        }
        if let Ok(text) = decode(&body)
            && let Ok(read) = Multistatus::read(&text)
        {
            let after = read.apply(&text, BOTH, value);
            prop_assert!(Document::parse(&after).is_ok(), "{}", after);
        }
    }

    #[test]
    fn any_text_is_rewritten_or_refused(text in "\\PC{0,80}|(<[/?!]?[a-zD:]{0,9}[ /'\"=]{0,3}>?){0,12}") {
        if let Ok(read) = Multistatus::read(&text) {
            read.apply(&text, BOTH, value);
        }
    }
}
