//! JSON of which a few members are looked at, and the rest is kept as it came.
//!
//! Whoever reads a document after us may read another one out of it: the first or the last of two members of one name, a
//! name in any case, a number as a double. What could be read in two ways is an error here.

use std::{borrow::Cow, fmt, ops::Range};

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::Unmergeable;
use crate::locks::{Refusal, RefusalCode};

/// What is wrong with a document: a sentence that starts with where that is.
#[derive(Debug)]
pub(super) struct Fault {
    why: String,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Wrong,
    TooMany,
}

impl Fault {
    pub(super) fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), kind: Kind::Wrong }
    }

    /// The same, found in `place`.
    pub(super) fn within(self, place: impl fmt::Display) -> Self {
        Self { why: format!("{place}: {}", self.why), kind: self.kind }
    }

    fn not_json(error: &serde_json::Error) -> Self {
        Self::new(match error.classify() {
            serde_json::error::Category::Data => error.to_string(),
            _ => format!("this is not JSON: {error}"),
        })
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        let code = match fault.kind {
            Kind::Wrong => RefusalCode::BadRequest,
            Kind::TooMany => RefusalCode::ContentTooLarge,
        };
        Self::new(code, fault.why)
    }
}

impl From<Fault> for Unmergeable {
    fn from(fault: Fault) -> Self {
        Self::new(fault.why)
    }
}

/// A document as text. A byte order mark is no part of JSON (RFC 8259 section 8.1), and stays for the parser to find.
pub(super) fn text(body: &[u8]) -> Result<&str, Fault> {
    std::str::from_utf8(body).map_err(|_| Fault::new("this is not JSON: it is not UTF-8"))
}

/// The value that a text is.
pub(super) fn root(text: &str) -> Result<&RawValue, Fault> {
    serde_json::from_str(text).map_err(|error| Fault::not_json(&error))
}

/// An array in a document, and its elements as they stand there.
#[derive(Debug)]
pub(super) struct Array<'a> {
    /// The document.
    text: &'a str,
    /// From the opening bracket to behind the closing one.
    span: Range<usize>,
    pub(super) each: Vec<&'a RawValue>,
}

impl<'a> Array<'a> {
    /// The array that the document is, or that is its `member`, of at most so many objects.
    pub(super) fn of_objects(text: &'a str, member: Option<&str>, most: usize) -> Result<Self, Fault> {
        let root = root(text)?;
        let Some(member) = member else { return Self::at(text, root, most) };
        let [found] = members(root, [member])?;
        let array = found.ok_or_else(|| Fault::new(format!("{member}: it is missing")))?;
        Self::at(text, array, most).map_err(|fault| fault.within(member))
    }

    /// The array `value`, which stands in `text`.
    pub(super) fn at(text: &'a str, value: &'a RawValue, most: usize) -> Result<Self, Fault> {
        let mut reader = serde_json::Deserializer::from_str(value.get());
        let each = Elements { most, of: Of::Objects }.deserialize(&mut reader).map_err(|error| Fault::not_json(&error))?;
        match each {
            Some(each) => Ok(Self { text, span: span(text, value.get()), each }),
            None => Err(Fault { why: format!("there are more than {most} items"), kind: Kind::TooMany }),
        }
    }

    /// The document with these elements in place of those that it has.
    pub(super) fn with<T: AsRef<str>>(&self, elements: impl IntoIterator<Item = T>) -> Bytes {
        let mut written = String::with_capacity(self.text.len());
        written.push_str(&self.text[..=self.span.start]);
        for (at, element) in elements.into_iter().enumerate() {
            if at > 0 {
                written.push(',');
            }
            written.push_str(element.as_ref());
        }
        written.push_str(&self.text[self.span.end - 1..]);
        written.into()
    }
}

/// A value, or those of a list of at most so many.
pub(super) fn one_or_several(value: &RawValue, most: usize) -> Result<Vec<&RawValue>, Fault> {
    if !value.get().starts_with('[') {
        return Ok(vec![value]);
    }
    let mut reader = serde_json::Deserializer::from_str(value.get());
    let each = Elements { most, of: Of::Anything }.deserialize(&mut reader).map_err(|error| Fault::not_json(&error))?;
    each.ok_or_else(|| Fault::new(format!("it has more than {most} values")))
}

/// Where in `text` the part of it stands that is `part`.
pub(super) fn span(text: &str, part: &str) -> Range<usize> {
    let start = part.as_ptr().addr() - text.as_ptr().addr();
    start..start + part.len()
}

/// Reads the elements of an array; none where there are more than `most`.
struct Elements {
    most: usize,
    of: Of,
}

/// What an array may be made of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Objects,
    Anything,
}

impl<'de> DeserializeSeed<'de> for Elements {
    type Value = Option<Vec<&'de RawValue>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Elements {
    type Value = Option<Vec<&'de RawValue>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.of {
            Of::Objects => "an array of objects",
            Of::Anything => "an array",
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
        let mut each = Vec::new();
        while let Some(element) = array.next_element::<&'de RawValue>()? {
            if self.of == Of::Objects && !element.get().starts_with('{') {
                return Err(de::Error::custom(format_args!("item {}: expected an object", each.len())));
            }
            if each.len() < self.most {
                each.push(element);
                continue;
            }
            // The rest has been found to be JSON, and is nothing to keep.
            while array.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(None);
        }
        Ok(Some(each))
    }
}

/// The members of an object by these names, as they stand there.
///
/// # Errors
/// It is no object; one of the names stands twice, or one that some reader takes for it.
pub(super) fn members<'a, const N: usize>(
    object: &'a RawValue,
    names: [&str; N],
) -> Result<[Option<&'a RawValue>; N], Fault> {
    let mut reader = serde_json::Deserializer::from_str(object.get());
    Members { names }.deserialize(&mut reader).map_err(|error| {
        // Where in a line of which document would be of no use.
        let error = error.to_string();
        Fault::new(error.split(" at line ").next().unwrap_or(&error))
    })
}

struct Members<'n, const N: usize> {
    names: [&'n str; N],
}

impl<'de, const N: usize> DeserializeSeed<'de> for Members<'_, N> {
    type Value = [Option<&'de RawValue>; N];

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for Members<'_, N> {
    type Value = [Option<&'de RawValue>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let mut found = [None; N];
        while let Some(named) = object.next_key_seed(Name { names: &self.names })? {
            match named {
                Named::Other => {
                    object.next_value::<IgnoredAny>()?;
                }
                Named::Exactly(at) if found[at].is_none() => found[at] = Some(object.next_value::<&'de RawValue>()?),
                Named::Exactly(at) => {
                    let name = self.names[at];
                    return Err(de::Error::custom(format_args!("{name}: the member stands twice")));
                }
                Named::Alike(at) => {
                    let name = self.names[at];
                    return Err(de::Error::custom(format_args!("{name}: a member is called so but for case or blanks")));
                }
            }
        }
        Ok(found)
    }
}

/// Which of the names the name of a member is.
struct Name<'n> {
    names: &'n [&'n str],
}

enum Named {
    Exactly(usize),
    /// Not to the letter, but for readers that are generous.
    Alike(usize),
    Other,
}

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Named;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Named, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Named;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a member")
    }

    fn visit_str<E>(self, name: &str) -> Result<Named, E> {
        if let Some(at) = self.names.iter().position(|known| *known == name) {
            return Ok(Named::Exactly(at));
        }
        Ok(self.names.iter().position(|known| alike(name, known)).map_or(Named::Other, Named::Alike))
    }
}

/// Whether some reader takes `name` for `known`: one that folds case, in which `ſ` and `s`, or the sign of kelvin and `k`, are
/// one; that trims blanks; for which a text ends at NUL.
fn alike(name: &str, known: &str) -> bool {
    let name = name.split('\0').next().unwrap_or_default().trim();
    if name.is_ascii() && known.is_ascii() {
        // There may be a million members.
        return name.eq_ignore_ascii_case(known);
    }
    fold(name).eq(fold(known))
}

fn fold(text: &str) -> impl Iterator<Item = char> {
    text.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase)
}

/// A text or a whole number, which every reader reads as the same.
pub(super) fn word(value: &RawValue) -> Result<Cow<'_, str>, Fault> {
    let written = value.get();
    if written.starts_with('"') {
        let text: TextValue<'_> =
            serde_json::from_str(written).map_err(|_| Fault::new("a text with half of a character"))?;
        return Ok(text.0);
    }
    let digits = written.strip_prefix('-').unwrap_or(written);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        // `7.0` and `7e0` are 7 for some.
        return Err(Fault::new("a text or a whole number, without point and exponent"));
    }
    // RFC 7493 section 2.2: beyond that, those who read numbers as doubles read another one.
    const LARGEST: u64 = (1 << 53) - 1;
    match digits.parse::<u64>() {
        Ok(0) if written.starts_with('-') => Err(Fault::new("zero has no sign")),
        Ok(number) if number <= LARGEST => Ok(Cow::Borrowed(written)),
        _ => Err(Fault::new("a number beyond 2^53 - 1; write it as a text")),
    }
}

/// A text, borrowed where it has no escapes.
struct TextValue<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for TextValue<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = TextValue<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<TextValue<'de>, E> {
                Ok(TextValue(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<TextValue<'de>, E> {
                Ok(TextValue(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Read)
    }
}

/// The same for the id of a resource.
pub(super) fn id(value: &RawValue) -> Result<Cow<'_, str>, Fault> {
    let id = word(value)?;
    expect_id(&id)?;
    Ok(id)
}

/// Whether a text can be an id: one segment of a path, and the same text wherever it is put.
pub(super) fn expect_id(id: &str) -> Result<(), Fault> {
    let has_meaning = |each: char| each.is_control() || matches!(each, '/' | '\\' | '%' | '?' | '#');
    match id {
        "" => Err(Fault::new("it is empty")),
        "." | ".." => Err(Fault::new("a dot and two are no names")),
        // Who trims them reads another id.
        text if text.trim() != text => Err(Fault::new("blanks at its ends")),
        text if text.contains(has_meaning) => {
            Err(Fault::new("a character that means something in a URL, or a control character"))
        }
        _ => Ok(()),
    }
}

/// Whether there is nothing: no member, or `null`.
pub(super) fn present(value: Option<&RawValue>) -> Option<&RawValue> {
    value.filter(|value| value.get() != "null")
}

/// A value as text: strings, numbers and words, of which nothing can fail to be written.
pub(super) fn written(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("a refusal is plain data")
}
