//! What the codecs read from the head of a bulk write: whether it is one, and that nobody reads it as something else.

use http::{HeaderMap, header};
use mediatype::MediaType;
use percent_encoding::percent_decode_str;

use crate::{
    locks::{Refusal, RefusalCode},
    request::RequestView,
};

/// Where bulk writes are sent: a path of which a segment in braces stands for any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place(Vec<Option<String>>);

/// How servers read `..`.
#[derive(Clone, Copy)]
enum Dots {
    Name,
    Pop,
    Skip,
}

/// How they read `;params`.
#[derive(Clone, Copy)]
enum Params {
    Name,
    Drop,
}

impl Place {
    pub(super) fn new(pattern: &str) -> Self {
        let any = |segment: &str| segment.starts_with('{') && segment.ends_with('}');
        let segments = pattern.split('/').filter(|segment| !segment.is_empty());
        Self(segments.map(|segment| (!any(segment)).then(|| fold(segment))).collect())
    }

    /// Whether some server takes `path` for this place. To be taken for a bulk write costs another request a refusal at
    /// most; not to be taken for one would leave the items unguarded.
    pub(super) fn fits(&self, path: &str) -> bool {
        let path = percent_decode_str(path).decode_utf8_lossy();
        [Dots::Name, Dots::Pop, Dots::Skip]
            .into_iter()
            .flat_map(|dots| [(dots, Params::Name), (dots, Params::Drop)])
            .any(|(dots, params)| self.is(&segments(&path, dots, params)))
    }

    fn is(&self, segments: &[&str]) -> bool {
        self.0.len() == segments.len()
            && self.0.iter().zip(segments).all(|(place, segment)| place.as_ref().is_none_or(|place| *place == fold(segment)))
    }
}

fn segments(path: &str, dots: Dots, params: Params) -> Vec<&str> {
    let mut segments = Vec::new();
    for segment in path.split(['/', '\\']) {
        let segment = match params {
            Params::Name => segment,
            Params::Drop => segment.split(';').next().unwrap_or_default(),
        };
        match (segment, dots) {
            ("" | ".", _) | ("..", Dots::Skip) => {}
            ("..", Dots::Pop) => {
                segments.pop();
            }
            (segment, _) => segments.push(segment),
        }
    }
    segments
}

fn fold(text: &str) -> String {
    text.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}

/// What a bulk write does with its items, by its method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    /// Some are there, some are made: POST.
    Create,
    /// All are there, or named by the client: PUT, PATCH.
    Update,
    Delete,
}

impl Deed {
    /// The deed of a request.
    ///
    /// # Errors
    /// 400 for a method of which a codec knows nothing, and where a service may take another one in its place.
    pub(super) fn of(request: RequestView<'_>) -> Result<Self, Refusal> {
        let deed = match request.method.as_str() {
            "POST" => Self::Create,
            "PUT" | "PATCH" => Self::Update,
            "DELETE" => Self::Delete,
            _ => {
                return Err(Refusal::bad_request("What a bulk write by this method does with its items is not known here."));
            }
        };
        for name in ["x-http-method-override", "x-http-method", "x-method-override"] {
            for method in request.headers.get_all(name) {
                if !method.as_bytes().trim_ascii().eq_ignore_ascii_case(request.method.as_str().as_bytes()) {
                    return Err(overridden(name));
                }
            }
        }
        for (name, method) in form_urlencoded::parse(request.uri.query().unwrap_or_default().as_bytes()) {
            if name.eq_ignore_ascii_case("_method") && !method.trim().eq_ignore_ascii_case(request.method.as_str()) {
                return Err(overridden("_method"));
            }
        }
        Ok(deed)
    }

    /// The deed of an item that names its own method; none where it only reads.
    pub(super) fn of_item(method: &str) -> Option<Result<Self, &'static str>> {
        let method = method.to_ascii_uppercase();
        match method.as_str() {
            "POST" => Some(Ok(Self::Create)),
            "PUT" | "PATCH" => Some(Ok(Self::Update)),
            "DELETE" => Some(Ok(Self::Delete)),
            "GET" | "HEAD" | "OPTIONS" => None,
            _ => Some(Err("what an item of this method changes is not known here")),
        }
    }
}

fn overridden(what: &str) -> Refusal {
    Refusal::bad_request(format!("{what}: a bulk write is made by its own method, and names no other one"))
}

/// Whether the body is JSON in UTF-8, of one of these types, and says so once.
pub(super) fn expect_json(headers: &HeaderMap, types: &[String]) -> Result<(), Refusal> {
    let mut fields = headers.get_all(header::CONTENT_TYPE).iter();
    let only = fields.next().filter(|_| fields.next().is_none()).and_then(|field| field.to_str().ok());
    if only.is_some_and(|field| is_json(field, types)) {
        return Ok(());
    }
    let detail = format!("Content-Type: {} in UTF-8 is read here.", types.join(", "));
    Err(Refusal::new(RefusalCode::UnsupportedMediaType, detail))
}

fn is_json(field: &str, types: &[String]) -> bool {
    let Ok(media) = MediaType::parse(field) else { return false };
    let suffix = media.suffix.map(|suffix| format!("+{suffix}")).unwrap_or_default();
    let essence = format!("{}/{}{suffix}", media.ty, media.subty);
    types.iter().any(|known| known.eq_ignore_ascii_case(&essence))
        && media.params.iter().all(|(name, value)| {
            let charset = name.as_str().to_ascii_lowercase().starts_with("charset");
            !charset || value.unquoted_str().eq_ignore_ascii_case("utf-8")
        })
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn a_place_is_known_in_every_spelling() {
        let place = Place::new("/api/{version}/vobjects/{object}");
        for path in [
            "/api/v23.2/vobjects/capa__c",
            "/api/v23.2/vobjects/capa__c/",
            "//api//v23.2/./vobjects/capa__c/.",
            "/API/v23.2/VObjects/capa__c",
            "/api/v23.2/%76objects/capa__c",
            "/api/v23.2%2fvobjects%2Fcapa__c",
            "/api/v23.2/vobjects;v=1/capa__c;x",
            "/;/api/v23.2/vobjects/capa__c",
            "/x/../api/v23.2/vobjects/capa__c",
            "/../api/v23.2/vobjects/capa__c",
            "/api/v23.2/vobjects/capa__c/x/..",
            "/api/v23.2/vobjects/..",
            "/api\\v23.2\\vobjects/capa__c",
            "/api/v23.2/vobject\u{17f}/capa__c",
        ] {
            assert!(place.fits(path), "{path}");
        }
        for path in [
            "/",
            "*",
            "/api/v23.2/vobjects",
            "/api/v23.2/vobjects/capa__c/V1",
            "/api/v23.2/objects/capa__c",
            "/v23.2/vobjects/capa__c",
        ] {
            assert!(!place.fits(path), "{path}");
        }
    }

    #[test]
    fn a_body_is_json_in_utf_8_and_says_so_once() {
        let types = ["application/json".to_owned(), "application/vnd.bulk+json".to_owned()];
        let ask = |fields: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(header::CONTENT_TYPE, http::HeaderValue::from_bytes(field).unwrap());
            }
            expect_json(&headers, &types).map_err(|refusal| refusal.status().as_u16())
        };
        for field in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "application/json;charset=\"utf-8\"",
            "application/json; odata.metadata=minimal",
            "application/vnd.bulk+json",
        ] {
            assert_eq!(ask(&[field.as_bytes()]), Ok(()), "{field}");
        }
        for fields in [
            &[] as &[&[u8]],
            &[b"text/csv"],
            &[b"text/plain"],
            &[b"text/json"],
            &[b"application/ld+json"],
            &[b"application/x-www-form-urlencoded"],
            &[b"application/json; charset=utf-16"],
            &[b"application/json; charset=utf-8; charset=utf-16le"],
            &[b"application/json; charset*=utf-16"],
            &[b"application/json, text/csv"],
            &[b"application/json", b"application/json"],
            &[b"application/json; charset=\xfc"],
            &[b""],
        ] {
            assert_eq!(ask(fields), Err(415), "{fields:?}");
        }
    }

    #[test]
    fn a_bulk_write_by_another_method_than_its_own_is_refused() {
        let deed = |method: &str, target: &str, field: Option<(&str, &str)>| {
            let mut request = Request::builder().method(method).uri(target);
            if let Some((name, value)) = field {
                request = request.header(name, value);
            }
            Deed::of(RequestView::of(&request.body(()).unwrap())).map_err(|refusal| refusal.status().as_u16())
        };
        assert_eq!(deed("POST", "/a", None), Ok(Deed::Create));
        assert_eq!(deed("PATCH", "/a?method=x", None), Ok(Deed::Update));
        assert_eq!(deed("PUT", "/a?_method=put", Some(("X-HTTP-Method-Override", "PUT"))), Ok(Deed::Update));
        assert_eq!(deed("MERGE", "/a", None), Err(400));
        assert_eq!(deed("POST", "/a", Some(("x-http-method-override", "DELETE"))), Err(400));
        assert_eq!(deed("POST", "/a", Some(("x-http-method", "MERGE"))), Err(400));
        assert_eq!(deed("POST", "/a", Some(("x-method-override", ""))), Err(400));
        assert_eq!(deed("POST", "/a?%5Fmethod=DELETE", None), Err(400));
    }
}
