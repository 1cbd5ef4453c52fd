//! All that the program writes goes through here: results to standard output, everything else to standard error.

use std::{
    fs::File,
    io::{self, BufWriter, IsTerminal, Write},
    os::fd::AsFd,
    sync::{Mutex, MutexGuard, PoisonError},
};

use indicatif::ProgressBar;
use serde::Serialize;

use crate::report::{Code, Failure, Result};

/// Where everything is written.
pub(crate) struct Output {
    json: bool,
    /// -1 with `-q`, otherwise how often `-v` was given.
    verbosity: i8,
    /// Nothing once nobody reads it any more and that is no reason to stop.
    stdout: Mutex<Option<BufWriter<Box<dyn Write + Send>>>>,
    stdout_terminal: bool,
    stderr_terminal: bool,
    colours: bool,
    /// A bar on the terminal, to be out of the way while something is written.
    bar: Mutex<Option<ProgressBar>>,
}

impl Output {
    pub(crate) fn new(json: bool, verbosity: i8, colours: bool) -> Self {
        // A handle of our own, since the standard one writes at every end of a line.
        let stdout: Box<dyn Write + Send> = match io::stdout().as_fd().try_clone_to_owned() {
            Ok(fd) => Box::new(File::from(fd)),
            Err(_) => Box::new(io::stdout()),
        };
        Self {
            json,
            verbosity,
            stdout: Mutex::new(Some(BufWriter::with_capacity(64 << 10, stdout))),
            stdout_terminal: io::stdout().is_terminal(),
            stderr_terminal: io::stderr().is_terminal(),
            colours,
            bar: Mutex::new(None),
        }
    }

    /// Whether results are to be JSON.
    pub(crate) const fn json(&self) -> bool {
        self.json
    }

    pub(crate) const fn verbosity(&self) -> i8 {
        self.verbosity
    }

    pub(crate) const fn is_quiet(&self) -> bool {
        self.verbosity < 0
    }

    /// Whether standard error is a terminal, where a bar may be drawn.
    pub(crate) const fn draws(&self) -> bool {
        self.stderr_terminal
    }

    pub(crate) const fn stdout_is_terminal(&self) -> bool {
        self.stdout_terminal
    }

    /// Puts up a bar, or takes it away.
    pub(crate) fn set_bar(&self, bar: Option<ProgressBar>) {
        *locked(&self.bar) = bar;
    }

    /// Writes a line of the result.
    pub(crate) fn line(&self, text: &str) -> Result<()> {
        self.to_stdout(|stdout| writeln!(stdout, "{text}"))
    }

    /// Writes one document or message of the result.
    pub(crate) fn document(&self, value: &impl Serialize) -> Result<()> {
        self.to_stdout(|stdout| {
            serde_json::to_writer(&mut *stdout, value).map_err(io::Error::from)?;
            stdout.write_all(b"\n")
        })
    }

    /// Writes a JSON document that people may read, too.
    pub(crate) fn pretty(&self, value: &impl Serialize) -> Result<()> {
        self.to_stdout(|stdout| {
            serde_json::to_writer_pretty(&mut *stdout, value).map_err(io::Error::from)?;
            stdout.write_all(b"\n")
        })
    }

    /// Writes bytes of the result as they are.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> io::Result<()> {
        locked(&self.stdout).as_mut().map_or(Ok(()), |stdout| stdout.write_all(bytes))
    }

    /// Hands everything over to whoever reads standard output.
    ///
    /// # Errors
    /// When that fails; what was written before may not have arrived.
    pub(crate) fn flush(&self) -> Result<()> {
        let flushed = locked(&self.stdout).as_mut().map_or(Ok(()), Write::flush);
        flushed.map_err(|error| Failure::output(&error))
    }

    /// Says on standard output what was done; not with `-q` or `--json`. That nobody listens is no reason to stop.
    pub(crate) fn say(&self, text: &str) {
        if !self.json && !self.is_quiet() {
            self.line(text).and_then(|()| self.flush()).unwrap_or_else(|failure| self.give_up(&failure));
        }
    }

    /// Goes on without standard output.
    pub(crate) fn give_up(&self, failure: &Failure) {
        if let Some(stdout) = locked(&self.stdout).take() {
            let _ = stdout.into_parts(); // so that what is left in it is not tried again
        }
        if failure.code() != Code::ClosedOutput {
            self.warning(&failure.message());
        }
    }

    /// Says on standard error what happens; not with `-q` or `--json`.
    pub(crate) fn note(&self, text: &str) {
        if !self.json && !self.is_quiet() {
            self.to_stderr(text);
        }
    }

    /// Says on standard error what was asked for just now.
    pub(crate) fn tell(&self, text: &str) {
        self.to_stderr(text);
    }

    /// Says on standard error what only those want to know who asked for it with `-v`.
    pub(crate) fn detail(&self, text: &str) {
        if self.verbosity > 0 {
            self.note(text);
        }
    }

    /// Writes a JSON message of a long operation at once. That nobody listens is no reason to stop.
    pub(crate) fn message(&self, value: &impl Serialize) {
        self.document(value).and_then(|()| self.flush()).unwrap_or_else(|failure| self.give_up(&failure));
    }

    /// Writes a JSON message to standard error.
    pub(crate) fn json_error(&self, value: &impl Serialize) {
        if let Ok(text) = serde_json::to_string(value) {
            self.to_stderr(&text);
        }
    }

    /// Warns; with `--json` as a message of its own kind.
    pub(crate) fn warning(&self, text: &str) {
        if self.json {
            self.json_error(&serde_json::json!({ "message_type": "warning", "message": text }));
        } else {
            self.to_stderr(&format!("{} {text}", self.paint("33;1", "warning:")));
        }
    }

    /// Tells what went wrong, how things are, and what to do next.
    pub(crate) fn error(&self, message: &str, state: Option<&str>, hint: Option<&str>) {
        let mut text = format!("{} {message}", self.paint("31;1", "error:"));
        if let Some(state) = state {
            text.extend(["\n", &self.paint("2", " state:"), " ", state]);
        }
        if let Some(hint) = hint {
            text.extend(["\n", &self.paint("36", "  hint:"), " ", hint]);
        }
        self.to_stderr(&text);
    }

    /// A heading of a table on standard output.
    pub(crate) fn heading(&self, text: &str) -> String {
        if self.colours && self.stdout_terminal { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn paint(&self, style: &str, text: &str) -> String {
        if self.colours && self.stderr_terminal { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn to_stdout(&self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
        let write = || {
            let mut stdout = locked(&self.stdout);
            let Some(stdout) = stdout.as_mut() else { return Ok(()) };
            write(stdout)?;
            if self.stdout_terminal { stdout.flush() } else { Ok(()) }
        };
        let bar = locked(&self.bar);
        let result = match bar.as_ref() {
            Some(bar) if self.stdout_terminal => bar.suspend(write),
            _ => write(),
        };
        result.map_err(|error| Failure::output(&error))
    }

    fn to_stderr(&self, text: &str) {
        // One write, so that lines of several programs do not mix. If nobody listens, there is nobody to tell.
        let line = format!("{text}\n");
        let write = || _ = io::stderr().write_all(line.as_bytes());
        match locked(&self.bar).as_ref() {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}

/// Locks what stays whole whatever a thread that holds it does.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
