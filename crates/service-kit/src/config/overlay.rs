//! Environment variables and flags, laid over a table of settings.

use std::path::Path;

use toml::{Table, Value};

use super::ConfigError;

const SEPARATOR: &str = "__";
const FILE: &str = "_FILE";

/// One setting from elsewhere than the file.
pub(super) struct Given {
    /// Of the variable or the flag.
    pub(super) name: String,
    /// Where it goes.
    pub(super) keys: Vec<String>,
    pub(super) value: Text,
}

pub(super) enum Text {
    /// Text whatever it looks like.
    Plain(String),
    /// A TOML value if it reads as one.
    Literal(String),
}

/// Those variables that are settings.
pub(super) fn variables(
    prefix: &str,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<Vec<Given>, ConfigError> {
    let mut found = Vec::new();
    for (name, value) in variables {
        let Some(path) = name
            .strip_prefix(prefix)
            .and_then(|rest| rest.strip_prefix(SEPARATOR))
        else {
            continue;
        };
        let (path, value) = match path.strip_suffix(FILE) {
            // A secret is text whatever it looks like; editors leave a line end behind it.
            Some(path) => (path, Text::Plain(read(&value)?)),
            None => (path, Text::Literal(value)),
        };
        let keys: Vec<String> = path.split(SEPARATOR).map(str::to_ascii_lowercase).collect();
        if keys.iter().any(String::is_empty) {
            return Err(ConfigError::Variable {
                name,
                problem: "names an empty key",
            });
        }
        found.push(Given { name, keys, value });
    }
    Ok(found)
}

/// `table.key=value`
pub(super) fn flag(text: &str) -> Result<Given, ConfigError> {
    let (name, value) = text.split_once('=').ok_or_else(|| ConfigError::Flag {
        name: text.to_owned(),
        problem: "has no value: --set table.key=value",
    })?;
    let keys: Vec<String> = name.trim().split('.').map(str::to_owned).collect();
    if keys.iter().any(String::is_empty) {
        return Err(ConfigError::Flag {
            name: name.to_owned(),
            problem: "names an empty key",
        });
    }
    Ok(Given {
        name: name.to_owned(),
        keys,
        value: Text::Literal(value.to_owned()),
    })
}

impl Text {
    /// Text where there was text; otherwise a TOML value if it reads as one, such as `7`, `true` or `["a"]`.
    fn value(self, before: Option<&Value>) -> Value {
        match self {
            Self::Plain(text) => Value::String(text),
            Self::Literal(text) if matches!(before, Some(Value::String(_))) => Value::String(text),
            Self::Literal(text) => text.parse::<Value>().unwrap_or(Value::String(text)),
        }
    }
}

/// Puts a value where its keys lead.
pub(super) fn set(table: &mut Table, keys: &[String], value: Text) -> Result<(), &'static str> {
    match keys {
        [] => Ok(()),
        [key] => {
            let value = value.value(table.get(key));
            table.insert(key.clone(), value);
            Ok(())
        }
        [key, rest @ ..] => {
            let inner = table
                .entry(key.clone())
                .or_insert_with(|| Value::Table(Table::new()));
            match inner {
                Value::Table(inner) => set(inner, rest, value),
                _ => Err("goes below a setting that is not a table"),
            }
        }
    }
}

fn read(path: &str) -> Result<String, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: Path::new(path).to_owned(),
        source,
    })?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
