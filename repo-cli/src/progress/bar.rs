//! The bar on a terminal: one line with how much is done, one with what is being worked on.

use std::{collections::VecDeque, sync::Arc};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use repo_core::tree::name::escape;

use super::{Reading, lines};
use crate::{output::Output, size, time};

/// Steps of the bar; finer than any terminal is wide.
const STEPS: u32 = 10_000;

/// Readings the speed is taken from: the last few seconds.
const READINGS: usize = 50;

/// A bar that is up.
pub(super) struct Bar {
    drawn: ProgressBar,
    readings: VecDeque<(f64, u64)>,
    measured: bool,
}

impl Bar {
    /// Puts up a bar; it is drawn with the first reading.
    pub(super) fn new(output: &Arc<Output>) -> Self {
        let bar = ProgressBar::with_draw_target(Some(STEPS.into()), ProgressDrawTarget::stderr());
        bar.set_style(style("{spinner} {msg}"));
        output.set_bar(Some(bar.clone()));
        Self { drawn: bar, readings: VecDeque::new(), measured: false }
    }

    /// Draws it anew.
    pub(super) fn show(&mut self, reading: &Reading) {
        let rate = self.rate(reading);
        let rate = rate.map(|rate| format!("{}/s", size::bytes(rate)));
        // At the very beginning nobody can tell.
        let left = reading.seconds_left().filter(|_| reading.seconds > 2.0);
        let left = left.map(|seconds| format!("{} left", time::rounded(seconds)));
        let problems = (reading.problems > 0).then(|| size::things(reading.problems, "problem", "problems"));
        let parts: Vec<String> = [Some(lines::amount(reading)), rate, left, problems].into_iter().flatten().collect();
        let text = parts.join(", ");
        if let Some(share) = reading.share() {
            if !self.measured {
                self.measured = true;
                self.drawn.set_style(style("{bar:24} {prefix:>5}  {msg}"));
            }
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share from 0 to 1")]
            self.drawn.set_position((share * f64::from(STEPS)) as u64);
            self.drawn.set_prefix(format!("{:.0} %", (share * 100.0).floor()));
        } else {
            self.drawn.tick();
        }
        let current = escape(&reading.current);
        self.drawn.set_message(if current.is_empty() { text } else { format!("{text}\n  {}", shortened(&current)) });
    }

    /// Bytes a second over the last few seconds.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate for display"
    )]
    fn rate(&mut self, reading: &Reading) -> Option<u64> {
        self.readings.push_back((reading.seconds, reading.done_bytes));
        if self.readings.len() > READINGS {
            self.readings.pop_front();
        }
        let (seconds, bytes) = self.readings.front()?;
        let span = reading.seconds - seconds;
        (span > 0.5).then(|| (reading.done_bytes.saturating_sub(*bytes) as f64 / span) as u64)
    }

    /// Takes it away.
    pub(super) fn finish(self, output: &Output) {
        output.set_bar(None);
        self.drawn.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("━╾─").tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ")
}

/// The end of a path that is too long for a line.
fn shortened(path: &str) -> String {
    const WIDTH: usize = 76;
    let characters = path.chars().count();
    if characters <= WIDTH {
        return path.to_owned();
    }
    let end: String = path.chars().skip(characters - WIDTH + 1).collect();
    format!("…{end}")
}
