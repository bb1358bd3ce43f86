use proptest::prelude::*;
use roxmltree::Document;

use super::*;
use crate::webdav::discovery::prop_document;

/// A body with `owner` in it, in which `D` is DAV.
fn with_owner(owner: &str) -> String {
    format!(
        "<D:lockinfo xmlns:D='DAV:'><D:lockscope><D:exclusive/></D:lockscope>\
         <D:locktype><D:write/></D:locktype>{owner}</D:lockinfo>"
    )
}

fn read(body: &str) -> Result<LockInfo, LockInfoError> {
    LockInfo::read(body.as_bytes())
}

fn owner_of(body: &str) -> String {
    read(body).unwrap().owner.unwrap()
}

/// All that a tree says: names with their namespaces, attributes, text, comments, instructions.
fn tree(node: Node<'_, '_>) -> String {
    if let Some(instruction) = node.pi() {
        return format!("?{instruction:?}");
    }
    if !node.is_element() {
        return format!("{:?}{:?}", node.node_type(), node.text());
    }
    let mut attributes: Vec<_> =
        node.attributes().map(|a| format!("{:?}{}={:?}", a.namespace(), a.name(), a.value())).collect();
    attributes.sort();
    let children: Vec<_> = node.children().map(tree).collect();
    format!("<{:?}{}{attributes:?}>{children:?}", namespace(&node), node.tag_name().name())
}

/// The owner as the body has it, and as a document has it that binds prefixes and the default namespace otherwise.
fn before_and_after(body: &str) -> (String, String) {
    let document = Document::parse(body).unwrap();
    let owner = document.descendants().find(|node| is_dav(node, "owner")).unwrap();
    let before = tree(owner);
    let kept = owner_of(body);
    let bound = "xmlns='urn:other' xmlns:D='urn:other' xmlns:a='urn:other' xmlns:b='urn:other'";
    let answer = prop_document(&format!("<x {bound}>{kept}</x>"));
    let document = Document::parse(&answer).unwrap();
    let after = tree(document.descendants().find(|node| is_dav(node, "owner")).unwrap());
    (before, after)
}

#[test]
fn a_lock_is_asked_for_in_any_spelling_of_its_names() {
    for (scope, expected) in [("exclusive", LockScope::Exclusive), ("shared", LockScope::Shared)] {
        for body in [
            format!(
                "<D:lockinfo xmlns:D='DAV:'><D:lockscope><D:{scope}/></D:lockscope><D:locktype><D:write/></D:locktype></D:lockinfo>"
            ),
            format!(
                "<lockinfo xmlns='DAV:'>\n<locktype><write></write></locktype><lockscope>\n<{scope}/></lockscope></lockinfo>"
            ),
            format!(
                "<a:lockinfo xmlns:a='DAV:' x='y'><b:lockscope xmlns:b='DAV:'><a:{scope}/></b:lockscope><locktype xmlns='DAV:'><write/></locktype></a:lockinfo>"
            ),
            format!(
                "<lockinfo xmlns='DAV:'><e:x xmlns:e='urn:e'><lockscope/></e:x><lockscope a='b'><e:y xmlns:e='urn:e'/><{scope}/></lockscope><locktype>text<write/></locktype><new/></lockinfo>"
            ),
        ] {
            assert_eq!(read(&body), Ok(LockInfo { scope: expected, owner: None }), "{body}");
        }
    }
}

#[test]
fn a_lock_is_asked_for_in_utf_16() {
    let body = with_owner("<D:owner>Änne</D:owner>");
    let body: Vec<u8> = std::iter::once(0xFEFF).chain(body.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    assert_eq!(LockInfo::read(&body).unwrap().owner.unwrap(), "<D:owner xmlns:D=\"DAV:\">Änne</D:owner>");
}

#[test]
fn what_lacks_a_part_is_refused() {
    let scope = "<lockscope><exclusive/></lockscope>";
    let write = "<locktype><write/></locktype>";
    for (inside, missing) in [
        (String::new(), "lockscope"),
        (scope.to_owned(), "locktype"),
        (write.to_owned(), "lockscope"),
        (format!("<lockscope/>{write}"), "lockscope"),
        (format!("<lockscope>exclusive</lockscope>{write}"), "lockscope"),
        (format!("{scope}<locktype> </locktype>"), "locktype"),
        (format!("<x>{scope}</x>{write}"), "lockscope"),
        (format!("<!--{scope}-->{write}"), "lockscope"),
        (format!("<lockscope xmlns=''><exclusive/></lockscope>{write}"), "lockscope"),
    ] {
        let body = format!("<lockinfo xmlns='DAV:'>{inside}</lockinfo>");
        assert_eq!(read(&body), Err(LockInfoError::Missing(missing)), "{body}");
    }
    for body in [
        "<lockinfo/>".to_owned(),
        format!("<lockinfo xmlns='dav'>{scope}{write}</lockinfo>"),
        "<x xmlns='DAV:'/>".to_owned(),
    ] {
        assert_eq!(read(&body), Err(LockInfoError::Missing("lockinfo")), "{body}");
    }
}

#[test]
fn what_there_is_not_is_refused_rather_than_granted_as_something_else() {
    let body = |scope: &str, kind: &str| {
        format!("<lockinfo xmlns='DAV:'><lockscope>{scope}</lockscope><locktype>{kind}</locktype></lockinfo>")
    };
    for scope in ["<local/>", "<exclusive xmlns=''/>", "<x><exclusive/></x>", "<exclusive/><shared/>", "<Exclusive/>"] {
        assert_eq!(read(&body(scope, "<write/>")), Err(LockInfoError::Unsupported("lockscope")), "{scope}");
    }
    for kind in ["<read/>", "<write xmlns='urn:x'/>"] {
        assert_eq!(read(&body("<shared/>", kind)), Err(LockInfoError::Unsupported("locktype")), "{kind}");
    }
    assert!(read(&body("<shared/><shared/>", "<write/><write/>")).is_ok());
}

#[test]
fn what_is_said_twice_is_refused() {
    for twice in [
        "<D:owner>a</D:owner><D:owner>b</D:owner>",
        "<D:lockscope><D:shared/></D:lockscope>",
        "<D:locktype><D:write/></D:locktype>",
    ] {
        assert!(matches!(read(&with_owner(twice)), Err(LockInfoError::Xml(XmlError::Malformed(_)))), "{twice}");
    }
}

#[test]
fn what_is_no_xml_is_refused() {
    for body in ["", "x", "<lockinfo xmlns='DAV:'>", "<D:lockinfo/>"] {
        assert!(matches!(read(body), Err(LockInfoError::Xml(XmlError::Malformed(_)))), "{body}");
    }
    assert_eq!(read("<!DOCTYPE lockinfo><lockinfo/>"), Err(LockInfoError::Xml(XmlError::Dtd)));
    let external = "<!DOCTYPE lockinfo [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><lockinfo>&x;</lockinfo>";
    assert_eq!(read(external), Err(LockInfoError::Xml(XmlError::ExternalEntity)));
}

#[test]
fn no_owner_is_none_and_an_empty_one_is_kept() {
    assert_eq!(read(&with_owner("")).unwrap().owner, None);
    assert_eq!(owner_of(&with_owner("<D:owner/>")), "<D:owner xmlns:D=\"DAV:\"/>");
    assert_eq!(owner_of(&with_owner("<D:owner />")), "<D:owner  xmlns:D=\"DAV:\"/>");
    assert_eq!(owner_of(&with_owner("<D:owner></D:owner >")), "<D:owner xmlns:D=\"DAV:\"></D:owner >");
    assert_eq!(read(&with_owner("<D:x><D:owner>no</D:owner></D:x><owner>no</owner>")).unwrap().owner, None);
}

#[test]
fn the_content_of_an_owner_is_kept_to_the_byte() {
    for content in [
        "litmus test suite",
        "  a\r\n\tb  ",
        "<D:href>mailto:a@b</D:href>",
        "a<![CDATA[ <b> & ]] ]]>c<!-- <d> --><?e f?>",
        "<x b = '1'   a=\"2\"\n/><y   ></y  >",
        "&lt;&#x41;&amp;amp;&quot;'\">",
        "<x xmlns='urn:x' y='&lt;'>z</x>",
        "𝄞ä",
    ] {
        let body = with_owner(&format!("<D:owner  a='>' b=\"'\" >{content}</D:owner>"));
        let kept = owner_of(&body);
        let start = if content.contains("<x b") {
            "<D:owner  a='>' b=\"'\"  xmlns:D=\"DAV:\" xmlns=\"\">"
        } else {
            "<D:owner  a='>' b=\"'\"  xmlns:D=\"DAV:\">"
        };
        assert_eq!(kept, format!("{start}{content}</D:owner>"));
        let (before, after) = before_and_after(&body);
        assert_eq!(before, after, "{content}");
    }
}

#[test]
fn an_owner_takes_with_it_what_it_has_from_around_it() {
    let inside = "<lockscope><shared/></lockscope><locktype><write/></locktype>";
    for (root, owner, start) in [
        ("xmlns='DAV:'", "<owner><href/></owner>", "<owner xmlns=\"DAV:\">"),
        ("xmlns='DAV:'", "<owner xmlns='DAV:'>x</owner>", "<owner xmlns='DAV:'>"),
        (
            "xmlns='DAV:' xmlns:a='urn:&lt;&quot;&#39;&amp;a'",
            "<owner><a:b/></owner>",
            "<owner xmlns:a=\"urn:&lt;&quot;&#39;&amp;a\" xmlns=\"DAV:\">",
        ),
        ("xmlns='DAV:' xmlns:a='urn:a'", "<owner xmlns:a='urn:b'><a:b/></owner>", "<owner xmlns:a='urn:b' xmlns=\"DAV:\">"),
        ("xmlns='DAV:' xmlns:D='DAV:'", "<D:owner xmlns=''><a/></D:owner>", "<D:owner xmlns='' xmlns:D=\"DAV:\">"),
        ("xmlns='DAV:'", "<owner><a xmlns=''><b/></a></owner>", "<owner xmlns=\"DAV:\">"),
        ("xmlns='DAV:' xml:lang='de'", "<owner>x</owner>", "<owner xmlns=\"DAV:\" xml:lang=\"de\">"),
        ("xmlns='DAV:' xml:lang='de'", "<owner xml:lang='fr'>x</owner>", "<owner xml:lang='fr' xmlns=\"DAV:\">"),
        ("xmlns='DAV:' xml:lang='de'", "<owner xml:lang=''>x</owner>", "<owner xml:lang='' xmlns=\"DAV:\">"),
        (
            "xmlns='DAV:' xmlns:xml='http://www.w3.org/XML/1998/namespace'",
            "<owner xml:space='preserve'> </owner>",
            "<owner xml:space='preserve' xmlns=\"DAV:\">",
        ),
        ("xmlns='DAV:' xmlns:a='urn:a'", "<owner a:b='c'>d</owner>", "<owner a:b='c' xmlns:a=\"urn:a\" xmlns=\"DAV:\">"),
    ] {
        let body = format!("<lockinfo {root}>{inside}{owner}</lockinfo>");
        let kept = owner_of(&body);
        assert!(kept.starts_with(start), "{kept} of {body}");
        if !root.contains("lang") {
            let (before, after) = before_and_after(&body);
            assert_eq!(before, after, "{body}");
        }
    }
}

#[test]
fn an_owner_that_is_kept_can_be_read_again() {
    let once = owner_of(&with_owner("<D:owner x='1'><a/></D:owner>"));
    assert_eq!(owner_of(&with_owner(&once)), once);
}

/// Content in which `D`, `a` and perhaps the default namespace are declared around it.
fn content() -> impl Strategy<Value = String> {
    let text = prop::sample::select(vec![
        "",
        " ",
        "x",
        "\r\n",
        "ä",
        "&lt;",
        "&#10;",
        "&#x1D11E;",
        "<![CDATA[<&]]>",
        "<![CDATA[]]>",
        "<!-- <D:owner> -->",
        "<?p <q?>",
        "]] ",
        "'\"",
        ">",
    ])
    .prop_map(str::to_owned);
    text.prop_recursive(5, 40, 4, |inner| {
        let name = prop::sample::select(vec!["x", "D:x", "a:x", "b:x"]);
        let declared = prop::sample::select(vec![
            "",
            " xmlns=''",
            " xmlns='urn:a'",
            " xmlns:a='urn:n'",
            " y='1' a:y=\"2\"",
            " xml:lang='de'",
            "\n",
            " y = '>'",
            " D:y='/>'",
        ]);
        (name, declared, prop::collection::vec(inner, 0..4)).prop_map(|(name, declared, inner)| {
            let bound = if name == "b:x" { " xmlns:b='urn:b'" } else { "" };
            match inner.concat() {
                empty if empty.is_empty() && declared.len() % 2 == 0 => format!("<{name}{bound}{declared}/>"),
                inner => format!("<{name}{bound}{declared}>{inner}</{name}>"),
            }
        })
    })
}

proptest! {
    #[test]
    fn any_owner_says_the_same_elsewhere(
        content in prop::collection::vec(content(), 0..4),
        root in prop::sample::select(vec!["", " xmlns='urn:r'", " xmlns='DAV:'", " xmlns=''"]),
        owner in prop::sample::select(vec!["", " xmlns='urn:o'", " xmlns=''", " xmlns:a='urn:o'", " D:b='c'", " xmlns:D='DAV:'"]),
    ) {
        let content = content.concat();
        let body = format!(
            "<D:lockinfo{root} xmlns:D='DAV:' xmlns:a='urn:a'><D:lockscope><D:shared/></D:lockscope>\
             <D:locktype><D:write/></D:locktype><D:owner{owner}>{content}</D:owner></D:lockinfo>"
        );
        let (before, after) = before_and_after(&body);
        prop_assert_eq!(before, after);
        let end = format!(">{content}</D:owner>");
        prop_assert!(owner_of(&body).ends_with(&end));
    }

    #[test]
    fn a_damaged_body_is_read_or_refused(
        content in content(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        end in any::<prop::sample::Index>(),
    ) {
        let mut body = with_owner(&format!("<D:owner xmlns:a='urn:a'>{content}</D:owner>")).into_bytes();
        for (at, byte) in damage {
            let at = at.index(body.len());
            body[at] = byte;
        }
        if let Ok(LockInfo { owner: Some(owner), .. }) = LockInfo::read(&body) {
            prop_assert!(xml::parse(&prop_document(&owner)).is_ok(), "{}", owner);
        }
        let _ = LockInfo::read(&body[..end.index(body.len())]);
    }
}
