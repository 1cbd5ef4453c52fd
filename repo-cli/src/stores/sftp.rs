//! Repositories in folders of other machines: starts the `ssh` that leads there.

use std::{
    io::{self, Read},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use repo_core::{
    progress::Cancel,
    store::sftp::{Carrier, Pipe, SftpStore},
};

use super::StoreSettings;
use crate::{
    location::SftpAddress,
    output::locked,
    report::{Failure, Result},
};

/// Most bytes that are kept of what `ssh` says.
const WORDS_BYTES_MAX: usize = 4096;

/// How long `ssh` may take to end after its pipe did.
const FAREWELL: Duration = Duration::from_secs(5);

/// Starts the program that follows, deaf to the interrupt key: the repository is still needed to end well. It is in the foreground all
/// the same, so that it can ask for a password.
const DEAF: &str = "trap '' INT; exec \"$@\"";

pub(super) fn open(address: &SftpAddress, settings: &StoreSettings, cancel: &Cancel) -> Result<SftpStore> {
    let options = &settings.options;
    let words = match options.get("sftp.command") {
        Some(_) if options.get("sftp.args").is_some() => {
            return Err(Failure::usage("-o sftp.command and -o sftp.args cannot both be given"));
        }
        Some(command) => {
            words(command).ok_or_else(|| Failure::usage("-o sftp.command has a quote that is not closed"))?
        }
        None => {
            let more = words(options.get("sftp.args").unwrap_or_default())
                .ok_or_else(|| Failure::usage("-o sftp.args has a quote that is not closed"))?;
            ssh(address, more)
        }
    };
    if words.is_empty() {
        return Err(Failure::usage("-o sftp.command is empty"));
    }
    let user = address.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
    let location = match address.port {
        Some(port) => format!("sftp://{user}{}:{port}/{}", address.host, address.path),
        None => format!("sftp:{user}{}:{}", address.host, address.path),
    };
    let connections = options.connections("sftp.connections")?;
    let root = if address.path.starts_with('/') { address.path.clone() } else { format!("./{}", address.path) };
    let store = SftpStore::new(&root, location, connections, Box::new(move || connect(&words)));
    Ok(store.with_flow(settings.flow(cancel)))
}

/// `ssh` to the server of files. A connection over which nothing comes any more ends after a minute.
fn ssh(address: &SftpAddress, more: Vec<String>) -> Vec<String> {
    let mut words = vec!["ssh".to_owned()];
    for option in ["ConnectTimeout=20", "ServerAliveInterval=20", "ServerAliveCountMax=3"] {
        words.extend(["-o".to_owned(), option.to_owned()]);
    }
    if let Some(port) = address.port {
        words.extend(["-p".to_owned(), port.to_string()]);
    }
    if let Some(user) = &address.user {
        words.extend(["-l".to_owned(), user.clone()]);
    }
    words.extend(more);
    let host = address.host.trim_start_matches('[').trim_end_matches(']');
    words.extend(["-s".to_owned(), "--".to_owned(), host.to_owned(), "sftp".to_owned()]);
    words
}

fn connect(words: &[String]) -> io::Result<Pipe> {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", DEAF, "sh"]).args(words);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let pipes = child.stdin.take().zip(child.stdout.take()).zip(child.stderr.take());
    let Some(((writer, reader), mut stderr)) = pipes else { return Err(io::ErrorKind::BrokenPipe.into()) };
    let said = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&said);
    let listener = thread::spawn(move || {
        let mut part = [0; 1024];
        while let Ok(length @ 1..) = stderr.read(&mut part) {
            let mut kept = locked(&kept);
            kept.extend_from_slice(&part[..length]);
            let more = kept.len().saturating_sub(WORDS_BYTES_MAX);
            kept.drain(..more);
        }
    });
    Ok(Pipe {
        reader: Box::new(reader),
        writer: Box::new(writer),
        carrier: Box::new(Ssh { child, said, listener: Some(listener) }),
    })
}

/// A running `ssh`.
struct Ssh {
    child: Child,
    said: Arc<Mutex<Vec<u8>>>,
    listener: Option<JoinHandle<()>>,
}

impl Carrier for Ssh {
    fn end(&mut self) {
        let _ = self.child.kill(); // it may have ended already
        let _ = self.child.wait();
    }

    fn last_words(&mut self) -> String {
        let begin = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && begin.elapsed() < FAREWELL {
            thread::sleep(Duration::from_millis(10));
        }
        self.end();
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
        let said = String::from_utf8_lossy(&locked(&self.said)).into_owned();
        // Those who are asked to look at a banner every time do not want to see it in an error.
        let last: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        last[last.len().saturating_sub(3)..].join(" ")
    }
}

impl Drop for Ssh {
    fn drop(&mut self) {
        self.end();
    }
}

/// Takes a command apart into words, with quotes as shells have them. Nothing if one is not closed.
fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(open), _) if letter == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().push(letters.next()?),
            (None, _) if letter.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_taken_apart() {
        for (text, found) in [
            ("", Some(vec![])),
            ("ssh  -i a ", Some(vec!["ssh", "-i", "a"])),
            ("ssh -i 'a b' \"c\\\"d\" e\\ f ''", Some(vec!["ssh", "-i", "a b", "c\"d", "e f", ""])),
            ("ssh 'a", None),
            ("ssh \\", None),
        ] {
            let found = found.map(|words| words.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(words(text), found, "{text}");
        }
    }

    #[test]
    fn arguments_of_ssh() {
        let address = SftpAddress { user: Some("me".into()), host: "[::1]".into(), port: Some(22), path: "/x".into() };
        let words = ssh(&address, vec!["-v".into()]).join(" ");
        assert!(words.ends_with("-p 22 -l me -v -s -- ::1 sftp"), "{words}");
    }
}
