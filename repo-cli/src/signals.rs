//! Signals: the first one that asks to stop is obeyed at the next safe point, the second one at once.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use repo_core::progress::Cancel;
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1},
    iterator::Signals,
};

use crate::report::Code;

/// Whether a password is being typed, which nothing but the end of the program interrupts.
static PROMPTING: AtomicBool = AtomicBool::new(false);

/// As long as it lives, the first signal ends the program.
pub(crate) struct Prompting;

impl Prompting {
    pub(crate) fn begin() -> Self {
        PROMPTING.store(true, Ordering::SeqCst);
        Self
    }
}

impl Drop for Prompting {
    fn drop(&mut self) {
        PROMPTING.store(false, Ordering::SeqCst);
    }
}

/// How often SIGUSR1 asked for a line of progress.
#[derive(Clone, Default)]
pub(crate) struct Questions(Arc<AtomicU64>);

impl Questions {
    pub(crate) fn asked(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Listens to signals from now on.
///
/// # Errors
/// When the system does not allow it.
pub(crate) fn listen(cancel: Cancel) -> io::Result<Questions> {
    let questions = Questions::default();
    let asked = questions.clone();
    // How the terminal is now: to be put back if the program ends while a password is typed.
    let terminal = tcgetattr(io::stdin()).ok();
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGUSR1])?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            if signal == SIGUSR1 {
                asked.0.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let prompting = PROMPTING.load(Ordering::SeqCst);
            if prompting && let Some(terminal) = &terminal {
                let _ = tcsetattr(io::stdin(), OptionalActions::Now, terminal);
            }
            if prompting || cancel.is_cancelled() {
                std::process::exit(i32::from(Code::Interrupted as u8));
            }
            cancel.cancel();
        }
    })?;
    Ok(questions)
}
