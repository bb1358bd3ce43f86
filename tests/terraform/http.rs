//! Requests to the example by hand, as somebody.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::example::Example;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// The example, over a store.
pub(crate) struct Backend {
    example: Example,
}

impl Backend {
    pub(crate) fn over(store: &str) -> Self {
        Self { example: Example::start("terraform", &[store]) }
    }

    pub(crate) fn address(&self) -> &str {
        self.example.address()
    }

    pub(crate) fn lines(&self) -> &[String] {
        self.example.lines()
    }

    pub(crate) fn ask(&self, user: &str, method: &str, target: &str, body: impl AsRef<[u8]>) -> Answer {
        self.ask_with(user, method, target, &[], body)
    }

    pub(crate) fn ask_with(
        &self,
        user: &str,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
        body: impl AsRef<[u8]>,
    ) -> Answer {
        let start = Instant::now();
        loop {
            let answer = self.ask_once(user, method, target, fields, body.as_ref());
            // As Terraform does: an engine on a machine that has much else to do may be too slow for once.
            if answer.status != 503 || start.elapsed() > PATIENCE {
                return answer;
            }
        }
    }

    /// The first answer, also where it says to ask again.
    pub(crate) fn ask_once(&self, user: &str, method: &str, target: &str, fields: &[(&str, &str)], body: &[u8]) -> Answer {
        ask(self.address(), user, method, target, fields, body)
    }

    /// LOCK at the address of the lock, as Terraform does by default.
    pub(crate) fn lock(&self, user: &str, state: &str, id: &str) -> Answer {
        self.ask(user, "LOCK", &format!("/state/{state}/lock"), info(id))
    }

    pub(crate) fn unlock(&self, user: &str, state: &str, id: &str) -> Answer {
        self.ask(user, "UNLOCK", &format!("/state/{state}/lock"), info(id))
    }

    pub(crate) fn force_unlock(&self, user: &str, state: &str) -> Answer {
        self.ask(user, "UNLOCK", &format!("/state/{state}/lock"), "")
    }

    pub(crate) fn save(&self, user: &str, state: &str, id: &str, content: &str) -> Answer {
        self.ask(user, "POST", &format!("/state/{state}?ID={id}"), content)
    }

    /// What is saved; nothing, where there is no state.
    pub(crate) fn saved(&self, state: &str) -> Option<String> {
        let answer = self.ask("reader", "GET", &format!("/state/{state}"), "");
        assert!([200, 404].contains(&answer.status), "{answer:?}");
        (answer.status == 200).then(|| answer.text())
    }

    /// The ID of whoever has locked a state.
    pub(crate) fn holder(&self, state: &str) -> Option<String> {
        let answer = self.ask("reader", "GET", &format!("/state/{state}/lock"), "");
        assert!([200, 404].contains(&answer.status), "{answer:?}");
        (answer.status == 200).then(|| answer.json()["ID"].as_str().expect("an ID").to_owned())
    }
}

/// What Terraform says of an apply.
pub(crate) fn info(id: &str) -> String {
    json!({
        "ID": id, "Operation": "OperationTypeApply", "Info": "", "Who": format!("{id}@home"), "Version": "1.11.4",
        "Created": "2026-11-21T03:08:58.521279637Z", "Path": "",
    })
    .to_string()
}

fn ask(address: &str, user: &str, method: &str, target: &str, fields: &[(&str, &str)], body: &[u8]) -> Answer {
    use base64::prelude::{BASE64_STANDARD, Engine};

    let mut fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    if !fields.contains("Transfer-Encoding") {
        fields += &format!("Content-Length: {}\r\n", body.len());
    }
    let credentials = BASE64_STANDARD.encode(format!("{user}:x"));
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Basic {credentials}\r\nConnection: close\r\n{fields}\r\n"
    );
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("it can be set");
    // It may be refused before it is read to the end.
    let sent = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    assert!(!answer.is_empty(), "{method} {target}: no answer: {sent:?} {read:?}");
    Answer::read(&answer)
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn read(answer: &[u8]) -> Self {
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8(answer[..end].to_vec()).expect("a readable head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        Self { status, head, body: answer[end + 4..].to_vec() }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("text")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The body of a refusal, which stands for itself.
    pub(crate) fn refusal(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{} {}", self.head, self.text());
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        assert_eq!(self.header("cache-control"), Some("no-store"), "{self:?}");
        let body = self.json();
        assert_eq!((&body["code"], &body["status"]), (&code.into(), &status.into()), "{body}");
        body
    }

    /// The ID that Terraform prints of a 423 or a 409: as it reads bodies, so that every trap of that is one here.
    pub(crate) fn holder(&self) -> String {
        assert!([423, 409].contains(&self.status), "{} {}", self.head, self.text());
        let body = self.text();
        let members: Members = serde_json::from_str(&body).expect("an object");
        let mut id = None;
        for (name, value) in &members.0 {
            let known = ["id", "operation", "info", "who", "version", "created", "path"];
            if !known.contains(&&*name.to_ascii_lowercase()) {
                continue;
            }
            let text = value.as_str().unwrap_or_else(|| panic!("{name} is no string: {body}"));
            match &*name.to_ascii_lowercase() {
                "id" => assert_eq!(id.replace(text.to_owned()), None, "the later one would win: {body}"),
                "created" => assert!(humantime::parse_rfc3339(text).is_ok(), "{name} is no time: {body}"),
                _ => {}
            }
        }
        id.unwrap_or_else(|| panic!("no ID in {body}"))
    }
}

/// The members of an object as they stand there, also those that come twice.
struct Members(Vec<(String, Value)>);

impl<'de> serde::Deserialize<'de> for Members {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> serde::de::Visitor<'de> for Each {
            type Value = Members;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Each)
    }
}
