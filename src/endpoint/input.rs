//! The JSON that the endpoint reads: shapes in which every field is known, and errors that name the field.

use std::{fmt, marker::PhantomData, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeOwned, MapAccess, Visitor, value::MapAccessDeserializer},
};

use crate::{
    lock::{Depth, LockId, LockScope, LockToken},
    locks::Refusal,
};

/// Reads a JSON object; no body at all counts as one without fields.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map(|Object(read)| read).map_err(|error| {
        Refusal::bad_request(match error.classify() {
            serde_json::error::Category::Data => error.to_string(),
            _ => format!("The body is not JSON: {error}"),
        })
    })
}

/// What an acquire says: of one resource, or of the `resources` of a list.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct AcquireInput {
    #[serde(deserialize_with = "field::scope")]
    pub(super) scope: Option<Text<LockScope>>,
    #[serde(deserialize_with = "field::depth")]
    pub(super) depth: Option<DepthInput>,
    #[serde(deserialize_with = "field::timeout")]
    pub(super) timeout: Option<Timeout>,
    #[serde(deserialize_with = "field::kind")]
    pub(super) kind: Option<String>,
    #[serde(deserialize_with = "field::owner")]
    pub(super) owner: Option<Object<OwnerInput>>,
    #[serde(deserialize_with = "field::reason")]
    pub(super) reason: Option<String>,
    #[serde(deserialize_with = "field::client_ref")]
    pub(super) client_ref: Option<String>,
    #[serde(deserialize_with = "field::token")]
    pub(super) token: Option<Text<LockToken>>,
    #[serde(deserialize_with = "field::lock_id")]
    pub(super) lock_id: Option<Text<LockId>>,
    #[serde(deserialize_with = "field::replaces")]
    pub(super) replaces: Option<Vec<TextOr<Text<LockToken>, BreakInput>>>,
    #[serde(deserialize_with = "field::drain")]
    pub(super) drain: Option<u64>,
    #[serde(deserialize_with = "field::resources")]
    pub(super) resources: Option<Vec<TextOr<String, ResourceInput>>>,
}

/// Who the holder is, for people.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct OwnerInput {
    #[serde(deserialize_with = "field::id")]
    pub(super) id: Option<String>,
    #[serde(deserialize_with = "field::name")]
    pub(super) name: Option<String>,
}

/// Somebody else's lock, to be broken.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BreakInput {
    #[serde(deserialize_with = "field::lock_id")]
    pub(super) lock_id: Text<LockId>,
    #[serde(default, deserialize_with = "field::reason")]
    pub(super) reason: Option<String>,
}

/// One of several resources, with what is proposed for its lock.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ResourceInput {
    #[serde(deserialize_with = "field::resource")]
    pub(super) resource: String,
    #[serde(default, deserialize_with = "field::token")]
    pub(super) token: Option<Text<LockToken>>,
    #[serde(default, deserialize_with = "field::lock_id")]
    pub(super) lock_id: Option<Text<LockId>>,
}

/// What a refresh says.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RefreshInput {
    #[serde(deserialize_with = "field::timeout")]
    pub(super) timeout: Option<Timeout>,
    #[serde(deserialize_with = "field::token")]
    pub(super) token: Option<Text<LockToken>>,
}

/// What the body of a DELETE says.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ReleaseInput {
    #[serde(deserialize_with = "field::token")]
    pub(super) token: Option<Text<LockToken>>,
}

/// What a POST wants, before it is known which fields go with that.
#[derive(Debug, Deserialize)]
pub(super) struct ActionName {
    #[serde(deserialize_with = "field::action")]
    pub(super) action: String,
}

/// What a POST to the list wants: to acquire, unless it names something else.
#[derive(Debug, Deserialize)]
pub(super) struct ListAction {
    #[serde(default, deserialize_with = "field::action")]
    pub(super) action: Option<String>,
}

/// `"action": "check"`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CheckAction {
    #[serde(rename = "action")]
    _action: de::IgnoredAny,
    #[serde(deserialize_with = "field::resources")]
    pub(super) resources: Vec<String>,
}

/// `"action": "release"`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReleaseAction {
    #[serde(rename = "action")]
    _action: de::IgnoredAny,
    #[serde(default, deserialize_with = "field::token")]
    pub(super) token: Option<Text<LockToken>>,
}

/// `"action": "break"`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BreakAction {
    #[serde(rename = "action")]
    _action: de::IgnoredAny,
    #[serde(default, deserialize_with = "field::lock_id")]
    pub(super) lock_id: Option<Text<LockId>>,
    #[serde(default, deserialize_with = "field::reason")]
    pub(super) reason: Option<String>,
    /// Seconds.
    #[serde(default, deserialize_with = "field::grace")]
    pub(super) grace: Option<u64>,
}

/// `"action": "transfer"`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TransferAction {
    #[serde(rename = "action")]
    _action: de::IgnoredAny,
    #[serde(deserialize_with = "field::to")]
    pub(super) to: TextOr<Name, OwnerInput>,
    #[serde(default, deserialize_with = "field::token")]
    pub(super) token: Option<Text<LockToken>>,
    #[serde(default, deserialize_with = "field::lock_id")]
    pub(super) lock_id: Option<Text<LockId>>,
    #[serde(default, deserialize_with = "field::reason")]
    pub(super) reason: Option<String>,
    #[serde(default, deserialize_with = "field::timeout")]
    pub(super) timeout: Option<Timeout>,
}

/// `"action": "claim"`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClaimAction {
    #[serde(rename = "action")]
    _action: de::IgnoredAny,
    #[serde(default, deserialize_with = "field::lock_id")]
    pub(super) lock_id: Option<Text<LockId>>,
    #[serde(default, deserialize_with = "field::timeout")]
    pub(super) timeout: Option<Timeout>,
}

/// Whom the application knows by this name.
#[derive(Debug)]
pub(super) struct Name(pub(super) String);

impl FromText for Name {
    const WHAT: &'static str = "a principal";

    fn from_text(text: &str) -> Option<Self> {
        Some(Self(text.to_owned()))
    }
}

/// How long a lock is to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timeout {
    For(Duration),
    Endless,
}

impl<'de> Deserialize<'de> for Timeout {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl Visitor<'_> for Read {
            type Value = Timeout;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number of seconds, one or more, or \"infinite\"")
            }

            fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Timeout, E> {
                match seconds {
                    0 => Err(E::invalid_value(de::Unexpected::Unsigned(0), &self)),
                    seconds => Ok(Timeout::For(Duration::from_secs(seconds))),
                }
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<Timeout, E> {
                // `Infinite` is how RFC 4918 section 10.7 has it.
                match word {
                    "infinite" | "Infinite" => Ok(Timeout::Endless),
                    word => Err(E::invalid_value(de::Unexpected::Str(word), &self)),
                }
            }
        }
        deserializer.deserialize_any(Read)
    }
}

/// `"0"`, `"infinity"`, or 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct DepthInput(pub(super) Depth);

impl<'de> Deserialize<'de> for DepthInput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl Visitor<'_> for Read {
            type Value = DepthInput;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"0\" or \"infinity\"")
            }

            fn visit_u64<E: de::Error>(self, depth: u64) -> Result<DepthInput, E> {
                match depth {
                    0 => Ok(DepthInput(Depth::Zero)),
                    depth => Err(E::invalid_value(de::Unexpected::Unsigned(depth), &self)),
                }
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<DepthInput, E> {
                word.parse().map(DepthInput).map_err(|_| E::invalid_value(de::Unexpected::Str(word), &self))
            }
        }
        deserializer.deserialize_any(Read)
    }
}

/// A value that is written as a text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text<T>(pub(super) T);

/// How a text becomes a value. What is wrong with it is told without repeating it: it may be a secret.
pub(super) trait FromText: Sized {
    const WHAT: &'static str;

    fn from_text(text: &str) -> Option<Self>;
}

impl FromText for LockScope {
    const WHAT: &'static str = "\"exclusive\" or \"shared\"";

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl FromText for LockToken {
    const WHAT: &'static str = "a lock token, `urn:uuid:` followed by a UUID that nobody can guess";

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl FromText for LockId {
    const WHAT: &'static str = "a lock id, a UUID";

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl<T: FromText> FromText for Text<T> {
    const WHAT: &'static str = T::WHAT;

    fn from_text(text: &str) -> Option<Self> {
        T::from_text(text).map(Self)
    }
}

impl FromText for String {
    const WHAT: &'static str = "a path";

    fn from_text(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

impl<'de, T: FromText> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read<T>(PhantomData<T>);
        impl<T: FromText> Visitor<'_> for Read<T> {
            type Value = Text<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(T::WHAT)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<T>, E> {
                T::from_text(text).map(Text).ok_or_else(|| E::custom(format_args!("this is not {}", T::WHAT)))
            }
        }
        deserializer.deserialize_str(Read(PhantomData))
    }
}

/// An object, and nothing else: serde would also take a list for one, by position.
#[derive(Debug)]
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Read<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(Read(PhantomData))
    }
}

/// A text, or an object that says more.
#[derive(Debug)]
pub(super) enum TextOr<A, B> {
    Text(A),
    Object(B),
}

impl<'de, A: FromText, B: Deserialize<'de>> Deserialize<'de> for TextOr<A, B> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read<A, B>(PhantomData<(A, B)>);
        impl<'de, A: FromText, B: Deserialize<'de>> Visitor<'de> for Read<A, B> {
            type Value = TextOr<A, B>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}, or an object", A::WHAT)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<TextOr<A, B>, E> {
                A::from_text(text).map(TextOr::Text).ok_or_else(|| E::custom(format_args!("this is not {}", A::WHAT)))
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<TextOr<A, B>, M::Error> {
                B::deserialize(MapAccessDeserializer::new(map)).map(TextOr::Object)
            }
        }
        deserializer.deserialize_any(Read(PhantomData))
    }
}

/// One function a field, which puts the field's name before what is wrong with it. serde itself names only those that
/// are unknown, missing or there twice.
mod field {
    use serde::{Deserialize, Deserializer, de::Error};

    macro_rules! named {
        ($($field:ident)*) => {$(
            pub(super) fn $field<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
                T::deserialize(deserializer)
                    .map_err(|error| D::Error::custom(format_args!("{}: {error}", stringify!($field))))
            }
        )*};
    }

    named! {
        action client_ref depth drain grace id kind lock_id name owner reason replaces resource resources scope timeout to token
    }
}
