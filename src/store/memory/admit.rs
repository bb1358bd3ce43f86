//! Whether a write may go on.
//!
//! Most writes meet no lock: registered first, they are let through by the filter, without the table's lock and without
//! an allocation. The others are [decided](super::decide).

use super::{core::Core, filter::Glance};
use crate::{
    lock::Target,
    store::{Admitted, Permit, StoreFuture, Verdict, Write, write::Sight},
};

#[inline]
fn admitted(permit: Permit) -> StoreFuture<Verdict> {
    StoreFuture::ready(Verdict::Admitted(Admitted { permit, answered: None }))
}

impl Core {
    #[inline]
    pub(super) fn admit(&self, write: &Write<'_>) -> StoreFuture<Verdict> {
        if !write.conditions.is_empty() || write.sight == Sight::NotLetThrough {
            return StoreFuture::ready(self.decide(write));
        }
        match self.unlocked() {
            Some(permit) => admitted(permit),
            None => self.admit_unconditional(write),
        }
    }

    #[inline(never)]
    fn admit_unconditional(&self, write: &Write<'_>) -> StoreFuture<Verdict> {
        self.look(write.targets, admitted, || StoreFuture::ready(self.decide(write)))
    }

    #[inline]
    pub(super) fn let_through(&self, targets: &[Target<'_>]) -> Option<Permit> {
        match self.unlocked() {
            Some(permit) => Some(permit),
            None => self.look_for(targets),
        }
    }

    #[inline(never)]
    fn look_for(&self, targets: &[Target<'_>]) -> Option<Permit> {
        self.look(targets, Some, || None)
    }

    /// The permit of any write, where there is no lock and nothing to register.
    #[inline]
    fn unlocked(&self) -> Option<Permit> {
        let generation = self.generation();
        (self.registry.is_none() && self.filter.is_empty()).then(|| Permit::unguarded(generation))
    }

    /// What is answered where no lock touches `targets`, or else.
    // Every answer is made where it is returned: moved on the way there, it would cost more than the look.
    #[inline(always)]
    fn look<T>(&self, targets: &[Target<'_>], clear: impl FnOnce(Permit) -> T, touched: impl FnOnce() -> T) -> T {
        // Read before the look: a write that was let through before a grant must not carry the grant's number.
        let generation = self.generation();
        match &self.registry {
            None => match self.filter.glance(targets) {
                Glance::Clear => clear(Permit::unguarded(generation)),
                Glance::Look => touched(),
            },
            // Registered before the look: see the filter for why.
            Some(registry) => {
                let permit = registry.register(targets, generation, []);
                #[cfg(test)]
                super::tests::instant::between_registration_and_look();
                match self.filter.look(targets) {
                    Glance::Clear => clear(permit),
                    Glance::Look => {
                        // Gives its place up while it waits for the table: a write that may yet be refused is in nobody's way.
                        drop(permit);
                        touched()
                    }
                }
            }
        }
    }
}
