//! The suite that proves section 4 of the design and the guarantees G3 to G10 on any [`LockStore`](super::LockStore),
//! races included.
//!
//! Give it a [`Fixture`], and every rule becomes a test of its own:
//!
//! ```
//! use std::time::Duration;
//! use tower_lock::store::{ManualClock, conformance::{Fixture, ModelStore}};
//!
//! #[derive(Default)]
//! struct Mine(ManualClock);
//!
//! impl Fixture for Mine {
//!     type Store = ModelStore;
//!
//!     async fn fresh(&self) -> ModelStore {
//!         ModelStore::new(self.0.clock())
//!     }
//!
//!     async fn advance(&self, span: Duration) {
//!         self.0.advance(span);
//!     }
//! }
//!
//! tower_lock::conformance_suite!(mine, Mine::default());
//! # fn main() {}
//! ```
//!
//! A case panics with the rule that is broken. [`run_all`] runs them one after the other, where a test of its own for
//! each is not wanted. Time passes by [`Fixture::advance`] alone; nothing sleeps but to let a
//! store that answers later come to its answer.
//!
//! The random cases (races, and the store beside a model) run once; `TOWER_LOCK_SOAK=n` in the environment runs them `n`
//! times, with other seeds.
//!
//! # What is proved, and where
//!
//! | design | module |
//! |---|---|
//! | coverage: a lock covers its root and, with depth infinity, everything below, by whole segments | [`admission`], [`find`] |
//! | a depth-zero lock protects the membership of its root, not the content of its members | [`admission`], [`drain`] |
//! | conflict: overlap and not both shared, the same caller's own too (G4) | [`acquire`], [`races`] |
//! | the method table: writes, unlinks with all below, changes membership of the parent | [`admission`], [`drain`] |
//! | admission: own token by its principal; shared for shared, of what this write changes; freezes | [`admission`] |
//! | a refusal names the locks that block, up to a limit (G10) | [`admission`], [`acquire`] |
//! | conditions come before locks; a false one still lists blockers; tokens count wherever they stand | [`admission`] |
//! | repeats, proposals in use, tokens and ids used once, tokens burnt, several roots | [`repeats`], [`acquire`] |
//! | locks to be replaced count as absent, end in the same step, protect until the grant | [`acquire`], [`drain`] |
//! | marks: they refuse and conflict as the lock, answer for nothing, have a deadline, are withdrawn (G3) | [`drain`] |
//! | busy and its cool-down: repeated acquires cannot starve writers | [`drain`], [`races`] |
//! | ordinary writers never refuse or delay one another (G3) | [`drain`], [`races`] |
//! | ends: locks at, at or below, strictly below what is gone; marks are spared | [`clear`] |
//! | a break, with and without grace; the successor drains | [`release`], [`drain`] |
//! | every lock ends; an ended one is absent from every answer; the store's clock decides (G5) | [`life`], [`release`] |
//! | a clock stepping back revives nothing | [`life`] |
//! | no lapse under way, up to the total life; `in_use`; reported ends (G7) | [`life`] |
//! | a write whose lease has run out is stopped, guards and holds nothing, and stays so (G3, G7) | [`life`] |
//! | generations of grants and permits (G6) | [`generations`], [`races`] |
//! | dead locks are remembered, told apart, told to their own (G8) | [`release`], [`repeats`], [`life`] |
//! | tokens: for their principal alone, shown nowhere (G9) | [`secrets`], [`release`], [`life`] |
//! | a lock is handed over in one step, shows as on offer, and is claimed once | [`transfer`], [`acquire`] |
//! | breaks, replacements and expiries are told once each, with who and why | [`watch`] |
//! | waiters in order of arrival, none passed over, no end missed | [`waiting`] |
//! | quotas apply in the step that grants (G10) | [`quota`] |
//! | `find` and its pages, hostile keys; `watch` | [`find`], [`watch`] |
//! | every interleaving, with a history of who held what | [`races`] |
//! | every outcome, against a naive model, step by step | [`lockstep`] |

pub mod acquire;
pub mod admission;
pub mod clear;
pub mod drain;
pub mod find;
mod fixture;
pub mod generations;
mod kit;
pub mod life;
pub mod lockstep;
mod model;
pub mod quota;
pub mod races;
pub mod release;
pub mod repeats;
mod rng;
mod run;
pub mod secrets;
pub mod transfer;
pub mod waiting;
pub mod watch;

pub use self::{
    fixture::{Fixture, Lapse, Mode, SteppedBack},
    model::ModelStore,
    run::{Case, Needs, Report, run, run_all},
};

/// Calls a macro with every case: its module, its name, and what it needs. The one list that the tests, the names and
/// [`run_all`] are made from.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_cases {
    ($then:path { $($args:tt)* }) => {
        $then! {
            { $($args)* }
            admission {
                nothing_refuses_where_no_lock_is: Any,
                what_a_lock_touches_is_not_let_through: Any,
                coverage_goes_by_whole_segments: Any,
                a_lock_on_the_root_covers_everything: Any,
                depth_zero_protects_membership_and_not_members: Any,
                depth_zero_on_the_root: Any,
                unlinking_meets_every_lock_below: Any,
                a_move_meets_locks_at_both_ends: Any,
                a_lock_met_twice_is_named_once: Any,
                a_token_answers_for_its_own_lock_only: Any,
                anonymous_callers_are_one: Any,
                a_shared_token_answers_for_other_shared_locks: Any,
                vouching_counts_what_the_write_changes: Any,
                exclusive_locks_vouch_for_nothing: Any,
                nobody_answers_for_a_freeze: Any,
                other_proofs_of_a_holder: Any,
                blockers_are_listed_up_to_a_limit: Any,
                namespaces_are_worlds_apart: Any,
                a_false_condition_comes_before_locks: Any,
                tokens_count_wherever_they_stand: Any,
                lock_token_on_a_write_is_a_condition: Any,
                a_refused_write_is_not_registered: Any,
                conditions_are_decided_without_a_write: Any,
            }
            acquire {
                a_granted_lock_is_what_was_asked_for: Any,
                the_table_of_conflicts: Any,
                a_conflict_names_its_blockers: Any,
                several_roots_all_or_none: Any,
                a_lock_changes_scope_in_one_step: Any,
                one_lock_replaces_several: Any,
                only_its_holder_replaces_a_lock: Any,
                its_principal_replaces_a_lock_by_its_id: Any,
                a_break_replaces_anothers_lock: Any,
                a_replaced_lock_is_lost_as_replaced: Any,
                no_drain_is_needed_where_nobody_writes: Any,
            }
            repeats {
                a_repeat_is_answered_with_the_lock: Any,
                a_repeat_of_an_acquire_that_waits_is_busy: Guarded,
                anything_else_under_a_token_in_use_is_taken: Any,
                an_id_in_use_is_taken: Any,
                several_roots_repeat_as_one: Any,
                tokens_and_ids_are_used_once: Any,
                an_undo_may_overtake_its_acquire: Any,
                a_refused_proposal_is_not_used_up: Any,
            }
            drain {
                a_grant_waits_for_the_writes_it_would_refuse: Guarded,
                a_grant_waits_for_what_was_let_through: Guarded,
                a_grant_waits_for_no_other_write: Guarded,
                an_excuse_ends_with_the_lock_that_gave_it: Guarded,
                a_mark_refuses_and_conflicts_as_the_lock: Guarded,
                the_token_of_a_mark_answers_for_nothing: Guarded,
                life_starts_at_the_grant: Guarded,
                past_the_limit_it_is_busy_and_writers_go_on: Guarded,
                repeated_acquires_cannot_starve_writers: Guarded,
                writers_keep_their_share_of_time: Guarded,
                no_time_to_wait_is_busy_at_once: Guarded,
                a_dropped_acquire_withdraws_its_mark: Guarded,
                a_dropped_acquire_may_be_asked_again: Guarded,
                ones_own_permit_is_not_waited_for: Guarded,
                writes_that_vouch_for_the_lock_are_not_waited_for: Guarded,
                until_the_grant_the_replaced_lock_protects: Guarded,
                an_undo_reaches_a_mark: Guarded,
                a_successor_drains_the_broken_holders_write: Guarded,
                writers_leave_each_other_alone: Guarded,
            }
            life {
                an_expired_lock_is_absent_from_every_answer: Any,
                an_acquire_takes_the_place_of_an_expired_lock: Any,
                a_refresh_restarts_the_lifetime: Any,
                nothing_outlives_its_total_life: Any,
                only_what_was_granted_endless_is_endless: Any,
                only_the_holder_refreshes: Any,
                a_refresh_goes_through_a_covered_resource: Any,
                a_clock_stepping_back_revives_nothing: Any,
                a_lock_outlives_its_end_under_its_holders_write: Guarded,
                a_lock_ends_with_the_last_of_its_writes: Guarded,
                no_write_holds_a_lock_past_its_total_life: Guarded,
                a_write_holds_only_the_locks_that_answer_for_it: Guarded,
                a_lapsed_write_is_stopped_and_never_revived: Guarded,
            }
            release {
                a_released_lock_is_gone_at_once: Any,
                only_the_holder_releases: Any,
                a_freeze_ends_by_guard_or_break: Any,
                a_release_goes_through_a_covered_resource: Any,
                a_break_ends_a_lock_at_once: Any,
                a_break_with_grace_lets_the_holder_finish: Any,
                at_the_end_of_the_grace_pins_fall: Guarded,
                a_grace_never_prolongs: Any,
                the_dead_are_remembered: Any,
                the_dead_are_told_to_their_own: Any,
                the_former_holder_is_told_who_and_why: Any,
            }
            clear {
                only_what_is_gone_is_cleared: Any,
                a_move_clears_both_ends: Any,
                marks_are_spared: Guarded,
            }
            find {
                covering_and_below: Any,
                filters_narrow_down: Any,
                pages_show_each_lock_once: Any,
                hostile_keys_are_only_names: Any,
            }
            watch {
                it_tells_what_happens: Any,
                it_tells_what_fits: Any,
                no_release_is_missed_between_reading_and_waiting: Any,
                a_slow_reader_is_told_to_read_again: Any,
                dropped_watches_are_forgotten: Any,
                a_break_is_told_with_who_why_and_until_when: Any,
                a_replacement_is_told_as_one_step: Any,
                an_expired_lock_is_announced: Any,
                who_follows_hears_of_an_expiry_once: Any,
            }
            transfer {
                a_lock_goes_to_another_in_one_step: Any,
                a_lock_is_taken_for_another: Any,
                handing_over_may_be_repeated: Any,
                an_offer_ends_as_any_lock: Any,
                only_whose_it_is_claims_it: Any,
                the_quota_is_that_of_whose_it_becomes: Any,
                the_writes_of_the_old_holder_end_first: Guarded,
                an_offer_is_claimed_once: Any,
                claims_that_wait_come_to_one: Guarded,
                a_claim_that_waits_does_not_slip_out_of_a_break: Guarded,
                a_claim_needs_no_proof: Any,
            }
            waiting {
                acquires_are_granted_in_order_of_arrival: Any,
                shared_acquires_go_together_and_pass_nobody: Any,
                several_roots_never_wait_in_a_circle: Any,
                no_end_is_missed_between_a_refusal_and_the_wait: Any,
                the_successor_of_a_replaced_lock_is_waited_for: Any,
                an_expiry_is_waited_for: Any,
            }
            quota {
                a_principal_has_so_many_locks: Any,
                a_store_has_so_many_locks: Any,
                the_dead_do_not_count: Any,
                a_lock_held_late_does_not_count_afterwards: Guarded,
                a_lock_that_is_replaced_twice_over_makes_room_once: Any,
                a_conflict_comes_before_a_quota: Any,
                racing_acquires_keep_to_the_quota: Any,
            }
            generations {
                generations_grow_where_locks_overlap: Any,
                generations_outlive_their_locks: Any,
                permits_know_the_generation: Any,
            }
            secrets {
                no_answer_shows_a_token: Any,
                a_token_works_for_its_principal_alone: Any,
                an_id_proves_nothing: Any,
            }
            races {
                nothing_is_broken_under_a_hammer: Guarded,
                nothing_is_broken_while_locks_expire: Guarded,
                nothing_is_broken_in_a_crowd: Guarded,
            }
            lockstep {
                the_store_keeps_step_with_the_model: Guarded,
            }
        }
    };
}

/// Makes a test of every case, in a module of the given name: `conformance_suite!(memory, MyFixture::new())`. Each test
/// makes a fixture of its own, and runs on a runtime of its own with four threads.
#[macro_export]
macro_rules! conformance_suite {
    ($name:ident, $fixture:expr) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            fn fixture() -> impl $crate::store::conformance::Fixture {
                $fixture
            }

            $crate::__conformance_cases! { $crate::__conformance_tests {} }
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_tests {
    ({} $($module:ident { $($case:ident: $needs:ident,)* })*) => {
        $(mod $module {
            $(#[test]
            fn $case() {
                use $crate::store::conformance::{self, Needs};
                conformance::run(&super::fixture(), Needs::$needs, async |fixture| conformance::$module::$case(fixture).await);
            })*
        })*
    };
}
