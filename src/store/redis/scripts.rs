//! The scripts: each a step of the store, put together from what they share.
//!
//! All but those that only read refuse at once, and change nothing, where the engine takes no writes; those that give
//! something back run in a full engine too.

use std::sync::LazyLock;

/// A script, known to the engine by its hash.
pub(super) struct Script {
    pub(super) code: String,
    pub(super) hash: String,
    /// What it does, for who reads an error.
    pub(super) doing: &'static str,
}

impl Script {
    fn new(doing: &'static str, flags: &str, parts: &[&str]) -> Self {
        let code = format!("#!lua{flags}\n{}", parts.concat());
        let hash = redis::Script::new(&code).get_hash().to_owned();
        Self { code, hash, doing }
    }
}

const KEYS: &str = include_str!("scripts/keys.lua");
const COMMON: &str = include_str!("scripts/common.lua");
const CHANGE: &str = include_str!("scripts/change.lua");
const RULES: &str = include_str!("scripts/rules.lua");
const WAITING: &str = include_str!("scripts/waiting.lua");
const ADMIT: &str = include_str!("scripts/admit.lua");

/// Runs in a full engine, too.
const GIVES: &str = " flags=allow-oom";
const READS: &str = " flags=no-writes";

macro_rules! scripts {
    ($($name:ident: $doing:literal, $flags:expr, [$($part:expr),*];)*) => {
        $(pub(super) static $name: LazyLock<Script> = LazyLock::new(|| Script::new($doing, $flags, &[KEYS, $($part),*]));)*

        /// All of them, to be made known to an engine.
        pub(super) fn all() -> impl Iterator<Item = &'static Script> {
            [$(&*$name),*].into_iter()
        }
    };
}

scripts! {
    BEGIN: "admitting a write", "", [include_str!("scripts/begin.lua"), COMMON, CHANGE, RULES, "local GUARDED = true\n", ADMIT];
    LOOK: "checking a write", READS, [COMMON, "local GUARDED, now = false, nil\n", RULES, ADMIT];
    END: "ending writes", GIVES, [COMMON, CHANGE, include_str!("scripts/end.lua")];
    RENEW: "renewing writes", GIVES, [COMMON, CHANGE, include_str!("scripts/renew.lua")];
    ACQUIRE: "acquiring locks", "", [COMMON, CHANGE, RULES, WAITING, include_str!("scripts/acquire.lua")];
    GRANT: "granting locks", GIVES, [COMMON, CHANGE, RULES, WAITING, include_str!("scripts/grant.lua")];
    WITHDRAW: "withdrawing marks", GIVES, [COMMON, CHANGE, include_str!("scripts/withdraw.lua")];
    MANAGE: "refreshing or ending a lock", GIVES, [COMMON, CHANGE, include_str!("scripts/manage.lua")];
    CLEAR: "ending the locks of what is gone", GIVES, [COMMON, CHANGE, include_str!("scripts/clear.lua")];
    FIND: "finding locks", READS, [COMMON, include_str!("scripts/find.lua")];
}
