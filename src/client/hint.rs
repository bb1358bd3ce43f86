//! `Retry-After`: a number of seconds, or a date (RFC 9110 section 10.2.3).

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, header};

/// In how long it is worth trying again, as the head of an answer says. Nothing where it says nothing that can be read; zero
/// where the time has come.
pub(super) fn retry_after(head: &HeaderMap) -> Option<Duration> {
    let text = head.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // What is too large for a number is very long.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let then = httpdate::parse_http_date(text).ok()?;
    // By the clock of who names the date, if it says what that shows: ours may be another.
    let now = date(head.get(header::DATE)).unwrap_or_else(SystemTime::now);
    Some(then.duration_since(now).unwrap_or_default())
}

fn date(value: Option<&HeaderValue>) -> Option<SystemTime> {
    httpdate::parse_http_date(value?.to_str().ok()?.trim()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(retry: &'static str) -> Option<u64> {
        let mut head = HeaderMap::new();
        head.insert(header::DATE, HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT"));
        head.insert(header::RETRY_AFTER, HeaderValue::from_static(retry));
        retry_after(&head).map(|span| span.as_secs())
    }

    #[test]
    fn seconds_and_dates_in_every_form_are_read() {
        for (text, seconds) in [
            ("0", 0),
            (" 840 ", 840),
            ("18446744073709551615", u64::MAX),
            ("99999999999999999999999999", u64::MAX),
            ("Sun, 06 Nov 1994 08:50:37 GMT", 60),
            ("Sunday, 06-Nov-94 08:50:37 GMT", 60),
            ("Sun Nov  6 08:50:37 1994", 60),
            // In the past, by the server's own clock.
            ("Sun, 06 Nov 1994 08:49:36 GMT", 0),
        ] {
            assert_eq!(read(text), Some(seconds), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_says_nothing() {
        for text in ["", "-5", "+5", "5.5", "soon", "1e3", "0x10", "5s", "Sun, 99 Nov 1994 08:50:37 GMT"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_date_is_held_against_our_own_clock_where_the_server_says_nothing_of_its_own() {
        let mut head = HeaderMap::new();
        head.insert(header::RETRY_AFTER, HeaderValue::from_static("Sun, 06 Nov 1994 08:50:37 GMT"));
        assert_eq!(retry_after(&head), Some(Duration::ZERO));
        head.insert(header::DATE, HeaderValue::from_static("now"));
        assert_eq!(retry_after(&head), Some(Duration::ZERO));
    }
}
