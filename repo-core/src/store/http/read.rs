//! Reads an object, or a part of one, out of answers.

use std::io::{self, Read};

use ureq::{
    Body,
    http::{Response, StatusCode},
};

use super::{answer::Answer, connect};
use crate::store::{
    ByteRange, ObjectName,
    backend::{Backend, Failure},
};

/// Memory that is set aside for what a server says it will send; beyond that it grows as bytes arrive.
const BELIEVED_BYTES: u64 = 64 << 20;

/// A server that objects can be read from.
pub(in crate::store) trait Source: Backend {
    /// Asks for an object, or the part of it that such a header names. Gives answers of the statuses 200, 206 and 416; what any other one
    /// means is known to the server's protocol.
    fn ask(&self, name: &ObjectName, range: Option<&str>, wanted_bytes: u64) -> Result<Response<Body>, Failure>;

    /// Replaces `into` by the bytes asked for; on failure anything may be in it.
    fn read_range(&self, name: &ObjectName, range: ByteRange, into: &mut Vec<u8>) -> Result<(), Failure> {
        into.clear();
        match range {
            ByteRange::WholeUpTo { limit_bytes } => whole(self, name, limit_bytes, into),
            ByteRange::Exact { offset_bytes, length_bytes } => exact(self, name, offset_bytes, length_bytes, into),
            ByteRange::Suffix { length_bytes } => suffix(self, name, length_bytes, into),
        }
    }
}

fn whole(
    server: &(impl Source + ?Sized),
    name: &ObjectName,
    limit_bytes: u64,
    into: &mut Vec<u8>,
) -> Result<(), Failure> {
    let answer = server.ask(name, None, limit_bytes)?;
    if answer.status() != StatusCode::OK {
        return Err(unexpected(&answer));
    }
    let too_long = |more: &str, bytes: u64| {
        Failure::damage(format!("it has {more}{bytes} bytes; no more than {limit_bytes} are possible"))
    };
    match Answer(&answer).length_bytes() {
        Some(size_bytes) if size_bytes > limit_bytes => Err(too_long("", size_bytes)),
        Some(size_bytes) => take(answer, 0, size_bytes, into),
        None => {
            let more = limit_bytes.saturating_add(1);
            fill(&mut answer.into_body().into_with_config().limit(u64::MAX).reader().take(more), into)?;
            if into.len() as u64 > limit_bytes { Err(too_long("more than ", limit_bytes)) } else { Ok(()) }
        }
    }
}

fn exact(
    server: &(impl Source + ?Sized),
    name: &ObjectName,
    offset_bytes: u64,
    length_bytes: u64,
    into: &mut Vec<u8>,
) -> Result<(), Failure> {
    let short = |size: String| {
        Failure::damage(format!("it has {size} bytes; {length_bytes} from byte {offset_bytes} on are wanted"))
    };
    let end = offset_bytes.checked_add(length_bytes).filter(|end| i64::try_from(*end).is_ok());
    let Some(last) = end.filter(|_| length_bytes > 0).map(|end| end - 1) else {
        // Nothing that could be asked for; but the object must be there, and reach as far.
        let size_bytes = server.tell(name)?.ok_or_else(Failure::absent)?.size_bytes;
        return if end.is_some_and(|end| end <= size_bytes) { Ok(()) } else { Err(short(size_bytes.to_string())) };
    };
    let answer = server.ask(name, Some(&format!("bytes={offset_bytes}-{last}")), length_bytes)?;
    match answer.status() {
        StatusCode::PARTIAL_CONTENT => match Answer(&answer).content_range() {
            Some((first, end, _)) if first == offset_bytes && end == last => take(answer, 0, length_bytes, into),
            Some((first, end, Some(size_bytes))) if first == offset_bytes && end < last && end + 1 == size_bytes => {
                Err(short(size_bytes.to_string()))
            }
            _ => Err(Failure::permanent("the server sent another part of it than it was asked for")),
        },
        // It knows no ranges, and sends all of it.
        StatusCode::OK => match Answer(&answer).length_bytes() {
            Some(size_bytes) if size_bytes <= last => Err(short(size_bytes.to_string())),
            _ => take(answer, offset_bytes, length_bytes, into),
        },
        StatusCode::RANGE_NOT_SATISFIABLE => Err(short("fewer".to_owned())),
        _ => Err(unexpected(&answer)),
    }
}

fn suffix(
    server: &(impl Source + ?Sized),
    name: &ObjectName,
    length_bytes: u64,
    into: &mut Vec<u8>,
) -> Result<(), Failure> {
    if length_bytes == 0 {
        return server.tell(name)?.map(|_| ()).ok_or_else(Failure::absent);
    }
    if i64::try_from(length_bytes).is_err() {
        return whole(server, name, u64::MAX, into); // more than a server can count, and than any object has
    }
    let answer = server.ask(name, Some(&format!("bytes=-{length_bytes}")), length_bytes)?;
    match answer.status() {
        StatusCode::PARTIAL_CONTENT => match Answer(&answer).content_range() {
            Some((first, last, Some(size_bytes)))
                if last.checked_add(1) == Some(size_bytes) && first == size_bytes.saturating_sub(length_bytes) =>
            {
                take(answer, 0, size_bytes - first, into)
            }
            _ => Err(Failure::permanent("the server sent another part of it than it was asked for")),
        },
        StatusCode::OK => match Answer(&answer).length_bytes() {
            Some(size_bytes) => {
                let length_bytes = length_bytes.min(size_bytes);
                take(answer, size_bytes - length_bytes, length_bytes, into)
            }
            None => Err(Failure::permanent("the server knows no ranges and does not tell how large it is")),
        },
        // An empty object has no last byte.
        StatusCode::RANGE_NOT_SATISFIABLE if server.tell(name)?.is_some_and(|info| info.size_bytes == 0) => Ok(()),
        _ => Err(unexpected(&answer)),
    }
}

fn unexpected(answer: &Response<Body>) -> Failure {
    Failure::permanent(format!("the server answered {}, which does not go with what it was asked", answer.status()))
}

/// Makes `into` the `length_bytes` bytes after the first `skip_bytes` of an answer.
fn take(answer: Response<Body>, skip_bytes: u64, length_bytes: u64, into: &mut Vec<u8>) -> Result<(), Failure> {
    let mut body = answer.into_body().into_with_config().limit(u64::MAX).reader();
    let skipped = io::copy(&mut (&mut body).take(skip_bytes), &mut io::sink()).map_err(connect::io_failure)?;
    let expected = usize::try_from(length_bytes.min(BELIEVED_BYTES)).unwrap_or(0);
    into.try_reserve(expected).map_err(|_| Failure::permanent("there is not enough memory for it"))?;
    fill(&mut (&mut body).take(length_bytes), into)?;
    if skipped < skip_bytes || (into.len() as u64) < length_bytes {
        return Err(Failure::new(
            crate::error::StoreErrorKind::Retry,
            "the connection ended before all of it had come",
        ));
    }
    // Reading to the end lets the connection be used again.
    if skip_bytes == 0 {
        let _ = body.read(&mut [0]);
    }
    Ok(())
}

fn fill(body: &mut impl Read, into: &mut Vec<u8>) -> Result<(), Failure> {
    body.read_to_end(into).map(|_| ()).map_err(connect::io_failure)
}
