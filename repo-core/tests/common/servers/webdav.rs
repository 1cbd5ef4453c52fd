//! `WebDAV`, by rclone over a local folder.

use std::path::PathBuf;

use super::{Server, free_port, listens, program};

/// The user that it lets in.
pub(crate) const USER: &str = "me";
pub(crate) const PASSWORD: &str = "right";

/// A server of files.
pub(crate) struct WebdavServer {
    pub(crate) server: Server,
    pub(crate) port: u16,
}

impl WebdavServer {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let port = free_port();
        let mut command = program("rclone");
        command.args(["serve", "webdav", "--config", "/dev/null", "--addr"]);
        command.arg(format!("127.0.0.1:{port}")).args(["--user", USER, "--pass", PASSWORD]).arg(&data);
        Self { server: Server::start(command, folder, || listens(port)), port }
    }

    /// Its URL.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Where it keeps its files.
    pub(crate) fn data(&self) -> PathBuf {
        self.server.folder.path().join("data")
    }
}
