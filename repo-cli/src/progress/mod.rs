//! Showing how far a long operation is: a bar on a terminal, JSON lines, or plain lines where that was asked for.

use std::{
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use repo_core::{
    progress::{Outcome, Problem, Progress},
    tree::name::escape,
};
use serde_json::json;

use crate::{
    context::Context,
    json::text,
    output::{Output, locked},
    signals::Questions,
};

mod bar;
mod lines;

use bar::Bar;

/// How often a display is renewed in a second, unless the user says otherwise.
const FPS: f64 = 10.0;

/// What is being done; the JSON of each has its own names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Work {
    #[default]
    Backup,
    Restore,
    Check,
    Dump,
    Prune,
    Rewrite,
    Copy,
}

impl Work {
    /// What is counted.
    const fn things(self) -> (&'static str, &'static str) {
        match self {
            Self::Backup | Self::Restore | Self::Dump => ("file", "files"),
            Self::Check | Self::Prune => ("pack", "packs"),
            Self::Rewrite | Self::Copy => ("snapshot", "snapshots"),
        }
    }
}

/// How far the work is. Told by the engine, from any thread.
pub(crate) struct Meter {
    work: Work,
    output: Arc<Output>,
    started: Instant,
    found_files: AtomicU64,
    found_bytes: AtomicU64,
    found_all: AtomicBool,
    done_files: AtomicU64,
    done_bytes: AtomicU64,
    problems: AtomicU64,
    checkpoints: AtomicU64,
    /// What is being worked on, if anybody shows it.
    current: Option<Mutex<Vec<u8>>>,
}

/// A [`Meter`] at one moment.
#[derive(Debug, Clone, Default)]
struct Reading {
    work: Work,
    seconds: f64,
    found_files: u64,
    found_bytes: u64,
    found_all: bool,
    done_files: u64,
    done_bytes: u64,
    problems: u64,
    current: Vec<u8>,
}

impl Reading {
    /// Which part is done, from 0 to 1; nothing while nobody knows how much there is.
    #[expect(clippy::cast_precision_loss, reason = "a share for display")]
    fn share(&self) -> Option<f64> {
        match (self.found_all, self.found_bytes, self.found_files) {
            (false, ..) | (true, 0, 0) => None,
            (true, 0, files) => Some((self.done_files as f64 / files as f64).min(1.0)),
            (true, bytes, _) => Some((self.done_bytes as f64 / bytes as f64).min(1.0)),
        }
    }

    /// How many seconds are left, by how long the part that is done took.
    fn seconds_left(&self) -> Option<f64> {
        let share = self.share().filter(|share| *share > 0.005)?;
        Some(self.seconds * (1.0 - share) / share)
    }
}

impl Meter {
    fn reading(&self) -> Reading {
        let get = |number: &AtomicU64| number.load(Ordering::Relaxed);
        Reading {
            work: self.work,
            seconds: self.started.elapsed().as_secs_f64(),
            found_files: get(&self.found_files),
            found_bytes: get(&self.found_bytes),
            found_all: self.found_all.load(Ordering::Relaxed),
            done_files: get(&self.done_files),
            done_bytes: get(&self.done_bytes),
            problems: get(&self.problems),
            current: self.current.as_ref().map(|current| locked(current).clone()).unwrap_or_default(),
        }
    }

    /// How often what was finished has been claimed.
    pub(crate) fn checkpoints(&self) -> u64 {
        self.checkpoints.load(Ordering::Relaxed)
    }

    /// Seconds since the work began.
    pub(crate) fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }
}

impl Progress for Meter {
    fn found(&self, files: u64, bytes: u64) {
        self.found_files.fetch_add(files, Ordering::Relaxed);
        self.found_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn found_all(&self) {
        self.found_all.store(true, Ordering::Relaxed);
        if self.work == Work::Backup && self.output.json() && self.wants_items() {
            let found = self.reading();
            self.output.message(&json!({
                "message_type": "verbose_status",
                "action": "scan_finished",
                "item": "",
                "duration": found.seconds,
                "data_size": found.found_bytes,
                "total_files": found.found_files,
            }));
        }
    }

    fn done(&self, files: u64, bytes: u64) {
        self.done_files.fetch_add(files, Ordering::Relaxed);
        self.done_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn current(&self, path: &[u8]) {
        // Many threads say this for every file; what another one says meanwhile is as good.
        if let Some(Ok(mut current)) = self.current.as_ref().map(Mutex::try_lock) {
            current.clear();
            current.extend_from_slice(path);
        }
    }

    fn item(&self, path: &[u8], outcome: Outcome, bytes: u64) {
        let action = match (self.work, outcome) {
            (Work::Restore, Outcome::New) => "restored",
            (Work::Restore, Outcome::Changed) => "updated",
            (_, Outcome::New) => "new",
            (_, Outcome::Changed) => "modified",
            (_, Outcome::Unchanged) => "unchanged",
            (_, Outcome::Deleted) => "deleted",
        };
        if self.output.json() {
            let size = if self.work == Work::Restore { "size" } else { "data_size" };
            self.output.message(
                &json!({ "message_type": "verbose_status", "action": action, "item": text(path), size: bytes }),
            );
        } else {
            self.output.say(&format!("{action:9}  {}", escape(path)));
        }
    }

    fn checkpoint(&self) {
        self.checkpoints.fetch_add(1, Ordering::Relaxed);
    }

    fn problem(&self, problem: &Problem) {
        self.problems.fetch_add(1, Ordering::Relaxed);
        if self.output.json() {
            self.output.json_error(&json!({
                "message_type": "error",
                "error": { "message": crate::report::plain(&problem.message) },
                "during": problem.during,
                "item": text(&problem.path),
            }));
        } else {
            self.output.warning(&describe(problem));
        }
    }

    fn wants_items(&self) -> bool {
        self.output.verbosity() >= 2
    }
}

/// A problem in one line.
fn describe(problem: &Problem) -> String {
    let path = escape(&problem.path);
    let place = if path.is_empty() { "/".into() } else { path };
    format!("cannot {} {place}: {}", problem.during, crate::report::plain(&problem.message))
}

/// How a [`Meter`] is shown.
enum Face {
    Bar(Bar),
    Json,
    Plain,
    /// Only when a signal asks.
    Hidden,
}

/// Shows a [`Meter`] until it is dropped.
pub(crate) struct Display {
    meter: Arc<Meter>,
    is_shown: bool,
    ended: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Display {
    /// Begins to show how far `work` is, in the way the user wants it.
    pub(crate) fn begin(work: Work, context: &Context) -> Self {
        let output = Arc::clone(&context.output);
        let asked = context.progress_fps.is_some();
        let face = match () {
            () if output.is_quiet() && !asked => Face::Hidden,
            () if output.json() => Face::Json,
            () if output.draws() && !output.is_quiet() => Face::Bar(Bar::new(&output)),
            () if asked => Face::Plain,
            () => Face::Hidden,
        };
        let is_shown = !matches!(face, Face::Hidden);
        let shows_current = is_shown && !matches!(face, Face::Plain);
        let meter = Arc::new(Meter {
            work,
            output,
            started: Instant::now(),
            found_files: AtomicU64::new(0),
            found_bytes: AtomicU64::new(0),
            found_all: AtomicBool::new(false),
            done_files: AtomicU64::new(0),
            done_bytes: AtomicU64::new(0),
            problems: AtomicU64::new(0),
            checkpoints: AtomicU64::new(0),
            current: shows_current.then(Mutex::default),
        });
        let ended = Arc::new((Mutex::new(false), Condvar::new()));
        let pause = Duration::from_secs_f64(1.0 / context.progress_fps.unwrap_or(FPS));
        let ticker = Ticker { meter: Arc::clone(&meter), face, questions: context.questions.clone(), pause };
        let flag = Arc::clone(&ended);
        let thread = thread::Builder::new().name("progress".into()).spawn(move || ticker.run(&flag)).ok();
        Self { meter, is_shown, ended, thread }
    }

    /// What the engine tells.
    pub(crate) fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Whether somebody sees it without asking.
    pub(crate) const fn is_shown(&self) -> bool {
        self.is_shown
    }

    /// Seconds since the work began.
    pub(crate) fn seconds(&self) -> f64 {
        self.meter.seconds()
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        *locked(&self.ended.0) = true;
        self.ended.1.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a display that panicked has shown nothing wrong
        }
    }
}

/// The thread that shows.
struct Ticker {
    meter: Arc<Meter>,
    face: Face,
    questions: Questions,
    pause: Duration,
}

impl Ticker {
    fn run(mut self, (ended, changed): &(Mutex<bool>, Condvar)) {
        let mut answered = self.questions.asked();
        let mut flag = locked(ended);
        // A hidden display only has to look for questions now and then.
        let pause = if matches!(self.face, Face::Hidden) { Duration::from_millis(200) } else { self.pause };
        loop {
            let (next, _) = changed
                .wait_timeout_while(flag, pause, |ended| !*ended)
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            if *next {
                break;
            }
            drop(next);
            let asked = self.questions.asked();
            self.show(asked != answered);
            answered = asked;
            flag = locked(ended);
        }
        if let Face::Bar(bar) = self.face {
            bar.finish(&self.meter.output);
        }
    }

    fn show(&mut self, asked: bool) {
        let output = &self.meter.output;
        match &mut self.face {
            Face::Bar(bar) => bar.show(&self.meter.reading()),
            Face::Json => output.message(&lines::json(&self.meter.reading())),
            Face::Plain => {
                // Asked for by a variable, so that it is shown with `-q` too.
                let shown = output.line(&lines::plain(&self.meter.reading())).and_then(|()| output.flush());
                shown.unwrap_or_else(|failure| output.give_up(&failure));
            }
            Face::Hidden if asked && output.json() => {
                output.message(&lines::json(&self.meter.reading()));
            }
            Face::Hidden if asked => output.tell(&lines::plain(&self.meter.reading())),
            Face::Hidden => {}
        }
    }
}
