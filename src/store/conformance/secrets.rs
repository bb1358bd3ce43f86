//! G9: a token works for its holder alone, and no answer, event or debug output shows it.

use super::{fixture::Fixture, kit::*};
use crate::{
    lock::{LockKind, LockToken},
    store::{LockEvent, LockQuery, LockStore, Refreshed, Released, Span},
};

/// Whether a text shows a token in any of the forms a UUID is written in.
fn shows(text: &str, token: &LockToken) -> bool {
    let text = text.to_lowercase();
    let uuid = token.as_uuid();
    let bytes: Vec<String> = uuid.as_bytes().iter().map(u8::to_string).collect();
    [uuid.hyphenated().to_string(), uuid.simple().to_string(), bytes.join(", "), uuid.as_u128().to_string()]
        .iter()
        .any(|form| text.contains(form))
}

/// Nothing a store answers shows a token.
pub async fn no_answer_shows_a_token<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let mut watch = store.watch(&LockQuery::at_or_below(key("/")));
    let synced = watch.next().await.expect("a watch is endless").expect("the store answers");
    let ask = Ask::exclusive(ANN, "/a");
    let first = ask.go(&store).await;
    let repeated = ask.go(&store).await;
    let token = ask.locks[0].token;
    let mut write = Wr::put(ANN, "/a");
    write.tokens.push(token);
    let admitted = write.verdict(&store).await;
    let refused = Wr::put(BOB, "/a").verdict(&store).await;
    let found = answer(store.find(&LockQuery::covering(key("/a")))).await;
    let refreshed = refresh_as(&store, ANN, &token, Span::Same).await;
    let released = release_as(&store, ANN, &token).await;
    let lost = release_as(&store, ANN, &token).await;
    let mut said = format!("{first:?} {repeated:?} {admitted:?} {refused:?} {found:?} {refreshed:?} {released:?} {lost:?}");
    said.push_str(&format!("{synced:?}"));
    for _ in 0..3 {
        let event: LockEvent = watch.next().await.expect("a watch is endless").expect("the store answers");
        said.push_str(&format!("{event:?}"));
    }
    assert!(!shows(&said, &token), "a token is shown in no answer (G9)");
    assert!(shows(&token.urn().to_string(), &token), "this test would see it");
}

/// A token does not work for another principal, in any method.
pub async fn a_token_works_for_its_principal_alone<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    for (holder, others) in [(ANN, [BOB, NOBODY]), (NOBODY, [ANN, Some("")])] {
        let lock = Ask::exclusive(holder, "/a").one(&store).await;
        for who in others {
            let rule = "a token does not work for another principal (G9)";
            Wr::put(who, "/a").with(&lock).blocked(&store, &[&lock], rule).await;
            let header = format!("(<{}>)", lock.token.urn());
            let refused = Wr::put(who, "/a").header("If", header).refused(&store, rule).await;
            same_ids(&refused.blockers, [lock.lock.id()], rule);
            assert_eq!(refresh_as(&store, who, &lock.token, Span::Same).await, Refreshed::NotHolder, "{rule}");
            assert_eq!(release_as(&store, who, &lock.token).await, Released::NotHolder, "{rule}");
            let steal = Ask::exclusive(who, "/a").replacing(Swap::Own(lock.token)).go(&store).await;
            assert_eq!(steal, crate::store::Acquired::NotHolder, "{rule}");
            let repeat = Ask::exclusive(who, "/a").token(lock.token).go(&store).await;
            assert_eq!(repeat, crate::store::Acquired::Taken, "{rule}: a repeat is the same principal's");
        }
        assert!(seen(&store, &lock).await.is_some(), "and the lock lives on");
        lock.end(&store).await;
    }
}

/// A lock's id is public, and proves nothing.
pub async fn an_id_proves_nothing<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let lock = Ask::exclusive(ANN, "/a").kind(LockKind::App).one(&store).await;
    let as_token = LockToken::from_uuid(lock.lock.id().as_uuid()).expect("an id is a UUID");
    let mut write = Wr::put(ANN, "/a");
    write.tokens.push(as_token);
    write.blocked(&store, &[&lock], "a lock's id is no token (G9)").await;
    assert!(matches!(refresh_as(&store, ANN, &as_token, Span::Same).await, Refreshed::Lost(_)), "nor refreshes");
    assert!(matches!(release_as(&store, ANN, &as_token).await, Released::Lost(_)), "nor releases");
    assert!(seen(&store, &lock).await.is_some(), "and the lock lives on");
}
