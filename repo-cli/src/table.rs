//! Tables for people: columns as wide as what is in them, two spaces apart.

use unicode_width::UnicodeWidthStr;

use crate::{output::Output, report::Result};

/// On which side a column is ragged.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Rows of cells. A cell may have several lines.
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Writes it. Columns in which there is nothing are left out.
    pub(crate) fn write(&self, output: &Output) -> Result<()> {
        let filled = |column: usize| self.rows.iter().any(|row| row.get(column).is_some_and(|cell| !cell.is_empty()));
        let columns: Vec<(usize, Align)> = self
            .columns
            .iter()
            .enumerate()
            .filter(|(at, _)| filled(*at))
            .map(|(at, (_, align))| (at, *align))
            .collect();
        let width = |at: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(at)).flat_map(|cell| cell.lines());
            cells.chain([self.columns[at].0]).map(columns_of).max().unwrap_or(0)
        };
        let columns: Vec<(usize, Align, usize)> =
            columns.into_iter().map(|(at, align)| (at, align, width(at))).collect();
        let heading = join(&columns, |at| self.columns[at].0);
        output.line(&output.heading(&heading))?;
        for row in &self.rows {
            let cell = |at: usize| row.get(at).map_or("", String::as_str);
            let height = columns.iter().map(|(at, ..)| cell(*at).lines().count()).max().unwrap_or(0).max(1);
            for line in 0..height {
                output.line(&join(&columns, |at| cell(at).lines().nth(line).unwrap_or("")))?;
            }
        }
        Ok(())
    }
}

fn join<'a>(columns: &[(usize, Align, usize)], cell: impl Fn(usize) -> &'a str) -> String {
    let mut line = String::new();
    for (number, (at, align, width)) in columns.iter().enumerate() {
        let text = cell(*at);
        let padding = " ".repeat(width.saturating_sub(columns_of(text)));
        if number > 0 {
            line.push_str("  ");
        }
        match align {
            Align::Left => line.extend([text, &padding]),
            Align::Right => line.extend([&padding, text]),
        }
    }
    line.truncate(line.trim_end().len());
    line
}

/// Width on a terminal: most characters take one column, East Asian ones two, combining ones none.
pub(crate) fn columns_of(text: &str) -> usize {
    text.width()
}
