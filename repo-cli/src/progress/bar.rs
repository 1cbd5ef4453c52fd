//! The bar on a terminal: one line with how much is done, one with what is being worked on.

use std::{collections::VecDeque, io, sync::Arc};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use repo_core::tree::name::escape;
use rustix::termios::tcgetwinsize;
use unicode_width::UnicodeWidthChar;

use super::{Reading, lines};
use crate::{output::Output, size, table::columns_of, time};

/// Columns of the bar.
const BAR_COLUMNS: u16 = 24;

/// Columns of a terminal that does not tell.
const COLUMNS: u16 = 80;

/// Readings the speed is taken from: the last few seconds.
const READINGS: usize = 50;

/// A bar that is up.
pub(super) struct Bar {
    drawn: ProgressBar,
    readings: VecDeque<(f64, u64)>,
}

impl Bar {
    /// Puts up a bar; it is drawn with the first reading.
    pub(super) fn new(output: &Arc<Output>) -> Self {
        let drawn = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        // Drawn whole by us, so that it never shows a part of one reading and a part of the next.
        drawn.set_style(ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar()));
        output.set_bar(Some(drawn.clone()));
        Self { drawn, readings: VecDeque::new() }
    }

    /// Draws it anew.
    pub(super) fn show(&mut self, reading: &Reading) {
        let rate = self.rate(reading);
        let columns = tcgetwinsize(io::stderr()).map(|size| size.ws_col).ok().filter(|columns| *columns > 0);
        self.drawn.set_message(draw(reading, rate, columns.unwrap_or(COLUMNS)));
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

/// Both lines, none longer than the terminal is wide.
fn draw(reading: &Reading, rate: Option<u64>, columns: u16) -> String {
    let mut parts = vec![lines::amount(reading)];
    parts.extend(rate.map(|rate| format!("{}/s", size::bytes(rate))));
    // At the very beginning nobody can tell.
    let left = reading.seconds_left().filter(|left| reading.seconds > 2.0 && *left >= 0.5);
    parts.extend(left.map(|seconds| format!("{} left", time::rounded(seconds))));
    parts.extend((reading.problems > 0).then(|| size::things(reading.problems, "problem", "problems")));
    let text = parts.join(", ");
    let line = match reading.share() {
        Some(share) => format!("{} {:>3.0} %  {text}", bar(share), (share * 100.0).floor()),
        None => text,
    };
    let columns = usize::from(columns.saturating_sub(1));
    let current = escape(&reading.current);
    if current.is_empty() {
        beginning(&line, columns)
    } else {
        format!("{}\n  {}", beginning(&line, columns), end(&current, columns.saturating_sub(2)))
    }
}

/// The bar itself.
fn bar(share: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share from 0 to 1")]
    let filled = usize::from((share * f64::from(BAR_COLUMNS)) as u16);
    format!("{}{}", "━".repeat(filled), "─".repeat(usize::from(BAR_COLUMNS).saturating_sub(filled)))
}

fn beginning(text: &str, columns: usize) -> String {
    let mut taken = 0;
    text.chars()
        .take_while(|character| {
            taken += character.width().unwrap_or(0);
            taken <= columns
        })
        .collect()
}

/// The end of a path that is too long for a line.
fn end(path: &str, columns: usize) -> String {
    if columns_of(path) <= columns {
        return path.to_owned();
    }
    let mut taken = 1;
    let start = path.char_indices().rev().take_while(|(_, character)| {
        taken += character.width().unwrap_or(0);
        taken <= columns
    });
    let start = start.last().map_or(path.len(), |(start, _)| start);
    format!("…{}", path.get(start..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Work;

    #[test]
    fn lines_fit_the_terminal() {
        let reading = Reading {
            work: Work::Backup,
            seconds: 30.0,
            found_files: 1000,
            found_bytes: 4 << 30,
            found_all: true,
            done_files: 250,
            done_bytes: 1 << 30,
            problems: 1,
            current: b"/srv/some/rather/long/path/to/a/file".to_vec(),
        };
        assert_eq!(
            draw(&reading, Some(200 << 20), 120),
            "━━━━━━──────────────────  25 %  250 of 1,000 files, 1.00 GiB of 4.00 GiB, 200 MiB/s, 1 min 30 s left, 1 problem\n  \
             /srv/some/rather/long/path/to/a/file"
        );
        for columns in 0..120 {
            let drawn = draw(&reading, None, columns);
            assert!(drawn.lines().all(|line| columns_of(line) <= usize::from(columns).max(3)), "{columns}: {drawn}");
        }
        let wide = Reading { current: "/srv/写真/東京タワー".as_bytes().to_vec(), ..reading.clone() };
        for columns in 0..60 {
            let drawn = draw(&wide, None, columns);
            assert!(drawn.lines().all(|line| columns_of(line) <= usize::from(columns).max(3)), "{columns}: {drawn}");
        }
        let begun = Reading { found_all: false, current: Vec::new(), problems: 0, ..reading };
        assert_eq!(draw(&begun, None, 80), "250 files, 1.00 GiB");
    }
}
