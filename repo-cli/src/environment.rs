//! Environment variables: ours, and restic's where ours is not set.

use std::{ffi::OsString, fmt::Display, str::FromStr};

use crate::report::{Failure, Result};

/// Prefixes in the order in which they count.
pub(crate) const PREFIXES: [&str; 2] = ["COFFER_", "RESTIC_"];

/// A variable that is set to something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Variable {
    /// Its full name, for messages.
    pub(crate) name: String,
    /// Its value, not empty.
    pub(crate) value: OsString,
}

impl Variable {
    /// Its value as text.
    ///
    /// # Errors
    /// When it is no UTF-8.
    pub(crate) fn text(&self) -> Result<&str> {
        self.value.to_str().ok_or_else(|| Failure::usage(format!("{} is not valid UTF-8", self.name)))
    }

    /// Its value as something else.
    ///
    /// # Errors
    /// When it is not; the message names the variable.
    pub(crate) fn parse<T: FromStr<Err: Display>>(&self) -> Result<T> {
        self.text()?.parse().map_err(|error| Failure::usage(format!("{} is not valid: {error}", self.name)))
    }
}

/// Where variables come from; a function, so that tests need not change the process.
pub(crate) struct Environment(Box<Lookup>);

type Lookup = dyn Fn(&str) -> Option<OsString> + Send + Sync;

impl Environment {
    pub(crate) fn of_process() -> Self {
        Self(Box::new(|name| std::env::var_os(name)))
    }

    /// The variable of exactly this name. An empty one counts as not set.
    pub(crate) fn exact(&self, name: &str) -> Option<Variable> {
        let value = (self.0)(name).filter(|value| !value.is_empty())?;
        Some(Variable { name: name.to_owned(), value })
    }

    /// `COFFER_name`, or `RESTIC_name`.
    pub(crate) fn get(&self, name: &str) -> Option<Variable> {
        PREFIXES.iter().find_map(|prefix| self.exact(&format!("{prefix}{name}")))
    }
}

#[cfg(test)]
impl Environment {
    pub(crate) fn of_one(name: &'static str, value: &'static str) -> Self {
        Self(Box::new(move |asked| (asked == name).then(|| value.into())))
    }
}

#[cfg(test)]
pub(crate) fn of(variables: &'static [(&'static str, &'static str)]) -> Environment {
    Environment(Box::new(move |name| {
        variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_count_before_those_of_restic() {
        let environment = of(&[("RESTIC_HOST", "old"), ("RESTIC_X", "x"), ("COFFER_HOST", "new"), ("COFFER_X", "")]);
        assert_eq!(environment.get("HOST").unwrap().text().ok(), Some("new"));
        assert_eq!(environment.get("X").unwrap().name, "RESTIC_X");
        assert_eq!(environment.get("Y"), None);
        let error = environment.get("X").unwrap().parse::<u32>().unwrap_err();
        assert_eq!(error.code(), crate::report::Code::Usage);
    }
}
