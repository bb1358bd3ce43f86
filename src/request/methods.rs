//! `MethodRules`: which methods read.

use http::Method;

/// Which methods read. A method that is not known to read is a write.
///
/// The default reads are GET, HEAD, OPTIONS, TRACE, CONNECT, PROPFIND, REPORT, SEARCH and QUERY. Names are
/// case-sensitive (RFC 9110 section 9.1): `get` is an unknown method, and so a write.
///
/// A CONNECT is a read because it names a host, not a resource; what goes through the tunnel is out of sight.
#[derive(Clone, Debug, Default)]
pub struct MethodRules {
    overrides: Vec<(Method, Kind)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
}

impl MethodRules {
    /// The default rules.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Take `method` for a read: it passes without a look at the locks.
    #[must_use]
    pub fn read(self, method: Method) -> Self {
        self.set(method, Kind::Read)
    }

    /// Take `method` for a write, for a service in which it changes something. Where the method table does not know it
    /// as one, it counts as an unknown method: it may do anything to its target and to all below.
    #[must_use]
    pub fn write(self, method: Method) -> Self {
        self.set(method, Kind::Write)
    }

    fn set(mut self, method: Method, kind: Kind) -> Self {
        self.overrides.retain(|(known, _)| *known != method);
        self.overrides.push((method, kind));
        self
    }

    /// Whether `method` reads. For GET and HEAD one comparison; never an allocation.
    #[must_use]
    #[inline]
    pub fn is_read(&self, method: &Method) -> bool {
        self.surely_reads(method) || self.looked_up(method)
    }

    /// Whether `method` is one of those by which most reads come, and nobody said otherwise.
    // Small enough to become a part of its callers whatever they are: see `middleware::service`.
    #[inline(always)]
    pub(crate) fn surely_reads(&self, method: &Method) -> bool {
        self.overrides.is_empty() && matches!(*method, Method::GET | Method::HEAD)
    }

    /// Whether nobody said anything of any method.
    #[inline]
    pub(crate) fn are_usual(&self) -> bool {
        self.overrides.is_empty()
    }

    fn looked_up(&self, method: &Method) -> bool {
        match self.overrides.iter().find(|(known, _)| known == method) {
            Some((_, kind)) => *kind == Kind::Read,
            None => matches!(*method, Method::GET | Method::HEAD) || is_other_read(method),
        }
    }
}

fn is_other_read(method: &Method) -> bool {
    match *method {
        Method::PUT | Method::POST | Method::DELETE | Method::PATCH => false,
        Method::OPTIONS | Method::TRACE | Method::CONNECT => true,
        _ => matches!(method.as_str(), "PROPFIND" | "REPORT" | "SEARCH" | "QUERY"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn method(name: &str) -> Method {
        Method::from_bytes(name.as_bytes()).unwrap()
    }

    #[test]
    fn table_row_reads_change_nothing() {
        let rules = MethodRules::default();
        for name in ["GET", "HEAD", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "REPORT", "SEARCH", "QUERY"] {
            assert!(rules.is_read(&method(name)), "{name}");
        }
    }

    #[test]
    fn whatever_is_not_known_to_read_writes() {
        let rules = MethodRules::default();
        for name in [
            "PUT",
            "PATCH",
            "POST",
            "DELETE",
            "PROPPATCH",
            "MKCOL",
            "COPY",
            "MOVE",
            "LOCK",
            "UNLOCK",
            "BREW",
            "get",
            "Get",
            "propfind",
            "GETX",
            "GE",
            "MKCALENDAR",
            "ACL",
            "LINK",
            "A-METHOD-NAME-THAT-IS-MUCH-LONGER-THAN-ANY-OTHER",
        ] {
            assert!(!rules.is_read(&method(name)), "{name}");
        }
    }

    #[test]
    fn the_last_word_on_a_method_counts() {
        let rules = MethodRules::new().read(Method::POST).write(Method::GET).write(method("REPORT"));
        assert!(rules.is_read(&Method::POST) && rules.is_read(&Method::HEAD) && rules.is_read(&method("SEARCH")));
        assert!(!rules.is_read(&Method::GET) && !rules.is_read(&method("REPORT")) && !rules.is_read(&Method::PUT));
        assert!(!rules.read(method("X")).write(method("X")).is_read(&method("X")));
    }
}
