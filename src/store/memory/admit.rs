//! Whether a write may go on.
//!
//! Most writes meet no lock: registered first, they are let through by the filter, without the table's lock and without
//! an allocation. The others are [decided](super::decide).

use super::{core::Core, filter::Glance};
use crate::store::{Admitted, Permit, StoreFuture, Verdict, Write};

impl Core {
    #[inline]
    pub(super) fn admit(&self, write: &Write<'_>) -> StoreFuture<Verdict> {
        // Every answer is made where it is returned: moved on the way there, it would cost more than the look.
        if write.conditions.is_empty() {
            // Read before the look: a write that was let through before a grant must not carry the grant's number.
            let generation = self.generation();
            match &self.registry {
                None => {
                    if self.filter.glance(write.targets) == Glance::Clear {
                        let permit = Permit::unguarded(generation);
                        return StoreFuture::ready(Verdict::Admitted(Admitted { permit, answered: None }));
                    }
                }
                // Registered before the look: see the filter for why.
                Some(registry) => {
                    let permit = registry.register(write.targets, generation, []);
                    #[cfg(test)]
                    super::tests::instant::between_registration_and_look();
                    if self.filter.look(write.targets) == Glance::Clear {
                        return StoreFuture::ready(Verdict::Admitted(Admitted { permit, answered: None }));
                    }
                    // Gives its place up while it waits for the table: a write that may yet be refused is in nobody's way.
                }
            }
        }
        StoreFuture::ready(self.decide(write))
    }
}
