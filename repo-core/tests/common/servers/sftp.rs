//! `sshd` of OpenSSH, for the user who runs the tests, or for one who may do nothing else.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::PathBuf,
    process::{Command, Stdio},
};

use super::{Server, free_port, listens};

/// A server of files.
pub(crate) struct SshServer {
    pub(crate) server: Server,
    pub(crate) port: u16,
    user: Option<&'static str>,
}

/// An ordinary user that every system has, with the numbers of user and group.
const NOBODY: (&str, u32) = ("nobody", 65_534);

impl SshServer {
    /// A server that lets in who runs the tests.
    pub(crate) fn start() -> Self {
        Self::start_for(None)
    }

    /// A server that lets in an ordinary user, with his rights: `nobody` where root runs the tests.
    pub(crate) fn start_for_ordinary_user() -> Self {
        Self::start_for((uzers::get_effective_uid() == 0).then_some(NOBODY))
    }

    fn start_for(user: Option<(&'static str, u32)>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for key in ["host", "client"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(path(key))
                .output()
                .unwrap();
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        }
        fs::copy(path("client.pub"), path("authorized")).unwrap();
        fs::create_dir(path("data")).unwrap();
        let _ = fs::create_dir_all("/run/sshd"); // what sshd wants when root runs it
        let port = free_port();
        let config = format!(
            "ListenAddress 127.0.0.1\nPort {port}\nHostKey {host}\nAuthorizedKeysFile {authorized}\nPidFile none\n\
             StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
             PermitRootLogin prohibit-password\nMaxStartups 100\nMaxSessions 100\nSubsystem sftp internal-sftp\n",
            host = path("host").display(),
            authorized = path("authorized").display(),
        );
        fs::write(path("sshd_config"), config).unwrap();
        let host_key = fs::read_to_string(path("host.pub")).unwrap();
        fs::write(path("known_hosts"), format!("[127.0.0.1]:{port} {host_key}")).unwrap();
        fs::write(path("no_hosts"), "").unwrap();
        let ssh_config = format!(
            "Host *\n  IdentityFile {}\n  IdentitiesOnly yes\n  UserKnownHostsFile {}\n  StrictHostKeyChecking yes\n  BatchMode yes\n",
            path("client").display(),
            path("known_hosts").display()
        );
        fs::write(path("ssh_config"), ssh_config).unwrap();
        fs::set_permissions(path("ssh_config"), fs::Permissions::from_mode(0o600)).unwrap();
        let mut command = Command::new("/usr/sbin/sshd");
        if let Some((_, number)) = user {
            for name in ["", "authorized", "data"] {
                chown(path(name), Some(number), Some(number)).unwrap();
            }
        }
        command.args(["-D", "-e", "-f"]).arg(path("sshd_config"));
        let server = Server::start(command, folder, || listens(port));
        Self { server, port, user: user.map(|(name, _)| name) }
    }

    /// A folder for repositories.
    pub(crate) fn data(&self) -> PathBuf {
        self.server.folder.path().join("data")
    }

    /// A file with all that `ssh` needs to get in.
    pub(crate) fn ssh_config(&self) -> PathBuf {
        self.server.folder.path().join("ssh_config")
    }

    /// The name under which its key is known, whatever port it is reached at.
    pub(crate) fn key_alias(&self) -> String {
        format!("[127.0.0.1]:{}", self.port)
    }

    /// `ssh` to the server's files.
    pub(crate) fn ssh(&self) -> Command {
        self.ssh_by(self.port)
    }

    /// The same by another port that leads there.
    pub(crate) fn ssh_by(&self, port: u16) -> Command {
        let mut command = Command::new("ssh");
        command.arg("-F").arg(self.ssh_config()).arg(format!("-oHostKeyAlias={}", self.key_alias()));
        if let Some(user) = self.user {
            command.args(["-l", user]);
        }
        command.args(["-p", &port.to_string(), "127.0.0.1", "-s", "sftp"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}
