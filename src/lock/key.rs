//! `ResourceKey`, the canonical path of a resource, and `KeyRules`, which make one out of a path as it was sent.
//!
//! Two URIs that a common server maps to the same resource have the same key. Too coarse a key costs a spurious 423,
//! too fine a one is a way round a lock, so where servers disagree the rules fold.

mod scan;

use std::{borrow::Cow, fmt, sync::Arc};

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use self::scan::{all_words, bytes_equal, is_plain, is_plain_path};

/// What neither `pchar` nor a slash is (RFC 3986 section 3.3), but for the percent sign.
pub(crate) const NOT_IN_A_PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// The canonical path of a resource, with an optional namespace (a tenant, a host).
///
/// A path starts with `/`, has no empty, `.` or trailing segment, and is percent-decoded; `%00` and `%25` stand for NUL
/// and the percent sign. Keys of different namespaces have nothing to do with each other.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceKey<'a> {
    namespace: Option<Cow<'a, str>>,
    path: Cow<'a, str>,
}

impl<'a> ResourceKey<'a> {
    /// The longest path a lock's root may have, in bytes of its canonical form.
    pub const MAX_ROOT: usize = 8 * 1024;

    /// The key of a path by the default [`KeyRules`].
    ///
    /// # Errors
    /// [`KeyError::AmbiguousPath`] when the decoded path has a `..` segment.
    pub fn parse(path: &'a str) -> Result<Self, KeyError> {
        KeyRules::DEFAULT.key(path)
    }

    /// A key from a path that is canonical already: one that a [`ResolveTargets`](crate::ResolveTargets) of the
    /// application's own builds (`/records/4711`), or that a store wrote down. A leading slash is added where there is
    /// none; nothing else is looked at.
    #[must_use]
    pub fn from_canonical(path: impl Into<Cow<'a, str>>) -> Self {
        match path.into() {
            Cow::Borrowed(path) if path.starts_with('/') => Self { namespace: None, path: Cow::Borrowed(path) },
            Cow::Owned(path) if path.starts_with('/') => Self { namespace: None, path: Cow::Owned(path) },
            path => Self { namespace: None, path: Cow::Owned(format!("/{path}")) },
        }
    }

    /// The same path in `namespace`.
    #[must_use]
    pub fn in_namespace(self, namespace: impl Into<Cow<'a, str>>) -> Self {
        Self { namespace: Some(namespace.into()), path: self.path }
    }

    /// The canonical path. It is decoded: percent-encode it before putting it into a URI, as [`ResourceKey::uri`] does.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The namespace, if there is one.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// Whether this is the root, `/`.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.path == "/"
    }

    /// The path of the collection this is a member of; none for the root.
    #[must_use]
    pub fn parent_path(&self) -> Option<&str> {
        parent(&self.path)
    }

    /// Whether this lies strictly below `other`, by whole segments, in the same namespace.
    #[must_use]
    pub fn is_below(&self, other: &ResourceKey<'_>) -> bool {
        self.namespace == other.namespace && is_below(&self.path, &other.path)
    }

    /// The path as it stands in a URI: percent-encoded (RFC 3986 section 3.3).
    #[must_use]
    pub fn uri(&self) -> Cow<'_, str> {
        // `%` stays: in a canonical path it only stands in `%00` and `%25`.
        utf8_percent_encode(&self.path, NOT_IN_A_PATH).into()
    }

    /// The same key, borrowing from this one.
    #[must_use]
    pub fn borrowed(&self) -> ResourceKey<'_> {
        ResourceKey { namespace: self.namespace.as_deref().map(Cow::Borrowed), path: Cow::Borrowed(&self.path) }
    }

    /// The same key, owning its text.
    #[must_use]
    pub fn into_owned(self) -> ResourceKey<'static> {
        ResourceKey {
            namespace: self.namespace.map(|namespace| Cow::Owned(namespace.into_owned())),
            path: Cow::Owned(self.path.into_owned()),
        }
    }
}

impl fmt::Display for ResourceKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)
    }
}

impl fmt::Debug for ResourceKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "ResourceKey({namespace:?} {:?})", self.path),
            None => write!(f, "ResourceKey({:?})", self.path),
        }
    }
}

/// The path above a canonical path; none for the root.
#[must_use]
pub(crate) fn parent(path: &str) -> Option<&str> {
    if path.len() < 2 {
        return None;
    }
    match path.rfind('/') {
        Some(0) => Some("/"),
        Some(at) => Some(&path[..at]),
        None => None,
    }
}

/// Whether canonical `path` lies strictly below canonical `root`, by whole segments.
#[must_use]
pub(crate) fn is_below(path: &str, root: &str) -> bool {
    if root == "/" {
        return path.len() > 1;
    }
    path.len() > root.len() && path.as_bytes()[root.len()] == b'/' && path.starts_with(root)
}

/// Why a path has no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// The decoded path has a `..` segment, which servers read in different ways. Answered 400 `ambiguous_path`.
    AmbiguousPath,
    /// A resolver of the application's own cannot tell which resource is meant. Answered 400 `bad_request`.
    Unresolved,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AmbiguousPath => f.write_str("the path has a `..` segment, which servers read in different ways"),
            Self::Unresolved => f.write_str("the request does not say which resource is meant"),
        }
    }
}

impl std::error::Error for KeyError {}

/// How the guarded service reads a `..` segment that reaches it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dots {
    /// Not known: such a path has no key, and a write to it is 400 `ambiguous_path`.
    #[default]
    Refuse,
    /// It takes away the segment before (RFC 3986 section 5.2.4).
    Pop,
    /// It is skipped, as some sanitisers do.
    Skip,
    /// It is a name like any other.
    Literal,
}

type MapSegment = Arc<dyn Fn(&str) -> String + Send + Sync>;

/// How a path as it was sent becomes a [`ResourceKey`].
///
/// The defaults: percent-decode once, `%2F` included; fold empty segments, `.` and a trailing slash; octets that are
/// not UTF-8 become U+FFFD; NUL and the percent sign (also one of a broken escape) stand as `%00` and `%25`; a target
/// without a leading slash is the root; a `..` is refused; on Windows `\` separates. A path that is canonical already is
/// borrowed, after one scan.
#[derive(Clone)]
pub struct KeyRules {
    exact: bool,
    dots: Dots,
    fold_case: bool,
    backslash: bool,
    drop_params: bool,
    prefix: Option<Arc<str>>,
    map_segment: Option<MapSegment>,
}

impl Default for KeyRules {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl KeyRules {
    pub(crate) const DEFAULT: Self = Self {
        exact: false,
        dots: Dots::Refuse,
        fold_case: false,
        backslash: cfg!(windows),
        drop_params: false,
        prefix: None,
        map_segment: None,
    };

    /// The default rules.
    #[must_use]
    pub fn new() -> Self {
        Self::DEFAULT
    }

    /// Keys for stores in which a name is an exact string (object stores): empty segments, `.`, `..` and a trailing
    /// slash matter, and DELETE does not reach below its target. Percent-decoding stays.
    #[must_use]
    pub fn exact(mut self) -> Self {
        self.exact = true;
        self
    }

    /// How the service reads `..`.
    #[must_use]
    pub fn dots(mut self, dots: Dots) -> Self {
        self.dots = dots;
        self
    }

    /// Fold case, for services over a file system that does. Coarser than any of them: each character is mapped to
    /// upper and then to lower case, so `ſ`, `s` and `S` are one.
    #[must_use]
    pub fn fold_case(mut self) -> Self {
        self.fold_case = true;
        self
    }

    /// Whether `\` separates segments as `/` does. On by default on Windows.
    #[must_use]
    pub fn backslash_separates(mut self, separator: Separator) -> Self {
        self.backslash = separator == Separator::Both;
        self
    }

    /// Drop `;params` from every segment, for services that do not tell `/a;v=1` from `/a`.
    #[must_use]
    pub fn drop_params(mut self) -> Self {
        self.drop_params = true;
        self
    }

    /// A fixed prefix that an outer router stripped and that is part of the key, `/api/v1`.
    ///
    /// It is put back before a request target. A router leaves header fields alone: a `Destination` or a tag of `If` that
    /// starts with the prefix stands both for itself and for the resource below the prefix, since services read it in
    /// either way. Lock roots are named in full, as refusals name them.
    #[must_use]
    pub fn prefix(mut self, prefix: &str) -> Self {
        self.prefix = Some(prefix.trim_end_matches('/').into()).filter(|prefix: &Arc<str>| !prefix.is_empty());
        self
    }

    /// Map every decoded segment: to a Unicode normalisation form, for instance. The result is folded like the rest.
    #[must_use]
    pub fn map_segments<F>(mut self, map: F) -> Self
    where
        F: Fn(&str) -> String + Send + Sync + 'static,
    {
        self.map_segment = Some(Arc::new(map));
        self
    }

    /// Whether a DELETE or MOVE of a resource takes with it what lies below.
    #[must_use]
    pub fn reaches_below(&self) -> bool {
        !self.exact
    }

    /// The key of `path`, the path of a request target as it was sent: percent-encoded, without query and fragment.
    ///
    /// # Errors
    /// [`KeyError::AmbiguousPath`] when the decoded path has a `..` segment and these rules do not say how to read it.
    pub fn key<'a>(&self, path: &'a str) -> Result<ResourceKey<'a>, KeyError> {
        if let Some(key) = self.same(path) {
            return Ok(key);
        }
        self.canonicalise(path).map(|path| ResourceKey { namespace: None, path: Cow::Owned(path) })
    }

    /// The key of `path` where it is the path itself, and that is plain to see.
    // The key is made where it is to stay; only the answer comes out of a function of its own.
    #[inline(always)]
    pub(crate) fn same<'a>(&self, path: &'a str) -> Option<ResourceKey<'a>> {
        self.leaves(path).then_some(ResourceKey { namespace: None, path: Cow::Borrowed(path) })
    }

    fn leaves(&self, path: &str) -> bool {
        self.prefix.is_none() && self.map_segment.is_none() && self.is_canonical(path.as_bytes())
    }

    /// The same rules for a path that no router has stripped; none where there is no prefix to strip.
    pub(crate) fn unprefixed(&self) -> Option<Self> {
        self.prefix.is_some().then(|| Self { prefix: None, ..self.clone() })
    }

    /// What a router that strips the prefix leaves of `path`, which has it to the letter; else all of it.
    pub(crate) fn without_prefix<'p>(&self, path: &'p str) -> &'p str {
        let prefix = self.prefix.as_deref().unwrap_or_default().trim_start_matches('/');
        let rest = path.strip_prefix('/').and_then(|path| path.strip_prefix(prefix));
        match rest {
            Some("") if !prefix.is_empty() => "/",
            Some(rest) if !prefix.is_empty() && rest.starts_with('/') => rest,
            _ => path,
        }
    }

    /// Whether canonical `path` has the prefix that a router would strip.
    pub(crate) fn has_prefix(&self, path: &str) -> bool {
        self.key("/").is_ok_and(|prefix| path == prefix.path() || is_below(path, prefix.path()))
    }

    /// Whether these rules leave `path` as it is. May say no for one that they would leave: one with a segment that starts
    /// with a dot, for which the slow way finds out that nothing changes.
    fn is_canonical(&self, path: &[u8]) -> bool {
        if path.first() != Some(&b'/') || (path.len() > 1 && path.last() == Some(&b'/') && !self.exact) {
            return false;
        }
        // Asked once, not for each word: most rules have no option set.
        if self.exact | self.backslash | self.drop_params | self.fold_case {
            return self.are_left(path);
        }
        is_plain_path(path)
    }

    #[inline(never)]
    fn are_left(&self, path: &[u8]) -> bool {
        all_words(path, |word, before| self.is_left(word, before))
    }

    /// Whether nothing in eight bytes of a path needs a closer look, under whatever options.
    fn is_left(&self, word: u64, before: &mut u64) -> bool {
        let plain = is_plain(word, before);
        let mut odd = 0;
        if self.backslash {
            odd |= bytes_equal(word, b'\\');
        }
        if self.drop_params {
            odd |= bytes_equal(word, b';');
        }
        let segments = if self.exact { (bytes_equal(word, b'%') | bytes_equal(word, 0)) == 0 } else { plain };
        let cased = |byte: &u8| *byte >= 0x80 || byte.is_ascii_uppercase();
        segments && odd == 0 && !(self.fold_case && word.to_le_bytes().iter().any(cased))
    }

    #[cold]
    fn canonicalise(&self, path: &str) -> Result<String, KeyError> {
        let path = if path.starts_with('/') { path } else { "/" };
        let raw: Cow<'_, str> = match &self.prefix {
            Some(prefix) => Cow::Owned(format!("{}{prefix}{path}", if prefix.starts_with('/') { "" } else { "/" })),
            None => Cow::Borrowed(path),
        };
        // Parameters go twice: as sent (`/a;x%2Fb` is `/a`), and again once decoded (`/a%3Bx` may be `/a`).
        let raw = if self.drop_params { Cow::Owned(without_params(&raw)) } else { raw };
        let mut bytes = decode(raw.as_bytes());
        if self.backslash {
            bytes.iter_mut().filter(|byte| **byte == b'\\').for_each(|byte| *byte = b'/');
        }
        let text = String::from_utf8_lossy(&bytes);
        let text = if self.drop_params { Cow::Owned(without_params(&text)) } else { text };

        let mut canonical = String::with_capacity(text.len() + 8);
        for segment in text.split('/').skip(1) {
            match &self.map_segment {
                Some(map) => {
                    let mapped = map(segment);
                    mapped.split('/').try_for_each(|segment| self.push_segment(segment, &mut canonical))?;
                }
                None => self.push_segment(segment, &mut canonical)?,
            }
        }
        if canonical.is_empty() {
            canonical.push('/');
        }
        Ok(canonical)
    }

    fn push_segment(&self, segment: &str, canonical: &mut String) -> Result<(), KeyError> {
        if !self.exact {
            match segment {
                "" | "." => return Ok(()),
                ".." => match self.dots {
                    Dots::Refuse => return Err(KeyError::AmbiguousPath),
                    Dots::Skip => return Ok(()),
                    Dots::Pop => {
                        canonical.truncate(canonical.rfind('/').unwrap_or(0));
                        return Ok(());
                    }
                    Dots::Literal => {}
                },
                _ => {}
            }
        }
        canonical.push('/');
        for character in segment.chars() {
            match character {
                '\0' => canonical.push_str("%00"),
                '%' => canonical.push_str("%25"),
                _ if self.fold_case => {
                    canonical.extend(character.to_uppercase().flat_map(char::to_lowercase));
                }
                _ => canonical.push(character),
            }
        }
        Ok(())
    }
}

/// Which characters separate the segments of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Separator {
    /// `/` alone.
    Slash,
    /// `/` and `\`.
    Both,
}

impl fmt::Debug for KeyRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRules")
            .field("exact", &self.exact)
            .field("dots", &self.dots)
            .field("fold_case", &self.fold_case)
            .field("backslash", &self.backslash)
            .field("drop_params", &self.drop_params)
            .field("prefix", &self.prefix)
            .field("map_segment", &self.map_segment.is_some())
            .finish()
    }
}

/// Percent-decodes once; a broken escape is passed through, as common decoders do.
fn decode(raw: &[u8]) -> Vec<u8> {
    percent_encoding::percent_decode(raw).collect()
}

fn without_params(path: &str) -> String {
    let segments: Vec<&str> = path.split('/').map(|segment| segment.split(';').next().unwrap_or("")).collect();
    segments.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(path: &str) -> String {
        ResourceKey::parse(path).unwrap().path().to_owned()
    }

    #[test]
    fn spellings_of_one_resource() {
        for path in [
            "/docs/7",
            "/docs/7/",
            "//docs/7",
            "/docs//7",
            "/docs/./7",
            "/./docs/7/.",
            "/%64ocs/7",
            "/docs%2F7",
            "/docs%2f7",
            "/docs/%37",
            "/docs/7%2F",
            "/docs/%2E/7",
            "/%2Fdocs/7",
        ] {
            assert_eq!(key(path), "/docs/7", "{path}");
        }
        for path in ["", "*", "/", "//", "/.", "docs/7", "example.org:443"] {
            assert_eq!(key(path), "/", "{path}");
        }
    }

    #[test]
    fn what_cannot_be_decoded_has_one_spelling() {
        assert_eq!(key("/a%00b"), "/a%00b");
        assert_eq!(key("/a%25b"), "/a%25b");
        assert_eq!(key("/a%b"), "/a%25b");
        assert_eq!(key("/a%"), "/a%25");
        assert_eq!(key("/a%2"), "/a%252");
        assert_eq!(key("/a%zz"), "/a%25zz");
        assert_eq!(key("/%2537"), "/%2537", "decoded once");
        assert_eq!(key("/%FF"), "/\u{FFFD}");
        assert_eq!(key("/%C3%A4"), "/ä");
        assert_eq!(key("/ä"), "/ä");
    }

    #[test]
    fn dot_dot_is_refused_unless_the_rules_say_how_to_read_it() {
        for path in ["/a/../b", "/a/..", "/..", "/a/%2e%2E/b", "/a/.%2e/b", "/a%2F..%2Fb"] {
            assert_eq!(ResourceKey::parse(path), Err(KeyError::AmbiguousPath), "{path}");
        }
        for (dots, path) in [(Dots::Pop, "/b"), (Dots::Skip, "/a/b"), (Dots::Literal, "/a/../b")] {
            assert_eq!(KeyRules::new().dots(dots).key("/a/%2E./b").unwrap().path(), path);
        }
        assert_eq!(KeyRules::new().dots(Dots::Pop).key("/../../a").unwrap().path(), "/a");
        assert_eq!(key("/a/...") + &key("/.a") + &key("/..a"), "/a/.../.a/..a");
    }

    #[test]
    fn options() {
        assert_eq!(KeyRules::new().fold_case().key("/A/ſ/Ä/ß").unwrap().path(), "/a/s/ä/ss");
        assert_eq!(KeyRules::new().backslash_separates(Separator::Both).key("/a%5Cb\\c").unwrap().path(), "/a/b/c");
        for path in ["/a;v=1/b", "/a;/b;c", "/a%3Bx/b"] {
            assert_eq!(KeyRules::new().drop_params().key(path).unwrap().path(), "/a/b", "{path}");
        }
        assert_eq!(KeyRules::new().drop_params().key("/a/..;/b"), Err(KeyError::AmbiguousPath));
        assert_eq!(KeyRules::new().drop_params().key("/a;x%2Fb").unwrap().path(), "/a");
        assert_eq!(KeyRules::new().prefix("/api/v1/").key("/a").unwrap().path(), "/api/v1/a");
        assert_eq!(KeyRules::new().prefix("api").key("/").unwrap().path(), "/api");
        for (path, inside) in [("/api/a", "/a"), ("/api/", "/"), ("/api", "/"), ("/apis/a", "/apis/a"), ("/a", "/a")] {
            assert_eq!(KeyRules::new().prefix("/api").without_prefix(path), inside);
            assert_eq!(KeyRules::new().without_prefix(path), path);
        }
        let mapped = KeyRules::new().map_segments(|segment| segment.replace('．', "."));
        assert_eq!(mapped.key("/a/．．/b"), Err(KeyError::AmbiguousPath));
    }

    #[test]
    fn exact_keys_keep_what_an_object_store_tells_apart() {
        let exact = KeyRules::new().exact();
        for path in ["/a//b", "/a/", "/a/./b", "/a/../b", "/"] {
            assert_eq!(exact.key(path).unwrap().path(), path);
        }
        assert_eq!(exact.key("/a%2F%2Fb").unwrap().path(), "/a//b");
    }

    #[test]
    fn a_canonical_path_is_borrowed() {
        for path in ["/", "/a", "/a/b.c/d e", "/ä"] {
            assert!(matches!(ResourceKey::parse(path).unwrap().path, Cow::Borrowed(_)), "{path}");
        }
    }

    #[test]
    fn the_fast_way_and_the_slow_way_agree() {
        let parts =
            ["", "a", ".", "..", ".a", "a.", "%", "%41", "ab%2Fcd", "\\", ";v", "A", "ä", "\0", "abcdefg", "abcdefgh"];
        let all_rules = [
            KeyRules::new().dots(Dots::Literal),
            KeyRules::new().dots(Dots::Pop),
            KeyRules::new().exact(),
            KeyRules::new().dots(Dots::Skip).fold_case(),
            KeyRules::new().dots(Dots::Skip).drop_params(),
            KeyRules::new().dots(Dots::Skip).backslash_separates(Separator::Both),
        ];
        for rules in all_rules {
            for at in 0..parts.len().pow(3) {
                let [one, two, three] = [at, at / parts.len(), at / parts.len().pow(2)].map(|at| parts[at % parts.len()]);
                let path = format!("/{one}/{two}/xyz/{three}");
                let slow = rules.canonicalise(&path).unwrap();
                assert_eq!(rules.key(&path).unwrap().path(), slow, "{path}");
                assert!(!rules.is_canonical(path.as_bytes()) || path == slow, "{path}");
                if [one, two, three].iter().all(|part| matches!(*part, "a" | "a." | "abcdefg" | "abcdefgh")) {
                    assert!(rules.is_canonical(path.as_bytes()), "{path} would be copied");
                }
            }
        }
    }

    #[test]
    fn canonical_form_is_a_fixed_point_of_sending_it_again() {
        for path in ["/a%00b/%25/ä /?", "/a%b", "/%FF", "/a#b", "/a\\b", "/\"<>`{}[]^|"] {
            let once = ResourceKey::parse(path).unwrap();
            assert_eq!(key(&once.uri()), once.path(), "{path}");
        }
    }

    #[test]
    fn below_is_by_whole_segments() {
        assert!(is_below("/a/b", "/a") && is_below("/a", "/") && is_below("/a/b/c", "/a"));
        assert!(!is_below("/ab", "/a") && !is_below("/a", "/a") && !is_below("/", "/") && !is_below("/a", "/a/b"));
        assert_eq!((parent("/a/b"), parent("/a"), parent("/")), (Some("/a"), Some("/"), None));
    }
}
