//! A repository in a bucket of Backblaze B2, by its own interface.
//!
//! B2 keeps versions: to delete a name is to delete every version of it, and a name whose newest version is a marker that hides it counts as
//! absent. It has no condition on uploads, so that an object is asked for before it is written. An upload goes to an address that is asked
//! for beforehand, kept for the next one, and thrown away as soon as anything goes wrong there, which is B2's own rule.
//!
//! A token that has expired is renewed once for all threads, and the request repeated. Nothing else is: [`super::retry`] does that.

use self::{
    account::{Account, Right},
    upload::UploadUrls,
};
use super::{
    Abilities, ByteRange, ObjectInfo, ObjectName, Place, Store,
    backend::{Backend, Failure},
    flow::Flow,
    http::{Client, ClientOptions, read::Source},
    secret::Secret,
    tls::TlsOptions,
};
use crate::error::Error;

mod account;
mod answer;
mod download;
mod listing;
mod request;
mod upload;

/// Requests in flight at once, unless it is said otherwise.
pub const CONNECTIONS: usize = 8;

/// Where a repository is, and how to get at it.
#[derive(Debug, Clone)]
pub struct B2Options {
    /// Another place to ask who we are; for services that copy B2.
    pub authority: Option<String>,
    /// The application key's id.
    pub key_id: String,
    /// The application key.
    pub key: Secret,
    /// The bucket.
    pub bucket: String,
    /// What precedes the names of objects.
    pub prefix: String,
    /// Requests in flight at once; [`CONNECTIONS`] if 0.
    pub connections: usize,
    /// Certificates.
    pub tls: TlsOptions,
    /// Whether the proxy is used that the variables of the process name.
    pub system_proxy: bool,
    /// Limits of transfer, and the end.
    pub flow: Flow,
}

/// A repository in a bucket of B2.
pub struct B2Store {
    client: Client,
    account: Account,
    uploads: UploadUrls,
    bucket: String,
    /// What precedes the paths of objects, with a slash at its end unless it is empty.
    root: String,
    connections: usize,
    location: String,
}

impl B2Store {
    /// The repository in a bucket, whether there is one or not; nothing is sent.
    ///
    /// # Errors
    /// [`Error::Invalid`] when what was given cannot be.
    pub fn new(options: B2Options) -> Result<Self, Error> {
        let B2Options { authority, key_id, key, bucket, prefix, connections, tls, system_proxy, flow } = options;
        let connections = if connections == 0 { CONNECTIONS } else { connections };
        let client = Client::new(ClientOptions { socket: None, tls, system_proxy, connections, flow })?;
        let prefix = prefix.trim_matches('/');
        let root = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        let location = format!("b2:{bucket}:{prefix}").trim_end_matches(':').to_owned();
        let account = Account::new(authority, &key_id, &key, bucket.clone(), root.clone())?;
        Ok(Self { client, account, uploads: UploadUrls::default(), bucket, root, connections, location })
    }

    /// An object's name in the bucket.
    fn path(&self, name: &ObjectName) -> String {
        format!("{}{name}", self.root)
    }
}

impl Backend for B2Store {
    /// Buckets are made by their owner; that there is one, and that the key permits what a repository needs, is asked.
    fn make(&self) -> Result<(), Failure> {
        let session = self.account.session(&self.client)?;
        Right::ALL.into_iter().try_for_each(|right| session.permits(right))
    }

    fn making(&self) -> (&'static str, &'static str) {
        ("prepare", "the bucket")
    }

    fn write(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), Failure> {
        if self.tell(name)?.is_some() {
            return Err(Failure::exists());
        }
        self.upload(&self.path(name), bytes)
    }

    fn read(&self, name: &ObjectName, range: ByteRange, into: &mut Vec<u8>) -> Result<(), Failure> {
        self.read_range(name, range, into)
    }

    fn list_place(&self, place: Place, visit: &mut dyn FnMut(ObjectInfo)) -> Result<(), Failure> {
        if place == Place::Config {
            self.tell(&ObjectName::CONFIG)?.into_iter().for_each(visit);
            return Ok(());
        }
        self.list_names(&format!("{}{}/", self.root, place.name()), |file| {
            let path = file.path().strip_prefix(self.root.as_str());
            let name = path.and_then(|path| ObjectName::at_path(place, path));
            name.and_then(|name| file.info(name)).into_iter().for_each(&mut *visit);
        })
    }

    fn tell(&self, name: &ObjectName) -> Result<Option<ObjectInfo>, Failure> {
        self.ask_about(name)
    }

    /// Removes every version of an object, the oldest first: no older one comes to light when it is interrupted.
    fn remove(&self, name: &ObjectName) -> Result<(), Failure> {
        self.account.session(&self.client)?.permits(Right::Delete)?;
        let path = self.path(name);
        for id in self.versions(&path)?.iter().rev() {
            self.delete_version(&path, id)?;
        }
        Ok(())
    }

    fn abilities(&self) -> Abilities {
        Abilities { exclusive_put: false, connections: self.connections, visibility_delay_ms: 0 }
    }

    fn location(&self) -> String {
        self.location.clone()
    }

    fn told(&self, failure: Failure) -> Failure {
        self.client.told(failure)
    }
}

impl Store for B2Store {
    hand_on!(self as &dyn Backend);
}
