//! A command whose output is backed up.

use std::{
    ffi::{OsStr, OsString},
    io::{self, BufRead, BufReader, Read},
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::ExitStatusExt,
    },
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use repo_core::{progress::Cancel, tree::name::escape};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, Signal, kill_process},
};

use crate::{
    output::Output,
    report::{Failure, Result, plain},
};

/// How long a command that is not wanted any more has to end by itself.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a read waits before it looks whether the user wants to stop.
const READ_WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// Variables that hold passwords; no business of the command.
const SECRETS: [&str; 2] = ["COFFER_PASSWORD", "RESTIC_PASSWORD"];

/// A command at work. It is ended when this is dropped before it has ended by itself.
pub(crate) struct Running {
    child: Child,
    name: String,
    cancel: Cancel,
}

/// Starts a command. What it writes to standard error is handed on line by line.
///
/// # Errors
/// When it cannot be started.
pub(crate) fn start(command: &[OsString], output: &Arc<Output>, cancel: &Cancel) -> Result<(Running, Stream)> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(Failure::usage("--stdin-from-command needs a command")
            .hint("write it after \"--\", as in: -- pg_dump shop"));
    };
    let name = name_of(program);
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for secret in SECRETS {
        command.env_remove(secret);
    }
    let mut child =
        command.spawn().map_err(|error| Failure::new(format!("cannot start \"{name}\": {}", plain(error))))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let running = Running { child, name: name.clone(), cancel: cancel.clone() };
    if let Some(stderr) = stderr {
        let output = Arc::clone(output);
        thread::spawn(move || hand_on(stderr, &name, &output));
    }
    let stdout = stdout.ok_or_else(|| Failure::new("the command has no output"))?;
    Ok((running, Stream { fd: stdout.into(), cancel: cancel.clone() }))
}

fn name_of(program: &OsStr) -> String {
    let last = std::path::Path::new(program).file_name().unwrap_or(program);
    escape(last.as_encoded_bytes()).into_owned()
}

fn hand_on(stderr: impl Read, name: &str, output: &Output) {
    let mut lines = BufReader::new(stderr);
    let mut line = Vec::new();
    // In pieces, so that a line without an end does not take all memory.
    while let Ok(1..) = lines.by_ref().take(64 << 10).read_until(b'\n', &mut line) {
        output.note(&format!("{name}: {}", escape(line.trim_ascii_end())));
        line.clear();
    }
}

impl Running {
    /// Waits for the end of the command.
    ///
    /// # Errors
    /// A sentence, when it failed.
    pub(crate) fn finish(mut self) -> Result<(), String> {
        let mut pause = Duration::from_millis(1);
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(format!("\"{}\" {}", self.name, describe(status))),
                Ok(None) if self.cancel.is_cancelled() => return Err("interrupted".into()),
                Ok(None) => thread::sleep(pause),
                Err(error) => return Err(format!("cannot wait for \"{}\": {}", self.name, plain(error))),
            }
            pause = (pause * 2).min(Duration::from_millis(100));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // A process that has ended meanwhile is still ours until it is waited for.
            let _ = kill_process(pid, Signal::TERM);
        }
        let until = Instant::now() + PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
            thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a command ended, in words.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with status {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended in an unknown way".into(),
    }
}

/// Reads from a pipe or a file, and stops waiting when the user wants to stop.
pub(crate) struct Stream {
    fd: OwnedFd,
    cancel: Cancel,
}

impl Stream {
    /// Standard input.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn stdin(cancel: &Cancel) -> Result<Self> {
        let fd = io::stdin().as_fd().try_clone_to_owned();
        let fd = fd.map_err(|error| Failure::io("read", "standard input", &error))?;
        Ok(Self { fd, cancel: cancel.clone() })
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.cancel.is_cancelled() {
                return Err(io::Error::other("interrupted"));
            }
            let mut waited = [PollFd::new(&self.fd, PollFlags::IN)];
            match poll(&mut waited, Some(&READ_WAIT)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return Ok(rustix::io::read(&self.fd, into)?),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
