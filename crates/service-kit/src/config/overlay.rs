//! Environment variables laid over a table of settings.

use std::path::Path;

use toml::{Table, Value};

use super::ConfigError;

const SEPARATOR: &str = "__";
const FILE: &str = "_FILE";

pub(super) fn apply(
    settings: &mut Table,
    prefix: &str,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<(), ConfigError> {
    let mut seen = std::collections::BTreeSet::new();
    for (name, value) in variables {
        let Some(path) = name
            .strip_prefix(prefix)
            .and_then(|rest| rest.strip_prefix(SEPARATOR))
        else {
            continue;
        };
        let (path, value) = match path.strip_suffix(FILE) {
            // A secret is text whatever it looks like; editors leave a line end behind it.
            Some(path) => (path, Given::Text(read(&value)?)),
            None => (path, Given::Literal(value)),
        };
        let keys: Vec<String> = path.split(SEPARATOR).map(str::to_ascii_lowercase).collect();
        if keys.iter().any(String::is_empty) {
            return Err(refuse(&name, "names an empty key"));
        }
        if !seen.insert(keys.clone()) {
            return Err(refuse(&name, "sets what another variable sets"));
        }
        set(settings, &keys, value).map_err(|problem| refuse(&name, problem))?;
    }
    Ok(())
}

enum Given {
    Text(String),
    Literal(String),
}

impl Given {
    /// Text where the file has text; otherwise a TOML value if it reads as one, such as `7`, `true` or `["a"]`.
    fn value(self, before: Option<&Value>) -> Value {
        match self {
            Self::Text(text) => Value::String(text),
            Self::Literal(text) if matches!(before, Some(Value::String(_))) => Value::String(text),
            Self::Literal(text) => text.parse::<Value>().unwrap_or(Value::String(text)),
        }
    }
}

fn set(table: &mut Table, keys: &[String], value: Given) -> Result<(), &'static str> {
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

fn refuse(name: &str, problem: &'static str) -> ConfigError {
    ConfigError::Variable {
        name: name.to_owned(),
        problem,
    }
}
