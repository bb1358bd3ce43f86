//! How a handler writes what it answers: the ways in which real ones differ.

/// What a handler that knows nothing of locks makes of the two lock properties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LockProps {
    /// It has them, empty, among the found.
    Empty,
    /// It has never heard of them: among the not found where they are asked for by name.
    NotFound,
    /// It leaves them out.
    Absent,
}

/// How it names resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hrefs {
    /// `/a/b`
    Path,
    /// `http://dav.example/a/b`
    Absolute,
    /// `/%61/%62`, in lower-case digits.
    Encoded,
}

/// How it writes element names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prefix {
    /// `<D:response>`
    Usual,
    /// `<response>`
    Default,
    /// `<x1:response>`
    Odd,
    /// `<D:response xmlns:D="DAV:">` on every element, where the root has bound `D` to something else.
    Everywhere,
}

#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) lock_props: LockProps,
    pub(crate) hrefs: Hrefs,
    pub(crate) prefix: Prefix,
    pub(crate) head: bool,
    pub(crate) etags: bool,
    pub(crate) etag_in_head: bool,
    /// The `DAV` header lines.
    pub(crate) dav: Vec<&'static str>,
    pub(crate) allow: &'static str,
    /// What every path is shown under.
    pub(crate) mount: &'static str,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            lock_props: LockProps::NotFound,
            hrefs: Hrefs::Path,
            prefix: Prefix::Usual,
            head: true,
            etags: true,
            etag_in_head: true,
            dav: vec!["1"],
            allow: "OPTIONS, GET, HEAD, PUT, DELETE, MKCOL, COPY, MOVE, PROPFIND, PROPPATCH",
            mount: "",
        }
    }
}

impl Shape {
    /// Every combination that changes a PROPFIND answer.
    pub(crate) fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for lock_props in [LockProps::Empty, LockProps::NotFound, LockProps::Absent] {
            for hrefs in [Hrefs::Path, Hrefs::Absolute, Hrefs::Encoded] {
                for prefix in [Prefix::Usual, Prefix::Default, Prefix::Odd, Prefix::Everywhere] {
                    all.push(Self { lock_props, hrefs, prefix, ..Self::default() });
                }
            }
        }
        all
    }

    /// The name of a resource: a collection ends in `/`.
    pub(crate) fn href(&self, path: &str, collection: bool) -> String {
        let encode = |segment: &str| -> String {
            segment
                .bytes()
                .map(|byte| match (self.hrefs, byte) {
                    (Hrefs::Encoded, _) => format!("%{byte:02x}"),
                    (_, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~') => char::from(byte).to_string(),
                    _ => format!("%{byte:02X}"),
                })
                .collect()
        };
        let path: Vec<_> = path.split('/').map(encode).collect();
        let path = path.join("/");
        let slash = if collection && !path.ends_with('/') { "/" } else { "" };
        let host = if self.hrefs == Hrefs::Absolute { "http://dav.example" } else { "" };
        format!("{host}{}{path}{slash}", self.mount)
    }

    /// Rewrites a document whose `DAV:` elements are written with `D:` and whose root declares nothing yet.
    pub(crate) fn write(&self, root: &str, content: &str) -> String {
        let document = match self.prefix {
            Prefix::Usual => format!("<D:{root} xmlns:D=\"DAV:\">{content}</D:{root}>"),
            Prefix::Default => {
                let content = content.replace("<D:", "<").replace("</D:", "</");
                format!("<{root} xmlns=\"DAV:\">{content}</{root}>")
            }
            Prefix::Odd => {
                let content = content.replace("<D:", "<x1:").replace("</D:", "</x1:");
                format!("<x1:{root} xmlns:x1='DAV:'>{content}</x1:{root}>")
            }
            Prefix::Everywhere => {
                // Each opening tag declares the prefix anew.
                let mut written = String::new();
                for (at, piece) in content.split("<D:").enumerate() {
                    if at == 0 {
                        written.push_str(piece);
                        continue;
                    }
                    let end = piece.find(['>', '/']).expect("a tag");
                    written += &format!("<D:{} xmlns:D=\"DAV:\"{}", &piece[..end], &piece[end..]);
                }
                format!("<Q:{root} xmlns:Q=\"DAV:\" xmlns:D=\"urn:other\">{written}</Q:{root}>")
            }
        };
        format!("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n{document}\n")
    }
}
