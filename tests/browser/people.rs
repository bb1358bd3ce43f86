//! People: one at the page, in a browser, and one who sends requests by hand.

use serde_json::{Value, json};

use super::{webdriver::Browser, wire::exchange};

/// Somebody at the page.
pub(crate) struct Reader<'a> {
    pub(crate) browser: &'a Browser,
    address: String,
}

impl<'a> Reader<'a> {
    /// Signs in at the server that is at this address.
    pub(crate) fn sign_in(browser: &'a Browser, address: &str, name: &str) -> Self {
        let reader = Self { browser, address: address.to_owned() };
        browser.go(&format!("http://{address}/sign-in"));
        browser.type_into("#name", &format!("{name}\u{e007}"));
        browser.until("document.querySelectorAll('#cards .card').length > 2");
        reader
    }

    pub(crate) fn opens(&self, id: &str) {
        self.browser.go(&format!("http://{}/edit/{id}", self.address));
        self.sees("(document.getElementById('document').dataset.who ?? 'unknown') !== 'unknown'");
    }

    /// Starts editing, and types at the end of the text.
    pub(crate) fn edits(&self) {
        self.browser.click("#edit");
        self.is("editing");
    }

    pub(crate) fn types(&self, text: &str) {
        // At the end, wherever the cursor was.
        self.browser.run(
            "const text = document.getElementById('text'); text.setSelectionRange(text.value.length, text.value.length)",
        );
        self.browser.type_into("#text", text);
    }

    /// Waits for the mode of the page: `reading`, `editing`, `copy`.
    pub(crate) fn is(&self, mode: &str) {
        self.sees(&format!("document.getElementById('document').dataset.mode === '{mode}'"));
    }

    /// Waits for who the page says is editing: `free`, `me`, `other`, `elsewhere`, `offered`.
    pub(crate) fn sees_that_it_is(&self, who: &str) {
        self.sees(&format!("document.getElementById('document').dataset.who === '{who}'"));
    }

    pub(crate) fn sees(&self, expression: &str) {
        self.browser.until(expression);
    }

    /// Waits until the element shows this.
    pub(crate) fn reads(&self, id: &str, text: &str) {
        self.sees(&format!("document.getElementById('{id}').textContent.includes({})", json!(text)));
    }

    pub(crate) fn text(&self) -> String {
        self.browser.run("return document.getElementById('text').value").as_str().expect("a text").to_owned()
    }

    /// All text that the browser keeps for later.
    pub(crate) fn kept(&self) -> Vec<String> {
        let kept = self.browser.run("return Object.values(localStorage).map((draft) => JSON.parse(draft).text)");
        serde_json::from_value(kept).expect("texts")
    }
}

/// Somebody who sends requests by hand.
pub(crate) struct Caller {
    address: String,
    name: &'static str,
}

impl Caller {
    pub(crate) fn named(name: &'static str, address: &str) -> Self {
        Self { address: address.to_owned(), name }
    }

    pub(crate) fn sends(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let cookie = format!("name={}", self.name);
        let fields = [("Cookie", &*cookie), ("Content-Type", "application/json"), ("Accept", "application/json")];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (status, _, body) = exchange(&self.address, method, path, &fields, &body);
        (status, serde_json::from_str(&body).unwrap_or_default())
    }

    /// The lock of a document, as the endpoint shows it.
    pub(crate) fn lock_of(&self, id: &str) -> Option<Value> {
        let (status, body) = self.sends("GET", &format!("/locks/docs/{id}"), &Value::Null);
        assert_eq!(status, 200, "{body}");
        body["locks"].as_array().and_then(|locks| locks.first().cloned())
    }

    /// Waits until nobody is editing a document.
    pub(crate) fn waits_until_free(&self, id: &str) {
        let start = std::time::Instant::now();
        while let Some(lock) = self.lock_of(id) {
            assert!(start.elapsed().as_secs() < 60, "it does not become free: {lock}");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    pub(crate) fn waits_until_saved(&self, id: &str, end: &str) {
        let start = std::time::Instant::now();
        while !self.saved(id).ends_with(end) {
            assert!(start.elapsed().as_secs() < 60, "{}", self.saved(id));
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    /// Takes over at once, whoever is editing.
    pub(crate) fn takes_over(&self, id: &str, reason: &str) -> String {
        let lock = self.lock_of(id).expect("somebody is editing");
        let body = json!({ "replaces": [{ "lock_id": lock["lock_id"], "reason": reason }] });
        let (status, body) = self.sends("PUT", &format!("/locks/docs/{id}"), &body);
        assert_eq!(status, 201, "{body}");
        body["token"].as_str().expect("a token").to_owned()
    }

    pub(crate) fn saved(&self, id: &str) -> String {
        let (status, body) = self.sends("GET", &format!("/docs/{id}"), &Value::Null);
        assert_eq!(status, 200, "{body}");
        body["text"].as_str().expect("a text").to_owned()
    }

    pub(crate) fn saves(&self, id: &str, token: &str, text: &str) {
        let cookie = format!("name={}", self.name);
        let condition = format!("(<{token}>)");
        let fields = [("Cookie", &*cookie), ("Content-Type", "application/json"), ("If", &*condition)];
        let (status, _, body) =
            exchange(&self.address, "PUT", &format!("/docs/{id}"), &fields, &json!({ "text": text }).to_string());
        assert_eq!(status, 200, "{body}");
    }

    pub(crate) fn releases(&self, id: &str) {
        let (status, body) = self.sends("DELETE", &format!("/locks/docs/{id}"), &Value::Null);
        assert_eq!(status, 204, "{body}");
    }
}
