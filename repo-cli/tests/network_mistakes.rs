//! Wrong keys, names, addresses and certificates, servers that are not there or broken: one sentence each, which says what it is and what
//! to do, an exit code, and never a repository made or taken for absent.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot go on fails, and says why")]

mod common;
#[path = "../../repo-core/tests/common/servers/mod.rs"]
mod servers;

use common::{Sandbox, stderr, stdout};
use servers::{
    free_port,
    proxy::{Fault, Proxy},
    rest::{How, Kind as RestKind, RestServer},
    s3::{KEY, Kind as S3Kind, RESTRICTED, S3Server, SECRET},
    sftp::SshServer,
    webdav::{self, WebdavServer},
};

/// Every command ends with that code and those words, in one line of error, and shows no secret.
fn assert_told(address: &str, variables: &[(&str, &str)], code: i32, words: &[&str]) {
    let sandbox = Sandbox::new();
    for arguments in [&["backup", "src"][..], &["snapshots"], &["init"], &["prune"]] {
        let mut command = sandbox.coffer(arguments);
        command.env("COFFER_REPOSITORY", address).envs(variables.iter().copied());
        let output = command.assert();
        let said = stderr(&output);
        assert_eq!(output.get_output().status.code(), Some(code), "{address}: {arguments:?}: {said}");
        assert_eq!(stdout(&output), "", "{address}: {arguments:?}");
        let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error: ")).collect();
        let [error] = errors[..] else { panic!("{address}: {arguments:?}: {said}") };
        assert!(words.iter().all(|words| said.contains(words)), "{address}: {arguments:?}: {said}");
        assert!(!said.contains("geheim") && !said.contains(SECRET) && !said.contains("Signature="), "{said}");
        assert!(error.len() < 400 && !said.contains("panicked"), "{said}");
        assert!(!sandbox.path("home/.local").exists(), "no other repository is taken in its place");
        if code == 20 {
            break; // each waits half a minute
        }
    }
}

#[test]
fn addresses_that_are_none() {
    for (address, words) in [
        ("rest:host:8000/repo", "rest:https://HOST"),
        ("rest:http://host:port/", "port"),
        ("rest:htps://me:geheim@host/", "http://"),
        ("http://me:geheim@host/repo", "rest:https://"),
        ("s3:bucket", "s3:HOST/BUCKET"),
        ("s3:https://key:geheim@host/bucket", "AWS_ACCESS_KEY_ID"),
        ("b2:", "b2:BUCKET"),
        ("sftp:host/path", "sftp:USER@HOST:/PATH"),
        ("sftp:me:geheim@host:/path", "password"),
        ("azure:container", "opendal:azblob:CONTAINER"),
        ("smb:host", "rclone serve restic"),
        ("opendal:", "opendal:SCHEME:ROOT"),
        ("opendal:webdav:https://me:geheim@host/x", "do not belong into the address"),
        ("opendal:nothing:x", "those of webdav"),
        ("opendal:webdav:x", "endpoint"),
        ("ssh:host:/path", "./ssh:host:/path"),
    ] {
        assert_told(address, &[], 2, &[words, "error: "]);
    }
    let file = ("OPENDAL_WEBDAV_TOKEN", "geheim");
    assert_told(&format!("opendal:webdav:http://127.0.0.1:{}/", free_port()), &[file], 20, &["refused"]);
    assert_told("b2:bucket:path", &[], 2, &["B2_ACCOUNT_ID"]);
    assert_told("b2:bucket:path", &[("B2_ACCOUNT_ID", "x")], 2, &["B2_ACCOUNT_KEY"]);
    assert_told("s3:host/bucket", &[("AWS_ACCESS_KEY_ID", "x")], 2, &["AWS_SECRET_ACCESS_KEY"]);
    let off = [("AWS_EC2_METADATA_DISABLED", "true")];
    assert_told("s3:https://localhost:1/bucket", &off, 17, &["AWS_ACCESS_KEY_ID", "no keys"]);
}

#[test]
fn keys_and_buckets() {
    let server = S3Server::start(S3Kind::Seaweed);
    let address = format!("s3:{}/bucket/repo", server.endpoint());
    let wrong = [("AWS_ACCESS_KEY_ID", KEY), ("AWS_SECRET_ACCESS_KEY", "geheim")];
    assert_told(&address, &wrong, 17, &["SignatureDoesNotMatch", "hint: check the user, password or keys"]);
    let unknown = [("AWS_ACCESS_KEY_ID", "nobody"), ("AWS_SECRET_ACCESS_KEY", SECRET)];
    assert_told(&address, &unknown, 17, &["InvalidAccessKeyId"]);
    let right = [("AWS_ACCESS_KEY_ID", KEY), ("AWS_SECRET_ACCESS_KEY", SECRET)];
    assert_told(
        &address.replace("/bucket/", "/buckte/"),
        &right,
        22,
        &["NoSuchBucket", "hint: check the name of the bucket"],
    );
}

/// Keys in a file count before all others; a file without them is named.
#[test]
fn keys_in_a_file() {
    let server = S3Server::start(S3Kind::Seaweed);
    let sandbox = Sandbox::new();
    let keys = sandbox.path("keys");
    let option = format!("s3.credentials-file={}", keys.display());
    let run = |arguments: &[&str]| {
        let mut command = sandbox.coffer(arguments);
        command.env("COFFER_REPOSITORY", format!("s3:{}/bucket/of-a-file", server.endpoint()));
        command.env("AWS_ACCESS_KEY_ID", "nobody").env("AWS_SECRET_ACCESS_KEY", "geheim");
        command.args(["-o", &option]).assert()
    };
    sandbox.write("keys", &format!("[default]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n"));
    run(&["init"]).success();
    run(&["backup", "src"]).success();
    for content in ["[default]\n", "not a file of keys\n"] {
        sandbox.write("keys", content);
        let output = run(&["snapshots"]).failure();
        let said = stderr(&output);
        assert!(said.contains(keys.to_str().unwrap()) && !said.contains("geheim"), "{content}: {said}");
    }
    std::fs::remove_file(&keys).unwrap();
    let said = stderr(&run(&["snapshots"]).failure());
    assert!(said.contains(keys.to_str().unwrap()) && said.contains("No such file"), "{said}");
}

/// Users who may not do one of what a store does: whatever needs it says so, whatever does not works, and nothing is harmed.
#[test]
fn one_right_is_missing() {
    let server = S3Server::start(S3Kind::Seaweed);
    server.restrict();
    let sandbox = Sandbox::new();
    let run = |key: &str, repository: &str, arguments: &[&str]| {
        let mut command = sandbox.coffer(arguments);
        command.env("COFFER_REPOSITORY", format!("s3:{}/bucket/{repository}", server.endpoint()));
        command.env("AWS_ACCESS_KEY_ID", key).env("AWS_SECRET_ACCESS_KEY", SECRET).arg("--no-cache").assert()
    };
    run(KEY, "repo", &["init"]).success();
    run(KEY, "repo", &["backup", "src"]).success();
    for (user, action) in RESTRICTED {
        sandbox.write("src/more.txt", &format!("more for {user}\n").repeat(1000));
        let commands: [&[&str]; 7] = [
            &["backup", "src", "--tag", user],
            &["snapshots"],
            &["check"],
            &["forget", "--keep-last", "1"],
            &["prune", "--max-unused", "0"],
            &["restore", "latest", "--target", user],
            &["init"],
        ];
        // Of these commands, which do without it; that an append-only user cannot forget is right, too.
        let may: &[&str] = match action {
            "s3:PutObject" => &["snapshots", "check", "restore"],
            "s3:DeleteObject" => &["backup", "snapshots", "check", "restore", "init"],
            _ => &[],
        };
        for arguments in commands {
            let repository = if arguments == ["init"] { format!("repo-{user}") } else { "repo".to_owned() };
            let output = run(user, &repository, arguments);
            let (code, said) = (output.get_output().status.code(), stderr(&output));
            if may.contains(&arguments[0]) {
                assert_eq!(code, Some(0), "{user}: {arguments:?}: {said}");
                let is_weak = arguments == ["init"];
                assert_eq!(said.contains("may not delete anything"), is_weak, "{user}: {arguments:?}: {said}");
                continue;
            }
            // Keeping the last one may mean to forget nothing.
            let nothing_to_do = code == Some(0) && matches!(arguments[0], "forget" | "prune");
            assert!(code == Some(17) || nothing_to_do, "{user}: {arguments:?}: {code:?} {said}");
            if code == Some(17) {
                let is_told = said.contains("AccessDenied") || said.contains("403") || said.contains("does not permit");
                assert!(is_told && said.contains("hint: "), "{user}: {arguments:?}: {said}");
            }
        }
        run(KEY, "repo", &["check", "--read-data"]).success();
    }
    // Those who may not write or list have made no repository elsewhere.
    for (user, code) in [("withoutget", 10), ("withoutput", 10), ("withoutlist", 10), ("withoutdelete", 0)] {
        let output = run(KEY, &format!("repo-{user}"), &["snapshots"]);
        assert_eq!(output.get_output().status.code(), Some(code), "{user}: {}", stderr(&output));
    }
    run(KEY, "repo", &["prune", "--max-unused", "0"]).success();
    run(KEY, "repo", &["check", "--read-data"]).success();
}

/// The server does not believe what is signed with a wrong clock; how wrong it is shows by the time in its answer.
#[test]
fn the_clock_is_off_by_an_hour() {
    let server = S3Server::start(S3Kind::Seaweed);
    let sandbox = Sandbox::new();
    let address = format!("s3:{}/bucket/repo", server.endpoint());
    for (offset, words) in [("-1h", "behind the store's"), ("+1h", "ahead of the store's"), ("+30d", "30 days ahead")] {
        for arguments in [&["backup", "src"][..], &["snapshots"], &["init"], &["prune"]] {
            let mut command = assert_cmd::Command::new("faketime");
            command.args(["-f", offset, common::COFFER]).args(arguments).current_dir(sandbox.dir.path()).env_clear();
            command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", sandbox.path("home"));
            // Only the time of day is wrong.
            command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("COFFER_PASSWORD", "correct horse").env("TZ", "UTC");
            command
                .env("COFFER_REPOSITORY", &address)
                .env("AWS_ACCESS_KEY_ID", KEY)
                .env("AWS_SECRET_ACCESS_KEY", SECRET);
            let output = command.assert();
            let said = stderr(&output);
            assert_eq!(output.get_output().status.code(), Some(21), "{offset}: {arguments:?}: {said}");
            for words in [words, "RequestTimeTooSkewed", "clock is wrong", "hint: set this machine's clock"] {
                assert!(said.contains(words), "{offset}: {arguments:?}: {said}");
            }
            assert!(offset.ends_with('d') || said.contains("60 minutes") || said.contains("61 minutes"), "{said}");
            assert_eq!(said.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{said}");
        }
    }
    let right = [("AWS_ACCESS_KEY_ID", KEY), ("AWS_SECRET_ACCESS_KEY", SECRET)];
    let output = sandbox.coffer(&["snapshots"]).env("COFFER_REPOSITORY", &address).envs(right).assert();
    output.code(10);
}

/// What the server of another region answers; it tells of its own.
#[test]
fn another_region() {
    let server = S3Server::start(S3Kind::Seaweed);
    let right = [("AWS_ACCESS_KEY_ID", KEY), ("AWS_SECRET_ACCESS_KEY", SECRET)];
    for (status, code) in [(400, "AuthorizationHeaderMalformed"), (301, "PermanentRedirect")] {
        let proxy = Proxy::start(server.port, move |_| Fault::Error(status, code));
        let address = format!("s3:http://127.0.0.1:{}/bucket/repo", proxy.port);
        assert_told(&address, &right, 1, &[code, "region"]);
    }
}

#[test]
fn users_and_certificates() {
    let server =
        RestServer::start(RestKind::RestServer, How { tls: true, user: Some(("me", "right")), ..How::default() });
    let address = format!("rest:{}", server.url("repo"));
    assert_told(&address, &[], 1, &["does not prove who it is", "hint: if the certificate is your own"]);
    let insecure = ("COFFER_INSECURE_TLS", "true");
    assert_told(&address, &[insecure], 17, &["401 Unauthorized", "hint: check the user, password or keys"]);
    let with_password = address.replace("https://", "https://me:geheim@");
    assert_told(&with_password, &[insecure], 17, &["401 Unauthorized"]);
    assert_told(&address.replace("https", "http"), &[], 1, &["400 Bad Request"]);
    assert_told(&address, &[("RESTIC_CACERT", "/nonexistent")], 1, &["/nonexistent"]);
    assert!(!server.data("repo").exists());
    let keys = [("AWS_ACCESS_KEY_ID", KEY), ("AWS_SECRET_ACCESS_KEY", SECRET)];
    let as_bucket = format!("s3:https://127.0.0.1:{}/bucket/repo", server.port);
    assert_told(&as_bucket, &keys, 1, &["does not prove who it is", "hint: if the certificate is your own"]);
}

#[test]
fn ssh_is_heard() {
    let server = SshServer::start();
    let sandbox = Sandbox::new();
    let run = |settings: &[&str], arguments: &[&str]| {
        let mut command = sandbox.coffer(arguments);
        let config = format!("sftp.args=-F {}", server.ssh_config().display());
        let more = settings.join(" ");
        command.env("COFFER_REPOSITORY", format!("sftp://127.0.0.1:{}/{}/repo", server.port, server.data().display()));
        command.args(["-o", &format!("{config} {more}")]);
        command
    };
    let output = run(&["-oUserKnownHostsFile=/dev/null"], &["snapshots"]).assert().code(1);
    assert!(stderr(&output).contains("Host key verification failed"), "{}", stderr(&output));
    // It has another key than it had.
    let other = std::fs::read_to_string(server.server.folder.path().join("client.pub")).unwrap();
    sandbox.write("other_hosts", &format!("[127.0.0.1]:{} {other}", server.port));
    let others = format!("-oUserKnownHostsFile={}", sandbox.path("other_hosts").display());
    for arguments in [&["backup", "src"][..], &["snapshots"], &["init"], &["prune"]] {
        let said = stderr(&run(&[&others], arguments).assert().code(1));
        assert!(said.contains("Host key verification failed") || said.contains("HAS CHANGED"), "{said}");
        assert_eq!(said.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{said}");
    }
    let output = run(&["-oPubkeyAuthentication=no"], &["snapshots"]).assert().code(17);
    assert!(stderr(&output).contains("Permission denied"), "{}", stderr(&output));
    run(&[], &["snapshots"]).assert().code(10);
    assert_eq!(std::fs::read_dir(server.data()).unwrap().count(), 0);
    // And all is well where nothing is wrong.
    run(&[], &["init"]).assert().success();
    run(&[], &["backup", "src"]).assert().success();
    run(&[], &["backup", "src"]).assert().success();
    run(&[], &["forget", "--keep-last", "1", "--prune"]).assert().success();
    run(&[], &["check", "--read-data"]).assert().success();
    run(&[], &["restore", "latest", "--target", "target"]).assert().success();
    common::assert_same(&sandbox.path("src"), &sandbox.path("target/src"));
}

#[test]
fn a_path_that_is_a_file() {
    let sandbox = Sandbox::new();
    sandbox.write("repo", "not a folder");
    for arguments in [&["backup", "src"][..], &["snapshots"], &["init"], &["prune"]] {
        let said = stderr(&sandbox.coffer(arguments).assert().code(22));
        assert_eq!(said.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{said}");
        assert!(said.contains("repo: Not a directory") && said.contains("is a file, or leads through one"), "{said}");
    }
    assert_eq!(std::fs::read_to_string(sandbox.path("repo")).unwrap(), "not a folder");
    // The same at the other end of a line.
    let server = SshServer::start();
    std::fs::write(server.data().join("repo"), "not a folder").unwrap();
    for arguments in [&["backup", "src"][..], &["snapshots"], &["init"], &["prune"]] {
        let mut command = sandbox.coffer(arguments);
        command.env("COFFER_REPOSITORY", format!("sftp://127.0.0.1:{}/{}/repo", server.port, server.data().display()));
        let output = command.args(["-o", &format!("sftp.args=-F {}", server.ssh_config().display())]).assert();
        let said = stderr(&output.code(22));
        assert_eq!(said.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{said}");
        assert!(said.contains("Not a directory: ") && said.contains("is a file, or leads through one"), "{said}");
    }
    assert_eq!(std::fs::read_to_string(server.data().join("repo")).unwrap(), "not a folder");
    // Of a REST server only that it fails is heard; it is asked for half a minute.
    let server = RestServer::start(RestKind::RestServer, How::default());
    std::fs::write(server.data("repo"), "not a folder").unwrap();
    let output = sandbox.coffer(&["init"]).env("COFFER_REPOSITORY", format!("rest:{}", server.url("repo"))).assert();
    let said = stderr(&output.code(20));
    assert!(said.lines().filter(|line| line.starts_with("error: ")).count() == 1 && said.contains("repo"), "{said}");
    assert!(said.contains("answered 500") && said.contains("hint: the server is there and fails"), "{said}");
    assert_eq!(std::fs::read_to_string(server.data("repo")).unwrap(), "not a folder");
}

#[test]
fn nobody_answers() {
    let keys = [("AWS_ACCESS_KEY_ID", KEY), ("AWS_SECRET_ACCESS_KEY", SECRET)];
    std::thread::scope(|scope| {
        for (scheme, path) in [("rest:http:", ""), ("s3:http:", "bucket/repo"), ("sftp:", "/repo")] {
            scope.spawn(move || {
                let address = format!("{scheme}//127.0.0.1:{}/{path}", free_port());
                assert_told(&address, &keys, 20, &["refused", "hint: check the address"]);
            });
        }
    });
}

#[test]
fn nobody_has_that_name() {
    let keys = [("AWS_ACCESS_KEY_ID", "x"), ("AWS_SECRET_ACCESS_KEY", SECRET)];
    assert_told(
        "s3:https://no-such-host.invalid/bucket",
        &keys,
        20,
        &["no-such-host.invalid", "hint: check the address"],
    );
}

/// A server that fails is not one without a repository.
#[test]
fn a_server_that_fails() {
    let server = RestServer::start(RestKind::RestServer, How::default());
    let proxy = Proxy::start(server.port, |_| Fault::Answer(500));
    assert_told(&format!("rest:http://127.0.0.1:{}/repo/", proxy.port), &[], 20, &["500", "busy"]);
    assert!(!server.data("repo").exists() && proxy.counts().0 > 3);
}

/// `WebDAV`, with settings from every place they may come from, and secrets from none where others could read them.
#[test]
fn webdav() {
    let server = WebdavServer::start();
    let sandbox = Sandbox::new();
    sandbox.write("settings", &format!("# who we are\nusername = {}\npassword = {}\n", webdav::USER, webdav::PASSWORD));
    sandbox.write("wrong", "usrname=me\n");
    let run = |arguments: &[&str], settings: &[&str], variables: &[(&str, &str)]| {
        let mut command = sandbox.coffer(arguments);
        command.env("COFFER_REPOSITORY", format!("opendal:webdav:{}/repo", server.endpoint()));
        command.envs(variables.iter().copied()).args(settings.iter().flat_map(|setting| ["-o", setting]));
        command.assert()
    };
    let file = format!("opendal.config-file={}", sandbox.path("settings").display());
    let by_variables =
        [("OPENDAL_WEBDAV_USERNAME", webdav::USER), ("COFFER_OPENDAL_WEBDAV_PASSWORD", webdav::PASSWORD)];
    run(&["init"], &[&file], &[]).success();
    run(&["backup", "src"], &[], &by_variables).success();
    run(&["backup", "src", "--connections", "3"], &["opendal.username=me"], &by_variables[1..]).success();
    run(&["forget", "--keep-last", "1", "--prune"], &[&file], &[]).success();
    run(&["check", "--read-data"], &[&file], &[]).success();
    run(&["restore", "latest", "--target", "target"], &[&file], &[]).success();
    common::assert_same(&sandbox.path("src"), &sandbox.path("target/src"));
    let output = run(&["doctor"], &[&file], &[]).code(0);
    assert!(stdout(&output).contains("replac"), "{}", stdout(&output));
    for (settings, variables, code, words) in [
        (
            &["opendal.password=geheim"][..],
            &by_variables[..],
            2,
            &["OPENDAL_WEBDAV_PASSWORD", "opendal.config-file"][..],
        ),
        (&["opendal.colour=red"], &by_variables, 2, &["colour", "there are endpoint, "]),
        (&[&format!("opendal.config-file={}", sandbox.path("wrong").display())], &[], 2, &["usrname", "wrong"]),
        (&["opendal.config-file=/nonexistent"], &[], 1, &["/nonexistent"]),
        (&[], &[], 17, &["401", "hint: check the user, password or keys"]),
    ] {
        let output = run(&["snapshots"], settings, variables).code(code);
        let said = stderr(&output);
        assert!(words.iter().all(|words| said.contains(words)) && !said.contains("geheim"), "{settings:?}: {said}");
    }
}

#[test]
fn a_bucket_that_fails() {
    let server = S3Server::start(S3Kind::Seaweed);
    let proxy = Proxy::start(server.port, |_| Fault::Error(500, "InternalError"));
    let keys = [("AWS_ACCESS_KEY_ID", KEY), ("AWS_SECRET_ACCESS_KEY", SECRET)];
    let address = format!("s3:http://127.0.0.1:{}/bucket/repo", proxy.port);
    assert_told(&address, &keys, 20, &["InternalError", "hint: check the address"]);
    assert!(proxy.counts().0 > 3);
    // And nothing was made there.
    let sandbox = Sandbox::new();
    let direct = format!("s3:{}/bucket/repo", server.endpoint());
    sandbox.coffer(&["snapshots"]).env("COFFER_REPOSITORY", direct).envs(keys).assert().code(10);
}
