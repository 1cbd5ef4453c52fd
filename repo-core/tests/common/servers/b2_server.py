"""Backblaze B2 on this machine: b2sdk's simulator of it, behind HTTP, and able to fail when it is told to.

Usage: b2_server.py PORT. There is an account with one bucket, `bucket`, whose master key is "account-0" with "masterKey-0".
`POST /control` with a JSON object does what its members say; see `Control`.
"""

import base64
import io
import itertools
import json
import socket
import sys
import threading
import time
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

from b2sdk._internal import raw_simulator
from b2sdk.v3 import exception

PORT = int(sys.argv[1])


class Refusal(Exception):
    """An answer other than success."""

    def __init__(self, status, code, message=""):
        super().__init__(code)
        self.status, self.code, self.message = status, code, message


class Bucket(raw_simulator.BucketSimulator):
    """A bucket of the simulator, for more files than it counts, with the machine's clock."""

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.upload_url_counter = itertools.count()
        self.file_id_counter = itertools.count(10**12 - 1, -1)
        self.upload_timestamp_counter = iter(lambda: int(time.time() * 1000), None)


class Simulator(raw_simulator.RawSimulator):
    BUCKET_SIMULATOR_CLASS = Bucket

    def delete_file_version(self, api_url, token, file_id, file_name, bypass_governance=False):
        """As the original, but for keys of one bucket, too."""
        bucket_id = self.file_id_to_bucket_id.get(file_id)
        if not bucket_id:
            raise exception.FileNotPresent(file_id_or_name=file_id)
        bucket = self._get_bucket_by_id(bucket_id)
        self._assert_account_auth(api_url, token, bucket.account_id, "deleteFiles", bucket_id, file_name)
        return bucket.delete_file_version(token, file_id, file_name, bypass_governance)

    def get_upload_url(self, api_url, token, bucket_id):
        """The same."""
        bucket = self._get_bucket_by_id(bucket_id)
        self._assert_account_auth(api_url, token, bucket.account_id, "writeFiles", bucket_id)
        return bucket.get_upload_url(token)


class Control:
    """What the test wants, and what has happened."""

    def __init__(self):
        self.lock = threading.Lock()
        self.faults = []  # what is to fail: see `fault_of`
        self.counts = {}  # how often each function was called
        self.uploading = set()  # addresses in use

    def fault_of(self, function):
        """The fault that this request meets. One has `match`, a part of the function's name; `skip` requests and then `count` requests
        are concerned; `how` is "answer" (with `status`, `code`, `message`), "cut" (half of the answer arrives), "lost" (nothing), or
        "expire" (all tokens do, before it)."""
        for fault in self.faults:
            if fault["match"] in function and fault.get("count", 1) > 0:
                if fault.get("skip", 0) > 0:
                    fault["skip"] -= 1
                    continue
                fault["count"] = fault.get("count", 1) - 1
                return fault
        return None

    def note(self, function):
        """Counts a request, and tells which fault it meets."""
        with self.lock:
            self.counts[function] = self.counts.get(function, 0) + 1
            fault = self.fault_of(function)
        if fault and fault.get("how") == "expire":
            expire_all()
            return None
        return fault


sim = Simulator()
sim_lock = threading.RLock()
control = Control()
ACCOUNT, MASTER_KEY = sim.create_account()
MASTER = sim.authorize_account("", ACCOUNT, MASTER_KEY)["authorizationToken"]
BUCKET_ID = sim.create_bucket(sim.API_URL, MASTER, ACCOUNT, "bucket", "allPrivate")["bucketId"]


def expire_all():
    with sim_lock:
        for token in sim.auth_token_to_key:
            if token != MASTER:
                sim.expire_auth_token(token)


def upload_as_owner(name, data):
    url = sim.get_upload_url(sim.API_URL, MASTER, BUCKET_ID)["uploadUrl"]
    sha1 = raw_simulator.hex_sha1_of_bytes(data)
    return sim.upload_file(url, url, name, len(data), "b2/x-auto", sha1, {}, io.BytesIO(data))


def do_control(wanted):
    """What a test asks for, of the owner's own doing or of what is to fail."""
    told = {}
    with sim_lock, control.lock:
        for name, value in wanted.items():
            if name == "faults":
                control.faults = value
            elif name == "expire":
                expire_all()
            elif name == "make_bucket":
                sim.create_bucket(sim.API_URL, MASTER, ACCOUNT, value, "allPrivate")
            elif name == "delete_bucket":
                bucket = sim.bucket_name_to_bucket[value]
                sim.delete_bucket(sim.API_URL, MASTER, ACCOUNT, bucket.bucket_id)
            elif name == "make_key":
                buckets = [sim.bucket_name_to_bucket[one].bucket_id for one in value.get("buckets", [])] or None
                key = sim.create_key(
                    sim.API_URL, MASTER, ACCOUNT, value["capabilities"], "test", None, buckets, value.get("prefix")
                )
                told["key"] = [key["applicationKeyId"], key["applicationKey"]]
            elif name == "hide":
                sim.hide_file(sim.API_URL, MASTER, BUCKET_ID, value)
            elif name == "upload":
                told["id"] = upload_as_owner(value["name"], value["text"].encode())["fileId"]
                sim.file_id_to_bucket_id[told["id"]] = BUCKET_ID
            elif name == "versions":
                bucket = sim.bucket_id_to_bucket[BUCKET_ID]
                told["versions"] = [
                    [file, bucket.file_name_and_id_to_file[file, id].action]
                    for file, id in sorted(bucket.file_name_and_id_to_file)
                    if file.startswith(value)
                ]
            elif name == "counts":
                told["counts"] = dict(control.counts)
                control.counts.clear()
            else:
                raise KeyError(name)
    return told


FUNCTIONS = {
    "b2_list_buckets": lambda token, p: sim.list_buckets(
        sim.API_URL, token, p["accountId"], p.get("bucketId"), p.get("bucketName")
    ),
    "b2_get_upload_url": lambda token, p: sim.get_upload_url(sim.API_URL, token, p["bucketId"]),
    "b2_hide_file": lambda token, p: sim.hide_file(sim.API_URL, token, p["bucketId"], p["fileName"]),
    "b2_list_file_names": lambda token, p: sim.list_file_names(
        # The simulator begins at the first name of all, and ends with the first that has not the prefix.
        sim.API_URL,
        token,
        p["bucketId"],
        p.get("startFileName") or p.get("prefix"),
        p.get("maxFileCount"),
        p.get("prefix"),
    ),
    "b2_list_file_versions": lambda token, p: sim.list_file_versions(
        sim.API_URL,
        token,
        p["bucketId"],
        p.get("startFileName"),
        p.get("startFileId"),
        p.get("maxFileCount"),
        p.get("prefix"),
    ),
    "b2_delete_file_version": lambda token, p: sim.delete_file_version(
        sim.API_URL, token, p["fileId"], p["fileName"]
    ),
}


def check_token(token):
    if token not in sim.auth_token_to_key:
        raise Refusal(401, "bad_auth_token", "the token is not one of this server")


def authorize(header, base):
    kind, _, pair = (header or "").partition(" ")
    if kind != "Basic":
        raise Refusal(401, "unauthorized", "no key")
    key_id, _, key = base64.b64decode(pair).decode().partition(":")
    try:
        answer = sim.authorize_account(base, key_id, key)
    except exception.InvalidAuthToken as error:
        raise Refusal(401, "unauthorized", "no such key") from error
    storage = answer["apiInfo"]["storageApi"]
    storage["apiUrl"] = storage["downloadUrl"] = base
    return answer


def download(path, token, wanted):
    """The bytes asked for, and the headers of the answer."""
    check_token(token)
    bucket_name, _, encoded = path.removeprefix("/file/").partition("/")
    bucket = sim.bucket_name_to_bucket.get(bucket_name)
    if bucket is None:
        raise Refusal(404, "not_found", f"Bucket does not exist: {bucket_name}")
    sim._assert_account_auth(sim.API_URL, token, ACCOUNT, "readFiles", bucket.bucket_id, unquote(encoded))
    url = sim.DOWNLOAD_URL + path

    def part(span):
        with sim.download_file_from_url(token, url, span) as found:
            return found.data_bytes, dict(found.headers)

    data, headers = part(None)
    if wanted is None:
        return 200, data, headers
    first, _, last = wanted.removeprefix("bytes=").partition("-")
    size = len(data)
    span = (max(size - int(last), 0), size - 1) if first == "" else (int(first), min(int(last or size), size - 1))
    if span[0] >= size or span[0] > span[1]:
        raise Refusal(416, "range_not_satisfiable", "The Range header in the request is outside the size of the file")
    return 206, *part(span)


def upload(path, headers, body):
    address = "https://upload.example.com" + path.removeprefix("/upload")
    if headers["Authorization"] != address:
        raise Refusal(401, "bad_auth_token", "not the token of this address")
    if address.rsplit("/", 1)[1] in sim.expired_auth_tokens:
        raise Refusal(401, "expired_auth_token", "the address has expired")
    return sim.upload_file(
        address,
        address,
        unquote(headers["X-Bz-File-Name"]),
        len(body),
        headers["Content-Type"],
        headers["X-Bz-Content-Sha1"],
        {},
        io.BytesIO(body),
    )


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.handle_one(b"")

    def do_HEAD(self):
        self.handle_one(b"")

    def do_POST(self):
        is_taken = False
        if self.path.startswith("/upload/"):
            with control.lock:
                is_taken = self.path in control.uploading
                control.uploading.add(self.path)
        self.handle_one(self.rfile.read(int(self.headers.get("Content-Length", 0))), is_taken)

    def handle_one(self, body, is_taken=False):
        if self.path == "/control":
            return self.answer(200, json.dumps(do_control(json.loads(body))).encode(), {})
        if self.path.startswith("/b2api/"):
            function = self.path.rsplit("/", 1)[1]
        else:
            function = "b2_upload_file" if self.path.startswith("/upload/") else "b2_download_file_by_name"
            if self.command == "HEAD":
                function = "head"
        fault = control.note(function)
        if fault and fault.get("how", "answer") == "answer":
            return self.refuse(Refusal(fault["status"], fault.get("code", ""), fault.get("message", "")))
        try:
            with sim_lock:
                if is_taken:
                    raise Refusal(400, "auth_token_limit", "more than one upload at a time")
                status, data, headers = self.run(function, body)
        except Refusal as refusal:
            return self.refuse(refusal)
        except exception.InvalidAuthToken:
            return self.refuse(Refusal(401, "expired_auth_token", "the token has expired"))
        except exception.Unauthorized:
            return self.refuse(Refusal(401, "unauthorized", "the key does not permit that"))
        except exception.NonExistentBucket:
            return self.refuse(Refusal(400, "bad_bucket_id", "no such bucket"))
        except exception.FileNotPresent:
            is_download = self.path.startswith("/file/")
            code = (404, "not_found") if is_download else (400, "file_not_present")
            return self.refuse(Refusal(*code, "File with such name does not exist."))
        except raw_simulator.FileSha1Mismatch:
            return self.refuse(Refusal(400, "bad_request", "Sha1 did not match data received"))
        except Exception:
            traceback.print_exc()
            return self.refuse(Refusal(500, "internal_error", "see the log"))
        if fault:
            self.close_connection = True
            if fault["how"] == "lost":
                with control.lock:
                    control.uploading.discard(self.path)
                return None
            return self.answer(status, data, headers, cut=True)
        return self.answer(status, data, headers)

    def run(self, function, body):
        base = "http://" + self.headers["Host"]  # that of a proxy, if there is one
        if function == "b2_authorize_account":
            return 200, json.dumps(authorize(self.headers.get("Authorization"), base)).encode(), {}
        if self.path.startswith("/file/"):
            return download(self.path, self.headers.get("Authorization"), self.headers.get("Range"))
        if function == "b2_upload_file":
            return 200, json.dumps(upload(self.path, self.headers, body)).encode(), {}
        if function not in FUNCTIONS:
            raise Refusal(400, "bad_request", f"there is no {function}")
        token = self.headers.get("Authorization")
        check_token(token)
        answer = FUNCTIONS[function](token, json.loads(body))
        if function == "b2_get_upload_url":
            answer["uploadUrl"] = answer["uploadUrl"].replace("https://upload.example.com", base + "/upload")
        return 200, json.dumps(answer, default=list).encode(), {}

    def refuse(self, refusal):
        told = {"status": refusal.status, "code": refusal.code, "message": refusal.message}
        self.answer(refusal.status, json.dumps(told).encode(), {})

    def answer(self, status, data, headers, cut=False):
        with control.lock:
            control.uploading.discard(self.path)
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() != "content-length":
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[: len(data) // 2] if cut else data)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


Server(("127.0.0.1", PORT), Handler).serve_forever()
