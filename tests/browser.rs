//! The page of the example `editor` in a real browser: Chromium, driven by chromedriver.
//!
//! What is proven above all: nothing that somebody typed is ever lost, whatever becomes of the lock, of the network, of
//! the tab, of the browser. Pictures are kept in `target/editor/`.
#![cfg(target_os = "linux")]

mod support;

#[path = "browser/people.rs"]
mod people;
#[path = "browser/webdriver.rs"]
mod webdriver;
#[path = "browser/wire.rs"]
mod wire;

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use people::{Caller, Reader};
use serde_json::json;
use support::example::Example;
use webdriver::{Browser, Offline, Profile, Programs};
use wire::{Wire, exchange};

/// Two tests at a time: each browser is many processes, but most of the time they wait for a lock to end.
fn in_turn() -> MutexGuard<'static, ()> {
    static TURNS: [Mutex<()>; 2] = [Mutex::new(()), Mutex::new(())];
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    TURNS[NEXT.fetch_add(1, Ordering::Relaxed) % 2].lock().unwrap_or_else(PoisonError::into_inner)
}

/// The example, with locks that live for so many seconds.
fn editor(lifetime: &str) -> Example {
    Example::start_knowing(&[("EDITOR_LIFETIME", lifetime)], "editor", &[])
}

#[test]
fn two_people_edit_one_document_and_the_one_who_is_taken_over_loses_nothing() {
    let _turn = in_turn();
    let Some(programs) = Programs::find() else { return };
    let server = editor("30");
    let (first, second) = (Profile::new(), Profile::new());
    let (left, right) = (Browser::start(&programs, &first), Browser::start(&programs, &second));
    let address = server.address();
    left.go(&format!("http://{address}/"));
    left.picture("1-sign-in");

    let ann = Reader::sign_in(&left, address, "Ann");
    ann.opens("welcome");
    ann.sees_that_it_is("free");
    left.picture("2-free");
    ann.edits();
    ann.types("The whale is on loan.");

    // Who it is, and until when; in the list too.
    let ben = Reader::sign_in(&right, address, "Ben");
    ben.sees("document.getElementById('cards').textContent.includes('Ann is editing')");
    right.picture("3-list");
    ben.opens("welcome");
    ben.sees_that_it_is("other");
    ben.reads("who", "Ann is editing");
    ben.reads("who", "Until ");
    assert!(!ben.text().contains("whale"), "nobody sees what is not saved");

    // He asks for it, and she is told.
    ben.browser.run("document.getElementById('ask-text').value = ''");
    right.type_into("#ask-text", "Only a comma, <b>please</b>?\u{e007}");
    ben.reads("asked", "Ann can read it now");
    ann.reads("note-list", "Ben Only a comma, <b>please</b>?");
    ann.reads("live", "Ben asks");
    left.picture("4-asked");

    // She gives it to him, and he goes on with what she saved. Nobody else can come in between.
    left.click("#note-list button");
    ann.is("reading");
    ann.sees_that_it_is("other");
    ben.sees_that_it_is("offered");
    ben.reads("who", "Handed over to you");
    right.picture("5-handed-over");
    right.click("#claim");
    ben.is("editing");
    ben.sees_that_it_is("me");
    assert!(ben.text().contains("The whale is on loan."));
    ann.sees_that_it_is("other");
    ann.reads("who", "Ben is editing");
    ben.types(" Until spring.");
    right.click("#save");
    ben.reads("state", "All saved.");
    ann.sees("document.getElementById('text').value.includes('Until spring.')");
    right.click("#done");
    ann.sees_that_it_is("free");
    ann.reads("live", "free");

    // He comes back for a moment; she stands in line, and it is hers when he is done.
    ben.edits();
    ann.sees_that_it_is("other");
    left.click("#when-free");
    right.click("#done");
    ann.is("editing");
    ann.sees_that_it_is("me");

    // The administrator takes over with a reason, and lets her save first.
    ann.types(" Bring an umbrella.");
    right.click(".me button");
    let admin = Reader::sign_in(&right, address, "admin");
    admin.opens("welcome");
    admin.sees_that_it_is("other");
    right.picture("6-take-over");
    // Shorter than offered, so that nobody waits for it.
    right.run("document.querySelector('input[name=when]').value = '4'");
    right.type_into("#reason", "the minister comes\u{e007}");
    ann.reads("banner", "admin takes over at");
    ann.reads("banner", "“the minister comes”");
    left.picture("7-being-taken-over");
    left.press("\u{e009}s");
    ann.reads("state", "All saved.");
    ann.types(" And boots.");
    admin.is("editing");
    assert!(admin.text().contains("umbrella") && !admin.text().contains("boots"), "she saved in time: {}", admin.text());
    ann.is("copy");
    ann.reads("banner", "admin took over: “the minister comes”");
    ann.types(" And a hat.");
    assert!(ann.text().ends_with(" Bring an umbrella. And boots. And a hat."), "{}", ann.text());
    assert_eq!(ann.kept(), [ann.text()]);

    // What she typed and what was saved stand side by side, and she puts one into the other.
    admin.types(" Closed on Friday.");
    right.click("#done");
    ann.sees_that_it_is("free");
    ann.sees("document.getElementById('saved').textContent.includes('Closed on Friday.')");
    left.picture("8-side-by-side");
    left.click("#again");
    ann.is("editing");
    ann.reads("banner", "admin saved another version meanwhile");
    ann.types(" Closed on Friday.");
    left.click("#done");
    ann.is("reading");
    let saved = Caller::named("Carol", address).saved("welcome");
    assert!(saved.ends_with(" Bring an umbrella. And boots. And a hat. Closed on Friday."), "{saved}");
    assert!(ann.kept().is_empty(), "what is saved is not kept");
    assert_eq!((left.complaints(), right.complaints()), (vec![], vec![]));

    left.devtools(
        "Emulation.setEmulatedMedia",
        &json!({ "features": [
        { "name": "prefers-color-scheme", "value": "dark" }, { "name": "prefers-reduced-motion", "value": "reduce" },
    ] }),
    );
    left.picture("9-dark");
    left.resize(420, 900);
    left.picture("10-narrow");
}

#[test]
fn a_tab_that_is_closed_frees_at_once_and_a_reload_goes_on_where_it_was() {
    let _turn = in_turn();
    let Some(programs) = Programs::find() else { return };
    // So long that nothing in here can have ended by itself.
    let server = editor("3000");
    let folder = Profile::new();
    let browser = Browser::start(&programs, &folder);
    let ann = Reader::sign_in(&browser, server.address(), "Ann");
    let other = Caller::named("Ben", server.address());

    // By keyboard alone: to the button, into the text, saved.
    ann.opens("welcome");
    browser.run("document.getElementById('main').focus()");
    while browser.run("return document.activeElement.id") != "edit" {
        browser.press("\u{e004}");
    }
    browser.press("\u{e007}");
    ann.is("editing");
    browser.press("Dear visitor! ");
    browser.press("\u{e009}s");
    ann.reads("state", "All saved.");
    assert!(other.saved("welcome").starts_with("Dear visitor! Welcome"), "the focus is where one types");

    // A reload: the same text, the same place, still editing.
    ann.types("Not saved.");
    browser.run("document.getElementById('text').setSelectionRange(5, 12)");
    browser.reload();
    ann.is("editing");
    ann.sees("document.getElementById('text').selectionStart === 5 && document.getElementById('text').selectionEnd === 12");
    assert!(ann.text().ends_with("Not saved."), "{}", ann.text());
    ann.reads("banner", "Your unsaved text is back");
    assert_eq!(other.lock_of("welcome").expect("a lock")["owner"]["id"], "Ann");

    // A reload while somebody else has come in between: the text is there all the same.
    let token = other_takes_it_while_she_reloads(&ann, &other);
    ann.is("copy");
    assert!(ann.text().ends_with("Not saved."), "{}", ann.text());
    other.saves("welcome", &token, "Ben was here.");
    other.releases("welcome");
    ann.sees_that_it_is("free");
    ann.sees("document.getElementById('saved').textContent === 'Ben was here.'");
    browser.click("#again");
    ann.is("editing");

    // Closed.
    ann.types(" Really not.");
    browser.close_tab();
    other.waits_until_free("welcome");

    // And opened again, in another tab.
    ann.opens("welcome");
    ann.is("copy");
    assert!(ann.text().ends_with("Not saved. Really not."), "{}", ann.text());
    browser.picture("unsaved-text-is-offered");

    // Discarded, it is gone for good.
    browser.click("#discard");
    ann.is("reading");
    assert_eq!(ann.text(), "Ben was here.");
    browser.reload();
    ann.sees_that_it_is("free");
    ann.is("reading");
    assert_eq!((ann.text(), ann.kept(), browser.complaints()), ("Ben was here.".into(), vec![], vec![]));
}

/// What is sent when a page goes is nothing that anybody can come in between, so it is made to take longer.
fn other_takes_it_while_she_reloads(ann: &Reader<'_>, other: &Caller) -> String {
    ann.browser.go("about:blank");
    other.waits_until_free("welcome");
    let (status, body) = other.sends("PUT", "/locks/docs/welcome", &json!({}));
    assert_eq!(status, 201, "{body}");
    ann.opens("welcome");
    body["token"].as_str().expect("a token").to_owned()
}

#[test]
fn a_killed_browser_frees_by_expiry_and_has_everything_when_it_is_started_again() {
    let _turn = in_turn();
    let Some(programs) = Programs::find() else { return };
    let server = editor("3");
    let folder = Profile::new();
    let other = Caller::named("Ben", server.address());

    let browser = Browser::start(&programs, &folder);
    let ann = Reader::sign_in(&browser, server.address(), "Ann");
    ann.opens("house-style");
    ann.edits();
    ann.types("No semicolons; never.");
    // On its way to a file for a moment.
    ann.sees("document.getElementById('document').dataset.written === 'true'");
    let typed = ann.text();
    browser.kill();
    other.waits_until_free("house-style");

    let browser = Browser::start(&programs, &folder);
    let ann = Reader::sign_in(&browser, server.address(), "Ann");
    ann.opens("house-style");
    ann.is("copy");
    assert_eq!(ann.text(), typed);
    browser.click("#again");
    ann.is("editing");
    browser.click("#done");
    ann.is("reading");
    assert_eq!((other.saved("house-style"), browser.complaints()), (typed, vec![]));
}

#[test]
fn a_page_without_a_network_says_so_claims_nothing_and_loses_nothing() {
    let _turn = in_turn();
    let Some(programs) = Programs::find() else { return };
    let server = editor("4");
    let wire = Wire::to(server.address());
    let folder = Profile::new();
    let browser = Browser::start(&programs, &folder);
    let ann = Reader::sign_in(&browser, wire.address(), "Ann");
    let other = Caller::named("Ben", server.address());

    // Without a network for less long than the lock lives.
    ann.opens("opening-hours");
    ann.edits();
    browser.set_offline(Offline::Yes);
    ann.types("One. ");
    ann.reads("banner", "No connection");
    browser.set_offline(Offline::No);
    ann.sees("document.getElementById('document').dataset.link === 'up'");
    ann.is("editing");

    // What is saved, but the answer is lost: it is not taken for a version of somebody else.
    wire.cut_answers();
    browser.press("\u{e009}s");
    other.waits_until_saved("opening-hours", "One. ");
    ann.types("And. ");
    wire.mend();
    ann.sees("document.getElementById('document').dataset.holding === 'yes'");
    browser.press("\u{e009}s");
    ann.reads("state", "All saved.");
    assert!(other.saved("opening-hours").ends_with("One. And. "), "{}", other.saved("opening-hours"));
    ann.sees("document.getElementById('saved-pane').hidden && document.getElementById('banner').textContent === ''");

    // For longer: nothing comes through, and nothing says so.
    wire.cut();
    ann.types("Two. ");
    browser.click("#save");
    ann.types("Three. ");
    other.waits_until_free("opening-hours");
    let holding = browser.run("return document.getElementById('document').dataset.holding");
    assert_eq!(holding, "unsure", "it claims nothing that is not so");
    ann.reads("banner", "No connection");
    browser.picture("no-connection");
    ann.types("Four. ");
    wire.mend();
    // Nobody came in between, so it goes on as if nothing had been.
    ann.sees("document.getElementById('document').dataset.holding === 'yes'");
    ann.is("editing");
    ann.types("Five. ");
    browser.press("\u{e009}s");
    ann.reads("state", "All saved.");
    assert!(
        other.saved("opening-hours").ends_with("One. And. Two. Three. Four. Five. "),
        "{}",
        other.saved("opening-hours")
    );

    // For longer, and somebody came in between.
    wire.cut();
    ann.types("Six. ");
    other.waits_until_free("opening-hours");
    let (status, body) = other.sends("PUT", "/locks/docs/opening-hours", &json!({}));
    assert_eq!(status, 201, "{body}");
    other.saves("opening-hours", body["token"].as_str().expect("a token"), "Always open.");
    ann.types("Seven. ");
    wire.mend();
    ann.is("copy");
    ann.types("Eight. ");
    assert!(ann.text().ends_with("Five. Six. Seven. Eight. "), "{}", ann.text());
    assert_eq!(ann.kept(), [ann.text()]);
    ann.sees("document.getElementById('saved').textContent === 'Always open.'");
    assert_eq!((other.saved("opening-hours").as_str(), browser.complaints()), ("Always open.", vec![]));
    browser.picture("somebody-came-in-between");
}

#[test]
fn a_lock_that_expires_while_the_machine_sleeps_takes_nothing_typed_with_it() {
    let _turn = in_turn();
    let Some(programs) = Programs::find() else { return };
    let server = editor("2");
    let folder = Profile::new();
    let browser = Browser::start(&programs, &folder);
    let ann = Reader::sign_in(&browser, server.address(), "Ann");
    let other = Caller::named("Ben", server.address());
    ann.opens("welcome");
    ann.edits();
    ann.types("Before. ");

    // Nobody came in between.
    browser.signal("STOP");
    other.waits_until_free("welcome");
    browser.signal("CONT");
    ann.types("Between. ");
    ann.sees("document.getElementById('document').dataset.holding === 'yes'");
    browser.press("\u{e009}s");
    ann.reads("state", "All saved.");

    // Somebody did.
    ann.types("After. ");
    browser.signal("STOP");
    other.waits_until_free("welcome");
    let (_, body) = other.sends("PUT", "/locks/docs/welcome", &json!({ "timeout": 600 }));
    other.saves("welcome", body["token"].as_str().expect("a token"), "Ben's.");
    browser.signal("CONT");
    ann.types("And on. ");
    ann.is("copy");
    assert!(ann.text().ends_with("Before. Between. After. And on. "), "{}", ann.text());
    browser.reload();
    ann.is("copy");
    assert!(ann.text().ends_with("Before. Between. After. And on. "), "{}", ann.text());
    assert_eq!((other.saved("welcome").as_str(), browser.complaints()), ("Ben's.", vec![]));
}

#[test]
fn whoever_is_taken_over_in_the_middle_of_a_word_types_on() {
    const TEXT: &str =
        "It was the ropes that held the town together, and the ropes were made here, three hundred paces long. ";
    let _turn = in_turn();
    let Some(programs) = Programs::find() else { return };
    let server = editor("30");
    let folder = Profile::new();
    let browser = Browser::start(&programs, &folder);
    let ann = Reader::sign_in(&browser, server.address(), "Ann");
    let admin = Caller::named("admin", server.address());
    ann.opens("welcome");
    ann.edits();
    let before = ann.text();

    ann.types(TEXT);
    thread::scope(|scope| {
        // While she types.
        scope.spawn(|| {
            let token = admin.takes_over("welcome", "legal asked for it");
            admin.saves("welcome", &token, "Removed.");
        });
        for _ in 0..3 {
            ann.types(TEXT);
        }
    });
    ann.is("copy");
    ann.reads("banner", "admin took over: “legal asked for it”");
    assert_eq!(ann.text(), format!("{before}{}", TEXT.repeat(4)));
    assert_eq!(ann.kept(), [ann.text()]);
    // She cannot save, and nothing pretends that she could.
    ann.sees("document.getElementById('save').hidden && document.getElementById('again').disabled");
    browser.reload();
    ann.is("copy");
    assert_eq!(ann.text(), format!("{before}{}", TEXT.repeat(4)));
    assert_eq!((admin.saved("welcome").as_str(), browser.complaints()), ("Removed.", vec![]));
}

#[test]
fn whoever_goes_on_in_another_window_or_signs_in_as_somebody_else_loses_nothing() {
    let _turn = in_turn();
    let Some(programs) = Programs::find() else { return };
    let server = editor("30");
    let folder = Profile::new();
    let browser = Browser::start(&programs, &folder);
    let ann = Reader::sign_in(&browser, server.address(), "Ann");
    let other = Caller::named("Ben", server.address());
    ann.opens("welcome");
    ann.edits();

    // A browser that keeps nothing is not said to.
    browser.run("window.keep = Storage.prototype.setItem; Storage.prototype.setItem = () => { throw new Error('full') }");
    ann.types("First. ");
    ann.reads("state", "this browser keeps nothing");
    browser.run("Storage.prototype.setItem = window.keep");
    ann.types("And. ");
    ann.reads("state", "Kept in this browser");

    let first = browser.open_tab();
    ann.opens("welcome");
    ann.sees_that_it_is("elsewhere");
    assert!(!ann.text().contains("First."), "{}", ann.text());
    browser.click("#here");
    ann.is("editing");
    ann.types("Second. ");

    // In the background it has learned of it, and what is typed there is still a copy.
    let second = browser.turn_to(&first);
    ann.is("copy");
    ann.reads("banner", "You went on in another window");
    ann.types("Third. ");
    let first = browser.turn_to(&second);
    browser.click("#done");
    ann.is("reading");
    assert!(other.saved("welcome").ends_with("First. And. Second. "), "{}", other.saved("welcome"));
    let second = browser.turn_to(&first);
    ann.sees("document.getElementById('saved').textContent.includes('Second.')");
    assert!(ann.text().ends_with("First. And. Third. "), "{}", ann.text());

    // Somebody else signs in, in the same browser.
    browser.turn_to(&second);
    let ben = Reader::sign_in(&browser, server.address(), "Ben");
    ben.opens("welcome");
    ben.is("reading");
    assert!(ben.text().ends_with("First. And. Second. "), "what ann typed is not offered to him: {}", ben.text());
    browser.turn_to(&first);
    browser.click("#again");
    ann.reads("banner", "Somebody else is signed in");
    ann.is("copy");
    assert!(ann.text().ends_with("First. And. Third. "), "{}", ann.text());
    other.waits_until_free("welcome");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn the_pages_take_nothing_from_elsewhere_and_nothing_as_html() {
    let _turn = in_turn();
    let Some(programs) = Programs::find() else { return };
    let server = editor("30");
    let address = server.address();

    // What the header fields say.
    let ask = |method: &str, path: &str, fields: &[(&str, &str)], body: &str| exchange(address, method, path, fields, body);
    let form = ("Content-Type", "application/x-www-form-urlencoded");
    let (status, head, _) = ask("POST", "/sign-in", &[form], "name=Z%C3%B6e+%3B%22");
    assert_eq!(status, 303, "{head}");
    for part in ["name=Z%C3%B6e%20%3B%22;", "SameSite=Strict", "HttpOnly", "default-src 'none'", "nosniff"] {
        assert!(head.contains(part), "{part}: {head}");
    }
    assert!(!head.contains("unsafe-inline"), "{head}");
    // Pages of others: another site, and another port of this one.
    for site in ["cross-site", "same-site"] {
        for (path, body) in [("/sign-in", "name=Eve"), ("/sign-out", ""), ("/locks/docs/welcome", "")] {
            let (status, ..) = ask("POST", path, &[form, ("Sec-Fetch-Site", site), ("Cookie", "name=Ann")], body);
            assert_eq!(status, 403, "{site} {path}");
        }
    }
    for path in ["/docs", "/docs/welcome", "/locks", "/locks/docs/welcome", "/notes/welcome", "/me", "/edit/welcome", "/"] {
        assert_eq!(ask("GET", path, &[], "").0, 401, "{path}");
    }
    assert_eq!(Caller::named("Ann", address).sends("PUT", "/docs/welcome", &json!({ "text": "x" })).0, 428);

    // A name, a note, a reason and a text that would be an image which runs a script.
    const HOSTILE: &str = "<img src=/x onerror=document.title=1>";
    let folder = Profile::new();
    let browser = Browser::start(&programs, &folder);
    let eve = Reader::sign_in(&browser, address, HOSTILE);
    eve.opens("welcome");
    eve.edits();
    browser.run("document.getElementById('text').setSelectionRange(0, 0)");
    browser.type_into("#text", &format!("{HOSTILE}\n"));
    let admin = Caller::named("admin", address);
    assert_eq!(admin.sends("POST", "/notes/welcome", &json!({ "text": HOSTILE })).0, 204);
    eve.reads("note-list", HOSTILE);
    let token = admin.takes_over("welcome", HOSTILE);
    eve.is("copy");
    eve.reads("banner", HOSTILE);
    admin.saves("welcome", &token, &format!("{HOSTILE}\nSaved."));
    admin.releases("welcome");
    eve.sees("document.getElementById('saved').textContent.includes('Saved.')");
    eve.sees("document.getElementById('me').textContent.includes('<img')");
    assert_eq!(browser.run("return [document.images.length, document.title]"), json!([1, HOSTILE]), "the one is ours");
    browser.click("#discard");
    browser.click(".brand");
    eve.sees("document.getElementById('cards').textContent.includes('<img')");
    assert_eq!((browser.run("return document.images.length"), browser.complaints()), (json!(1), vec![]));
}
