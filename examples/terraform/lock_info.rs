//! `LockInfo`: what Terraform says of an operation when it locks a state, and wants to be told of one that is in its way.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Map, Value};
use tower_lock::{Refusal, locks::LockView};

/// The members that Terraform reads, whatever the case of their names, all of them strings.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct LockInfo {
    #[serde(rename = "ID")]
    id: String,
    operation: String,
    info: String,
    who: String,
    version: String,
    /// RFC 3339: what is no time would cost the reader all the rest.
    #[serde(skip_serializing_if = "String::is_empty")]
    created: String,
    path: String,
}

impl LockInfo {
    /// An ID is a UUID, or whatever fits into a line of a log.
    const LONGEST_ID: usize = 128;

    /// What a LOCK or an UNLOCK carries.
    pub(crate) fn read(body: &[u8]) -> Result<Self, Refusal> {
        let info: Self =
            serde_json::from_slice(body).map_err(|error| Refusal::bad_request(format!("lock info: {error}")))?;
        if info.id.is_empty() || info.id.len() > Self::LONGEST_ID || info.id.chars().any(char::is_control) {
            return Err(Refusal::bad_request("lock info: ID: 1 to 128 bytes, none of them a control character"));
        }
        Ok(info)
    }

    /// Of the lock that is in the way, as far as there is anything to say.
    pub(crate) fn of(lock: &LockView) -> Self {
        // It may be the lock of somebody who is no Terraform: a job in this process, an operator at the endpoint.
        lock.client_ref.as_ref().and_then(|text| Self::read(text.as_bytes()).ok()).unwrap_or_else(|| Self {
            id: lock.lock_id.to_string(),
            operation: lock.kind.to_string(),
            info: lock.reason.clone().unwrap_or_default(),
            who: lock.owner.as_ref().and_then(|owner| owner.display_name()).unwrap_or("somebody").to_owned(),
            created: lock.created_at.to_string(),
            ..Self::default()
        })
    }

    /// Where no lock is in the way. Terraform prints the ID and nothing else, and asks again only where there is one.
    pub(crate) fn nobody(refusal: &Refusal) -> Self {
        Self { id: refusal.code().to_string(), info: refusal.to_string(), ..Self::default() }
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// As JSON of at most `most` bytes: what people have written is cut short, the longest first. The ID stays whole.
    pub(crate) fn to_text(&self, most: usize) -> String {
        let mut info = self.clone();
        loop {
            let text = serde_json::to_string(&info).expect("strings can be written");
            let texts = [&mut info.operation, &mut info.info, &mut info.who, &mut info.version, &mut info.path];
            match texts.into_iter().max_by_key(|text| text.len()) {
                Some(longest) if text.len() > most && !longest.is_empty() => {
                    *longest = longest.chars().take(longest.chars().count() / 2).collect();
                }
                _ => return text,
            }
        }
    }

    /// Its members, for a body that has others beside them.
    pub(crate) fn members(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(members)) => members,
            _ => Map::new(),
        }
    }
}

impl<'de> Deserialize<'de> for LockInfo {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members)
    }
}

/// Reads as Terraform itself does, but for members that come twice: of those it takes the last one, others the first.
struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = LockInfo;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with the member ID")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<LockInfo, A::Error> {
        let mut info = LockInfo::default();
        let mut seen = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            let name = name.to_ascii_lowercase();
            let member = match &*name {
                "id" => &mut info.id,
                "operation" => &mut info.operation,
                "info" => &mut info.info,
                "who" => &mut info.who,
                "version" => &mut info.version,
                "created" => &mut info.created,
                "path" => &mut info.path,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            if seen.contains(&name) {
                return Err(serde::de::Error::custom(format_args!("the member {name} comes twice")));
            }
            *member = map.next_value()?;
            seen.push(name);
        }
        info.created = humantime::parse_rfc3339(&info.created)
            .map_or_else(|_| String::new(), |time| humantime::format_rfc3339(time).to_string());
        Ok(info)
    }
}
