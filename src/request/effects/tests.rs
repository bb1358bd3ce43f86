use http::Request;

use super::*;
use crate::{
    lock::{KeyError, KeyRules},
    request::{ResolveFn, Resolved},
};

const SOURCE: &str = "/a/source";
const DESTINATION: &str = "/b/destination";

type Row = (&'static str, Effect, Membership);

fn request(method: &str, destination: &[&str]) -> Request<()> {
    let mut request = Request::builder().method(method).uri(SOURCE);
    for destination in destination {
        request = request.header("Destination", *destination);
    }
    request.body(()).unwrap()
}

fn read(request: &Request<()>, resolver: &dyn ResolveTargets) -> Result<Targets<'static>, RequestError> {
    targets(RequestView::of(request), resolver, None).map(Targets::into_owned)
}

fn rows(method: &str, destination: &[&str], resolver: &dyn ResolveTargets) -> Vec<(String, Effect, Membership)> {
    let targets = read(&request(method, destination), resolver).unwrap();
    targets.iter().map(|target| (target.key.path().to_owned(), target.effect, target.membership)).collect()
}

#[track_caller]
fn check(method: &str, expected: &[Row]) {
    check_with(method, &[DESTINATION], &KeyRules::new(), expected);
}

#[track_caller]
fn check_with(method: &str, destination: &[&str], resolver: &dyn ResolveTargets, expected: &[Row]) {
    let expected: Vec<_> = expected.iter().map(|(path, effect, member)| ((*path).to_owned(), *effect, *member)).collect();
    assert_eq!(rows(method, destination, resolver), expected, "{method}");
}

fn existing() -> impl ResolveTargets {
    ResolveFn::new(|ask| ResourceKey::parse(ask.path).map(|key| Resolved::key(key).existing()))
}

use Effect::{Unlink, Write};
use Membership::{Changed, Kept};

#[test]
fn table_row_put() {
    check("PUT", &[(SOURCE, Write, Changed)]);
}

#[test]
fn table_row_patch() {
    check("PATCH", &[(SOURCE, Write, Changed)]);
}

#[test]
fn table_row_put_and_patch_on_a_target_known_to_exist() {
    check_with("PUT", &[], &existing(), &[(SOURCE, Write, Kept)]);
    check_with("PATCH", &[], &existing(), &[(SOURCE, Write, Kept)]);
}

#[test]
fn table_row_post_may_add_a_member_whatever_the_resolver_knows() {
    check("POST", &[(SOURCE, Write, Changed)]);
    check_with("POST", &[], &existing(), &[(SOURCE, Write, Changed)]);
}

#[test]
fn table_row_proppatch() {
    check("PROPPATCH", &[(SOURCE, Write, Kept)]);
}

#[test]
fn table_row_mkcol() {
    check("MKCOL", &[(SOURCE, Write, Changed)]);
    check_with("MKCOL", &[], &existing(), &[(SOURCE, Write, Changed)]);
}

#[test]
fn table_row_delete() {
    check("DELETE", &[(SOURCE, Unlink, Changed)]);
    check_with("DELETE", &[], &existing(), &[(SOURCE, Unlink, Changed)]);
}

#[test]
fn table_row_copy_only_reads_its_source() {
    check("COPY", &[(DESTINATION, Unlink, Changed)]);
    check_with("COPY", &[DESTINATION], &existing(), &[(DESTINATION, Unlink, Changed)]);
}

#[test]
fn table_row_move() {
    check("MOVE", &[(SOURCE, Unlink, Changed), (DESTINATION, Unlink, Changed)]);
}

#[test]
fn table_row_unknown() {
    for method in ["LOCK", "REBIND", "put", "Delete", "copy", "move", "GET", "MKCALENDAR"] {
        check(method, &[(SOURCE, Unlink, Changed), (DESTINATION, Unlink, Changed)]);
        check_with(method, &[], &KeyRules::new(), &[(SOURCE, Unlink, Changed)]);
    }
}

#[test]
fn copy_and_move_without_a_destination_may_do_anything_to_their_target() {
    check_with("COPY", &[], &KeyRules::new(), &[(SOURCE, Unlink, Changed)]);
    check_with("MOVE", &[], &KeyRules::new(), &[(SOURCE, Unlink, Changed)]);
}

#[test]
fn with_exact_keys_nothing_below_goes() {
    let exact = KeyRules::new().exact();
    check_with("DELETE", &[], &exact, &[(SOURCE, Write, Changed)]);
    check_with("MOVE", &[DESTINATION], &exact, &[(SOURCE, Write, Changed), (DESTINATION, Write, Changed)]);
    check_with("COPY", &[DESTINATION], &exact, &[(DESTINATION, Write, Changed)]);
    check_with("REBIND", &[], &exact, &[(SOURCE, Write, Changed)]);
    let records = ResolveFn::new(|ask| Ok(Resolved::key(ResourceKey::from_canonical(ask.path)))).exact();
    check_with("DELETE", &[], &records, &[(SOURCE, Write, Changed)]);
}

#[test]
fn a_destination_that_a_method_does_not_heed_is_not_read() {
    for method in ["PUT", "PATCH", "POST", "DELETE", "PROPPATCH", "MKCOL"] {
        assert_eq!(rows(method, &["//x", "a"], &KeyRules::new()).len(), 1, "{method}");
    }
}

#[test]
fn a_destination_that_cannot_be_told_refuses_the_request() {
    for method in ["COPY", "MOVE", "REBIND"] {
        for (destination, code) in [
            (&["relative"][..], "bad_request"),
            (&[""], "bad_request"),
            (&["/x", "/y"], "bad_request"),
            (&["//host/x"], "ambiguous_path"),
            (&["http:/x"], "ambiguous_path"),
            (&["/x/../y"], "ambiguous_path"),
            (&["http://h/x/%2e%2E/y"], "ambiguous_path"),
        ] {
            let error = read(&request(method, destination), &KeyRules::new()).unwrap_err();
            assert_eq!(error.code(), code, "{method} {destination:?}: {error}");
        }
    }
}

#[test]
fn every_spelling_of_a_destination_meets_the_same_key() {
    for destination in [
        "/b/destination",
        "http://other.example/b/destination",
        "HTTPS://u@h:1/b//destination/",
        "/b%2Fdestination",
        "/b/%64estination?x=/y",
        "/./b/destination/.",
    ] {
        check_with("COPY", &[destination], &KeyRules::new(), &[(DESTINATION, Unlink, Changed)]);
    }
}

#[test]
fn every_form_of_a_request_target_meets_the_same_key() {
    for uri in ["/a/source", "http://h/a/source", "/a%2fsource/?q#f", "//a/source"] {
        let request = Request::builder().method("PUT").uri(uri).body(()).unwrap();
        assert_eq!(read(&request, &KeyRules::new()).unwrap()[0].key.path(), SOURCE, "{uri}");
    }
    for uri in ["*", "h:80", "http://h"] {
        let request = Request::builder().method("DELETE").uri(uri).body(()).unwrap();
        assert_eq!(read(&request, &KeyRules::new()).unwrap()[0].key.path(), "/", "{uri}");
    }
}

#[test]
fn a_canonical_path_is_borrowed_and_two_targets_fit_without_an_allocation() {
    for method in ["PUT", "PATCH", "POST", "DELETE", "MOVE"] {
        let request = request(method, &[DESTINATION]);
        let targets = targets(RequestView::of(&request), &KeyRules::new(), None).unwrap();
        assert!(!matches!(targets.list, List::Many(_)), "{method}");
        assert_eq!(targets[0].key.path().as_ptr(), request.uri().path().as_ptr(), "{method}");
    }
}

#[test]
fn the_resolver_is_told_which_part_of_the_request_it_reads() {
    let resolver =
        ResolveFn::new(|ask| Ok(Resolved::key(ResourceKey::from_canonical(format!("/{:?}{}", ask.role, ask.path)))));
    check_with(
        "MOVE",
        &["http://h/x?y"],
        &resolver,
        &[("/Target/a/source", Unlink, Changed), ("/Destination/x", Unlink, Changed)],
    );
}

#[test]
fn a_namespace_is_put_on_every_key_that_has_none() {
    let tenant = Cow::Borrowed("tenant");
    let request = request("MOVE", &["/own"]);
    let resolver = ResolveFn::new(|ask| {
        let key = ResourceKey::parse(ask.path)?;
        Ok(Resolved::key(if ask.path == "/own" { key.in_namespace("other") } else { key }))
    });
    let targets = targets(RequestView::of(&request), &resolver, Some(&tenant)).unwrap();
    assert_eq!((targets[0].key.namespace(), targets[1].key.namespace()), (Some("tenant"), Some("other")));
}

#[test]
fn a_write_names_at_most_a_thousand_resources_in_all() {
    let many = |count: usize| {
        ResolveFn::new(move |_| Ok(Resolved::keys((0..count).map(|at| ResourceKey::from_canonical(format!("/{at}"))))))
    };
    assert_eq!(read(&request("PUT", &[]), &many(MAX_TARGETS)).unwrap().len(), MAX_TARGETS);
    let too_many = Err(RequestError::TooMany { what: "resources in one write", limit: MAX_TARGETS });
    assert_eq!(read(&request("PUT", &[]), &many(MAX_TARGETS + 1)), too_many);
    assert_eq!(read(&request("MOVE", &["/x"]), &many(MAX_TARGETS / 2 + 1)), too_many);
}

#[test]
fn a_resolver_may_say_nothing_or_that_it_cannot_tell() {
    assert!(read(&request("DELETE", &[]), &ResolveFn::new(|_| Ok(Resolved::nothing()))).unwrap().is_empty());
    let unresolved = ResolveFn::new(|_| Err(KeyError::Unresolved));
    assert_eq!(read(&request("PUT", &[]), &unresolved), Err(RequestError::Key(KeyError::Unresolved)));
}

fn ended(method: &str, destination: &[&str], resolver: &dyn ResolveTargets) -> Vec<(String, Reach)> {
    let request = request(method, destination);
    let targets = read(&request, resolver).unwrap();
    gone(request.method(), &targets).into_iter().map(|gone| (gone.key.path().to_owned(), gone.reach)).collect()
}

#[test]
fn locks_end_with_what_goes_and_below_what_is_overwritten() {
    let rules = KeyRules::new();
    let (source, destination) = (SOURCE.to_owned(), DESTINATION.to_owned());
    assert_eq!(ended("DELETE", &[DESTINATION], &rules), [(source.clone(), Reach::AtOrBelow)]);
    assert_eq!(
        ended("MOVE", &[DESTINATION], &rules),
        [(source.clone(), Reach::AtOrBelow), (destination.clone(), Reach::Below)]
    );
    assert_eq!(ended("COPY", &[DESTINATION], &rules), [(destination, Reach::Below)]);
    assert_eq!(ended("MOVE", &[], &rules), [(source, Reach::AtOrBelow)]);
    for method in ["COPY", "PUT", "PATCH", "POST", "PROPPATCH", "MKCOL", "REBIND", "delete"] {
        assert_eq!(ended(method, &[], &rules), [], "{method}");
    }
}

#[test]
fn with_exact_keys_locks_end_at_what_goes_alone() {
    let exact = KeyRules::new().exact();
    assert_eq!(ended("DELETE", &[], &exact), [(SOURCE.to_owned(), Reach::At)]);
    assert_eq!(ended("MOVE", &[DESTINATION], &exact), [(SOURCE.to_owned(), Reach::At)]);
    assert_eq!(ended("COPY", &[DESTINATION], &exact), []);
}

#[test]
fn a_method_that_leaves_nothing_gone_need_not_be_asked() {
    for method in ["PUT", "PATCH", "POST", "PROPPATCH", "MKCOL", "DELETE", "MOVE", "COPY", "LOCK", "delete"] {
        let request = Request::builder().method(method).uri("/a").header("destination", "/b").body(()).unwrap();
        let targets = targets(RequestView::of(&request), &KeyRules::new(), None).unwrap();
        assert_eq!(!gone(request.method(), &targets).is_empty(), may_leave_gone(request.method()), "{method}");
    }
}

#[test]
fn the_short_way_to_a_target_gives_what_the_long_one_gives() {
    let rules = [
        KeyRules::new(),
        KeyRules::new().exact(),
        KeyRules::new().fold_case(),
        KeyRules::new().drop_params(),
        KeyRules::new().prefix("/api"),
        KeyRules::new().map_segments(str::to_lowercase),
    ];
    let paths = [
        "/",
        "/a",
        "/a/b.c",
        "/a/",
        "//a",
        "/A;v=1/b",
        "/a/.b",
        "/a/../b",
        "/%61",
        "/a%2Fb",
        "*",
        "/tenants/acme/docs/4711",
    ];
    let mut short = 0;
    for rules in &rules {
        for path in paths {
            for method in ["PUT", "PATCH", "POST", "DELETE", "MKCOL", "PROPPATCH", "COPY", "MOVE", "BREW", "GET"] {
                let request =
                    Request::builder().method(method).uri(path).header("Destination", DESTINATION).body(()).unwrap();
                let Some(target) = plain_target(request.method(), request.uri().path(), rules) else { continue };
                short += 1;
                let targets = read(&request, rules).unwrap();
                assert_eq!(*targets, [target], "{method} {path}");
                assert_eq!(targets.of_target().len(), 1);
            }
        }
    }
    assert!(short > 60, "{short}");
}
