//! What an operation takes from the world besides its store: the time of day and random bytes.
//!
//! Behind a trait, so that a simulation can replay a run; nothing else in this crate reads a clock or makes a random
//! number.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::time::Timestamp;

/// Clock and randomness.
pub trait Runtime: Send + Sync {
    /// The time of day: for display, retention and "is it worth a look", never for safety.
    fn now(&self) -> Timestamp;

    /// Fills `into` with bytes nobody can predict and that never come twice, not even after a fork or a restored
    /// virtual machine: salts of keys depend on it.
    fn random(&self, into: &mut [u8]);

    /// Lets so much time pass, by a clock that no one can set.
    fn sleep_ms(&self, milliseconds: u64);

    /// Whether a process of this number is running on this machine. For courtesy only; where nobody can tell, it is.
    fn is_running(&self, _process: u32) -> bool {
        true
    }

    /// 32 random bytes.
    fn random_32(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.random(&mut bytes);
        bytes
    }
}

/// The machine's own clock and the kernel's random generator.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRuntime;

impl Runtime for SystemRuntime {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    fn now(&self) -> Timestamp {
        let (seconds, nanoseconds) = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(after) => (i64::try_from(after.as_secs()).unwrap_or(i64::MAX), after.subsec_nanos()),
            Err(before) => (-i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX), 0),
        };
        Timestamp::new(seconds, nanoseconds).unwrap_or_default()
    }

    fn is_running(&self, process: u32) -> bool {
        use rustix::{
            io::Errno,
            process::{Pid, test_kill_process},
        };
        // Somebody else's process may not be signalled, but it is there.
        let process = i32::try_from(process).ok().and_then(Pid::from_raw);
        process.is_some_and(|process| test_kill_process(process) != Err(Errno::SRCH))
    }

    fn sleep_ms(&self, milliseconds: u64) {
        std::thread::sleep(std::time::Duration::from_millis(milliseconds));
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that asks for randomness")]
    fn random(&self, into: &mut [u8]) {
        // Without randomness no key can be made; there is no state in which going on would be right.
        getrandom::fill(into).expect("the kernel gives random bytes");
    }
}
