//! Entity tags in `If`: decided by whoever can ask the resources for theirs, before the lock tokens are.

use super::{Condition, Conditions, EntityTag, Expected, List};

impl<'r> Conditions<'r> {
    /// Whether the truth of `If` hangs on the entity tag of some resource.
    #[must_use]
    pub fn has_entity_tags(&self) -> bool {
        self.lists().iter().any(List::has_entity_tags)
    }

    /// The same conditions with those on entity tags decided: a list in which one of them is false is left out, the others
    /// keep their conditions on lock tokens alone. Tokens stay submitted wherever they stood (RFC 4918 section 10.4.1).
    ///
    /// `matches` says whether the resource of a list has an entity tag; it is asked at most once for each that stands there, `Not`
    /// aside. Where nobody can tell, a condition is false, behind `Not` too.
    ///
    /// # Errors
    /// The conditions, with no list left, where entity tags alone make the header false. Answered 412.
    #[expect(clippy::result_large_err, reason = "the conditions come back either way")]
    pub fn decide_entity_tags(
        mut self,
        mut matches: impl FnMut(&List<'r>, &EntityTag<'r>) -> Option<bool>,
    ) -> Result<Self, Self> {
        let any = !self.lists().is_empty();
        self.lists.retain(|list| {
            list.conditions().iter().all(|condition| match condition {
                Condition::EntityTag(expected, tag) => matches(list, tag) == Some(*expected == Expected::Match),
                Condition::State(..) => true,
            })
        });
        for list in self.lists.as_mut_slice() {
            list.conditions.retain(|condition| matches!(condition, Condition::State(..)));
        }
        if any && self.lists().is_empty() { Err(self) } else { Ok(self) }
    }

    /// The strong entity tag that the request target must have for `If` to be true, where one list says so and there is no
    /// other: an `If-Match` for the service itself, so that nothing changes between the decision and the write.
    #[must_use]
    pub fn sole_entity_tag(&self) -> Option<EntityTag<'r>> {
        let [list] = self.lists() else { return None };
        if list.tag.is_none() { list.strong_entity_tag() } else { None }
    }

    /// The same but for the condition of `Lock-Token`, whose token still counts as submitted.
    #[cfg(any(feature = "webdav", feature = "batch"))]
    pub(crate) fn without_lock_token(mut self) -> Self {
        self.lock_token = None;
        self
    }
}

impl<'r> List<'r> {
    /// The first strong entity tag that its resource must have for it to be true.
    pub(crate) fn strong_entity_tag(&self) -> Option<EntityTag<'r>> {
        self.conditions().iter().find_map(|condition| match condition {
            Condition::EntityTag(Expected::Match, tag) if !tag.is_weak() => Some(*tag),
            _ => None,
        })
    }

    /// Whether one of the conditions is on an entity tag.
    #[must_use]
    pub fn has_entity_tags(&self) -> bool {
        self.conditions().iter().any(|condition| matches!(condition, Condition::EntityTag(..)))
    }
}

impl EntityTag<'_> {
    /// Whether this and `other`, an entity tag as it stands in an `ETag` header, are the same by the weak comparison (RFC
    /// 9110 section 8.8.3.2), which RFC 4918 section 10.4.4 allows.
    #[must_use]
    pub fn matches(&self, other: &[u8]) -> bool {
        self.opaque() == EntityTag { text: other.trim_ascii() }.opaque()
    }
}
