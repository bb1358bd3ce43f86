//! Who sends a request, by HTTP Basic (RFC 7617). A real service would look at the password.

use base64::prelude::{BASE64_STANDARD, Engine};
use http::{HeaderMap, header};

/// The name that the request comes with; none where there is no name, or one that could not be shown.
pub(crate) fn user(headers: &HeaderMap) -> Option<String> {
    let (scheme, credentials) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let credentials = String::from_utf8(BASE64_STANDARD.decode(credentials.trim()).ok()?).ok()?;
    let (name, _password) = credentials.split_once(':')?;
    let is_name = !name.is_empty() && name.len() <= 100 && !name.chars().any(char::is_control);
    (scheme.eq_ignore_ascii_case("basic") && is_name).then(|| name.to_owned())
}
