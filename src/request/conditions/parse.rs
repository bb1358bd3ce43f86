//! The grammar of the `If` header (RFC 4918 section 10.4.2), as an iterator over what stands in it.
//!
//! It looks at each octet once, keeps no stack and allocates nothing. Whatever it does not know ends it.

use super::Expected;

/// What stands in an `If` header, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Item<'r> {
    /// A resource tag; the lists up to the next are about it.
    Tag(&'r [u8]),
    /// A list begins; its conditions follow.
    List,
    /// A state token, without its brackets.
    State(Expected, &'r [u8]),
    /// An entity tag, without its brackets.
    EntityTag(Expected, &'r [u8]),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    /// Before everything.
    Start,
    /// After a tag: a list has to follow.
    Tag,
    /// Before the first condition of a list.
    ListStart,
    /// After a condition of a list.
    Condition,
    /// After a list.
    ListEnd,
    /// Past the end, or past what was wrong.
    Over,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Tagged,
    Untagged,
}

/// Reads an `If` header. After an error it yields nothing more.
pub(super) struct Parser<'r> {
    rest: &'r [u8],
    at: At,
    form: Option<Form>,
}

type Step<'r> = Result<Option<Item<'r>>, &'static str>;

impl<'r> Parser<'r> {
    pub(super) fn new(header: &'r [u8]) -> Self {
        Self { rest: header, at: At::Start, form: None }
    }

    fn step(&mut self) -> Step<'r> {
        loop {
            self.skip_space();
            let Some(byte) = self.rest.first() else { return self.end() };
            match (self.at, byte) {
                (At::Start | At::ListEnd, b'<') => return self.tag().map(Some),
                (At::Start | At::Tag | At::ListEnd, b'(') => return self.list().map(Some),
                (At::Tag, b'<') => return Err("a resource tag without a list"),
                (At::Start | At::Tag | At::ListEnd, _) => return Err("outside of lists there are only lists and tags"),
                (At::ListStart, b')') => return Err("a list without conditions"),
                (At::Condition, b')') => {
                    self.rest = &self.rest[1..];
                    self.at = At::ListEnd;
                }
                (At::ListStart | At::Condition, _) => return self.condition().map(Some),
                (At::Over, _) => return Ok(None),
            }
        }
    }

    fn end(&self) -> Step<'r> {
        match self.at {
            At::Start => Err("it is empty"),
            At::Tag => Err("a resource tag without a list"),
            At::ListStart | At::Condition => Err("a list without its closing parenthesis"),
            At::ListEnd | At::Over => Ok(None),
        }
    }

    fn tag(&mut self) -> Result<Item<'r>, &'static str> {
        if *self.form.get_or_insert(Form::Tagged) == Form::Untagged {
            return Err("lists with and lists without a resource tag");
        }
        self.at = At::Tag;
        self.angled("a resource tag without its closing bracket").map(Item::Tag)
    }

    fn list(&mut self) -> Result<Item<'r>, &'static str> {
        self.form.get_or_insert(Form::Untagged);
        self.rest = &self.rest[1..];
        self.at = At::ListStart;
        Ok(Item::List)
    }

    fn condition(&mut self) -> Result<Item<'r>, &'static str> {
        let mut expected = Expected::Match;
        if self.rest.get(..3).is_some_and(|word| word.eq_ignore_ascii_case(b"Not")) {
            expected = Expected::NoMatch;
            self.rest = &self.rest[3..];
            self.skip_space();
        }
        self.at = At::Condition;
        match self.rest.first() {
            Some(b'<') => self.angled("a state token without its closing bracket").map(|uri| Item::State(expected, uri)),
            Some(b'[') => self.entity_tag().map(|tag| Item::EntityTag(expected, tag)),
            _ => Err("a condition is a state token in <> or an entity tag in [], behind at most one Not"),
        }
    }

    /// What stands in angle brackets: a URI, so no space and no bracket.
    fn angled(&mut self, unclosed: &'static str) -> Result<&'r [u8], &'static str> {
        let inner = &self.rest[1..];
        let close = inner.iter().position(|byte| matches!(byte, b'<' | b'>') || *byte <= b' ' || *byte == 0x7F);
        match close {
            Some(0) if inner[0] == b'>' => Err("empty angle brackets"),
            Some(close) if inner[close] == b'>' => {
                self.rest = &inner[close + 1..];
                Ok(&inner[..close])
            }
            Some(_) => Err("a space, a control character or a bracket inside of angle brackets"),
            None => Err(unclosed),
        }
    }

    /// `"[" entity-tag "]"`. The opaque part may hold brackets and parentheses, so only its quote ends it.
    fn entity_tag(&mut self) -> Result<&'r [u8], &'static str> {
        let inner = &self.rest[1..];
        let quoted = inner.strip_prefix(b"W/").unwrap_or(inner);
        let prefix = inner.len() - quoted.len();
        let Some(opaque) = quoted.strip_prefix(b"\"") else {
            return Err("an entity tag is in quotes, after W/ where it is weak");
        };
        let Some(close) = opaque.iter().position(|byte| *byte == b'"') else {
            return Err("an entity tag without its closing quote");
        };
        if opaque[..close].iter().any(|byte| *byte <= b' ' || *byte == 0x7F) {
            return Err("a space or a control character in an entity tag");
        }
        let length = prefix + close + 2;
        match inner.get(length) {
            Some(b']') => {
                self.rest = &inner[length + 1..];
                Ok(&inner[..length])
            }
            _ => Err("an entity tag without its closing bracket"),
        }
    }

    /// White space; line ends are what is left of folded lines.
    fn skip_space(&mut self) {
        let space = self.rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')).count();
        self.rest = &self.rest[space..];
    }
}

impl<'r> Iterator for Parser<'r> {
    type Item = Result<Item<'r>, &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step().transpose();
        if !matches!(step, Some(Ok(_))) {
            self.at = At::Over;
            self.rest = &[];
        }
        step
    }
}
