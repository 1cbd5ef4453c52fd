//! Restic REST servers: the one of restic, and that of rclone.

use std::path::PathBuf;

use super::{Server, free_port, listens, listens_at, program};

/// Which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `restic-rest-server`.
    RestServer,
    /// `rclone serve restic` over a local folder.
    Rclone,
}

/// How it is started.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct How {
    pub(crate) append_only: bool,
    /// At a socket in place of a port.
    pub(crate) socket: bool,
    /// For this user and password only.
    pub(crate) user: Option<(&'static str, &'static str)>,
    /// Most bytes it keeps.
    pub(crate) quota_bytes: Option<u64>,
    /// With a certificate of its own, `cert.pem` in its folder.
    pub(crate) tls: bool,
}

/// A server of many repositories.
pub(crate) struct RestServer {
    pub(crate) server: Server,
    pub(crate) port: u16,
    pub(crate) socket: Option<PathBuf>,
    tls: bool,
}

impl RestServer {
    pub(crate) fn start(kind: Kind, how: How) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let socket = how.socket.then(|| folder.path().join("socket"));
        let port = free_port();
        let address = match &socket {
            Some(socket) => format!("unix:{}", socket.display()),
            None => format!("127.0.0.1:{port}"),
        };
        let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        if how.tls {
            super::certificate(&cert, &key);
        }
        let mut command = match kind {
            Kind::RestServer => {
                let mut command = program("rest-server");
                command.args(["--listen", &address, "--path"]).arg(&data);
                match how.user {
                    Some((user, password)) => {
                        std::fs::write(data.join(".htpasswd"), super::htpasswd(user, password)).unwrap();
                    }
                    None => {
                        command.arg("--no-auth");
                    }
                }
                if let Some(bytes) = how.quota_bytes {
                    command.arg("--max-size").arg(bytes.to_string());
                }
                if how.tls {
                    command.arg("--tls").arg("--tls-cert").arg(&cert).arg("--tls-key").arg(&key);
                }
                command
            }
            Kind::Rclone => {
                assert!(how.quota_bytes.is_none(), "rclone has no quota");
                let mut command = program("rclone");
                let address = address.replace("unix:", "unix://");
                // Its cache of objects would keep the length that one had while it was being written.
                command.args([
                    "serve",
                    "restic",
                    "--config",
                    "/dev/null",
                    "--cache-objects=false",
                    "-v",
                    "--addr",
                    &address,
                ]);
                if let Some((user, password)) = how.user {
                    command.args(["--user", user, "--pass", password]);
                }
                if how.tls {
                    command.arg("--cert").arg(&cert).arg("--key").arg(&key);
                }
                command.arg(&data);
                command
            }
        };
        if how.append_only {
            command.arg("--append-only");
        }
        let server = match &socket {
            Some(socket) => Server::start(command, folder, || listens_at(socket)),
            None => Server::start(command, folder, || listens(port)),
        };
        Self { server, port, socket, tls: how.tls }
    }

    /// The URL of a repository.
    pub(crate) fn url(&self, repository: &str) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}/{repository}/", self.port)
    }

    /// Where it keeps a repository.
    pub(crate) fn data(&self, repository: &str) -> PathBuf {
        self.server.folder.path().join("data").join(repository)
    }

    pub(crate) fn certificate(&self) -> Vec<u8> {
        std::fs::read(self.server.folder.path().join("cert.pem")).unwrap()
    }
}
