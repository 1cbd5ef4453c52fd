//! Where a password comes from, and reading it. It is never an argument, and overwritten in memory once it was used.

use std::{
    fs::File,
    io::{self, BufRead, IsTerminal, Read},
    path::PathBuf,
    process::{Command, Stdio},
};

use zeroize::Zeroizing;

use crate::{
    cli::Global,
    embedded,
    environment::{Environment, PREFIXES, Variable},
    report::{Failure, Result, plain},
    signals::Prompting,
};

/// Longest password; more than that is another file than the one that was meant.
const PASSWORD_BYTES_MAX: usize = 16 << 10;

/// A password.
pub(crate) type Password = Zeroizing<Vec<u8>>;

/// Where a password comes from.
pub(crate) enum PasswordSource {
    /// There is none: it is empty.
    None,
    /// An open file.
    Fd(u32),
    /// What a command prints.
    Command(String),
    /// A file.
    File(PathBuf),
    /// A variable.
    Variable(Variable),
    /// The file of a password that was made by this program.
    Generated(PathBuf),
    /// The user, or the first line of standard input where that is no terminal.
    Ask,
}

impl std::fmt::Debug for PasswordSource {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.origin())
    }
}

impl PasswordSource {
    /// From flags, else variables: an open file before a command before a file before the password itself. Nothing if none is given.
    pub(crate) fn resolve(global: &Global, environment: &Environment) -> Result<Option<Self>> {
        let flags = [
            global.insecure_no_password.then_some(Self::None),
            global.password_fd.map(Self::Fd),
            global.password_command.clone().map(Self::Command),
            global.password_file.clone().map(Self::File),
        ];
        one_of(flags, "--password-file, --password-command, --password-fd and --insecure-no-password")
            .and_then(|flag| flag.map_or_else(|| Self::of_variables(environment), |flag| Ok(Some(flag))))
    }

    fn of_variables(environment: &Environment) -> Result<Option<Self>> {
        for prefix in PREFIXES {
            let get = |name| environment.exact(&format!("{prefix}{name}"));
            if let Some(variable) = get("PASSWORD_FD") {
                return variable.parse().map(|number| Some(Self::Fd(number)));
            }
            if let Some(variable) = get("PASSWORD_COMMAND") {
                return Ok(Some(Self::Command(variable.text()?.to_owned())));
            }
            if let Some(variable) = get("PASSWORD_FILE") {
                return Ok(Some(Self::File(variable.value.into())));
            }
            if let Some(variable) = get("PASSWORD") {
                return Ok(Some(Self::Variable(variable)));
            }
        }
        Ok(None)
    }

    /// The source of a further password (`key add`, `key passwd`): one of these, or the user.
    pub(crate) fn of_new(file: Option<PathBuf>, command: Option<String>, fd: Option<u32>, none: bool) -> Result<Self> {
        let flags = [none.then_some(Self::None), fd.map(Self::Fd), command.map(Self::Command), file.map(Self::File)];
        let names = "--new-password-file, --new-password-command, --new-password-fd and --new-insecure-no-password";
        Ok(one_of(flags, names)?.unwrap_or(Self::Ask))
    }

    /// In words, for messages.
    pub(crate) fn origin(&self) -> String {
        match self {
            Self::None => "--insecure-no-password".into(),
            Self::Fd(number) => format!("file descriptor {number}"),
            Self::Command(_) => "the password command".into(),
            Self::File(path) | Self::Generated(path) => path.display().to_string(),
            Self::Variable(variable) => variable.name.clone(),
            Self::Ask if io::stdin().is_terminal() => "the terminal".into(),
            Self::Ask => "standard input".into(),
        }
    }

    /// Gets the password. `repeat` asks for it twice, since nobody can see what is typed.
    ///
    /// # Errors
    /// When it cannot be had, or is empty.
    pub(crate) fn read(&self, question: &str, repeat: bool) -> Result<Password> {
        let mut password = match self {
            Self::None => return Ok(Password::default()),
            Self::Fd(number) => read_all(&mut open_fd(*number)?, &self.origin())?,
            Self::Command(command) => run(command)?,
            Self::File(path) => {
                let open = File::open(path);
                let mut file = open.map_err(|error| Failure::io("read the password from", path.display(), &error))?;
                read_all(&mut file, &self.origin())?
            }
            Self::Generated(path) => embedded::read_password(path)?,
            Self::Variable(variable) => Zeroizing::new(variable.value.as_encoded_bytes().to_vec()),
            Self::Ask => ask(question, repeat)?,
        };
        if !matches!(self, Self::Variable(_)) {
            strip_line_end(&mut password);
        }
        if password.is_empty() {
            let failure = Failure::new(format!("the password from {} is empty", self.origin()));
            return Err(match self {
                Self::Ask => failure.hint(
                    "set COFFER_PASSWORD_FILE or COFFER_PASSWORD_COMMAND, or type it at a terminal; \
                     --insecure-no-password is for those who want none",
                ),
                _ => failure.hint("--insecure-no-password is for those who want none"),
            });
        }
        Ok(password)
    }
}

fn one_of<const N: usize>(flags: [Option<PasswordSource>; N], names: &str) -> Result<Option<PasswordSource>> {
    let mut given = flags.into_iter().flatten();
    match (given.next(), given.next()) {
        (Some(_), Some(_)) => Err(Failure::usage(format!("only one of {names} can be given"))),
        (first, _) => Ok(first),
    }
}

/// Without the one end of a line that editors and commands put after it.
fn strip_line_end(password: &mut Password) {
    if password.ends_with(b"\n") {
        password.pop();
        if password.ends_with(b"\r") {
            password.pop();
        }
    }
}

fn read_all(from: &mut dyn Read, origin: &str) -> Result<Password> {
    // Memory that is never moved, so that no copy of the password is left behind.
    let mut password = Zeroizing::new(Vec::with_capacity(PASSWORD_BYTES_MAX + 1));
    from.take(PASSWORD_BYTES_MAX as u64 + 1)
        .read_to_end(&mut password)
        .map_err(|error| Failure::io("read the password from", origin, &error))?;
    if password.len() > PASSWORD_BYTES_MAX {
        return Err(Failure::new(format!(
            "what {origin} gives is no password: it is longer than {PASSWORD_BYTES_MAX} bytes"
        )));
    }
    Ok(password)
}

fn open_fd(number: u32) -> Result<File> {
    File::open(format!("/dev/fd/{number}"))
        .map_err(|error| Failure::io("read the password from", format_args!("file descriptor {number}"), &error))
}

/// Runs a command and takes what it prints.
fn run(command: &str) -> Result<Password> {
    let words =
        split(command).map_err(|reason| Failure::usage(format!("the password command is malformed: {reason}")))?;
    let Some((program, arguments)) = words.split_first() else {
        return Err(Failure::usage("the password command is empty"));
    };
    let mut child =
        Command::new(program).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(|error| {
            Failure::new(format!("cannot start the password command \"{program}\": {}", plain(error)))
        })?;
    let password = match child.stdout.take() {
        Some(mut stdout) => read_all(&mut stdout, "the password command"),
        None => Ok(Password::default()),
    };
    let status = child.wait().map_err(|error| Failure::io("wait for", "the password command", &error))?;
    if !status.success() {
        return Err(Failure::new(format!("the password command failed: {}", crate::child::describe(status))));
    }
    password
}

/// Splits a command into words as a shell would, with quotes and backslashes and nothing else.
fn split(command: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = command.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => {
                word.get_or_insert_default().push(characters.next().ok_or("it ends with a backslash")?);
            }
            (None, _) if character.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed");
    }
    words.extend(word);
    Ok(words)
}

/// Asks at the terminal; where there is none, takes the first line of standard input.
fn ask(question: &str, repeat: bool) -> Result<Password> {
    if !io::stdin().is_terminal() {
        let mut line = Zeroizing::new(Vec::with_capacity(PASSWORD_BYTES_MAX + 1));
        io::stdin()
            .lock()
            .take(PASSWORD_BYTES_MAX as u64)
            .read_until(b'\n', &mut line)
            .map_err(|error| Failure::io("read the password from", "standard input", &error))?;
        return Ok(line);
    }
    let prompt = |text: &str| {
        let _prompting = Prompting::begin();
        rpassword::prompt_password(text)
            .map(|password| Zeroizing::new(password.into_bytes()))
            .map_err(|error| Failure::io("read the password from", "the terminal", &error))
    };
    let password = prompt(&format!("{question}: "))?;
    if repeat && *prompt("the same again: ")? != *password {
        return Err(Failure::new("the two passwords differ").hint("nothing was changed; try again"));
    }
    Ok(password)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::of;

    fn origin(global: &Global, variables: &'static [(&'static str, &'static str)]) -> Option<String> {
        PasswordSource::resolve(global, &of(variables)).unwrap().map(|source| source.origin())
    }

    #[test]
    fn sources_in_order() {
        let none = Global::default();
        assert_eq!(origin(&none, &[]), None);
        assert_eq!(origin(&none, &[("RESTIC_PASSWORD", "x")]).unwrap(), "RESTIC_PASSWORD");
        assert_eq!(
            origin(&none, &[("RESTIC_PASSWORD_FILE", "/r"), ("COFFER_PASSWORD", "x")]).unwrap(),
            "COFFER_PASSWORD"
        );
        assert_eq!(origin(&none, &[("COFFER_PASSWORD_FILE", "/f"), ("COFFER_PASSWORD", "x")]).unwrap(), "/f");
        assert_eq!(
            origin(&none, &[("COFFER_PASSWORD_FILE", "/f"), ("COFFER_PASSWORD_FD", "7")]).unwrap(),
            "file descriptor 7"
        );
        let flag = Global { password_file: Some("/flag".into()), ..Global::default() };
        assert_eq!(origin(&flag, &[("COFFER_PASSWORD", "x")]).unwrap(), "/flag");
        let two = Global { password_fd: Some(3), ..flag };
        assert!(PasswordSource::resolve(&two, &of(&[])).is_err());
    }

    #[test]
    fn words_of_a_command() {
        for (command, words) in [
            ("pass show backup", &["pass", "show", "backup"][..]),
            ("  a  'b c' \"d \\\" e\"f ", &["a", "b c", "d \" ef"]),
            ("a\\ b ''", &["a b", ""]),
            ("", &[]),
        ] {
            assert_eq!(split(command).unwrap(), words, "{command}");
        }
        assert!(split("a 'b").is_err() && split("a\\").is_err());
    }

    #[test]
    fn one_end_of_a_line_is_taken_off() {
        for (read, kept) in [("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), (" a ", " a "), ("\n", "")] {
            let mut password = Zeroizing::new(read.as_bytes().to_vec());
            strip_line_end(&mut password);
            assert_eq!(&**password, kept.as_bytes());
        }
    }

    #[test]
    fn nothing_shows_a_password() {
        let source = PasswordSource::Variable(Variable { name: "COFFER_PASSWORD".into(), value: "secret".into() });
        assert!(!format!("{source:?}").contains("secret"));
    }
}
