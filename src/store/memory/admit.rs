//! Whether a write may go on.
//!
//! Most writes meet no lock: registered first, they are let through by the filter, without the table's lock and without
//! an allocation. The others are [decided](super::decide).

use super::{core::Core, filter::Glance};
use crate::store::{Admitted, Permit, Verdict, Write};

impl Core {
    pub(super) fn admit(&self, write: &Write<'_>) -> Verdict {
        if write.conditions.is_empty() {
            // Read before the look: a write that was let through before a grant must not carry the grant's number.
            let generation = self.generation();
            let (permit, glance) = match &self.registry {
                // Registered before the look: see the filter for why.
                Some(registry) => {
                    let permit = registry.register(write.targets, generation, Vec::new());
                    #[cfg(test)]
                    super::tests::instant::between_registration_and_look();
                    (permit, self.filter.look(write.targets))
                }
                None => (Permit::unguarded(generation), self.filter.glance(write.targets)),
            };
            if glance == Glance::Clear {
                return Verdict::Admitted(Admitted { permit, answered: None });
            }
            // Gives its place up while it waits for the table: a write that may yet be refused is in nobody's way.
        }
        self.decide(write)
    }
}
