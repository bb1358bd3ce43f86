//! What OPTIONS and 405 say.

use super::{kit::Dav, shape::Shape};

fn dav_classes(answer: &super::kit::Answer) -> Vec<String> {
    let lines = answer.headers.get_all("dav").iter();
    lines.flat_map(|line| line.to_str().unwrap().split(',')).map(|class| class.trim().to_owned()).collect()
}

fn allowed(answer: &super::kit::Answer) -> Vec<String> {
    let lines = answer.headers.get_all("allow").iter();
    lines.flat_map(|line| line.to_str().unwrap().split(',')).map(|method| method.trim().to_owned()).collect()
}

/// L-61.
#[tokio::test]
async fn class_2_is_claimed_wherever_class_1_is() {
    for (lines, expected) in [
        (vec!["1"], vec!["1", "2"]),
        (vec!["1, 3"], vec!["1", "2", "3"]),
        (vec!["1,3,extended-mkcol"], vec!["1", "2", "3", "extended-mkcol"]),
        (vec!["1", "3"], vec!["1", "2", "3"]),
        (vec!["3", "1"], vec!["1", "2", "3"]),
        (vec!["3 , 1", "<http://x/ext>"], vec!["1", "2", "3", "<http://x/ext>"]),
        (vec!["1,2,3"], vec!["1", "2", "3"]),
        (vec!["1, 2"], vec!["1", "2"]),
        (vec!["2", "1"], vec!["1", "2"]),
        (vec!["3"], vec!["3"]),
        (vec!["access-control, 11"], vec!["11", "access-control"]),
        (vec![], vec![]),
    ] {
        for uri in ["/a", "/c/", "/", "/nothing", "*"] {
            let dav = Dav::shaped(Shape { dav: lines.clone(), ..Shape::default() });
            let answer = dav.as_("ann").ask("OPTIONS", uri).expect(200).await;
            let mut classes = dav_classes(&answer);
            classes.sort();
            assert_eq!(classes, expected, "{lines:?} {uri}");
        }
    }
}

/// L-62.
#[tokio::test]
async fn allow_names_lock_and_unlock_once() {
    for allow in ["OPTIONS, GET", "GET,PUT,LOCK,UNLOCK", "LOCK", "PROPFIND , UNLOCK"] {
        let dav = Dav::shaped(Shape { allow, ..Shape::default() });
        let options = dav.as_("ann").ask("OPTIONS", "/a").expect(200).await;
        let refused = dav.as_("ann").mkcol("/a").expect(405).await;
        for answer in [options, refused] {
            let methods = allowed(&answer);
            for method in ["LOCK", "UNLOCK"] {
                assert_eq!(methods.iter().filter(|found| *found == method).count(), 1, "{allow}: {methods:?}");
            }
            for method in allow.split(',') {
                assert!(methods.contains(&method.trim().to_owned()), "{allow}: {methods:?}");
            }
        }
    }
}

/// L-62.
#[tokio::test]
async fn ms_author_via_says_dav() {
    let dav = Dav::new();
    let answer = dav.as_("ann").ask("OPTIONS", "/").expect(200).await;
    assert_eq!(answer.header("ms-author-via"), "DAV");
}

/// L-21: OPTIONS of a locked resource, by anybody, asks no store.
#[tokio::test]
async fn options_of_a_locked_resource_is_a_read() {
    let dav = Dav::new();
    dav.as_("ann").locked("/a", "0").await;
    let before = dav.rigged.all_calls();
    dav.anonymous().ask("OPTIONS", "/a").expect(200).await;
    dav.anonymous().get("/a").expect(200).await;
    assert_eq!(dav.rigged.all_calls(), before);
}

/// L-61: a failed OPTIONS is passed on as it is.
#[tokio::test]
async fn an_options_that_fails_is_passed_on() {
    let dav = Dav::new();
    dav.handler.fail("OPTIONS", "/a", 401);
    let answer = dav.as_("ann").ask("OPTIONS", "/a").expect(401).await;
    assert_eq!((answer.text.as_str(), dav_classes(&answer).len()), ("handler 401", 0));
}
