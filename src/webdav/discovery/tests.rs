use std::sync::Arc;

use roxmltree::{Document, Node};

use super::*;
use crate::{
    lock::{Depth, LockId, LockKind, LockScope, LockState, Timestamp},
    webdav::xml::{dav_children, text_of},
};

const TOKEN: &str = "urn:uuid:6f1c0c6e-0b0a-4b6e-9a3b-1f7f3f6a9c11";

fn view() -> LockView {
    LockView {
        lock_id: LockId::random(),
        resource: "/a/ä b".to_owned(),
        scope: LockScope::Exclusive,
        depth: Depth::Infinity,
        kind: LockKind::User,
        owner: None,
        reason: None,
        client_ref: None,
        state: LockState::Held,
        in_use: false,
        created_at: Timestamp::EPOCH,
        expires_at: None,
        expires_in: None,
        generation: 1,
        mine: false,
        can_break: false,
    }
}

fn discovery(view: &LockView) -> String {
    lock_discovery([ActiveLock { view, token: None, href: "/a" }.text().as_str()])
}

fn owned(owner: Owner) -> String {
    discovery(&LockView { owner: Some(owner), ..view() })
}

fn child<'a, 'input: 'a>(node: Node<'a, 'input>, name: &'static str) -> Node<'a, 'input> {
    dav_children(node, name).next().unwrap_or_else(|| panic!("no {name}"))
}

#[test]
fn a_lock_is_shown_in_the_order_of_rfc_4918() {
    let view = LockView { owner: Some(Owner::id("u-1").named("A & B")), expires_in: Some(3599), ..view() };
    let token = Some(TOKEN.parse().unwrap());
    let shown = lock_discovery([ActiveLock { view: &view, token, href: "/a/%C3%A4&b/" }.text().as_str()]);
    assert_eq!(
        shown,
        format!(
            "<D:lockdiscovery xmlns:D=\"DAV:\"><D:activelock><D:lockscope><D:exclusive/></D:lockscope>\
             <D:locktype><D:write/></D:locktype><D:depth>infinity</D:depth><D:owner>A &amp; B</D:owner>\
             <D:timeout>Second-3599</D:timeout><D:locktoken><D:href>{TOKEN}</D:href></D:locktoken>\
             <D:lockroot><D:href>/a/%C3%A4&amp;b/</D:href></D:lockroot></D:activelock></D:lockdiscovery>"
        )
    );
}

#[test]
fn what_may_not_be_seen_or_is_not_known_is_left_out() {
    let shown = discovery(&LockView { scope: LockScope::Shared, depth: Depth::Zero, ..view() });
    assert_eq!(
        shown,
        "<D:lockdiscovery xmlns:D=\"DAV:\"><D:activelock><D:lockscope><D:shared/></D:lockscope>\
         <D:locktype><D:write/></D:locktype><D:depth>0</D:depth><D:timeout>Infinite</D:timeout>\
         <D:lockroot><D:href>/a</D:href></D:lockroot></D:activelock></D:lockdiscovery>"
    );
    assert!(!owned(Owner::default()).contains("owner"));
}

#[test]
fn more_seconds_than_a_timeout_can_say_are_the_most_that_it_can() {
    assert!(discovery(&LockView { expires_in: Some(u64::MAX), ..view() }).contains(">Second-4294967295<"));
    assert!(discovery(&LockView { expires_in: Some(0), ..view() }).contains(">Second-0<"));
}

#[test]
fn there_may_be_any_number_of_locks() {
    assert_eq!(lock_discovery([]), LOCK_DISCOVERY_NAME);
    let view = view();
    let shown = lock_discovery([ActiveLock { view: &view, token: None, href: "/" }.text().as_str(); 3]);
    let document = Document::parse(&shown).unwrap();
    assert_eq!(dav_children(document.root_element(), "activelock").count(), 3);
}

#[test]
fn an_owner_that_was_sent_is_shown_as_it_was_sent() {
    let element = "<x:owner xmlns:x=\"DAV:\" a='1'> <![CDATA[<b>]]><c xmlns=\"\">d</c><!--e--></x:owner>";
    for xml in [element.to_owned(), format!("<?xml version='1.0'?>\n<!-- before -->{element}<?after?>")] {
        let shown = owned(Owner::id("u-1").named("Ann").xml(xml));
        assert!(shown.contains(&format!("</D:depth>{element}<D:timeout>")), "{shown}");
        assert!(Document::parse(&shown).is_ok());
    }
}

#[test]
fn what_is_no_owner_element_cannot_spoil_the_answer() {
    for xml in [
        "",
        "plain",
        "<D:href>x</D:href>",
        "<owner>not of DAV</owner>",
        "<D:owner>",
        "<owner xmlns='DAV:'/><owner xmlns='DAV:'/>",
        "<owner xmlns='DAV:'/></D:activelock>",
        "<!DOCTYPE owner><owner xmlns='DAV:'/>",
        "<owner xmlns='DAV:'>&#xD800;</owner>",
    ] {
        let shown = owned(Owner::id("u-1").xml(xml));
        assert!(shown.contains("<D:owner>u-1</D:owner>"), "{shown}");
        let shown = owned(Owner::default().xml(xml));
        assert!(!shown.contains("owner"), "{shown}");
    }
}

#[test]
fn a_name_is_text_whatever_it_holds() {
    let name = "</D:owner><D:owner>&amp;\u{0}'\"";
    let shown = owned(Owner { name: Some(Arc::from(name)), ..Owner::default() });
    let document = Document::parse(&shown).unwrap();
    let owner = child(child(document.root_element(), "activelock"), "owner");
    assert_eq!(text_of(&owner), name.replace('\0', "\u{FFFD}"));
}

#[test]
fn the_constants_are_elements_of_their_own() {
    for (text, name, children) in [
        (LOCK_DISCOVERY_NAME, "lockdiscovery", 0),
        (SUPPORTED_LOCK_NAME, "supportedlock", 0),
        (SUPPORTED_LOCK, "supportedlock", 2),
    ] {
        let document = Document::parse(text).unwrap();
        assert!(is_dav(&document.root_element(), name));
        assert_eq!(document.root_element().children().count(), children);
        for (entry, scope) in document.root_element().children().zip(["exclusive", "shared"]) {
            assert!(is_dav(&entry, "lockentry"));
            child(child(entry, "lockscope"), scope);
            child(child(entry, "locktype"), "write");
        }
    }
}

#[test]
fn the_answer_to_a_lock_is_a_prop_document() {
    let text = prop_document(&discovery(&view()));
    let document = Document::parse(&text).unwrap();
    let root = document.root_element();
    assert!(is_dav(&root, "prop"));
    child(child(child(root, "lockdiscovery"), "activelock"), "lockroot");
}
