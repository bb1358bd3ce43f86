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
