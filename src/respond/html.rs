//! A refusal as a page, for a person whose browser sent a form.

use std::fmt::{self, Write};

use super::markup::Escaped;
use crate::locks::Refusal;

/// The page. It says what the problem document says, needs nothing from elsewhere, and lets nothing in it run.
pub(super) fn page(refusal: &Refusal) -> String {
    let mut page = String::with_capacity(1024);
    write_page(refusal, &mut page).expect("a `String` takes all that is written");
    page
}

fn write_page(refusal: &Refusal, page: &mut String) -> fmt::Result {
    let title = refusal.code().title();
    write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title>\
         <style>body{{font:1rem/1.5 system-ui,sans-serif;max-width:40rem;margin:3rem auto;padding:0 1rem}}</style>\n\
         <main><h1>{title}</h1>\n"
    )?;
    if refusal.is_bare() {
        page.push_str("<p>This cannot be changed at the moment.</p>\n");
    } else {
        writeln!(page, "<p>{}</p>", Escaped(&refusal.to_string()))?;
    }
    if let Some(seconds) = refusal.retry_after() {
        writeln!(page, "<p>Try again in {}. Nothing of what you sent was saved.</p>", Span(seconds))?;
    } else {
        page.push_str("<p>Nothing of what you sent was saved. Go back to find it as you left it.</p>\n");
    }
    page.push_str("</main></html>\n");
    Ok(())
}

/// Seconds, as one says them; rounded up.
struct Span(u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, unit) = match self.0 {
            seconds @ 0..=119 => (seconds, "second"),
            seconds @ 120..=7_199 => (seconds.div_ceil(60), "minute"),
            seconds => (seconds.div_ceil(3_600), "hour"),
        };
        write!(f, "{count} {unit}{}", if count == 1 { "" } else { "s" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_page_runs() {
        let refusal = Refusal::bad_request("<script>alert('x')</script>&\"");
        let page = page(&refusal);
        assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;&quot;"), "{page}");
        assert!(!page.contains("<script"));
    }

    #[test]
    fn spans_are_rounded_up() {
        let spans = [1, 59, 120, 121, 840, 7_200, 7_201].map(|seconds| Span(seconds).to_string());
        assert_eq!(spans, ["1 second", "59 seconds", "2 minutes", "3 minutes", "14 minutes", "2 hours", "3 hours"]);
    }
}
