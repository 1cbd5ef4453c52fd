//! The repository that is used when none is named: in the user's data folder, with a password that is made for it.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use repo_core::runtime::Runtime;
use zeroize::Zeroizing;

use crate::{
    environment::Environment,
    password::Password,
    report::{Failure, Result},
};

/// Longest password file that is read.
const FILE_BYTES_MAX: u64 = 4096;

/// The folder that holds repository and password.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// `COFFER_DATA_DIR`, or `coffer` in the user's data folder.
    pub(crate) fn find(environment: &Environment) -> Result<Self> {
        let absolute = |name: &str| {
            environment.exact(name).map(|variable| PathBuf::from(variable.value)).filter(|path| path.is_absolute())
        };
        if let Some(variable) = environment.exact("COFFER_DATA_DIR") {
            let path = PathBuf::from(&variable.value);
            return if path.is_absolute() {
                Ok(Self(path))
            } else {
                Err(Failure::usage("COFFER_DATA_DIR is not valid: it must be an absolute path"))
            };
        }
        if let Some(data) = absolute("XDG_DATA_HOME") {
            return Ok(Self(data.join("coffer")));
        }
        let home = absolute("HOME").ok_or_else(|| {
            Failure::usage("no repository is named, and without HOME there is no data folder to have one in")
                .hint("name one with --repo or COFFER_REPOSITORY")
        })?;
        Ok(Self(home.join(".local/share/coffer")))
    }

    pub(crate) fn repository(&self) -> PathBuf {
        self.0.join("repository")
    }

    pub(crate) fn password(&self) -> PathBuf {
        self.0.join("password")
    }
}

/// Makes the password file unless there is one, and tells whether it was made. It is there whole or not at all, and safe on disk
/// before anything is encrypted with it.
pub(crate) fn make_password(path: &Path, runtime: &dyn Runtime) -> Result<bool> {
    let failed = |error: io::Error| Failure::io("make the password file", path.display(), &error);
    if path.symlink_metadata().is_ok() {
        return Ok(false);
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    let mut bytes = Zeroizing::new([0; 32]);
    runtime.random(&mut *bytes);
    let mut text = Zeroizing::new(String::with_capacity(80));
    for byte in bytes.iter() {
        let digit = |half: u8| char::from_digit(half.into(), 16).unwrap_or('0');
        text.push(digit(byte >> 4));
        text.push(digit(byte & 15));
    }
    text.push('\n');
    let temporary = folder.join(format!("password.{}.new", std::process::id()));
    let _ = fs::remove_file(&temporary); // left by a program of the same number that was killed
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).map_err(failed)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    // A link, since it does not replace what another program has made meanwhile.
    let made = written.and_then(|()| match fs::hard_link(&temporary, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        result => result.map(|()| true),
    });
    fs::remove_file(&temporary).map_err(failed)?;
    let made = made.map_err(failed)?;
    for folder in folder.ancestors().take(3) {
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    }
    Ok(made)
}

/// Reads the password file; refuses one that others can read.
pub(crate) fn read_password(path: &Path) -> Result<Password> {
    let failed = |error: io::Error| Failure::io("read the password from", path.display(), &error);
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Failure::new(format!("the password file {} is not there", path.display()))
                .hint("put it back from where you keep its copy; without it nothing in the repository can be read"));
        }
        result => result.map_err(failed)?,
    };
    let metadata = file.metadata().map_err(failed)?;
    if metadata.mode() & 0o077 != 0 {
        return Err(Failure::new(format!("others can read the password file {}", path.display())).hint(format!(
            "run: chmod 600 {}; if somebody may have read it, change the password with \"coffer key passwd\"",
            path.display()
        )));
    }
    let mut password = Zeroizing::new(Vec::with_capacity(4096));
    file.take(FILE_BYTES_MAX).read_to_end(&mut password).map_err(failed)?;
    Ok(password)
}
