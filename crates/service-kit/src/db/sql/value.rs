//! Values that go in.

/// A value of one of the three types; none is SQL's NULL of that type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// BIGINT.
    Int(Option<i64>),
    /// TEXT.
    Text(Option<String>),
    /// BLOB, BYTEA.
    Bytes(Option<Vec<u8>>),
}

/// What can be bound.
pub trait Bind {
    /// NULL of its type.
    const NULL: Value;

    /// As a value.
    fn value(self) -> Value;
}

macro_rules! bind {
    ($($from:ty => $kind:ident($it:ident) $value:expr;)*) => {
        $(impl Bind for $from {
            const NULL: Value = Value::$kind(None);

            fn value(self) -> Value {
                let $it = self;
                Value::$kind(Some($value))
            }
        })*
    };
}

bind! {
    i64 => Int(it) it;
    i32 => Int(it) i64::from(it);
    u32 => Int(it) i64::from(it);
    bool => Int(it) i64::from(it);
    &str => Text(it) it.to_owned();
    &String => Text(it) it.clone();
    String => Text(it) it;
    &[u8] => Bytes(it) it.to_vec();
    &Vec<u8> => Bytes(it) it.clone();
    Vec<u8> => Bytes(it) it;
}

impl<const N: usize> Bind for &[u8; N] {
    const NULL: Value = Value::Bytes(None);

    fn value(self) -> Value {
        Value::Bytes(Some(self.to_vec()))
    }
}

impl<T: Bind> Bind for Option<T> {
    const NULL: Value = T::NULL;

    fn value(self) -> Value {
        self.map_or(T::NULL, T::value)
    }
}

macro_rules! optional {
    ($($of:ty),*) => {
        $(impl Bind for &Option<$of> {
            const NULL: Value = <$of as Bind>::NULL;

            fn value(self) -> Value {
                self.clone().value()
            }
        })*
    };
}

optional!(String, Vec<u8>, i64);
