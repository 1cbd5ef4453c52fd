//! Environment variables: ours, and restic's where ours is not set.

use std::{ffi::OsString, fmt::Display, str::FromStr, sync::Arc};

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
#[derive(Clone)]
pub(crate) struct Environment {
    lookup: Arc<Lookup>,
    /// What follows the prefix in the names of variables.
    infix: &'static str,
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Environment({:?})", self.infix)
    }
}

type Lookup = dyn Fn(&str) -> Option<OsString> + Send + Sync;

impl Environment {
    pub(crate) fn of_process() -> Self {
        Self { lookup: Arc::new(|name| std::env::var_os(name)), infix: "" }
    }

    /// The same for the repository that is copied from: `COFFER_FROM_PASSWORD` for `COFFER_PASSWORD`, and so on.
    pub(crate) fn of_source(&self) -> Self {
        Self { lookup: Arc::clone(&self.lookup), infix: "FROM_" }
    }

    /// The variable of exactly this name. An empty one counts as not set.
    pub(crate) fn exact(&self, name: &str) -> Option<Variable> {
        let ours = PREFIXES.iter().find_map(|prefix| Some((prefix, name.strip_prefix(prefix)?)));
        let name = ours.map_or_else(|| name.to_owned(), |(prefix, rest)| format!("{prefix}{}{rest}", self.infix));
        let value = (self.lookup)(&name).filter(|value| !value.is_empty())?;
        Some(Variable { name, value })
    }

    /// `COFFER_name`, or `RESTIC_name`.
    pub(crate) fn get(&self, name: &str) -> Option<Variable> {
        PREFIXES.iter().find_map(|prefix| self.exact(&format!("{prefix}{name}")))
    }
}

#[cfg(test)]
impl Environment {
    pub(crate) fn of_one(name: &'static str, value: &'static str) -> Self {
        Self { lookup: Arc::new(move |asked| (asked == name).then(|| value.into())), infix: "" }
    }
}

#[cfg(test)]
pub(crate) fn of(variables: &'static [(&'static str, &'static str)]) -> Environment {
    let lookup =
        move |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value));
    Environment { lookup: Arc::new(lookup), infix: "" }
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
        let source = of(&[("COFFER_FROM_X", "x"), ("COFFER_Y", "y"), ("HOME", "h")]).of_source();
        assert_eq!(source.get("X").unwrap().name, "COFFER_FROM_X");
        assert_eq!((source.get("Y"), source.exact("HOME").unwrap().name), (None, "HOME".to_owned()));
        let error = environment.get("X").unwrap().parse::<u32>().unwrap_err();
        assert_eq!(error.code(), crate::report::Code::Usage);
    }
}
