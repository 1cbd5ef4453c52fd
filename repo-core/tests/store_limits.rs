//! Limits of transfer are kept piece by piece: nothing goes in one burst, and in one request all the same.

#![cfg(all(feature = "s3", feature = "sftp"))]
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "also the helpers of a test may fail it and speak")]

#[path = "common/servers/mod.rs"]
mod servers;

use std::{
    io::Read,
    num::NonZeroU64,
    process::Child,
    sync::Arc,
    time::{Duration, Instant},
};

use repo_core::{
    progress::Cancel,
    store::{
        ByteRange, Place, Store,
        flow::Flow,
        opendal::{
            BucketStore,
            s3::{S3Credentials, S3Options},
        },
        retry::SystemPace,
        sftp::{Carrier, Pipe, SftpStore},
        testing::contract::object,
        throttle::Throttle,
    },
};
use servers::{
    link::Link,
    s3::{KEY, Kind, REGION, S3Server, SECRET},
    sftp::SshServer,
};

const RATE_BYTES: u64 = 4 << 20;
const OBJECT_BYTES: usize = 16 << 20;

fn flow() -> Flow {
    let (rate, cancel) = (NonZeroU64::new(RATE_BYTES), Cancel::default());
    let pace = Arc::new(SystemPace::new(cancel.clone()));
    Flow { throttle: Some(Arc::new(Throttle::new(rate, rate, pace))), cancel }
}

/// There and back again, and never more within half a second than the rate allows, and what is on its way.
fn keeps_the_rate(store: &dyn Store, link: &Link, on_its_way_bytes: usize) {
    store.create().unwrap();
    let content: Vec<u8> = (0..OBJECT_BYTES as u64 / 8).flat_map(|word| (word * word).to_le_bytes()).collect();
    let name = object(Place::Data, &content);
    let begin = Instant::now();
    store.put(&name, &content).unwrap();
    let put = begin.elapsed();
    let mut found = Vec::new();
    store.get(&name, ByteRange::WholeUpTo { limit_bytes: u64::MAX }, &mut found).unwrap();
    let get = begin.elapsed().saturating_sub(put);
    assert!(found == content);
    for took in [put, get] {
        assert!(took > Duration::from_millis(3500) && took < Duration::from_secs(30), "{put:?} {get:?}");
    }
    let most = link.most_within(Duration::from_millis(500));
    let bound = usize::try_from(RATE_BYTES).unwrap() / 2 + on_its_way_bytes;
    assert!(most[0] < bound, "{} bytes went at once", most[0]);
    // The system's buffers for what comes hold some megabytes, whoever takes it out.
    assert!(most[1] < OBJECT_BYTES * 3 / 4, "{} bytes came at once", most[1]);
    assert_eq!(link.sent_bytes() / OBJECT_BYTES, 1, "it went once");
}

#[test]
fn s3() {
    let server = S3Server::start(Kind::Moto);
    let link = Link::start(server.port, None);
    let store = BucketStore::s3(&S3Options {
        endpoint: Some(format!("http://127.0.0.1:{}", link.port)),
        bucket: "bucket".into(),
        region: REGION.into(),
        checksum: Some("crc32c".into()),
        credentials: S3Credentials::Keys {
            access_key_id: KEY.into(),
            secret_access_key: SECRET.into(),
            session_token: None,
        },
        flow: flow(),
        ..S3Options::default()
    })
    .unwrap();
    keeps_the_rate(&store, &link, 512 << 10);
}

struct Ssh(Child);

impl Carrier for Ssh {
    fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
    fn last_words(&mut self) -> String {
        let mut said = String::new();
        self.0.stderr.take().map(|mut stderr| stderr.read_to_string(&mut said));
        said
    }
}

#[test]
fn sftp() {
    let server = SshServer::start();
    let link = Link::start(server.port, None);
    let (root, port) = (format!("{}/repo", server.data().display()), link.port);
    let connect = move || {
        let mut child = server.ssh_by(port).spawn()?;
        let (reader, writer) = (child.stdout.take().unwrap(), child.stdin.take().unwrap());
        Ok(Pipe { reader: Box::new(reader), writer: Box::new(writer), carrier: Box::new(Ssh(child)) })
    };
    let store = SftpStore::new(&root, "sftp:test".into(), 0, Box::new(connect)).with_flow(flow());
    keeps_the_rate(&store, &link, 1 << 20);
}
