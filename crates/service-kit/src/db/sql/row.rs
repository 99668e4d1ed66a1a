//! Rows that come out.

use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{Column as _, Row as _, TypeInfo as _, ValueRef as _};

/// A row of either database.
pub enum Row {
    /// SQLite's.
    Sqlite(SqliteRow),
    /// PostgreSQL's.
    Postgres(PgRow),
}

impl core::fmt::Debug for Row {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Row")
    }
}

impl Row {
    /// The column of a place, from 0.
    ///
    /// # Errors
    /// When it is of another type, or not there.
    pub fn at<T: Column>(&self, index: usize) -> sqlx::Result<T> {
        T::read(self, index)
    }

    /// The column of a name.
    ///
    /// # Errors
    /// When it is of another type, or not there.
    pub fn get<T: Column>(&self, name: &str) -> sqlx::Result<T> {
        let index = match self {
            Self::Sqlite(row) => row.try_column(name)?.ordinal(),
            Self::Postgres(row) => row.try_column(name)?.ordinal(),
        };
        T::read(self, index)
    }

    fn is_null(&self, index: usize) -> sqlx::Result<bool> {
        Ok(match self {
            Self::Sqlite(row) => row.try_get_raw(index)?.is_null(),
            Self::Postgres(row) => row.try_get_raw(index)?.is_null(),
        })
    }
}

/// What a column is read as.
pub trait Column: Sized {
    /// The column of a place, from 0.
    ///
    /// # Errors
    /// When it is of another type, or not there.
    fn read(row: &Row, index: usize) -> sqlx::Result<Self>;
}

impl Column for i64 {
    fn read(row: &Row, index: usize) -> sqlx::Result<Self> {
        match row {
            Row::Sqlite(row) => row.try_get(index),
            // What a query computes is narrower there: a literal is INT4, a comparison BOOL.
            Row::Postgres(row) => match row.try_column(index)?.type_info().name() {
                "INT4" => row.try_get::<i32, _>(index).map(Self::from),
                "BOOL" => row.try_get::<bool, _>(index).map(Self::from),
                _ => row.try_get(index),
            },
        }
    }
}

impl Column for i32 {
    fn read(row: &Row, index: usize) -> sqlx::Result<Self> {
        let wide = i64::read(row, index)?;
        Self::try_from(wide).map_err(|error| sqlx::Error::ColumnDecode {
            index: index.to_string(),
            source: error.into(),
        })
    }
}

impl Column for bool {
    fn read(row: &Row, index: usize) -> sqlx::Result<Self> {
        i64::read(row, index).map(|value| value != 0)
    }
}

impl Column for String {
    fn read(row: &Row, index: usize) -> sqlx::Result<Self> {
        match row {
            Row::Sqlite(row) => row.try_get(index),
            Row::Postgres(row) => row.try_get(index),
        }
    }
}

impl Column for Vec<u8> {
    fn read(row: &Row, index: usize) -> sqlx::Result<Self> {
        match row {
            Row::Sqlite(row) => row.try_get(index),
            Row::Postgres(row) => row.try_get(index),
        }
    }
}

impl<T: Column> Column for Option<T> {
    fn read(row: &Row, index: usize) -> sqlx::Result<Self> {
        if row.is_null(index)? {
            Ok(None)
        } else {
            T::read(row, index).map(Some)
        }
    }
}

/// What a row is read as.
pub trait FromRow: Sized {
    /// Reads a row.
    ///
    /// # Errors
    /// When a column is of another type, or not there.
    fn from_row(row: &Row) -> sqlx::Result<Self>;
}

macro_rules! tuples {
    ($(($($name:ident $index:tt),+);)*) => {
        $(impl<$($name: Column),+> FromRow for ($($name,)+) {
            fn from_row(row: &Row) -> sqlx::Result<Self> {
                Ok(($(row.at::<$name>($index)?,)+))
            }
        })*
    };
}

tuples! {
    (A 0);
    (A 0, B 1);
    (A 0, B 1, C 2);
    (A 0, B 1, C 2, D 3);
    (A 0, B 1, C 2, D 3, E 4);
    (A 0, B 1, C 2, D 3, E 4, F 5);
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6);
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8);
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9);
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10);
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11);
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12);
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13);
}
