//! One query text for SQLite and PostgreSQL: `$1` placeholders, three types of values, rows read by place or name.
//!
//! A statement costs more than a row: SQLite's runs on a thread of its own, PostgreSQL's on another machine. What is done to many rows
//! is put together by a [`Builder`], [`groups`] of rows at a time.
//!
//! Tables hold integers of 64 bits, text and bytes, nothing else, so that both databases give and take the same values and
//! a store's functions exist once. What differs between the two is in the migrations, and there only.

mod builder;
mod row;
mod value;

use futures::stream::BoxStream;
use futures::{StreamExt as _, TryFutureExt as _, TryStreamExt as _};
use sqlx::postgres::{PgConnection, PgPool, PgQueryResult};
use sqlx::query::Query as Raw;
use sqlx::sqlite::{SqliteConnection, SqlitePool, SqliteQueryResult};
use sqlx::{Postgres, SqlSafeStr, SqlStr, Sqlite};

pub use builder::{Builder, Tuple, groups};
pub use row::{Column, FromRow, Row};
pub use value::{Bind, Value};

use super::{Connection, Reader, held_for};
use crate::simulation::{self, settled};

/// Where a statement runs.
#[derive(Debug)]
pub enum Target<'c> {
    /// In a transaction of SQLite.
    SqliteConnection(&'c mut SqliteConnection),
    /// On any reader of SQLite.
    SqlitePool(&'c SqlitePool),
    /// In a transaction of PostgreSQL.
    PostgresConnection(&'c mut PgConnection),
    /// On any reader of PostgreSQL.
    PostgresPool(&'c PgPool),
}

/// A transaction, or [`super::Database::read`].
pub trait Executor<'c>: Send {
    /// Where a statement runs.
    fn target(self) -> Target<'c>;
}

impl<'c> Executor<'c> for &'c mut Connection {
    fn target(self) -> Target<'c> {
        self.as_target()
    }
}

impl<'c> Executor<'c> for &'c Reader {
    fn target(self) -> Target<'c> {
        self.as_target()
    }
}

/// What a statement changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Done {
    rows: u64,
}

impl Done {
    /// How many rows were inserted, updated or deleted.
    pub const fn rows_affected(self) -> u64 {
        self.rows
    }
}

impl From<SqliteQueryResult> for Done {
    fn from(done: SqliteQueryResult) -> Self {
        Self {
            rows: done.rows_affected(),
        }
    }
}

impl From<PgQueryResult> for Done {
    fn from(done: PgQueryResult) -> Self {
        Self {
            rows: done.rows_affected(),
        }
    }
}

/// Runs a query on whichever target it is, and turns what it gives into one type.
macro_rules! on {
    ($query:expr, $target:expr, $method:ident, $each:expr) => {
        match held_for($target, &mut None)? {
            Target::SqliteConnection(c) => settled($query.sqlite()?.$method(c))
                .await
                .map($each(Row::Sqlite)),
            Target::SqlitePool(c) => $query.sqlite()?.$method(c).await.map($each(Row::Sqlite)),
            Target::PostgresConnection(c) => $query
                .postgres()?
                .$method(c)
                .await
                .map($each(Row::Postgres)),
            Target::PostgresPool(c) => $query
                .postgres()?
                .$method(c)
                .await
                .map($each(Row::Postgres)),
        }
    };
}

/// A statement and its values.
#[derive(Debug)]
#[must_use = "a query does nothing until it is run"]
pub struct Query {
    sql: Text,
    values: Vec<Value>,
    /// Whether the connection keeps it prepared.
    persistent: bool,
}

/// A statement's text.
#[derive(Debug)]
enum Text {
    /// As it is.
    Whole(SqlStr),
    /// Without its placeholders.
    Built(builder::Built),
}

impl Text {
    fn sqlite(self) -> SqlStr {
        match self {
            Self::Whole(sql) => sql,
            Self::Built(built) => built.sqlite(),
        }
    }

    fn postgres(self) -> SqlStr {
        match self {
            Self::Whole(sql) => sql,
            Self::Built(built) => built.postgres(),
        }
    }
}

/// A statement.
pub fn query(sql: impl SqlSafeStr) -> Query {
    Query {
        sql: Text::Whole(sql.into_sql_str()),
        values: Vec::new(),
        persistent: true,
    }
}

impl Query {
    /// The next placeholder's value.
    pub fn bind(mut self, value: impl Bind) -> Self {
        self.values.push(value.value());
        self
    }

    fn sqlite(self) -> sqlx::Result<Raw<'static, Sqlite, sqlx::sqlite::SqliteArguments>> {
        let mut query = sqlx::query(self.sql.sqlite()).persistent(self.persistent);
        for value in self.values {
            match value {
                Value::Int(value) => query.try_bind(value),
                Value::Text(value) => query.try_bind(value),
                Value::Bytes(value) => query.try_bind(value),
            }
            .map_err(sqlx::Error::Encode)?;
        }
        Ok(query)
    }

    fn postgres(self) -> sqlx::Result<Raw<'static, Postgres, sqlx::postgres::PgArguments>> {
        let mut query = sqlx::query(self.sql.postgres()).persistent(self.persistent);
        for value in self.values {
            match value {
                Value::Int(value) => query.try_bind(value),
                Value::Text(value) => query.try_bind(value),
                Value::Bytes(value) => query.try_bind(value),
            }
            .map_err(sqlx::Error::Encode)?;
        }
        Ok(query)
    }

    /// Runs it for what it changes.
    ///
    /// # Errors
    /// The database's.
    pub async fn execute<'c>(self, on: impl Executor<'c>) -> sqlx::Result<Done> {
        let mut held = None;
        match held_for(on.target(), &mut held)? {
            Target::SqliteConnection(c) => settled(self.sqlite()?.execute(c)).await.map(Done::from),
            Target::SqlitePool(c) => self.sqlite()?.execute(c).await.map(Done::from),
            Target::PostgresConnection(c) => self.postgres()?.execute(c).await.map(Done::from),
            Target::PostgresPool(c) => self.postgres()?.execute(c).await.map(Done::from),
        }
    }

    /// The one row; an error when there is none.
    ///
    /// # Errors
    /// The database's, [`sqlx::Error::RowNotFound`].
    pub async fn fetch_one<'c>(self, on: impl Executor<'c>) -> sqlx::Result<Row> {
        on!(self, on.target(), fetch_one, |row| row)
    }

    /// The first row, if there is one.
    ///
    /// # Errors
    /// The database's.
    pub async fn fetch_optional<'c>(self, on: impl Executor<'c>) -> sqlx::Result<Option<Row>> {
        on!(self, on.target(), fetch_optional, |each| {
            move |row: Option<_>| row.map(each)
        })
    }

    /// All rows.
    ///
    /// # Errors
    /// The database's.
    pub async fn fetch_all<'c>(self, on: impl Executor<'c>) -> sqlx::Result<Vec<Row>> {
        self.all(on.target()).await
    }

    async fn all(self, target: Target<'_>) -> sqlx::Result<Vec<Row>> {
        on!(self, target, fetch_all, |each| move |rows: Vec<_>| {
            rows.into_iter().map(each).collect()
        })
    }

    /// Rows one after the other, as they come.
    pub fn fetch<'c>(self, on: impl Executor<'c>) -> BoxStream<'c, sqlx::Result<Row>> {
        let failed = |error| futures::stream::iter([Err(error)]).boxed();
        let target = on.target();
        if simulation::is_on() {
            let rows = self.all(target).map_ok(|rows| rows.into_iter().map(Ok));
            return rows
                .map_ok(futures::stream::iter)
                .try_flatten_stream()
                .boxed();
        }
        match target {
            Target::SqliteConnection(c) => match self.sqlite() {
                Ok(query) => query.fetch(c).map_ok(Row::Sqlite).boxed(),
                Err(error) => failed(error),
            },
            Target::SqlitePool(c) => match self.sqlite() {
                Ok(query) => query.fetch(c).map_ok(Row::Sqlite).boxed(),
                Err(error) => failed(error),
            },
            Target::PostgresConnection(c) => match self.postgres() {
                Ok(query) => query.fetch(c).map_ok(Row::Postgres).boxed(),
                Err(error) => failed(error),
            },
            Target::PostgresPool(c) => match self.postgres() {
                Ok(query) => query.fetch(c).map_ok(Row::Postgres).boxed(),
                Err(error) => failed(error),
            },
        }
    }
}

/// A statement whose rows are read as one type.
#[derive(Debug)]
#[must_use = "a query does nothing until it is run"]
pub struct QueryAs<R> {
    query: Query,
    read: fn(&Row) -> sqlx::Result<R>,
}

/// A statement whose rows are tuples, or a type that reads itself.
pub fn query_as<R: FromRow>(sql: impl SqlSafeStr) -> QueryAs<R> {
    QueryAs {
        query: query(sql),
        read: R::from_row,
    }
}

/// A statement whose rows have one column.
pub fn query_scalar<T: Column>(sql: impl SqlSafeStr) -> QueryAs<T> {
    QueryAs {
        query: query(sql),
        read: |row| row.at(0),
    }
}

impl<R> QueryAs<R> {
    /// The next placeholder's value.
    pub fn bind(mut self, value: impl Bind) -> Self {
        self.query = self.query.bind(value);
        self
    }

    /// The one row; an error when there is none.
    ///
    /// # Errors
    /// The database's, [`sqlx::Error::RowNotFound`].
    pub async fn fetch_one<'c>(self, on: impl Executor<'c>) -> sqlx::Result<R> {
        let row = self.query.fetch_one(on).await?;
        (self.read)(&row)
    }

    /// The first row, if there is one.
    ///
    /// # Errors
    /// The database's.
    pub async fn fetch_optional<'c>(self, on: impl Executor<'c>) -> sqlx::Result<Option<R>> {
        let row = self.query.fetch_optional(on).await?;
        row.as_ref().map(self.read).transpose()
    }

    /// All rows.
    ///
    /// # Errors
    /// The database's.
    pub async fn fetch_all<'c>(self, on: impl Executor<'c>) -> sqlx::Result<Vec<R>> {
        let rows = self.query.fetch_all(on).await?;
        rows.iter().map(self.read).collect()
    }
}
