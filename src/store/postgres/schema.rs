//! The schema: what `migrate()` puts there, and whether what is there is ours.

use tokio_postgres::{Client, SimpleQueryMessage, error::SqlState};

use super::error;
use crate::store::{StoreError, StoreErrorKind};

/// The version of the tables and functions that this release reads and writes.
const VERSION: i32 = 1;
/// Says that a schema is a lock store's and not somebody else's table of the same name.
const MAGIC: &str = "tower-lock store";
/// One migration at a time in a database.
const LOCK: &str = "SELECT pg_advisory_xact_lock(1414287182, 1)";

/// Everything of version 1, in the order in which it is made.
const VERSION_1: [&str; 5] = [
    include_str!("sql/tables.sql"),
    include_str!("sql/steps.sql"),
    include_str!("sql/admit.sql"),
    include_str!("sql/acquire.sql"),
    include_str!("sql/manage.sql"),
];

/// The name of the schema, quoted.
#[derive(Clone, Debug)]
pub(super) struct Schema {
    quoted: String,
    literal: String,
}

/// What is found in the place of the schema.
enum Found {
    Nothing,
    Version(i32),
}

impl Schema {
    pub(super) fn new(name: &str) -> Self {
        Self { quoted: format!("\"{}\"", name.replace('"', "\"\"")), literal: name.replace('\'', "''") }
    }

    /// SQL with the schema's name where it stands as `@`.
    pub(super) fn fill(&self, sql: &str) -> String {
        let in_text = format!("'{}.", self.quoted.replace('\'', "''"));
        sql.replace("'@.", &in_text).replace("@.", &format!("{}.", self.quoted))
    }

    /// Asks for the version that is there.
    pub(super) fn question(&self) -> String {
        self.fill("SELECT magic, version FROM @.meta")
    }

    /// Whether the answer to [`Schema::question`] is what this release can use.
    pub(super) fn check(&self, answer: Result<Vec<SimpleQueryMessage>, tokio_postgres::Error>) -> Result<(), StoreError> {
        match self.found(answer)? {
            Found::Version(VERSION) => Ok(()),
            Found::Nothing => Err(incompatible(format!("there is no schema {}: run migrate()", self.quoted))),
            Found::Version(version) if version < VERSION => Err(incompatible(format!(
                "the schema {} has version {version}, and this release needs {VERSION}: run migrate()",
                self.quoted
            ))),
            Found::Version(version) => Err(self.newer(version)),
        }
    }

    fn found(&self, answer: Result<Vec<SimpleQueryMessage>, tokio_postgres::Error>) -> Result<Found, StoreError> {
        let rows = match answer {
            Ok(rows) => rows,
            Err(error) => {
                let missing = [SqlState::UNDEFINED_TABLE, SqlState::INVALID_SCHEMA_NAME];
                return match error.code() {
                    Some(code) if missing.contains(code) => Ok(Found::Nothing),
                    Some(code) if *code == SqlState::UNDEFINED_COLUMN => Err(self.foreign().caused_by(error)),
                    _ => Err(error::store_error("reading the version of the schema", error)),
                };
            }
        };
        let mut rows = rows.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let row = rows.next().filter(|row| row.get(0) == Some(MAGIC)).ok_or_else(|| self.foreign())?;
        let version = row.get(1).and_then(|version| version.parse().ok());
        version.map(Found::Version).ok_or_else(|| self.foreign())
    }

    fn foreign(&self) -> StoreError {
        incompatible(format!("the schema {} is not a lock store's: run migrate() with another schema name", self.quoted))
    }

    fn newer(&self, version: i32) -> StoreError {
        let quoted = &self.quoted;
        incompatible(format!(
            "the schema {quoted} has version {version}, of a later release (this one knows {VERSION}); migrate() is of no use"
        ))
    }

    /// Brings the schema to the version of this release, all or nothing.
    pub(super) async fn migrate(&self, client: &mut Client) -> Result<(), StoreError> {
        let failed = |error| error::store_error("migrating the schema", error);
        let transaction = client.transaction().await.map_err(failed)?;
        transaction.batch_execute(LOCK).await.map_err(failed)?;
        let meta = format!("SELECT to_regclass('{}.meta') IS NOT NULL", self.quoted.replace('\'', "''"));
        let tables =
            format!("SELECT 1 FROM pg_class WHERE relnamespace = to_regnamespace('{}')", self.quoted.replace('\'', "''"));
        let schema = format!("SELECT 1 FROM pg_namespace WHERE nspname = '{}'", self.literal);
        let first = |rows: Vec<SimpleQueryMessage>| {
            rows.into_iter().find_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
                _ => None,
            })
        };
        let found = match first(transaction.simple_query(&meta).await.map_err(failed)?).as_deref() {
            Some("t") => self.found(transaction.simple_query(&self.question()).await)?,
            _ if first(transaction.simple_query(&tables).await.map_err(failed)?).is_some() => return Err(self.foreign()),
            _ => Found::Nothing,
        };
        match found {
            Found::Version(VERSION) => {}
            Found::Version(version) if version > VERSION => return Err(self.newer(version)),
            // There is no version before the first.
            Found::Version(_) => return Err(self.foreign()),
            Found::Nothing => {
                // Somebody who may not make schemas may be given one to fill.
                if first(transaction.simple_query(&schema).await.map_err(failed)?).is_none() {
                    transaction.batch_execute(&format!("CREATE SCHEMA {}", self.quoted)).await.map_err(failed)?;
                }
                for sql in VERSION_1 {
                    transaction.batch_execute(&self.fill(sql)).await.map_err(failed)?;
                }
                let version = self.fill(&format!("INSERT INTO @.meta (magic, version) VALUES ('{MAGIC}', {VERSION})"));
                transaction.batch_execute(&version).await.map_err(failed)?;
            }
        }
        transaction.commit().await.map_err(failed)
    }
}

fn incompatible(what: String) -> StoreError {
    StoreError::new(StoreErrorKind::Incompatible, what)
}
