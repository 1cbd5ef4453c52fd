//! What flags and variables mean together: nothing here touches a repository.

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::Path,
};

use repo_core::compress::Level;

use crate::{
    cli::Global,
    embedded,
    environment::Environment,
    location::Address,
    password::PasswordSource,
    report::{Failure, Result},
    stores::StoreSettings,
};

/// Most bytes of a file that names a repository.
const NAME_BYTES_MAX: u64 = 64 << 10;

/// Which repository, and how to get its password.
#[derive(Debug)]
pub(crate) struct Access {
    /// Where the repository is.
    pub(crate) address: Address,
    /// What was said of the way to it.
    pub(crate) settings: StoreSettings,
    /// Where its password comes from.
    pub(crate) password: PasswordSource,
    /// Which key to try first.
    pub(crate) key_hint: Option<String>,
    /// Whether nothing was named, so that it is the repository in the user's data folder.
    pub(crate) embedded: bool,
}

impl Access {
    pub(crate) fn resolve(global: &Global, environment: &Environment) -> Result<Self> {
        let repository = repository(global, environment)?;
        let settings = StoreSettings::resolve(global, environment)?;
        let password = PasswordSource::resolve(global, environment)?;
        let key_hint = match (&global.key_hint, environment.get("KEY_HINT")) {
            (Some(hint), _) => Some(hint.clone()),
            (None, Some(variable)) => Some(variable.text()?.to_owned()),
            (None, None) => None,
        };
        match (repository, password) {
            (Some(address), password) => {
                let password = password.unwrap_or(PasswordSource::Ask);
                Ok(Self { address, settings, password, key_hint, embedded: false })
            }
            (None, None) => {
                let folder = embedded::Folder::find(environment)?;
                let password = PasswordSource::Generated(folder.password());
                let address = Address::Local(folder.repository());
                Ok(Self { address, settings, password, key_hint, embedded: true })
            }
            (None, Some(_)) => Err(Failure::usage("a password is given, but no repository is named")
                .hint("name one with --repo or COFFER_REPOSITORY")),
        }
    }

    /// Whether the repository is anywhere but in a folder.
    pub(crate) const fn is_remote(&self) -> bool {
        !matches!(self.address, Address::Local(_))
    }
}

/// Where the repository is, if one is named: by a flag, or else by a variable.
fn repository(global: &Global, environment: &Environment) -> Result<Option<Address>> {
    let address = match (&global.repo, &global.repository_file) {
        (Some(_), Some(_)) => return Err(Failure::usage("--repo and --repository-file cannot both be given")),
        (Some(name), None) if name.is_empty() => return Err(Failure::usage("--repo is empty")),
        (Some(name), None) => Address::parse(name)?,
        (None, Some(file)) => Address::parse(&name_in(file)?)?,
        (None, None) => {
            for prefix in crate::environment::PREFIXES {
                if let Some(variable) = environment.exact(&format!("{prefix}REPOSITORY")) {
                    return Address::parse(&variable.value).map(Some);
                }
                if let Some(variable) = environment.exact(&format!("{prefix}REPOSITORY_FILE")) {
                    return Address::parse(&name_in(Path::new(&variable.value))?).map(Some);
                }
            }
            return Ok(None);
        }
    };
    Ok(Some(address))
}

/// The name in a file, without white space around it.
fn name_in(file: &Path) -> Result<OsString> {
    let failed = |error: &std::io::Error| Failure::io("read the repository's name from", file.display(), error);
    let size_bytes = fs::metadata(file).map_err(|error| failed(&error))?.len();
    if size_bytes > NAME_BYTES_MAX {
        return Err(Failure::usage(format!("{} is too large to be the name of a repository", file.display())));
    }
    let name = fs::read(file).map_err(|error| failed(&error))?;
    let name = name.trim_ascii();
    if name.is_empty() {
        return Err(Failure::usage(format!("{} names no repository: it is empty", file.display())));
    }
    Ok(OsString::from_vec(OsStr::from_bytes(name).as_bytes().to_vec()))
}

/// How hard to compress.
pub(crate) fn level(global: &Global, environment: &Environment) -> Result<Level> {
    match (&global.compression, environment.get("COMPRESSION")) {
        (Some(level), _) => level.parse().map_err(|error| Failure::usage(format!("--compression: {error}"))),
        (None, Some(variable)) => variable.parse(),
        (None, None) => Ok(Level::AUTO),
    }
}

/// How often progress is shown in a second, if that was said.
pub(crate) fn progress_fps(environment: &Environment) -> Result<Option<f64>> {
    let Some(variable) = environment.get("PROGRESS_FPS") else { return Ok(None) };
    let fps: f64 = variable.parse()?;
    if !(fps > 0.0 && fps <= 1000.0) {
        return Err(Failure::usage(format!("{} is not valid: write a number above 0, as 10 or 0.1", variable.name)));
    }
    Ok(Some(fps))
}

/// A switch given by a variable.
pub(crate) fn switch(environment: &Environment, name: &str) -> Result<bool> {
    let Some(variable) = environment.get(name) else { return Ok(false) };
    match variable.text()?.to_ascii_lowercase().as_str() {
        "1" | "t" | "true" | "yes" => Ok(true),
        "0" | "f" | "false" | "no" => Ok(false),
        _ => Err(Failure::usage(format!("{} is not valid: write true or false", variable.name))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{environment::of, report::Code};

    #[test]
    fn flags_count_before_variables_and_ours_before_those_of_restic() {
        let environment = of(&[("COFFER_REPOSITORY", "/ours"), ("RESTIC_REPOSITORY", "/theirs")]);
        let flag = Global { repo: Some("/flag".into()), ..Global::default() };
        assert_eq!(repository(&flag, &environment).unwrap(), Some(Address::Local("/flag".into())));
        assert_eq!(repository(&Global::default(), &environment).unwrap(), Some(Address::Local("/ours".into())));
        let environment = of(&[("RESTIC_REPOSITORY", "/theirs")]);
        assert_eq!(repository(&Global::default(), &environment).unwrap(), Some(Address::Local("/theirs".into())));
        let both = Global { repository_file: Some("/f".into()), ..flag };
        assert_eq!(repository(&both, &environment).unwrap_err().code(), Code::Usage);
    }

    #[test]
    fn a_password_for_no_repository_is_a_mistake() {
        let environment = of(&[("COFFER_PASSWORD", "x"), ("HOME", "/home/me")]);
        assert_eq!(Access::resolve(&Global::default(), &environment).unwrap_err().code(), Code::Usage);
        let access = Access::resolve(&Global::default(), &of(&[("HOME", "/home/me")])).unwrap();
        assert!(access.embedded);
        assert_eq!(access.address, Address::Local("/home/me/.local/share/coffer/repository".into()));
    }

    #[test]
    fn bad_values_name_their_variable() {
        for (name, value) in
            [("COFFER_PROGRESS_FPS", "often"), ("COFFER_PROGRESS_FPS", "0"), ("RESTIC_COMPRESSION", "x")]
        {
            let environment = Environment::of_one(name, value);
            let failure = match name {
                "RESTIC_COMPRESSION" => level(&Global::default(), &environment).map(|_| ()),
                _ => progress_fps(&environment).map(|_| ()),
            };
            assert!(format!("{:?}", failure.unwrap_err()).contains(name), "{name}={value}");
        }
    }
}
