//! A repository and files of its own for every test, and the real binary.
#![allow(dead_code, reason = "not every test file needs everything")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use assert_cmd::{Command, assert::Assert};
use serde_json::Value;

/// The binary under test.
pub(crate) const COFFER: &str = env!("CARGO_BIN_EXE_coffer");

/// A folder that goes away, with `src` (some files) and room for a repository.
pub(crate) struct Sandbox {
    pub(crate) dir: tempfile::TempDir,
}

impl Sandbox {
    /// Files, and no repository yet.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let sandbox = Self { dir };
        sandbox.write("src/a.txt", "first file\n");
        sandbox.write("src/sub/b.txt", "second file\n");
        sandbox.write("src/sub/deeper/c.bin", &"0123456789abcdef".repeat(20_000));
        std::os::unix::fs::symlink("a.txt", sandbox.path("src/link")).unwrap();
        sandbox
    }

    /// Files and an empty repository.
    pub(crate) fn with_repository() -> Self {
        let sandbox = Self::new();
        sandbox.coffer(&["init"]).assert().success();
        sandbox
    }

    /// Files, a repository, and a snapshot of the files.
    pub(crate) fn with_snapshot() -> Self {
        let sandbox = Self::with_repository();
        sandbox.coffer(&["backup", "src"]).assert().success();
        sandbox
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    pub(crate) fn write(&self, path: &str, content: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// The binary with no variable but those that name repository and password.
    pub(crate) fn coffer(&self, arguments: &[&str]) -> Command {
        let mut command = self.bare(arguments);
        command.env("COFFER_REPOSITORY", self.path("repo")).env("COFFER_PASSWORD", "correct horse");
        command
    }

    /// The binary with no variable of ours at all.
    pub(crate) fn bare(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(COFFER);
        command.args(arguments).current_dir(self.dir.path()).env_clear();
        command
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path("home"))
            .env("TZ", "UTC");
        command
    }

    /// Runs a command that writes one JSON document.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let output = self.coffer(arguments).arg("--json").assert().success();
        document(&output.get_output().stdout)
    }

    /// Runs a command that writes a JSON document on each line.
    pub(crate) fn json_lines(&self, arguments: &[&str]) -> Vec<Value> {
        let output = self.coffer(arguments).arg("--json").assert();
        lines(&output.get_output().stdout)
    }

    /// How many snapshots there are.
    pub(crate) fn snapshots(&self) -> usize {
        self.json(&["snapshots"]).as_array().unwrap().len()
    }

    /// That restoring the newest snapshot gives what is in `src`.
    pub(crate) fn assert_restores(&self) {
        let target = tempfile::tempdir().unwrap();
        self.coffer(&["restore", "latest", "--target"]).arg(target.path()).assert().success();
        assert_same(&self.path("src"), &target.path().join("src"));
    }
}

/// The one JSON document of a command; on a slow machine there is before it how far the command is.
pub(crate) fn document(bytes: &[u8]) -> Value {
    let mut documents: Vec<Value> =
        serde_json::Deserializer::from_slice(bytes).into_iter().map(Result::unwrap).collect();
    let last = documents.pop().unwrap();
    assert!(documents.iter().all(|document| document["message_type"] == "status"), "{documents:?}");
    last
}

/// JSON documents, one a line.
pub(crate) fn lines(bytes: &[u8]) -> Vec<Value> {
    String::from_utf8(bytes.to_vec()).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What was written to standard error.
pub(crate) fn stderr(assert: &Assert) -> String {
    String::from_utf8(assert.get_output().stderr.clone()).unwrap()
}

/// What was written to standard output.
pub(crate) fn stdout(assert: &Assert) -> String {
    String::from_utf8(assert.get_output().stdout.clone()).unwrap()
}

/// That two trees are the same.
pub(crate) fn assert_same(left: &Path, right: &Path) {
    let diff =
        std::process::Command::new("diff").args(["-r", "--no-dereference"]).args([left, right]).output().unwrap();
    assert!(diff.status.success(), "{}", String::from_utf8_lossy(&diff.stdout));
}

/// What does not compress, and does not repeat.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u8::try_from(state >> 56).unwrap()
    };
    (0..length).map(|_| next()).collect()
}
