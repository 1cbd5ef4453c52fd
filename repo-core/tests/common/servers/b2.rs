//! Backblaze B2, as b2sdk simulates it, behind HTTP (`b2_server.py`).

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::Path,
};

use serde_json::{Value, json};

use super::{Server, free_port, listens, program};

/// The master key, and its id.
pub(crate) const KEY_ID: &str = "account-0";
pub(crate) const KEY: &str = "masterKey-0";

/// A server with one empty bucket, `bucket`.
pub(crate) struct B2Server {
    pub(crate) server: Server,
    pub(crate) port: u16,
}

impl B2Server {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let mut command = program("python");
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../repo-core/tests/common/servers/b2_server.py"));
        command.arg(port.to_string());
        Self { server: Server::start(command, folder, || listens(port)), port }
    }

    /// Where it is asked who somebody is.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Has the owner do something, or something fail: `Control` in `b2_server.py` tells what there is.
    pub(crate) fn control(&self, wanted: &Value) -> Value {
        let body = wanted.to_string();
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let length = body.len();
        write!(
            stream,
            "POST /control HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let body = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{wanted}: {answer}")).1;
        serde_json::from_str(body).unwrap()
    }

    /// Has requests of a function fail.
    pub(crate) fn fail(&self, fault: Value) {
        self.control(&json!({ "faults": [fault] }));
    }

    /// How often each function was called since this was asked last.
    pub(crate) fn counts(&self) -> impl Fn(&str) -> u64 + use<> {
        let told = self.control(&json!({ "counts": true }));
        move |function| told["counts"][function].as_u64().unwrap_or(0)
    }

    /// All versions of all names that begin so: what they are, the newest of each name first.
    pub(crate) fn versions(&self, prefix: &str) -> Vec<(String, String)> {
        let told = self.control(&json!({ "versions": prefix }));
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        told["versions"].as_array().unwrap().iter().map(|one| (text(&one[0]), text(&one[1]))).collect()
    }

    /// A further key and its id.
    pub(crate) fn key(&self, key: Value) -> (String, String) {
        let told = self.control(&json!({ "make_key": key }));
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (text(&told["key"][0]), text(&told["key"][1]))
    }
}
