//! Servers of the S3 protocol: `SeaweedFS`, moto and rclone.

use std::process::Command;

use super::{Server, free_port, listens, program};

/// Which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `SeaweedFS`, which checks signatures and knows conditions.
    Seaweed,
    /// moto, which believes everybody.
    Moto,
    /// `rclone serve s3`, which pays no heed to conditions.
    Rclone,
}

/// The keys that the servers believe.
pub(crate) const KEY: &str = "coffertestkey";
pub(crate) const SECRET: &str = "coffertestsecret";
pub(crate) const REGION: &str = "us-east-1";

/// Users of `SeaweedFS` with the same secret who may do all but one thing each, after [`S3Server::restrict`], and what that is.
pub(crate) const RESTRICTED: [(&str, &str); 4] = [
    ("withoutget", "s3:GetObject"),
    ("withoutput", "s3:PutObject"),
    ("withoutlist", "s3:ListBucket"),
    ("withoutdelete", "s3:DeleteObject"),
];

/// A server with one empty bucket, `bucket`.
pub(crate) struct S3Server {
    pub(crate) server: Server,
    pub(crate) port: u16,
}

impl S3Server {
    pub(crate) fn start(kind: Kind) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let port = free_port();
        let command = match kind {
            Kind::Seaweed => {
                let identities = folder.path().join("identities.json");
                let identity = |name: &str, key: &str, admin: &str| {
                    format!(
                        r#"{{"name":"{name}","credentials":[{{"accessKey":"{key}","secretKey":"{SECRET}"}}],"actions":[{admin}"Read","Write","List","Tagging"]}}"#
                    )
                };
                let mut all = vec![identity("test", KEY, r#""Admin","#)];
                all.extend(RESTRICTED.iter().map(|(name, _)| identity(name, name, "")));
                std::fs::write(&identities, format!(r#"{{"identities":[{}]}}"#, all.join(","))).unwrap();
                // The ports for gRPC, which otherwise are 10000 above these, and may not exist.
                let ports: Vec<u16> = (0..7).map(|_| free_port()).collect();
                let mut command = program("weed");
                command.args([
                    "server",
                    "-ip=127.0.0.1",
                    "-ip.bind=127.0.0.1",
                    "-s3",
                    "-volume.max=100",
                    "-s3.port.iceberg=0",
                    "-s3.port.lance=0",
                ]);
                command.args([
                    "-master.volumeSizeLimitMB=64",
                    "-master.volumePreallocate=false",
                    "-master.electionTimeout=1s",
                ]);
                command.arg(format!("-dir={}", data.display())).arg(format!("-s3.config={}", identities.display()));
                command.arg(format!("-s3.port={port}")).arg(format!("-s3.port.grpc={}", ports[0]));
                command.arg(format!("-master.port={}", ports[1])).arg(format!("-master.port.grpc={}", ports[2]));
                command.arg(format!("-volume.port={}", ports[3])).arg(format!("-volume.port.grpc={}", ports[4]));
                command.arg(format!("-filer.port={}", ports[5])).arg(format!("-filer.port.grpc={}", ports[6]));
                command
            }
            Kind::Moto => {
                let mut command = program("python");
                let main = format!("from moto.server import main; main(['-H', '127.0.0.1', '-p', '{port}'])");
                command.args(["-c", &main]);
                command
            }
            Kind::Rclone => {
                let mut command = program("rclone");
                command.args(["serve", "s3", "--config", "/dev/null", "--auth-key", &format!("{KEY},{SECRET}")]);
                command.args(["--addr", &format!("127.0.0.1:{port}")]).arg(&data);
                std::fs::create_dir(data.join("bucket")).unwrap();
                command
            }
        };
        let server = Server::start(command, folder, || listens(port));
        let server = Self { server, port };
        server.make_bucket("bucket");
        server
    }

    /// Makes a bucket; the server may take a while before it can.
    pub(crate) fn make_bucket(&self, bucket: &str) {
        const MAKE: &str = r"
import boto3, sys, time
endpoint, bucket, key, secret = sys.argv[1:]
client = boto3.client('s3', endpoint_url=endpoint, region_name='us-east-1', aws_access_key_id=key, aws_secret_access_key=secret)
for attempt in range(120):
    try:
        if bucket in [one['Name'] for one in client.list_buckets()['Buckets']]:
            client.put_object(Bucket=bucket, Key='ready', Body=b'ready')
            client.delete_object(Bucket=bucket, Key='ready')
            sys.exit(0)
        client.create_bucket(Bucket=bucket)
    except Exception as error:
        last = error
        time.sleep(0.5)
sys.exit(f'no bucket: {last}')
";
        let output = program("python").args(["-c", MAKE, &self.endpoint(), bucket, KEY, SECRET]).output().unwrap();
        assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stderr), self.server.log());
    }

    /// Forbids each of the [`RESTRICTED`] what they may not do in `bucket`.
    pub(crate) fn restrict(&self) {
        const FORBID: &str = r"
import boto3, json, sys
endpoint, key, secret, *pairs = sys.argv[1:]
client = boto3.client('s3', endpoint_url=endpoint, region_name='us-east-1', aws_access_key_id=key, aws_secret_access_key=secret)
where = ['arn:aws:s3:::bucket', 'arn:aws:s3:::bucket/*']
forbid = lambda user, action: {'Effect': 'Deny', 'Principal': {'AWS': ['arn:aws:iam::000000000000:user/' + user, user]}, 'Action': [action], 'Resource': where}
statements = [forbid(*pair.split('=')) for pair in pairs]
client.put_bucket_policy(Bucket='bucket', Policy=json.dumps({'Version': '2012-10-17', 'Statement': statements}))
";
        let mut command = program("python");
        command.args(["-c", FORBID, &self.endpoint(), KEY, SECRET]);
        let output = command.args(RESTRICTED.map(|(user, action)| format!("{user}={action}"))).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Its URL.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

/// Gives a command the keys.
pub(crate) fn with_keys(command: &mut Command) {
    command.env("AWS_ACCESS_KEY_ID", KEY).env("AWS_SECRET_ACCESS_KEY", SECRET);
}
