//! Progress as a line of JSON, with restic's names, or of text.

use serde_json::{Value, json};

use super::{Reading, Work};
use crate::{json::text, size, time};

/// A status message.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds of a run, never negative")]
pub(super) fn json(reading: &Reading) -> Value {
    let mut value = json!({
        "message_type": "status",
        "seconds_elapsed": reading.seconds as u64,
        "percent_done": reading.share().unwrap_or(0.0),
        "total_files": reading.found_files,
        "total_bytes": reading.found_bytes,
    });
    let fields = match reading.work {
        Work::Restore => {
            vec![("files_restored", json!(reading.done_files)), ("bytes_restored", json!(reading.done_bytes))]
        }
        Work::Backup | Work::Check | Work::Dump | Work::Prune | Work::Rewrite | Work::Copy => {
            vec![("files_done", json!(reading.done_files)), ("bytes_done", json!(reading.done_bytes))]
        }
    };
    if let Some(object) = value.as_object_mut() {
        object.extend(fields.into_iter().map(|(name, field)| (name.to_owned(), field)));
        if let Some(seconds) = reading.seconds_left() {
            object.insert("seconds_remaining".into(), json!(seconds as u64));
        }
        object.insert("error_count".into(), json!(reading.problems));
        if !reading.current.is_empty() {
            object.insert("current_files".into(), json!([text(&reading.current)]));
        }
    }
    value
}

/// The same for people.
pub(super) fn plain(reading: &Reading) -> String {
    let mut parts = Vec::new();
    if let Some(share) = reading.share() {
        parts.push(format!("{:.1} %", share * 100.0));
    }
    parts.push(amount(reading));
    if reading.problems > 0 {
        parts.push(size::things(reading.problems, "problem", "problems"));
    }
    parts.push(format!("{} so far", time::duration(reading.seconds)));
    if let Some(seconds) = reading.seconds_left() {
        parts.push(format!("{} left", time::rounded(seconds)));
    }
    parts.join(", ")
}

/// How much is done, of how much if that is known.
pub(super) fn amount(reading: &Reading) -> String {
    let (one, many) = reading.work.things();
    let bytes = size::bytes(reading.done_bytes);
    if reading.found_all {
        format!(
            "{} of {}, {bytes} of {}",
            size::count(reading.done_files),
            size::things(reading.found_files, one, many),
            size::bytes(reading.found_bytes)
        )
    } else {
        format!("{}, {bytes}", size::things(reading.done_files, one, many))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_shown() {
        let begun = Reading {
            seconds: 2.0,
            done_files: 1,
            done_bytes: 10,
            found_files: 7,
            found_bytes: 40,
            ..Reading::default()
        };
        assert_eq!(plain(&begun), "1 file, 10 B, 2.00 s so far");
        let known = Reading { found_all: true, ..begun };
        assert_eq!(plain(&known), "25.0 %, 1 of 7 files, 10 B of 40 B, 2.00 s so far, 6 s left");
        let value = json(&known);
        assert_eq!((&value["percent_done"], &value["seconds_remaining"]), (&json!(0.25), &json!(6)));
        assert_eq!(json(&Reading { work: Work::Restore, ..known })["files_restored"], json!(1));
    }
}
