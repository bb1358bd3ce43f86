//! Ways round the layer that somebody once tried: each test is one, and was open when it was written.

use super::kit::Dav;

/// HTTP/2 leaves white space at the ends of a field value, and handlers that compare the whole value do not see the `F`.
#[tokio::test]
async fn an_overwrite_that_a_handler_may_read_otherwise_forbids_nothing() {
    for value in [" F", "F ", "\tF", "f", "F,F"] {
        for moving in [false, true] {
            let dav = Dav::new();
            dav.as_("ann").locked("/c/d/n", "0").await;
            let before = dav.handler.tree();
            let bob = dav.as_("bob");
            let ask = if moving { bob.move_("/e/", "/c/") } else { bob.copy("/e/", "/c/") };
            ask.header("overwrite", value).expect(423).await;
            assert_eq!(dav.handler.tree(), before, "{value:?} {moving}");
        }
    }
}

/// A lock may be on what is not there yet, taken by the application or at the endpoint.
#[tokio::test]
async fn with_overwrite_f_nothing_is_made_where_somebody_has_a_lock() {
    for moving in [false, true] {
        let dav = Dav::new();
        let token = dav.taken(tower_lock::LockRequest::exclusive("/new/d/n")).await;
        let before = dav.handler.tree();
        let bob = dav.as_("bob");
        let ask = |to| if moving { bob.move_("/c/", to) } else { bob.copy("/c/", to) };
        ask("/new/").header("overwrite", "F").expect(423).await.locked_by(&["/new/d/n"]);
        assert_eq!(dav.handler.tree(), before, "{moving}");
        ask("/other/").header("overwrite", "F").expect(201).await;
        assert!(!token.is_empty());
    }
}
