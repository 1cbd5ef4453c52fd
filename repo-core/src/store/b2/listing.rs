//! What is in the bucket: names, and versions of a name.

use serde::Deserialize;
use serde_json::json;

use super::{
    B2Store,
    account::Right,
    answer::{Done, is_absent},
};
use crate::{
    store::{ObjectInfo, ObjectName, backend::Failure},
    time::Timestamp,
};

/// Entries of a page. B2 charges for each thousand.
const PAGE_ENTRIES: usize = 1000;

/// Most versions of one name. Each answer to an upload that is lost leaves one.
const VERSIONS_MAX: usize = 100_000;

/// A file, or a version of one.
#[derive(Deserialize)]
pub(super) struct File {
    #[serde(rename = "fileName")]
    path: String,
    #[serde(rename = "fileId")]
    id: Option<String>,
    #[serde(rename = "contentLength")]
    size_bytes: Option<u64>,
    action: String,
    #[serde(rename = "uploadTimestamp")]
    modified_ms: Option<i64>,
}

impl File {
    /// Its name in the bucket.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// As the object of that name, if it is a whole file.
    pub(super) fn info(&self, name: ObjectName) -> Option<ObjectInfo> {
        let is_file = !matches!(self.action.as_str(), "start" | "hide" | "folder");
        let size_bytes = self.size_bytes.filter(|_| is_file)?;
        Some(ObjectInfo { name, size_bytes, modified: self.modified_ms.map(of_milliseconds) })
    }
}

/// A time as B2 tells it.
pub(super) const fn of_milliseconds(milliseconds: i64) -> Timestamp {
    Timestamp::from_seconds(milliseconds.div_euclid(1000))
}

/// A page of a listing, and where the next one begins.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    files: Vec<File>,
    next_file_name: Option<String>,
    next_file_id: Option<String>,
}

impl B2Store {
    /// Tells of the newest version of every name that begins so and is not hidden.
    pub(super) fn list_names(&self, prefix: &str, mut visit: impl FnMut(&File)) -> Result<(), Failure> {
        let mut start = None::<String>;
        loop {
            let page: Page = self.call(Right::List, "b2_list_file_names", |session| {
                json!({
                    "bucketId": session.bucket_id,
                    "prefix": prefix,
                    "startFileName": start,
                    "maxFileCount": PAGE_ENTRIES,
                })
            })?;
            page.files.iter().for_each(&mut visit);
            match page.next_file_name {
                None => return Ok(()),
                Some(next) if start.as_ref().is_some_and(|start| next <= *start) => {
                    return Err(Failure::permanent("the listing goes round in circles"));
                }
                next => start = next,
            }
        }
    }

    /// Looks for one object in the listing, which a bucket that is not there has none of.
    pub(super) fn look_up(&self, name: &ObjectName) -> Result<Option<ObjectInfo>, Failure> {
        let path = self.path(name);
        let page: Page = self.call(Right::List, "b2_list_file_names", |session| {
            json!({
                "bucketId": session.bucket_id,
                "prefix": path,
                "startFileName": path,
                "maxFileCount": 1,
            })
        })?;
        Ok(page.files.iter().find(|file| file.path == path).and_then(|file| file.info(*name)))
    }

    /// All versions of a name, markers that hide it included, the newest first.
    pub(super) fn versions(&self, path: &str) -> Result<Vec<String>, Failure> {
        let mut versions = Vec::new();
        let mut start = None::<String>;
        loop {
            let page: Page = self.call(Right::List, "b2_list_file_versions", |session| {
                json!({
                    "bucketId": session.bucket_id,
                    "prefix": path,
                    "startFileName": path,
                    "startFileId": start,
                    "maxFileCount": PAGE_ENTRIES,
                })
            })?;
            let of_name = page.files.into_iter().filter(|file| file.path == path);
            versions.extend(of_name.filter_map(|file| file.id));
            if page.next_file_name.as_deref() != Some(path) || page.next_file_id.is_none() {
                return Ok(versions);
            }
            if page.next_file_id == start || versions.len() > VERSIONS_MAX {
                return Err(Failure::permanent("the listing of its versions does not end"));
            }
            start = page.next_file_id;
        }
    }

    /// Removes one version for good.
    pub(super) fn delete_version(&self, path: &str, id: &str) -> Result<(), Failure> {
        let deleted =
            self.call::<Done>(Right::Delete, "b2_delete_file_version", |_| json!({ "fileName": path, "fileId": id }));
        match deleted {
            Err(failure) if is_absent(&failure) => Ok(()), // somebody else was faster
            done => done.map(|_| ()),
        }
    }
}
