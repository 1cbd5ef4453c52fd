#!/usr/bin/env python3
"""Races coffer, restic and rustic against SeaweedFS S3 on this machine, near and far away, and counts their requests.

    cargo build --release -p repo-cli -p coffer-benches
    .ci/install-test-servers
    benches/network.py --source DIRECTORY [--tools coffer restic rustic] [--delays 0 20] [--direct] [--rounds 2] [--json FILE]

Programs are found on the PATH, or named: --coffer target/release/coffer --restic /opt/restic. Each tool has a bucket, a cache and a
proxy (benches/src/bin/delay.rs) of its own, the same one with each delay, so that what the proxy costs is in all figures. The source is
read once before each step, the cache is thrown away before a restore. Nothing else should run: server and clients share the processors.
"""

import argparse
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

KEY, SECRET, PASSWORD = "racekey", "racesecret", "correct horse"
ROOT = pathlib.Path(__file__).resolve().parent.parent
STEPS = ("init", "first backup", "again", "restore")

MAKE_BUCKET = """
import boto3, sys, time
endpoint, bucket, key, secret = sys.argv[1:]
client = boto3.client('s3', endpoint_url=endpoint, region_name='us-east-1', aws_access_key_id=key, aws_secret_access_key=secret)
for attempt in range(120):
    try:
        if bucket not in [one['Name'] for one in client.list_buckets()['Buckets']]:
            client.create_bucket(Bucket=bucket)
        client.put_object(Bucket=bucket, Key='ready', Body=b'ready')
        client.delete_object(Bucket=bucket, Key='ready')
        sys.exit(0)
    except Exception as error:
        last = error
        time.sleep(0.5)
sys.exit(f'no bucket: {last}')
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def servers():
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    return pathlib.Path(os.environ.get("COFFER_TEST_SERVERS") or cache / "coffer-test-servers") / "bin"


class Seaweed:
    """A server with all its parts in one process, and its data in a folder."""

    def __init__(self, folder):
        data = folder / "seaweed"
        data.mkdir()
        identity = {
            "name": "race",
            "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        config = folder / "identities.json"
        config.write_text(json.dumps({"identities": [identity]}))
        self.port = free_port()
        command = [servers() / "weed", "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", "-volume.max=1000"]
        command += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.volumeSizeLimitMB=1024", "-master.volumePreallocate=false"]
        command += ["-master.electionTimeout=1s", f"-dir={data}", f"-s3.config={config}", f"-s3.port={self.port}"]
        for part in ("s3.port.grpc", "master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc"):
            command.append(f"-{part}={free_port()}")
        log = open(folder / "seaweed.log", "wb")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def make_bucket(self, name):
        arguments = [f"http://127.0.0.1:{self.port}", name, KEY, SECRET]
        subprocess.run([servers() / "python", "-c", MAKE_BUCKET, *arguments], check=True)

    def end(self):
        self.process.terminate()
        self.process.wait()


class Proxy:
    """The way to a server, so many milliseconds long; counts requests."""

    def __init__(self, program, server_port, delay_ms):
        command = [program, f"127.0.0.1:{server_port}", "--delay-ms", str(delay_ms)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def counts(self):
        """What was counted since the last time."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/.counts") as answer:
            return json.load(answer)

    def end(self):
        self.process.kill()
        self.process.wait()


class NoProxy:
    """The server itself: what it costs less shows, and nothing is counted."""

    def __init__(self, server_port):
        self.port = server_port

    def counts(self):
        return {"requests": {}, "sent_bytes": 0, "received_bytes": 0}

    def end(self):
        pass


class Tool:
    """A program with a repository in a bucket, and everything of its own in a folder."""

    def __init__(self, name, program, folder, port, bucket, source):
        self.name, self.program, self.folder, self.source = name, program, folder, source
        folder.mkdir()
        url = f"http://127.0.0.1:{port}"
        self.cache = folder / "cache"
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "XDG_CACHE_HOME": str(self.cache),
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        if name == "rustic":
            options = {"bucket": bucket, "endpoint": url, "region": "us-east-1", "root": "/repo", "access_key_id": KEY, "secret_access_key": SECRET}
            lines = ["[repository]", 'repository = "opendal:s3"', f'password = "{PASSWORD}"', "[repository.options]"]
            lines += [f'{key} = "{value}"' for key, value in options.items()]
            (folder / "rustic.toml").write_text("\n".join(lines) + "\n")
        else:
            prefix = name.upper()
            self.environment |= {f"{prefix}_REPOSITORY": f"s3:{url}/{bucket}/repo", f"{prefix}_PASSWORD": PASSWORD}

    def command(self, step):
        target = self.folder / "target"
        if self.name == "rustic":
            base = [self.program, "-P", str(self.folder / "rustic"), "--no-progress"]
            return base + {"init": ["init"], "restore": ["restore", "latest", str(target)]}.get(step, ["backup", str(self.source)])
        quiet = [self.program, "--quiet"] if self.name == "restic" else [self.program]
        return quiet + {"init": ["init"], "restore": ["restore", "latest", "--target", str(target)]}.get(step, ["backup", str(self.source)])

    def run(self, step):
        """Wall seconds, processor seconds and peak memory in MiB."""
        if step == "restore":
            shutil.rmtree(self.cache, ignore_errors=True)
        with open(self.folder / "log", "ab") as log:
            begin = time.monotonic()
            process = subprocess.Popen(self.command(step), env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.monotonic() - begin
        if status != 0:
            sys.exit(f"{self.name}: {step} fails:\n{(self.folder / 'log').read_text(errors='replace')[-3000:]}")
        return {"seconds": seconds, "cpu_seconds": usage.ru_utime + usage.ru_stime, "peak_mib": usage.ru_maxrss / 1024}

    def check_restored(self):
        """That the files are there again."""
        root = self.folder / "target"
        places = [root / str(self.source).lstrip("/"), root / self.source.name, root]
        found = next(place for place in places if (place / next(self.source.iterdir()).name).exists() or (place / next(self.source.iterdir()).name).is_symlink())
        subprocess.run(["diff", "-r", "--no-dereference", "-q", self.source, found], check=True, stdout=subprocess.DEVNULL)
        shutil.rmtree(root)


def warm(source):
    """Reads what is to be backed up, so that all find it in memory."""
    for folder, _, names in os.walk(source):
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as file:
                    while file.read(1 << 20):
                        pass


def race(options, folder):
    source = options.source.resolve()
    results = []
    seaweed = Seaweed(folder)
    try:
        for number in range(options.rounds):
            for delay in options.delays:
                for name in options.tools:
                    bucket = f"race-{number}-{delay}-{name}"
                    seaweed.make_bucket(bucket)
                    proxy = NoProxy(seaweed.port) if options.direct else Proxy(options.proxy, seaweed.port, delay)
                    tool = Tool(name, getattr(options, name), folder / bucket, proxy.port, bucket, source)
                    try:
                        for step in STEPS:
                            warm(source)
                            proxy.counts()
                            result = {"tool": name, "delay_ms": delay, "round": number, "step": step, **tool.run(step), **proxy.counts()}
                            results.append(result)
                            print(f"{name} {delay} ms, {step}: {result['seconds']:.2f} s", file=sys.stderr, flush=True)
                        tool.check_restored()
                    finally:
                        proxy.end()
                        shutil.rmtree(tool.folder, ignore_errors=True)
    finally:
        seaweed.end()
    return results


def table(results, tools):
    """The fastest of all rounds, side by side, with the requests and bytes of that run."""
    print("| delay, step | " + " | ".join(f"{tool}: s / MiB" for tool in tools) + " | requests, MiB sent + received |")
    print("|---|" + "---|" * (len(tools) + 1))
    for delay in sorted({result["delay_ms"] for result in results}):
        for step in STEPS:
            best = {}
            for result in results:
                if (result["delay_ms"], result["step"]) == (delay, step):
                    old = best.get(result["tool"])
                    best[result["tool"]] = result if old is None or result["seconds"] < old["seconds"] else old
            cells = [f"{best[tool]['seconds']:.2f} / {best[tool]['peak_mib']:.0f}" for tool in tools]
            requests = []
            for tool in tools:
                run = best[tool]
                kinds = " ".join(f"{kind} {count}" for kind, count in run["requests"].items())
                requests.append(f"{tool}: {sum(run['requests'].values())} ({kinds}), {run['sent_bytes'] / 2**20:.1f} + {run['received_bytes'] / 2**20:.1f}")
            print(f"| {delay} ms, {step} | " + " | ".join(cells) + " | " + "; ".join(requests) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=pathlib.Path, required=True, help="what is backed up")
    parser.add_argument("--tools", nargs="+", choices=("coffer", "restic", "rustic"), default=["coffer", "restic", "rustic"])
    parser.add_argument("--delays", nargs="+", type=int, default=[0, 20], metavar="MS", help="added to each request")
    parser.add_argument("--direct", action="store_true", help="without proxy, so without delay and counts")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--work", type=pathlib.Path, help="a folder for the server's data and what is restored; should be in memory")
    parser.add_argument("--json", type=pathlib.Path, help="where all figures are written to")
    for tool in ("coffer", "restic", "rustic"):
        parser.add_argument(f"--{tool}", default=tool, metavar="PROGRAM")
    parser.add_argument("--proxy", type=pathlib.Path, default=ROOT / "target/release/delay", metavar="PROGRAM")
    options = parser.parse_args()
    if options.direct:
        options.delays = [0]
    for tool in [*(getattr(options, tool) for tool in options.tools), str(options.proxy)]:
        if shutil.which(tool) is None:
            sys.exit(f"there is no {tool}")
    # They run in folders of their own.
    for tool in options.tools:
        setattr(options, tool, str(pathlib.Path(shutil.which(getattr(options, tool))).resolve()))
    with tempfile.TemporaryDirectory(prefix="coffer-race-", dir=options.work) as folder:
        results = race(options, pathlib.Path(folder))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    table(results, options.tools)


if __name__ == "__main__":
    main()
