//! The same worlds with their objects in buckets of a real server: what the store's contract says, and everything that was proved with it,
//! has to hold for the client of S3 and for `SeaweedFS`, too.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use repo_core::store::{
    Store,
    opendal::{
        BucketStore,
        s3::{S3Credentials, S3Options},
    },
};

use crate::{
    Outcome, number_of, run_seeds,
    servers::{
        retrying,
        s3::{KEY, Kind, REGION, S3Server, SECRET},
    },
    simulate,
};

/// How long a run goes on that nobody asked for so many seeds.
const SECONDS: u64 = 40;

/// A place of its own in the server's bucket.
fn prefix(server: &S3Server, prefix: &str) -> Arc<dyn Store> {
    let options = S3Options {
        endpoint: Some(server.endpoint()),
        bucket: "bucket".into(),
        prefix: prefix.into(),
        region: REGION.into(),
        checksum: Some("crc32c".into()),
        credentials: S3Credentials::Keys {
            access_key_id: KEY.into(),
            secret_access_key: SECRET.into(),
            session_token: None,
        },
        ..S3Options::default()
    };
    Arc::new(retrying(BucketStore::s3(&options).unwrap()))
}

/// In memory and in a bucket: the same happens, operation by operation.
fn both(server: &S3Server, seed: u64, log: bool) -> Outcome {
    let bucket = prefix(server, &format!("seed-{seed}"));
    let mut outcome = simulate(seed, log, Some(bucket));
    let in_memory = simulate(seed, false, None);
    if outcome.failure.is_none() && outcome.trace != in_memory.trace {
        outcome.failure = Some("it went another way than in memory".into());
    }
    outcome
}

/// `COFFER_SIMULATION_BUCKET_SEEDS=1000` runs so many, `COFFER_SIMULATION_SEED=17` replays one.
#[test]
fn in_buckets_of_a_real_server() {
    let server = S3Server::start(Kind::Seaweed);
    if let Some(seed) = number_of("COFFER_SIMULATION_SEED") {
        let outcome = both(&server, seed, true);
        println!("{}trace {}", outcome.counts, outcome.trace);
        assert_eq!(outcome.failure, None);
        return;
    }
    let first = number_of("COFFER_SIMULATION_FIRST").unwrap_or(0);
    let seeds = number_of("COFFER_SIMULATION_BUCKET_SEEDS");
    let end = seeds.is_none().then(|| Instant::now() + Duration::from_secs(SECONDS));
    let last = seeds.map_or(u64::MAX, |seeds| first + seeds);
    let counts = run_seeds(first..last, end, "in_buckets", |seed| both(&server, seed, false));
    assert!(counts.happened(), "nothing was backed up, pruned and looked at");
}
