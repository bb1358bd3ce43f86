//! What an error of the client or of the server is to an operator.

use std::{error::Error, io};

use tokio_postgres::error::SqlState;

use crate::store::{StoreError, StoreErrorKind};

/// A row was busy: nothing was done, ask again.
pub(super) const AGAIN: &str = "TL001";
/// The locks have to be counted: nothing was done, ask again and say so.
pub(super) const COUNT: &str = "TL002";

/// The error of a call that was `doing` something, with its source.
pub(super) fn store_error(doing: &'static str, error: tokio_postgres::Error) -> StoreError {
    let kind = kind(&error);
    let what = match (kind, error.code()) {
        (StoreErrorKind::Incompatible, _) => format!("{doing}: the schema is not this release's: run migrate()"),
        (_, Some(code)) => format!("{doing} (SQLSTATE {})", code.code()),
        (_, None) => doing.to_owned(),
    };
    StoreError::new(kind, what).caused_by(error)
}

fn kind(error: &tokio_postgres::Error) -> StoreErrorKind {
    let Some(code) = error.code() else {
        let mut says = error.to_string();
        let mut source: Option<&(dyn Error + 'static)> = error.source();
        while let Some(error) = source {
            if let Some(error) = error.downcast_ref::<io::Error>() {
                let late = error.kind() == io::ErrorKind::TimedOut;
                return if late { StoreErrorKind::TimedOut } else { StoreErrorKind::Unavailable };
            }
            says.push_str(&error.to_string());
            source = error.source();
        }
        return if error.is_closed() || says.contains("connect") {
            StoreErrorKind::Unavailable
        } else if says.contains("authenticat") || says.contains("password") {
            StoreErrorKind::Denied
        } else {
            StoreErrorKind::Other
        };
    };
    match code.code() {
        // Waited for too long, by the limits that we set.
        "57014" | "55P03" => StoreErrorKind::TimedOut,
        "42501" => StoreErrorKind::Denied,
        "25006" | "53100" | "53200" | "53400" | "53000" => StoreErrorKind::ReadOnly,
        // Missing tables, functions, columns, types; a schema that changed under a prepared statement.
        "42P01" | "42883" | "42703" | "42704" | "3F000" | "0A000" | "42804" | "26000" => StoreErrorKind::Incompatible,
        // No such database.
        "3D000" => StoreErrorKind::Incompatible,
        "53300" => StoreErrorKind::Unavailable,
        code if code.starts_with("28") => StoreErrorKind::Denied,
        code if code.starts_with("08") || code.starts_with("57P") => StoreErrorKind::Unavailable,
        _ => StoreErrorKind::Other,
    }
}

/// Whether nothing was done, and the same call may well succeed now.
pub(super) fn is_passing(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| {
        code.code() == AGAIN
            || [SqlState::UNIQUE_VIOLATION, SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED]
                .contains(code)
    })
}

/// Whether the call has to come again, and count.
pub(super) fn wants_count(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| code.code() == COUNT)
}

/// An answer that is not what the functions of this release answer.
pub(super) fn unreadable(error: impl Into<Box<dyn Error + Send + Sync>>) -> StoreError {
    StoreError::new(StoreErrorKind::Incompatible, "the schema's functions answer something else: run migrate()")
        .caused_by(error)
}
