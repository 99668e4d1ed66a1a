//! The settings of a process, put together from a file, the environment and flags, with where each came from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::Table;

use super::overlay::{self, Given};
use super::{ConfigError, SyntaxError};

/// Where a setting came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Nobody set it.
    Default,
    /// The file of settings.
    File,
    /// The environment variable of that name.
    Variable(String),
    /// A flag.
    Flag,
}

/// Settings that nothing has checked yet.
#[derive(Clone)]
pub struct Settings {
    table: Table,
    path: Option<PathBuf>,
    /// What came over the file, by the keys that lead to it.
    over: BTreeMap<Vec<String>, Source>,
}

impl Settings {
    /// Reads a file, if any, lays the variables of this process over it that begin with `prefix` and `__`, and flags of
    /// the form `table.key=value` over both.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(path: Option<&Path>, prefix: &str, flags: &[String]) -> Result<Self, ConfigError> {
        let text = match path {
            Some(path) => std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
                path: path.to_owned(),
                source,
            })?,
            None => String::new(),
        };
        // A name that is not UTF-8 is none of ours; a value that is not is refused where it is used.
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .filter(|(name, _)| name.starts_with(prefix))
            .map(|(name, value)| match value.into_string() {
                Ok(value) => Ok((name, value)),
                Err(_) => Err(ConfigError::Variable {
                    name,
                    problem: "not UTF-8",
                }),
            })
            .collect::<Result<Vec<_>, _>>()?;
        Self::parse(&text, path, prefix, variables, flags)
    }

    /// As [`Settings::load`], from a text and given variables.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn parse(
        text: &str,
        path: Option<&Path>,
        prefix: &str,
        variables: impl IntoIterator<Item = (String, String)>,
        flags: &[String],
    ) -> Result<Self, ConfigError> {
        let mut table: Table = toml::from_str(text).map_err(|error| ConfigError::Syntax {
            path: path.map_or_else(|| PathBuf::from("settings"), Path::to_owned),
            source: SyntaxError {
                line: 1 + error
                    .span()
                    .and_then(|span| text.get(..span.start))
                    .map_or(0, |before| before.matches('\n').count()),
                message: error.message().to_owned(),
            },
        })?;
        let mut over = BTreeMap::new();
        for variable in overlay::variables(prefix, variables)? {
            let Given { name, keys, value } = variable;
            if over.contains_key(&keys) {
                return Err(ConfigError::Variable {
                    name,
                    problem: "sets what another variable sets",
                });
            }
            match overlay::set(&mut table, &keys, value) {
                Ok(()) => over.insert(keys, Source::Variable(name)),
                Err(problem) => return Err(ConfigError::Variable { name, problem }),
            };
        }
        for flag in flags {
            let Given { name, keys, value } = overlay::flag(flag)?;
            if over.get(&keys) == Some(&Source::Flag) {
                return Err(ConfigError::Flag {
                    name,
                    problem: "given twice",
                });
            }
            match overlay::set(&mut table, &keys, value) {
                Ok(()) => over.insert(keys, Source::Flag),
                Err(problem) => return Err(ConfigError::Flag { name, problem }),
            };
        }
        Ok(Self {
            table,
            path: path.map(Path::to_owned),
            over,
        })
    }

    /// The settings as their reader wants them.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] when one is missing, unknown or malformed.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        T::deserialize(self.table.clone()).map_err(|source| ConfigError::Invalid {
            path: self.path.clone(),
            source: Box::new(serde::de::Error::custom(without_values(
                source.to_string().trim_end(),
            ))),
        })
    }

    /// Where the setting that these keys lead to came from.
    pub fn source<K: AsRef<str>>(&self, keys: &[K]) -> Source {
        let keys: Vec<String> = keys.iter().map(|key| key.as_ref().to_owned()).collect();
        // A variable may have set a whole table; the longest path that was set says where its parts came from.
        let over = (1..=keys.len())
            .rev()
            .find_map(|length| self.over.get(&keys[..length]));
        if let Some(source) = over {
            return source.clone();
        }
        let mut table = &self.table;
        for (at, key) in keys.iter().enumerate() {
            match table.get(key) {
                Some(toml::Value::Table(inner)) if at + 1 < keys.len() => table = inner,
                Some(_) => return Source::File,
                None => break,
            }
        }
        Source::Default
    }
}

/// Reads settings from a file, if any, and the variables of this process that begin with `prefix` and `__`.
///
/// # Errors
/// [`ConfigError`].
pub fn load<T: DeserializeOwned>(path: Option<&Path>, prefix: &str) -> Result<T, ConfigError> {
    Settings::load(path, prefix, &[])?.read()
}

/// As [`load`], from a text and given variables.
///
/// # Errors
/// [`ConfigError`].
pub fn parse<T: DeserializeOwned>(
    text: &str,
    path: Option<&Path>,
    prefix: &str,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<T, ConfigError> {
    Settings::parse(text, path, prefix, variables, &[])?.read()
}

/// What the reader of a setting says, without the text that was given: a secret may have been set one level too high.
pub fn without_values(message: &str) -> String {
    match (message.find("string \""), message.rfind("\", expected")) {
        (Some(start), Some(end)) if start < end => {
            format!("{}a string{}", &message[..start], &message[end + 1..])
        }
        _ => message.to_owned(),
    }
}
