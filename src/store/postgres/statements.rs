//! The statements that calls are made of: their text, and the types of their parameters.

use tokio_postgres::types::Type;

/// A statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Check,
    CheckMore,
    Admit,
    Ended,
    Renew,
    Acquire,
    Grant,
    Withdraw,
    Refresh,
    Release,
    Clear,
    Find,
    Listening,
    Watching,
    Events,
    Forget,
    Round,
    Changes,
}

/// How many there are.
pub(super) const CALLS: usize = Call::ALL.len();

impl Call {
    pub(super) const ALL: [Self; 18] = [
        Self::Check,
        Self::CheckMore,
        Self::Admit,
        Self::Ended,
        Self::Renew,
        Self::Acquire,
        Self::Grant,
        Self::Withdraw,
        Self::Refresh,
        Self::Release,
        Self::Clear,
        Self::Find,
        Self::Listening,
        Self::Watching,
        Self::Events,
        Self::Forget,
        Self::Round,
        Self::Changes,
    ];

    /// The SQL, with `@` for the schema.
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Check => include_str!("sql/check.sql"),
            Self::CheckMore => include_str!("sql/check_more.sql"),
            Self::Admit => {
                "SELECT * FROM @.admit_1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26)"
            }
            Self::Ended => "SELECT * FROM @.ended_1($1, $2)",
            Self::Renew => "SELECT * FROM @.renew_1($1, $2, $3, $4, $5)",
            Self::Acquire => {
                "SELECT * FROM @.acquire_1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38, $39, $40, $41, $42, $43)"
            }
            Self::Grant => {
                "SELECT * FROM @.grant_1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29)"
            }
            Self::Withdraw => "SELECT * FROM @.withdraw_1($1, $2, $3, $4)",
            Self::Refresh => "SELECT * FROM @.refresh_1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
            Self::Release => "SELECT * FROM @.release_1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
            Self::Clear => "SELECT * FROM @.clear_1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
            Self::Find => {
                "SELECT * FROM @.find_1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23)"
            }
            Self::Watching => {
                "INSERT INTO @.watchers AS w (space, node, until) VALUES ($1, $2, clock_timestamp() + interval '1 minute') ON CONFLICT (space, node) DO UPDATE SET until = excluded.until"
            }
            Self::Listening => LISTENING,
            Self::Events => EVENTS,
            Self::Round => "SELECT pg_notify($1, $2)",
            Self::Changes => "SELECT count(*), max(n) FROM @.events WHERE space = $1",
            Self::Forget => FORGET,
        }
    }

    pub(super) const fn types(self) -> &'static [Type] {
        match self {
            Self::Check => &[Type::INT8_ARRAY, Type::INT8, Type::INT8_ARRAY, Type::INT8],
            Self::CheckMore => &[
                Type::INT8,
                Type::INT8,
                Type::INT8_ARRAY,
                Type::INT8_ARRAY,
                Type::INT8_ARRAY,
                Type::BYTEA_ARRAY,
                Type::BYTEA_ARRAY,
                Type::BYTEA_ARRAY,
                Type::BYTEA_ARRAY,
                Type::UUID_ARRAY,
                Type::INT8,
            ],
            Self::Admit => &[
                Type::INT8,
                Type::INT8,
                Type::INT4,
                Type::UUID_ARRAY,
                Type::INT8_ARRAY,
                Type::UUID,
                Type::INT8,
                Type::INT8_ARRAY,
                Type::INT8_ARRAY,
                Type::INT8_ARRAY,
                Type::BYTEA_ARRAY,
                Type::BYTEA_ARRAY,
                Type::BYTEA_ARRAY,
                Type::BYTEA_ARRAY,
                Type::INT8_ARRAY,
                Type::INT8_ARRAY,
                Type::INT8_ARRAY,
                Type::BYTEA_ARRAY,
                Type::BYTEA_ARRAY,
                Type::BOOL_ARRAY,
                Type::UUID_ARRAY,
                Type::BYTEA,
                Type::INT4,
                Type::UUID_ARRAY,
                Type::UUID_ARRAY,
                Type::INT4,
            ],
            Self::Ended => &[Type::INT4, Type::UUID_ARRAY],
            Self::Renew => &[Type::INT8, Type::INT8, Type::INT4, Type::UUID_ARRAY, Type::INT8],
            Self::Acquire => &[
                Type::INT8,
                Type::INT8,
                Type::INT4,
                Type::UUID_ARRAY,
                Type::INT8_ARRAY,
                Type::BYTEA,
                Type::INT4,
                Type::UUID_ARRAY,
                Type::UUID_ARRAY,
                Type::UUID_ARRAY,
                Type::INT8_ARRAY,
                Type::INT8_ARRAY,
                Type::BYTEA_ARRAY,
                Type::BYTEA_ARRAY,
                Type::BOOL_ARRAY,
                Type::BOOL_ARRAY,
                Type::BOOL_ARRAY,
                Type::BYTEA_ARRAY,
                Type::BYTEA_ARRAY,
                Type::INT8_ARRAY,
                Type::BYTEA_ARRAY,
                Type::INT8_ARRAY,
                Type::INT4_ARRAY,
                Type::BYTEA_ARRAY,
                Type::BYTEA_ARRAY,
                Type::BYTEA_ARRAY,
                Type::BYTEA_ARRAY,
                Type::UUID_ARRAY,
                Type::UUID_ARRAY,
                Type::BYTEA_ARRAY,
                Type::INT8,
                Type::INT8,
                Type::INT8,
                Type::INT8,
                Type::INT8,
                Type::INT8,
                Type::BOOL,
                Type::UUID,
                Type::INT4,
                Type::INT4,
                Type::UUID_ARRAY,
                Type::UUID_ARRAY,
                Type::UUID,
            ],
            Self::Grant => &[
                Type::INT8,
                Type::INT8,
                Type::INT4,
                Type::UUID_ARRAY,
                Type::BYTEA,
                Type::UUID_ARRAY,
                Type::INT8_ARRAY,
                Type::INT8_ARRAY,
                Type::BYTEA_ARRAY,
                Type::BYTEA_ARRAY,
                Type::BOOL_ARRAY,
                Type::BOOL_ARRAY,
                Type::BOOL_ARRAY,
                Type::INT8_ARRAY,
                Type::INT4_ARRAY,
                Type::BYTEA_ARRAY,
                Type::BYTEA_ARRAY,
                Type::BYTEA_ARRAY,
                Type::BYTEA_ARRAY,
                Type::UUID_ARRAY,
                Type::UUID_ARRAY,
                Type::BYTEA_ARRAY,
                Type::INT8,
                Type::INT8,
                Type::INT8,
                Type::UUID,
                Type::UUID_ARRAY,
                Type::UUID_ARRAY,
                Type::UUID,
            ],
            Self::Withdraw => &[Type::INT8, Type::INT4, Type::UUID_ARRAY, Type::UUID],
            Self::Refresh => &[
                Type::INT8,
                Type::INT8,
                Type::INT4,
                Type::UUID_ARRAY,
                Type::UUID,
                Type::INT8,
                Type::UUID,
                Type::INT4,
                Type::BYTEA,
                Type::BYTEA,
                Type::BYTEA,
                Type::INT4,
                Type::INT8,
            ],
            Self::Release => &[
                Type::INT8,
                Type::INT8,
                Type::INT4,
                Type::UUID_ARRAY,
                Type::UUID,
                Type::INT8,
                Type::UUID,
                Type::INT4,
                Type::BYTEA,
                Type::BYTEA,
                Type::BYTEA,
                Type::INT8,
                Type::BYTEA,
            ],
            Self::Clear => &[
                Type::INT8,
                Type::INT8,
                Type::INT4,
                Type::UUID_ARRAY,
                Type::INT8_ARRAY,
                Type::INT8_ARRAY,
                Type::BYTEA_ARRAY,
                Type::BYTEA_ARRAY,
                Type::INT4_ARRAY,
                Type::BYTEA_ARRAY,
                Type::BYTEA_ARRAY,
                Type::BYTEA_ARRAY,
                Type::BYTEA_ARRAY,
            ],
            Self::Find => &[
                Type::INT8,
                Type::INT8,
                Type::INT4,
                Type::UUID_ARRAY,
                Type::INT4,
                Type::UUID,
                Type::INT8_ARRAY,
                Type::INT8,
                Type::INT8,
                Type::BYTEA,
                Type::BYTEA,
                Type::BYTEA,
                Type::BYTEA,
                Type::BYTEA,
                Type::BYTEA,
                Type::BOOL,
                Type::BYTEA,
                Type::INT8,
                Type::BYTEA,
                Type::INT8,
                Type::BYTEA,
                Type::UUID,
                Type::INT8,
            ],
            Self::Watching => &[Type::INT8, Type::UUID],
            Self::Listening => &[Type::INT8],
            Self::Events => &[Type::INT8, Type::INT8_ARRAY],
            Self::Forget => &[Type::INT8],
            Self::Round => &[Type::TEXT, Type::TEXT],
            Self::Changes => &[Type::INT8],
        }
    }
}

/// Who changes locks at this moment, and may not have seen that somebody has begun to watch.
const LISTENING: &str = "SELECT virtualtransaction FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = 1414287180 \
                         AND objid = $1::bigint::oid AND objsubid = 2 \
                         AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

const EVENTS: &str = "SELECT e.n, e.event, e.seen, e.in_use, (e.lock).state, (e.lock).created, (e.lock).expires, (e.lock).life_end, \
                      (e.lock).generation, (e.lock).parts, e.cause, e.actor, e.reason FROM @.events e \
                      WHERE e.space = $1 AND e.n = ANY($2) ORDER BY e.n";

/// What everybody has heard or will not hear any more.
const FORGET: &str = "DELETE FROM @.events e WHERE e.n = ANY(ARRAY(SELECT o.n FROM @.events o WHERE o.space = $1 \
                      AND o.told < clock_timestamp() - interval '2 minutes' FOR UPDATE SKIP LOCKED))";
