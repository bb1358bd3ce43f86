//! What an answer of the handler's says about locks once it leaves the layer: `DAV` and `Allow` (RFC 4918 sections 10.1 and
//! 18.2), and that some answers are not to be cached.

use http::{HeaderName, HeaderValue, Method, Response, StatusCode, header};

use super::head::{add_to_list, has_word};

static DAV: HeaderName = HeaderName::from_static("dav");
static MS_AUTHOR_VIA: HeaderName = HeaderName::from_static("ms-author-via");

/// The answer to an OPTIONS: class 2 wherever there is class 1, and the two methods more.
pub(super) fn options<B>(mut response: Response<B>) -> Response<B> {
    let headers = response.headers_mut();
    let classes = headers.get_all(&DAV);
    if classes.iter().filter_map(|field| field.to_str().ok()).any(|field| has_word(field, "1")) {
        add_to_list(headers, &DAV, &["2"]);
        headers.entry(&MS_AUTHOR_VIA).or_insert(HeaderValue::from_static("DAV"));
        add_to_list(headers, &header::ALLOW, &["LOCK", "UNLOCK"]);
    }
    response
}

/// Any other answer.
pub(super) fn any<B>(mut response: Response<B>) -> Response<B> {
    if response.status() == StatusCode::METHOD_NOT_ALLOWED && response.headers().contains_key(header::ALLOW) {
        add_to_list(response.headers_mut(), &header::ALLOW, &["LOCK", "UNLOCK"]);
    }
    response
}

/// The answer to a write.
pub(super) fn forwarded<B>(method: &Method, response: Response<B>) -> Response<B> {
    let mut response = any(response);
    // Sections 9.2.1, 9.3, 9.8 and 9.9.
    if matches!(method.as_str(), "PROPPATCH" | "MKCOL" | "COPY" | "MOVE") {
        response.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(response: &Response<()>, name: &HeaderName) -> Vec<String> {
        response.headers().get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn class_2_comes_with_class_1_and_not_without_it() {
        for (before, after) in [
            (&["1"][..], &["1, 2"][..]),
            (&["1, 3, extended-mkcol"], &["1, 3, extended-mkcol, 2"]),
            (&["1", "3"], &["1, 3, 2"]),
            (&["1,2,3"], &["1,2,3"]),
            (&["3"], &["3"]),
            (&["11"], &["11"]),
            (&[], &[]),
        ] {
            let mut response = Response::new(());
            for class in before {
                response.headers_mut().append(&DAV, class.parse().unwrap());
            }
            let response = options(response);
            assert_eq!(fields(&response, &DAV), after, "{before:?}");
            let dav = before.iter().any(|class| has_word(class, "1"));
            assert_eq!(response.headers().contains_key(&MS_AUTHOR_VIA), dav);
            assert_eq!(fields(&response, &header::ALLOW), if dav { vec!["LOCK, UNLOCK"] } else { vec![] });
        }
    }

    #[test]
    fn a_refused_method_is_told_of_the_two_more() {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
        assert_eq!(fields(&any(response), &header::ALLOW), ["GET, LOCK, UNLOCK"]);
    }
}
