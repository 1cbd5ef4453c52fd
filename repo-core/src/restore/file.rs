//! Regular files while their pieces are being written, by several threads.

use std::{
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{Overwrite, context::Context, directory::Directory, link::Links, report::add};
use crate::{
    progress::Outcome,
    sink::{Attributes, Existing, Identity, Sink, SinkError},
    tree::{name::Name, node::Mode},
};

/// Who may open a file until it is finished.
const PRIVATE: u32 = 0o600;

/// How the bytes of a file come under its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    /// Written under its own name, which is free.
    Direct,
    /// Written under another name, and renamed when it is complete. `replace` says whether its own name is taken.
    Staged { replace: bool },
    /// The file that is there is changed where it differs.
    InPlace,
}

/// A regular file that is being restored.
pub(super) struct File<S: Sink> {
    pub(super) directory: Arc<Directory<S>>,
    pub(super) name: Name,
    pub(super) attributes: Attributes,
    pub(super) size_bytes: u64,
    /// The regular file that is there, when it is compared with the snapshot.
    pub(super) existing: Option<Box<Existing>>,
    pub(super) links: Option<Box<Mutex<Links<S>>>>,
    /// Pieces still to be written; the planner counts as one until it has seen all of them.
    pending: AtomicUsize,
    state: Mutex<State>,
}

/// What a file is to be.
pub(super) struct Wanted<S: Sink> {
    pub(super) directory: Arc<Directory<S>>,
    pub(super) name: Name,
    pub(super) attributes: Attributes,
    pub(super) size_bytes: u64,
    /// Whether it has several names.
    pub(super) is_linked: bool,
}

struct State {
    method: Method,
    /// The file that was made or is being changed, for those who open it after the first.
    begun: Option<Identity>,
    /// Whether anything was made or changed.
    touched: bool,
    /// In place: whether anything of its content differs.
    differs: bool,
    failed: Option<String>,
}

impl<S: Sink> File<S> {
    pub(super) fn new(wanted: Wanted<S>, method: Method, existing: Option<Existing>) -> Self {
        let Wanted { directory, name, attributes, size_bytes, is_linked } = wanted;
        directory.hold();
        let differs = existing.is_some_and(|existing| existing.size_bytes != size_bytes);
        Self {
            directory,
            name,
            attributes,
            size_bytes,
            existing: existing.map(Box::new),
            links: is_linked.then(Box::default),
            pending: AtomicUsize::new(1),
            state: Mutex::new(State { method, begun: None, touched: false, differs, failed: None }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn method(&self) -> Method {
        self.state().method
    }

    pub(super) fn set_method(&self, method: Method) {
        self.state().method = method;
    }

    /// In place: something of its content differs.
    pub(super) fn set_differs(&self) {
        self.state().differs = true;
    }

    /// Whether anything of its content is known to differ.
    pub(super) fn differs(&self) -> bool {
        self.state().differs
    }

    pub(super) fn path(&self) -> Vec<u8> {
        self.directory.path_of(&self.name)
    }

    /// The file cannot be had completely; the first reason is the one that is told.
    pub(super) fn fail(&self, reason: impl Into<String>) {
        self.state().failed.get_or_insert_with(|| reason.into());
    }

    pub(super) fn has_failed(&self) -> bool {
        self.state().failed.is_some()
    }

    /// One piece more is to be written.
    pub(super) fn hold(&self) {
        self.pending.fetch_add(1, Ordering::Relaxed);
    }

    /// One piece is done with; whether it was the last one, so that the file is to be finished.
    pub(super) fn release(&self) -> bool {
        self.pending.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Writes a file whose only piece is `bytes`, and finishes it.
    pub(super) fn write_whole(&self, context: &Context<'_, S>, bytes: &[u8]) {
        let method = self.method();
        let mode = if self.attributes.xattrs.is_empty() {
            self.attributes.mode
        } else {
            // Extended attributes can be set only on what may be written.
            Mode::from_bits(PRIVATE)
        };
        let written = self.create(context, method, mode).and_then(|file| {
            self.state().touched = true;
            context.sink.write_at(&file, 0, bytes).map(|()| file)
        });
        match written {
            Ok(file) => {
                add(&context.tally.bytes_written, bytes.len() as u64);
                self.finish(context, Some(file));
            }
            Err(error) => {
                self.fail_in_sink(context, error);
                self.finish(context, None);
            }
        }
    }

    /// Opens the file to write a piece of it, making it if nobody did so yet.
    pub(super) fn open(&self, context: &Context<'_, S>) -> Result<S::File, SinkError> {
        let mut state = self.state();
        let (sink, directory) = (context.sink, &self.directory.handle);
        if let Some(identity) = state.begun {
            return sink.open(directory, &self.write_name(state.method), identity, true);
        }
        let file = match (state.method, &self.existing) {
            (Method::InPlace, Some(existing)) => sink.open(directory, &self.name, existing.identity, true)?,
            (method, _) => self.create(context, method, Mode::from_bits(PRIVATE))?,
        };
        let length = if state.method == Method::InPlace { self.existing.as_ref().map(|e| e.size_bytes) } else { None };
        state.touched = true;
        state.begun = Some(sink.identity(&file)?);
        if length.unwrap_or(0) != self.size_bytes {
            sink.set_length(&file, self.size_bytes)?;
        }
        Ok(file)
    }

    /// A failure in the target is this file's, unless it concerns everything.
    pub(super) fn fail_in_sink(&self, context: &Context<'_, S>, error: SinkError) {
        let taken = error.is_taken();
        if error.concerns_everything() {
            self.fail(error.to_string());
            context.sink_problem(self.path(), error);
        } else if taken {
            self.fail("another entry took this name; on this file system the two may be the same".to_owned());
        } else {
            self.fail(error.to_string());
        }
    }

    /// All pieces are written, or failed: sets the attributes, gives the file its name, and tells.
    pub(super) fn finish(&self, context: &Context<'_, S>, file: Option<S::File>) {
        if context.stopped() {
            // What was written under its own name stays: the next run goes on with it.
            if matches!(self.method(), Method::Staged { .. }) || self.has_failed() {
                self.discard(context);
            }
            return;
        }
        let finished = if self.has_failed() { None } else { self.complete(context, file) };
        match finished {
            Some(outcome) => {
                context.item(outcome, self.size_bytes, || self.path());
                context.progress.done(1, 0);
            }
            None => self.tell_failure(context),
        }
        self.directory.release(context);
    }

    /// The outcome, or nothing when it failed after all.
    fn complete(&self, context: &Context<'_, S>, file: Option<S::File>) -> Option<Outcome> {
        let method = self.method();
        let outcome = self.set_attributes(context, method, file).and_then(|(outcome, identity)| {
            if let Method::Staged { replace } = method {
                let staged = self.write_name(method);
                context.sink.rename(&self.directory.handle, &staged, &self.name, replace)?;
            }
            Ok((outcome, identity))
        });
        match outcome {
            Ok((outcome, identity)) => {
                if let Some(identity) = identity {
                    self.make_links(context, identity);
                }
                Some(outcome)
            }
            Err(error) => {
                self.fail_in_sink(context, error);
                None
            }
        }
    }

    fn set_attributes(
        &self,
        context: &Context<'_, S>,
        method: Method,
        file: Option<S::File>,
    ) -> Result<(Outcome, Option<Identity>), SinkError> {
        let sink = context.sink;
        let unchanged = method == Method::InPlace && !self.state().differs;
        let file = match (file, &self.existing) {
            (Some(file), _) => file,
            (None, Some(existing)) if unchanged => {
                sink.open(&self.directory.handle, &self.name, existing.identity, false)?
            }
            (None, _) => self.open(context)?,
        };
        let identity = if self.links.is_some() { Some(sink.identity(&file)?) } else { None };
        let outcome = match (&self.existing, method) {
            (Some(_), Method::InPlace) if unchanged && sink.has_attributes(&file, &self.attributes)? => {
                return Ok((Outcome::Unchanged, identity));
            }
            (None, Method::Direct | Method::Staged { replace: false }) => Outcome::New,
            _ => Outcome::Changed,
        };
        for error in sink.finish_file(file, &self.attributes) {
            context.sink_problem(self.path(), error);
        }
        Ok((outcome, identity))
    }

    /// Tells what would be done with the file, in a dry run.
    pub(super) fn foretell(&self, context: &Context<'_, S>) {
        let state = self.state();
        let outcome = match (&state.failed, &self.existing, state.method) {
            (Some(_), ..) => None,
            (None, None, Method::Direct | Method::Staged { replace: false }) => Some(Outcome::New),
            (None, Some(existing), Method::InPlace) if !state.differs => {
                let same = context
                    .sink
                    .open(&self.directory.handle, &self.name, existing.identity, false)
                    .and_then(|file| context.sink.has_attributes(&file, &self.attributes));
                Some(if same.unwrap_or(false) { Outcome::Unchanged } else { Outcome::Changed })
            }
            _ => Some(Outcome::Changed),
        };
        drop(state);
        match outcome {
            Some(outcome) => {
                context.item(outcome, self.size_bytes, || self.path());
                context.progress.done(1, 0);
                let identity = self.existing.as_ref().map_or(Identity { device: 0, inode: 0 }, |there| there.identity);
                self.make_links(context, identity);
            }
            None => self.tell_failure(context),
        }
    }

    /// Makes the further names that waited for this file.
    fn make_links(&self, context: &Context<'_, S>, identity: Identity) {
        let Some(links) = &self.links else { return };
        let waiting = links.lock().unwrap_or_else(PoisonError::into_inner).made(identity);
        for link in waiting {
            link.make(context, (&self.directory, &self.name), identity);
        }
    }

    fn tell_failure(&self, context: &Context<'_, S>) {
        let reason = self.state().failed.clone().unwrap_or_default();
        let left = if context.options.dry_run { "it cannot be restored".into() } else { self.discard(context) };
        context.failed(self.path(), "restore", format!("{reason}; {left}"));
        context.progress.done(1, 0);
        if let Some(links) = &self.links {
            let waiting = links.lock().unwrap_or_else(PoisonError::into_inner).lost(&reason);
            for link in waiting {
                link.lose(context, &reason);
            }
        }
    }

    /// Takes away what must not look like the file; says what is left.
    fn discard(&self, context: &Context<'_, S>) -> String {
        let mut state = self.state();
        let touched = mem::take(&mut state.touched);
        let directory = &self.directory.handle;
        match (touched, state.method) {
            (false, Method::Direct) => "nothing was written".into(),
            (false, _) => "what was there is left as it was".into(),
            (true, Method::InPlace) => {
                let aside = affixed(&self.name, b"", b".coffer-damaged");
                match context.sink.rename(directory, &self.name, &aside, false) {
                    Ok(()) => format!("what was there had been changed in part and is now called \"{aside}\""),
                    Err(error) => format!("what was there has been changed in part, and cannot be renamed: {error}"),
                }
            }
            (true, method) => match context.sink.remove(directory, &self.write_name(method)) {
                Ok(()) if method == Method::Direct => "what was written of it was removed".into(),
                Ok(()) => "what was there is left as it was".into(),
                Err(error) => format!("what was written of it cannot be removed: {error}"),
            },
        }
    }

    /// Makes the file, empty. What an interrupted restore left under a staging name goes.
    fn create(&self, context: &Context<'_, S>, method: Method, mode: Mode) -> Result<S::File, SinkError> {
        let (sink, directory) = (context.sink, &self.directory.handle);
        let name = self.write_name(method);
        match sink.create(directory, &name, mode) {
            Err(error) if error.is_taken() && method != Method::Direct => {
                sink.remove(directory, &name)?;
                sink.create(directory, &name, mode)
            }
            done => done,
        }
    }

    /// The name under which the file is written.
    fn write_name(&self, method: Method) -> Name {
        match method {
            Method::Direct | Method::InPlace => self.name.clone(),
            Method::Staged { .. } => affixed(&self.name, b".", b".coffer-restore"),
        }
    }
}

/// Whether an overwrite rule takes a name that is there for a complete file, so that an incomplete one must never be seen.
pub(super) fn trusts_names(overwrite: Overwrite) -> bool {
    matches!(overwrite, Overwrite::IfNewer | Overwrite::Never)
}

/// A name with something before and behind it; when that is too long, a digest stands for its end.
fn affixed(name: &Name, before: &[u8], behind: &[u8]) -> Name {
    let plain = [before, name.as_bytes(), behind].concat();
    Name::new(plain).unwrap_or_else(|_| {
        let digest = blake3::hash(name.as_bytes()).to_hex();
        let kept = name.as_bytes().get(..128).unwrap_or_default();
        let short = [before, kept, b"~", digest.as_bytes().get(..32).unwrap_or_default(), behind].concat();
        Name::new(short).expect("a part of a name, a digest and affixes are a name")
    })
}
