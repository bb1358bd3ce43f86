//! A depth-0 lock on a collection protects which members it has, and not what they are.

use super::kit::{Ask, Client, Dav};

/// Every way to change which members `/c/` has.
fn changes(client: &Client) -> Vec<(&'static str, Ask)> {
    vec![
        ("PUT of a new member", client.put("/c/new", "x")),
        ("PATCH of a new member", client.ask("PATCH", "/c/new").body("x")),
        ("MKCOL", client.mkcol("/c/new")),
        ("COPY into it", client.copy("/a", "/c/new")),
        ("MOVE into it", client.move_("/a", "/c/new")),
        ("MOVE out of it", client.move_("/c/m", "/e/m")),
        ("MOVE of a collection out of it", client.move_("/c/d/", "/e/d/")),
        ("rename", client.move_("/c/m", "/c/renamed")),
        ("rename in another spelling", client.move_("/c/m", "/c/%6dm")),
        ("DELETE", client.delete("/c/m")),
        ("DELETE of a collection", client.delete("/c/d/")),
        ("LOCK of an unmapped member", client.lock("/c/new")),
        ("PUT in another spelling", client.put("//c/./%6Eew", "x")),
    ]
}

/// L-22, L-44.
#[tokio::test]
async fn no_way_to_change_the_members_of_a_locked_collection_is_open_to_others() {
    let dav = Dav::new();
    dav.as_("ann").locked("/c/", "0").await;
    let before = dav.handler.tree();
    for client in [dav.as_("bob"), dav.as_("ann"), dav.anonymous()] {
        for (how, change) in changes(&client) {
            if client.is_anonymous() && how.starts_with("LOCK") {
                change.expect(403).await;
                continue;
            }
            let answer = change.await;
            assert_eq!(answer.status, 423, "{how}: {answer:?}");
            answer.locked_by(&["/c/"]);
            assert_eq!(dav.handler.tree(), before, "{how}");
        }
    }
    assert!(dav.handler.take_writes().is_empty());
    dav.assert_nothing_left(&["/c"], "refused").await;
}

/// L-22, L-76: all of them are open to the holder.
#[tokio::test]
async fn the_holder_changes_the_members_with_the_token_of_the_collection() {
    let count = changes(&Dav::new().as_("ann")).len();
    for at in 0..count {
        for form in ["</c/> (<T>)", "<http://dav.example/c> (<T>)", "(<T>) (Not <DAV:no-lock>)"] {
            let dav = Dav::new();
            let token = dav.as_("ann").locked("/c/", "0").await;
            let before = dav.handler.tree();
            let (how, change) = changes(&dav.as_("ann")).swap_remove(at);
            let answer = change.header("host", "dav.example").if_(&form.replace('T', &token)).await;
            let expected = if how.starts_with("PATCH") { answer.status == 404 } else { answer.status.is_success() };
            assert!(expected, "{how} with {form}: {answer:?}");
            assert!(how.starts_with("PATCH") || dav.handler.tree() != before, "{how}");
            assert!(dav.roots().await.contains(&"/c".into()), "{how}: the collection is still locked");
        }
    }
}

/// L-23.
#[tokio::test]
async fn content_and_properties_of_the_members_stay_open_to_all() {
    let dav = Dav::new();
    dav.as_("ann").locked("/c/", "0").await;
    let bob = dav.as_("bob");
    bob.put("/c/m", "x").expect(204).await;
    bob.ask("PATCH", "/c/m").body("y").expect(200).await;
    bob.proppatch("/c/m").expect(207).await;
    bob.proppatch("/c/d/").expect(207).await;
    bob.put("/c/d/n", "x").expect(204).await;
    bob.put("/c/d/new", "x").expect(201).await;
    bob.mkcol("/c/d/col").expect(201).await;
    bob.delete("/c/d/n").expect(204).await;
    bob.copy("/c/m", "/e/m").expect(201).await;
    bob.lock("/c/m").depth("0").expect(200).await;
    bob.lock("/c/d/unmapped").expect(201).await;
    // The collection itself is another matter.
    bob.proppatch("/c/").expect(423).await.locked_by(&["/c/"]);
    bob.delete("/c/").expect(423).await;
}

/// L-22, L-23: without HEAD the handler is asked by PROPFIND; and whatever it says that is no plain answer counts as new.
#[tokio::test]
async fn whether_a_member_is_new_is_asked_of_the_handler_in_any_way_it_understands() {
    for (head, failing, old, new) in [
        (true, None, 204, 423),
        (false, None, 204, 423),
        (true, Some(("HEAD", 500)), 423, 423),
        (true, Some(("HEAD", 403)), 423, 423),
    ] {
        let dav = Dav::shaped(super::shape::Shape { head, ..Default::default() });
        dav.as_("ann").locked("/c/", "0").await;
        if let Some((method, status)) = failing {
            dav.handler.fail(method, "/c/m", status);
            dav.handler.fail(method, "/c/new", status);
            dav.handler.fail("PROPFIND", "/c/m", status);
            dav.handler.fail("PROPFIND", "/c/new", status);
        }
        let before = dav.handler.tree();
        assert_eq!(dav.as_("bob").put("/c/new", "x").await.status, new, "{head} {failing:?}");
        assert_eq!(dav.handler.tree(), before);
        assert_eq!(dav.as_("bob").put("/c/m", "x").await.status, old, "{head} {failing:?}");
    }
}

/// L-22: `COPY` and `MOVE` onto a member replace it, which is deleting it first.
#[tokio::test]
async fn to_overwrite_a_member_by_copy_or_move_changes_the_membership_too() {
    let dav = Dav::new();
    let token = dav.as_("ann").locked("/c/", "0").await;
    let before = dav.handler.tree();
    dav.as_("bob").copy("/a", "/c/m").expect(423).await.locked_by(&["/c/"]);
    dav.as_("bob").move_("/a", "/c/m").expect(423).await.locked_by(&["/c/"]);
    assert_eq!(dav.handler.tree(), before);
    dav.as_("ann").copy("/a", "/c/m").if_(&format!("</c/> (<{token}>)")).expect(204).await;
}

/// L-22: two depth-0 locks, on both ends of a MOVE.
#[tokio::test]
async fn a_move_between_two_locked_collections_needs_both_tokens() {
    let dav = Dav::new();
    let ann = dav.as_("ann");
    let (from, to) = (ann.locked("/c/", "0").await, ann.locked("/e/", "0").await);
    ann.move_("/c/m", "/e/m").expect(423).await.locked_by(&["/c/", "/e/"]);
    ann.move_("/c/m", "/e/m").tokens([&from]).expect(423).await.locked_by(&["/e/"]);
    ann.move_("/c/m", "/e/m").tokens([&to]).expect(423).await.locked_by(&["/c/"]);
    ann.copy("/c/m", "/e/copy").if_(&format!("</e/> (<{to}>)")).expect(201).await;
    ann.move_("/c/m", "/e/m").if_(&format!("</c/> (<{from}>) </e/> (<{to}>)")).expect(201).await;
    assert_eq!(dav.roots().await, ["/c", "/e"]);
}

/// L-02: a member of a depth-0 locked collection may be locked by somebody else.
#[tokio::test]
async fn members_of_a_depth_0_locked_collection_are_locked_by_others_freely() {
    let dav = Dav::new();
    dav.as_("ann").locked("/c/", "0").await;
    let bob = dav.as_("bob").locked("/c/m", "0").await;
    dav.as_("bob").put("/c/m", "x").if_(&format!("(<{bob}>)")).expect(204).await;
    dav.as_("bob").delete("/c/m").if_(&format!("(<{bob}>)")).expect(423).await.locked_by(&["/c/"]);
    dav.as_("bob").unlock("/c/m", &bob).expect(204).await;
}
