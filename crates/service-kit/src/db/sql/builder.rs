//! Statements that are put together from parts: as many rows as there are, in one.

use sqlx::{SqlSafeStr as _, SqlStr};

use super::value::{Bind, Value};
use super::{Column, FromRow, Query, QueryAs, Row, Text};

/// Most rows of a statement. SQLite takes 32,766 values, PostgreSQL 65,535.
const ROWS: usize = 128;
/// Most bytes of a statement's rows, unless one row has more: a statement holds a copy of its values.
const BYTES: usize = 4 << 20;

/// The text of a statement without its placeholders, and where they go.
#[derive(Debug, Default)]
pub(super) struct Built {
    sql: String,
    places: Vec<usize>,
}

impl Built {
    /// SQLite looks a placeholder that has a name, `$1`, up among all others of the statement; `?` has none.
    pub(super) fn sqlite(&self) -> SqlStr {
        self.text(|sql, _| sql.push('?'))
    }

    /// PostgreSQL knows numbers only.
    pub(super) fn postgres(&self) -> SqlStr {
        self.text(|sql, number| {
            sql.push('$');
            sql.push_str(&number.to_string());
        })
    }

    fn text(&self, placeholder: impl Fn(&mut String, usize)) -> SqlStr {
        let mut text = String::with_capacity(self.sql.len() + 6 * self.places.len());
        let mut from = 0;
        for (number, place) in self.places.iter().enumerate() {
            text.push_str(&self.sql[from..*place]);
            placeholder(&mut text, number + 1);
            from = *place;
        }
        text.push_str(&self.sql[from..]);
        // Only static texts and placeholders come in.
        sqlx::AssertSqlSafe(text).into_sql_str()
    }
}

/// A statement that is put together from parts; values stand where they come. It is written as SQLite reads it.
///
/// SQLite guesses that a tenant has ten rows of a table. A list that is longer than that is worth it takes as the inner loop, and goes
/// through all that the tenant has: a join says `CROSS JOIN`, which keeps the list outside, and an update has the tenant in the list.
#[derive(Debug, Default)]
pub struct Builder {
    built: Built,
    values: Vec<Value>,
    /// Rows or values of its longest list.
    longest: usize,
}

impl Builder {
    /// Begins with a text that holds nothing from outside.
    pub fn new(sql: &'static str) -> Self {
        let mut builder = Self::default();
        builder.push(sql);
        builder
    }

    /// Adds a text that holds nothing from outside.
    pub fn push(&mut self, sql: &'static str) -> &mut Self {
        self.built.sql.push_str(sql);
        self
    }

    /// Adds a placeholder with its value.
    pub fn push_bind(&mut self, value: impl Bind) -> &mut Self {
        self.values.push(value.value());
        self.built.places.push(self.built.sql.len());
        self
    }

    /// Adds `VALUES` with as many rows as there are.
    pub fn push_values<T>(
        &mut self,
        rows: impl IntoIterator<Item = T>,
        mut each: impl FnMut(&mut Tuple<'_>, T),
    ) -> &mut Self {
        self.push("VALUES ");
        for (number, row) in rows.into_iter().enumerate() {
            self.push(if number == 0 { "(" } else { ", (" });
            let mut values = Tuple {
                builder: self,
                first: true,
            };
            each(&mut values, row);
            self.push(")");
            self.longest = self.longest.max(number + 1);
        }
        self
    }

    /// Adds values in brackets, for `IN`.
    pub fn push_list(&mut self, values: impl IntoIterator<Item = impl Bind>) -> &mut Self {
        self.push("(");
        for (number, value) in values.into_iter().enumerate() {
            if number > 0 {
                self.push(", ");
            }
            self.push_bind(value);
            self.longest = self.longest.max(number + 1);
        }
        self.push(")")
    }

    /// The statement.
    pub fn build(self) -> Query {
        Query {
            sql: Text::Built(self.built),
            values: self.values,
            // There are as many texts as ways to put one together; of what is asked or written for one row alone, as while little
            // is to be done, there is one.
            persistent: self.longest == 1,
        }
    }

    /// The statement, its rows read as one type.
    pub fn build_query_as<R: FromRow>(self) -> QueryAs<R> {
        QueryAs {
            query: self.build(),
            read: R::from_row,
        }
    }

    /// The statement, its rows of one column.
    pub fn build_query_scalar<T: Column>(self) -> QueryAs<T> {
        QueryAs {
            query: self.build(),
            read: |row: &Row| row.at(0),
        }
    }
}

impl core::fmt::Display for Builder {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.built.sqlite().as_str())
    }
}

/// The values of one row of [`Builder::push_values`].
#[derive(Debug)]
pub struct Tuple<'a> {
    builder: &'a mut Builder,
    first: bool,
}

impl Tuple<'_> {
    /// The next column's value.
    pub fn push_bind(&mut self, value: impl Bind) -> &mut Self {
        if !core::mem::take(&mut self.first) {
            self.builder.push(", ");
        }
        self.builder.push_bind(value);
        self
    }
}

/// Rows in their order, as many at a time as a statement takes; `bytes` says how large one is.
pub fn groups<T>(rows: &[T], bytes: impl Fn(&T) -> usize) -> impl Iterator<Item = &[T]> {
    let mut rest = rows;
    core::iter::from_fn(move || {
        let mut sum = 0;
        let full = |row: &T| {
            sum += bytes(row);
            sum > BYTES
        };
        let fits = rest.iter().take(ROWS).position(full);
        let count = fits.unwrap_or(ROWS).max(1).min(rest.len());
        let (group, after) = rest.split_at(count);
        rest = after;
        (!group.is_empty()).then_some(group)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_stand_where_the_values_came() {
        let mut sql = Builder::new("INSERT INTO t (a, b) ");
        sql.push_values([(1_i64, "x"), (2, "$1?")], |row, (a, b)| {
            row.push_bind(a).push_bind(b);
        })
        .push(" RETURNING a IN ")
        .push_list([3_i64, 4]);
        assert_eq!(
            sql.built.postgres().as_str(),
            "INSERT INTO t (a, b) VALUES ($1, $2), ($3, $4) RETURNING a IN ($5, $6)"
        );
        assert_eq!(
            sql.built.sqlite().as_str(),
            "INSERT INTO t (a, b) VALUES (?, ?), (?, ?) RETURNING a IN (?, ?)"
        );
        assert_eq!(sql.values.len(), 6);
        assert!(!sql.build().persistent);
        assert_eq!(Builder::new("SELECT 1").built.sqlite().as_str(), "SELECT 1");
        assert!(!Builder::new("SELECT 1").build().persistent);
        let mut sql = Builder::new("SELECT a FROM t WHERE a IN ");
        sql.push_list([1_i64]);
        assert!(sql.build().persistent);
    }

    #[test]
    fn rows_are_taken_in_order_as_many_as_a_statement_holds() {
        let sizes = |rows: &[usize]| -> Vec<usize> {
            let groups: Vec<&[usize]> = groups(rows, |bytes| *bytes).collect();
            assert_eq!(groups.concat(), rows);
            groups.iter().map(|group| group.len()).collect()
        };
        assert_eq!(sizes(&[]), [0; 0]);
        assert_eq!(sizes(&[0; ROWS]), [ROWS]);
        assert_eq!(sizes(&[0; 2 * ROWS + 1]), [ROWS, ROWS, 1]);
        // One that is too large stands alone, and so do the others around it.
        assert_eq!(sizes(&[1, BYTES + 1, 1, BYTES - 1, 1]), [1, 1, 2, 1]);
    }
}
