#!/usr/bin/env python3
"""Reads a coffer repository on a local disk. Written from docs/format.md and nothing else, to hold the document to its
word: what this program cannot read, the document does not describe. Section numbers are the document's.

    read-repository.py REPOSITORY PASSWORD [--compare DIRECTORY]

Verifies every object, every pack and every blob of every snapshot, and prints a listing with the SHA-256 of each file's
content. With --compare it also holds the newest snapshot against a directory. Needs cryptography, zstandard, blake3 and
argon2-cffi.
"""

import argparse
import hashlib
import os
import stat
import struct
import sys
from collections import namedtuple
from pathlib import Path

import argon2.low_level
import zstandard
from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MIB = 1 << 20
MAGIC = b"COFFER\r\n"
CONFIG, SLOT, DATA_PACK, TREE_PACK, INDEX, BODY, SEAL, SESSION, MARK, EXPIRE, REPORT = range(1, 12)
SEAL_BYTES, SLOT_BYTES = 564, 326


class Damage(Exception):
    """Something is not as the document says."""


def need(condition, reason):
    if not condition:
        raise Damage(reason)


# --- Section 2: encoding -----------------------------------------------------------------------------------------

Variant = namedtuple("Variant", "number fields")


class Decoder:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, length):
        need(length <= self.left(), "a value ends early")
        self.at += length
        return self.data[self.at - length : self.at]

    def left(self):
        return len(self.data) - self.at

    def number(self, bits=64):
        first = self.take(1)[0]
        value, least = first, 0
        if first >= 251:
            need(first <= 253, "no such form of a number")
            length = 2 << (first - 251)
            value = int.from_bytes(self.take(length), "little")
            least = [251, 1 << 16, 1 << 32][first - 251]
        need(least <= value < 1 << bits, "a number is too large, or not in its shortest form")
        return value

    def signed(self, bits):
        value = self.number(bits)
        return value >> 1 if value & 1 == 0 else -(value >> 1) - 1

    def blob(self):
        return self.take(self.number())


def u8(d):
    return d.take(1)[0]


def u32(d):
    return d.number(32)


def u64(d):
    return d.number(64)


def i32(d):
    return d.signed(32)


def i64(d):
    return d.signed(64)


def ident(d):
    return d.take(32)


def rest(d):
    """Bytes at the end, which may be left out."""
    return d.blob() if d.left() else b""


def octets(most):
    def read(d):
        value = d.blob()
        need(len(value) <= most, "bytes are longer than they may be")
        return value

    return read


def text(d):
    try:
        return d.blob().decode("utf-8")
    except UnicodeDecodeError:
        raise Damage("a text is not UTF-8") from None


def many(item):
    return lambda d: [item(d) for _ in range(d.number())]


def option(item):
    def read(d):
        there = u8(d)
        need(there <= 1, "no such option")
        return item(d) if there else None

    return read


def mapping(key, value):
    def read(d):
        pairs = [(key(d), value(d)) for _ in range(d.number())]
        need(all(a[0] < b[0] for a, b in zip(pairs, pairs[1:])), "a map is not sorted")
        return dict(pairs)

    return read


def structure(name, /, **fields):
    made = namedtuple(name, fields.keys())
    return lambda d: made(*(read(d) for read in fields.values()))


def choice(*variants):
    def read(d):
        number = u32(d)
        need(number < len(variants), "no such variant")
        return Variant(number, tuple(field(d) for field in variants[number]))

    return read


def decode(read, data):
    decoder = Decoder(data)
    value = read(decoder)
    need(decoder.at == len(data), "bytes follow a value")
    return value


def time(d):
    seconds, nanoseconds = i64(d), u32(d)
    need(nanoseconds < 10**9, "a second has no such nanosecond")
    return (seconds, nanoseconds)


def mode(d):
    bits = u32(d)
    need(bits <= 0o7777, "no such mode")
    return bits


def name(d):
    value = octets(255)(d)
    need(value not in (b"", b".", b"..") and b"/" not in value and b"\0" not in value, "no name of an entry")
    return value


def extensions_of(d):
    found = many(structure("Extension", tag=u32, value=octets(65536)))(d)
    need(len(found) <= 64, "too many extensions")
    need(all(a.tag < b.tag for a, b in zip(found, found[1:])), "extensions are not sorted")
    return found


totals = structure("Totals", files=u64, directories=u64, bytes=u64)
compression = choice((), ())

# Section 7.
piece = choice((ident, u32), (u64,))
content = choice((), (ident,), (many(piece),), (ident,))
kind = choice((u64, content), (ident, totals), (octets(4096),), (u32, u32), (u32, u32), (), ())
hard_links = structure("HardLinks", device=u64, count=u64)
xattr = structure("Xattr", name=octets(255), value=octets(65536))
metadata = structure(
    "Metadata", mode=mode, user=u32, group=u32, modified=time, changed=time, accessed=option(time), inode=u64,
    hard_links=option(hard_links), xattrs=many(xattr), extensions=extensions_of,
)  # fmt: skip
entry = structure("Entry", name=name, kind=kind, metadata=metadata)
entry_page = structure("EntryPage", first=name, page=ident, totals=totals)
piece_page = structure("PiecePage", length=u64, page=ident)
tree_blob = choice((many(entry),), (many(entry_page),), (many(piece),), (many(piece_page),))

# Sections 8 and 9.
pack_blob = structure("PackBlob", id=ident, length=u32)
pack_frame = structure("PackFrame", stored=u32, plain=u32, compression=compression, blobs=many(pack_blob))
pack_directory = many(pack_frame)
run_page = structure("RunPage", stored=u32, compression=compression, first=u64)
run_directory = structure("RunDirectory", data=u32, tree=u32, frames=u32, packs=u32, pages=many(run_page))

# Section 10.
summary = structure("Summary", started=time, ended=time, counters=lambda d: [u64(d) for _ in range(12)])
snapshot_body = structure(
    "Snapshot", time=time, utc_offset=i32, host=text, user=text, user_number=u32, group_number=u32, source=many(text),
    label=option(text), paths=many(text), tags=many(text), excludes=many(text), tree=ident, totals=totals,
    root=option(metadata), parent=option(ident), original=option(ident), program=text, users=mapping(u32, text),
    groups=mapping(u32, text), protection=choice((), (), (time,)), summary=summary,
    extensions=extensions_of,
)  # fmt: skip
seal = structure("Seal", bodies=many(ident), copy=rest)

# Sections 11 and 12.
session = structure("Session", operation=text, host=text, user=text, process=u32, started=time)
mark = structure("Mark", packs=many(ident), created=time)
expire_note = structure("ExpireNote", body=ident, created=time)
store_finding = structure("StoreFinding", question=choice(*[()] * 8), answer=choice((), (), ()), detail=text)
store_report = structure(
    "StoreReport", program=text, location=text, made=time, extent=choice((), ()), clock_ahead=option(i64),
    findings=many(store_finding),
)  # fmt: skip
NOTES = {SESSION: session, MARK: mark, EXPIRE: expire_note, REPORT: store_report}
config = structure(
    "Config", repository=ident, created=time, minimum=u32, average=u32, maximum=u32, normalization=u8, data_frame=u32,
    tree_frame=u32, pack=u32, required_features=many(text), required_features_to_write=many(text),
)  # fmt: skip


# --- Sections 3 and 4: keys --------------------------------------------------------------------------------------


def open_part(key, number, sealed, associated):
    nonce = struct.pack("<I", number) + bytes(8)
    try:
        return AESGCM(key).decrypt(nonce, sealed, associated)
    except InvalidTag:
        raise Damage("a part does not authenticate") from None


class Keys:
    def __init__(self, master, repository):
        def derive(what):
            return blake3(master, derive_key_context=f"coffer 2026-11-21 v1 {what}").digest()

        self.repository = repository
        self.object = derive("object key")
        self.ids = [derive("data blob id"), derive("tree blob id")]

    def object_key(self, kind, salt):
        return blake3(salt + self.repository + bytes([kind]), key=self.object).digest()

    def blob_id(self, tree, plain):
        return blake3(plain, key=self.ids[tree]).digest()


def open_slot(slot, password):
    magic, version, kind, derivation, memory, passes, lanes = struct.unpack_from("<8sHBBIII", slot)
    need(magic == MAGIC and (version, kind, derivation) == (1, SLOT, 1), "no key slot of version 1")
    need(passes and lanes and memory >= 8 * lanes, "no such costs")
    need(memory <= 4 << 20 and passes <= 64 and lanes <= 64, "the costs are above the limits")
    derived = argon2.low_level.hash_secret_raw(
        password, slot[24:56], passes, memory, lanes, 64, argon2.low_level.Type.ID, version=0x13
    )
    if derived[32:] != slot[56:88]:
        return None
    plain = open_part(derived[:32], 0, slot[88:168], slot[:88])
    keys = Keys(plain[:32], plain[32:])
    description = open_part(keys.object_key(SLOT, slot[24:56]), 0, slot[168:], slot[:168])
    seconds, nanoseconds, host_length, host, user_length, user = struct.unpack("<qIB64sB64s", description)
    return keys, (seconds, nanoseconds), host[:host_length].decode(), user[:user_length].decode()


# --- Sections 5, 6 and 14: objects -------------------------------------------------------------------------------


def header(data, *kinds):
    need(len(data) >= 48 and data[:8] == MAGIC, "no header")
    version, kind, zeros = struct.unpack_from("<HB5s", data, 8)
    need(version == 1, f"version {version}")
    need(zeros == bytes(5) and kind in kinds, "the header is of another kind")
    return kind, data[16:48]


def unpack(number, packed, plain_bytes):
    need(number <= 1, "no such compression")
    if number == 0:
        need(len(packed) == plain_bytes, "raw bytes have another length")
        return packed
    parameters = zstandard.get_frame_parameters(packed)
    need(parameters.content_size == plain_bytes, "a zstd frame says another length")
    need(not parameters.has_checksum and parameters.dict_id == 0, "a zstd frame with checksum or dictionary")
    plain = zstandard.ZstdDecompressor().decompress(packed, max_output_size=plain_bytes, allow_extra_data=False)
    need(len(plain) == plain_bytes, "a zstd frame has another length")
    return plain


class Sealed:
    """The parts of one object."""

    def __init__(self, keys, data, *kinds):
        self.kind, self.salt = header(data, *kinds)
        self.key = keys.object_key(self.kind, self.salt)
        self.associated = data[:48] + keys.repository

    def part(self, number, sealed):
        return open_part(self.key, number, sealed, self.associated)


def open_object(keys, kind, read, data):
    need(len(data) <= 80 * MIB, "an object is too large")
    plain = Sealed(keys, data, kind).part(0, data[48:])
    need(len(plain) >= 9, "an object is too short")
    packed, length, number = struct.unpack_from("<IIB", plain)
    need(length <= 64 * MIB and 9 + packed <= len(plain), "lengths of an object are out of bounds")
    need(not any(plain[9 + packed :]), "an object is not padded with zeros")
    return decode(read, unpack(number, plain[9 : 9 + packed], length))


def open_container(keys, read, data, *kinds):
    """The parts, the directory, and where frames and padding end."""
    need(len(data) >= 176, "a container is too short")
    parts = Sealed(keys, data[-48:], *kinds)
    need(data[:48] == data[-48:], "the headers of a container differ")
    start, stored, plain, number = struct.unpack("<QQQQ", parts.part(2**32 - 1, data[-96:-48]))
    need(start >= 48 and start + stored == len(data) - 96 and plain <= 64 * MIB, "a footer is out of bounds")
    directory = unpack(number, parts.part(2**32 - 3, data[start : start + stored]), plain)
    return parts, decode(read, directory), start


def check_padding(parts, data, frames_end, directory_start):
    need(not any(parts.part(2**32 - 2, data[frames_end:directory_start])), "padding that is not zero")


# --- Sections 8 and 9: packs and index ---------------------------------------------------------------------------

Location = namedtuple("Location", "pack version salt tree number at stored plain compression offset length")


def read_tables(keys, data):
    """Every blob of an index run, by the first 20 bytes of its id, and where it is."""
    parts, directory, end = open_container(keys, run_directory, data, INDEX)
    blobs = directory.data + directory.tree
    left = 32 * blobs + 16 * directory.frames + 80 * directory.packs
    need(left <= 4 << 30 and blobs <= 32 << 20, "an index run is too large")
    need(len(directory.pages) == -(-left // 65520), "a run has more or fewer pages than its tables")
    tables, at = bytearray(), 48
    for number, page in enumerate(directory.pages):
        sealed = data[at : min(at + page.stored, end)]
        plain = unpack(page.compression.number, parts.part(number, sealed), min(left, 65520))
        need(page.first == int.from_bytes(plain[:8].ljust(8, b"\0"), "big"), "a page begins otherwise")
        tables += plain
        at, left = at + page.stored, left - len(plain)
    need(left == 0, "the pages of a run are shorter than its tables")
    check_padding(parts, data, at, end)

    tables = bytes(tables)
    ids = [tables[20 * i : 20 * i + 20] for i in range(blobs)]
    at = 20 * blobs
    places = list(struct.iter_unpack("<III", tables[at : at + 12 * blobs]))
    at += 12 * blobs
    frames = list(struct.iter_unpack("<IIII", tables[at : at + 16 * directory.frames]))
    packs = list(struct.iter_unpack("<32s32sIIIBBH", tables[at + 16 * directory.frames :]))
    need(ids[: directory.data] == sorted(ids[: directory.data]), "data ids are not sorted")
    need(ids[directory.data :] == sorted(ids[directory.data :]), "tree ids are not sorted")
    following = 0
    for row, (_, _, size, first, count, tree, zero, version) in enumerate(packs):
        need(first == following and tree <= 1 and not zero and version and size <= 256 * MIB, "a pack's row is out of bounds")
        following += count
        need(following <= len(frames) and all(f[0] == row for f in frames[first:following]), "frames of no pack")
    need(following == len(frames), "frames of no pack")
    for position, (row, offset, length) in enumerate(places):
        need(row < len(frames), "a blob lies in no frame")
        pack, start, stored, plain = frames[row]
        raw, plain = plain >> 31, plain & (1 << 31) - 1
        id_, salt, size, first, _, tree, _, version = packs[pack]
        need(tree == (position >= directory.data), "a blob lies in a pack of the other kind")
        need(start + stored <= size and 16 <= stored <= 16 * MIB + 16 and plain <= 16 * MIB, "a frame is out of bounds")
        need(offset + length <= plain and length <= 8 * MIB, "a blob is out of bounds")
        yield ids[position], Location(id_, version, salt, tree, row - first, start, stored, plain, 1 - raw, offset, length)


def read_pack(keys, id_, data):
    """Every blob of a pack by its own directory, each held against its id."""
    need(len(data) <= 256 * MIB, "a pack is too large")
    parts, directory, end = open_container(keys, pack_directory, data, DATA_PACK, TREE_PACK)
    tree, at = int(parts.kind == TREE_PACK), 48
    need(len(directory) <= MIB, "too many frames")
    for number, frame in enumerate(directory):
        need(16 <= frame.stored <= 16 * MIB + 16 and frame.plain <= 16 * MIB, "a frame is out of bounds")
        need(sum(blob.length for blob in frame.blobs) == frame.plain, "blobs do not fill their frame")
        need(at + frame.stored + 16 <= end, "frames are longer than their pack")
        plain = unpack(frame.compression.number, parts.part(number, data[at : at + frame.stored]), frame.plain)
        offset = 0
        for blob in frame.blobs:
            need(blob.length <= 8 * MIB, "a blob is out of bounds")
            need(keys.blob_id(tree, plain[offset : offset + blob.length]) == blob.id, "a blob is another one")
            yield blob.id, Location(
                id_, 1, parts.salt, tree, number, at, frame.stored, frame.plain, frame.compression.number, offset, blob.length
            )
            offset += blob.length
        at += frame.stored
    check_padding(parts, data, at, end)


# --- Section 17: a repository ------------------------------------------------------------------------------------


class Repository:
    def __init__(self, path, password):
        self.path = Path(path)
        slots = [data for _, data in self.objects("keys") if len(data) == SLOT_BYTES]
        opened = next(filter(None, (open_slot(slot, password) for slot in slots[:64])), None)
        need(opened, "no key slot opens with this password")
        self.keys, self.slots = opened[0], len(slots)
        self.config = open_object(self.keys, CONFIG, config, (self.path / "config").read_bytes())
        need(self.config.repository == self.keys.repository, "config and key are of two repositories")
        need(not self.config.required_features, f"required features: {self.config.required_features}")
        self.index = {}
        for _, data in self.objects("index"):
            for id_, location in read_tables(self.keys, data):
                self.index.setdefault((location.tree, id_), []).append(location)
        self.frames = {}

    def objects(self, place):
        """Every object of a place with its bytes; names are verified."""
        for file in sorted((self.path / place).glob("*/*" if place == "data" else "*")):
            name = file.name
            if len(name) != 64 or set(name) - set("0123456789abcdef"):
                continue
            if place == "data" and file.parent.name != name[:2]:
                continue
            data = file.read_bytes()
            need(hashlib.sha256(data).hexdigest() == name, f"{place}/{name} has another name than its bytes")
            yield bytes.fromhex(name), data

    def check_packs(self):
        """Everything the packs hold is in the index just so. Returns how many packs and blobs there are, and how many
        tree blobs of each variant."""
        packs, blobs, pages = 0, 0, [0] * 4
        for id_, data in self.objects("data"):
            packs += 1
            for blob, location in read_pack(self.keys, id_, data):
                blobs += 1
                need(location in self.copies(location.tree, blob), f"pack {id_.hex()}: the index differs")
                if location.tree:
                    pages[decode(tree_blob, self.blob(1, blob)).number] += 1
        return packs, blobs, *pages

    def copies(self, tree, id_):
        return self.index.get((tree, id_[:20]), [])

    def blob(self, tree, id_):
        copies = self.copies(tree, id_)
        need(copies, f"blob {id_.hex()} is in no index run")
        for place in copies:
            plain = self.frame(tree, place)[place.offset : place.offset + place.length]
            if self.keys.blob_id(tree, plain) == id_:
                return plain
        raise Damage(f"blob {id_.hex()} is another one")

    def frame(self, tree, place):
        key = (place.pack, place.number)
        if key not in self.frames:
            pack = place.pack.hex()
            with open(self.path / "data" / pack[:2] / pack, "rb") as file:
                file.seek(place.at)
                sealed = file.read(place.stored)
            head = struct.pack("<8sHB5s32s", MAGIC, place.version, TREE_PACK if tree else DATA_PACK, bytes(5), place.salt)
            parts = Sealed(self.keys, head, DATA_PACK, TREE_PACK)
            if len(self.frames) > 64:
                self.frames.clear()
            self.frames[key] = unpack(place.compression, parts.part(place.number, sealed), place.plain)
        return self.frames[key]

    def items(self, tree, variant, first=None, levels=0):
        """The items of a list, whatever pages it has: entries for variant 0, pieces for variant 2."""
        page = decode(tree_blob, self.blob(1, tree))
        need(page.number in (variant, variant + 1), "a page of another kind of list")
        items = page.fields[0]
        if page.number == variant:
            need(items or (variant == 0 and levels == 0), "an empty page")
            if isinstance(first, bytes):
                need(items[0].name == first, "a page begins with another name")
            if isinstance(first, int):
                need(sum(map(piece_length, items)) == first, "a page covers another length")
            yield from items
            return
        need(items and levels < 8, "an empty page of pages, or too many levels")
        if isinstance(first, bytes):
            need(items[0].first == first, "a page begins with another name")
        if isinstance(first, int):
            need(sum(item.length for item in items) == first, "a page covers another length")
        for item in items:
            yield from self.items(item.page, variant, item.first if variant == 0 else item.length, levels + 1)

    def entries(self, tree):
        last = b""
        for item in self.items(tree, 0):
            need(item.name > last, "entries are not sorted")
            last = item.name
            yield item

    def file(self, size, how):
        """SHA-256 of a file's content."""
        digest, length = hashlib.sha256(), 0
        pieces = ()
        if how.number == 1:
            pieces = [Variant(0, (how.fields[0], size))]
        elif how.number == 2:
            pieces = how.fields[0]
        elif how.number == 3:
            pieces = self.items(how.fields[0], 2, size)
        for item in pieces:
            count = piece_length(item)
            need(count > 0 and length + count <= size, "the pieces of a file are longer than it")
            length += count
            if item.number == 0:
                data = self.blob(0, item.fields[0])
                need(len(data) == count, "a blob has another length than its piece")
                digest.update(data)
            else:
                for _ in range(count >> 20):
                    digest.update(bytes(MIB))
                digest.update(bytes(count & MIB - 1))
        need(length == size, "the pieces of a file are shorter than it")
        return digest.hexdigest()

    def walk(self, tree, path=b"", depth=0):
        """Every entry below a directory: path, entry, and what it holds as a text."""
        need(depth < 8192, "directories are nested too deep")
        sums = [0, 0, 0]
        for item in self.entries(tree):
            below = path + b"/" + item.name if path else item.name
            number, fields = item.kind
            if number == 0:
                holds = f"{fields[0]} {self.file(*fields)}"
                sums = [sums[0] + 1, sums[1], sums[2] + fields[0]]
            elif number == 1:
                holds = f"{fields[1].files} {fields[1].directories} {fields[1].bytes}"
                sums = [sums[0] + fields[1].files, sums[1] + fields[1].directories + 1, sums[2] + fields[1].bytes]
            else:
                holds = escape(fields[0]) if number == 2 else ":".join(map(str, fields)) or "-"
                sums[0] += 1
            yield below, item, holds
            if number == 1:
                seen = yield from self.walk(fields[0], below, depth + 1)
                need(seen == list(fields[1]), f"totals of {below!r} are not the sums of what is in it")
        return sums

    def snapshots(self):
        bodies, sealed = {}, set()
        for id_, data in self.objects("snapshots"):
            if len(data) == SEAL_BYTES:
                found = open_object(self.keys, SEAL, seal, data)
                need(1 <= len(found.bodies) <= 15, "a seal of no bodies, or of too many")
                is_copy = found.bodies == [hashlib.sha256(found.copy).digest()]
                need(is_copy or not found.copy, "a seal with a copy of something else")
                sealed.update(found.bodies)
            else:
                bodies[id_] = open_object(self.keys, BODY, snapshot_body, data)
        return sorted(((body.time, id_, body, id_ in sealed) for id_, body in bodies.items()), key=lambda s: s[:2])

    def notes(self):
        for _, data in self.objects("locks"):
            found, _ = header(data, *NOTES)
            yield found, open_object(self.keys, found, NOTES[found], data)


def piece_length(item):
    return item.fields[-1]


# --- The listing -------------------------------------------------------------------------------------------------

KINDS = ["file", "directory", "symlink", "block", "character", "fifo", "socket"]


def escape(data):
    """Printable ASCII but for the backslash as it is, everything else as \\xNN; nothing as -."""
    return "".join(chr(b) if 0x21 <= b <= 0x7E and b != 0x5C else f"\\x{b:02x}" for b in data) or "-"


def at(moment):
    return "-" if moment is None else f"{moment[0]}.{moment[1]:09}"


def short(value):
    return value.hex() if len(value) <= 32 else "sha256:" + hashlib.sha256(value).hexdigest()


def later(extensions):
    return ",".join(f"{extension.tag}={short(extension.value)}" for extension in extensions) or "-"


def words(meta):
    links = f"{meta.hard_links.device}:{meta.hard_links.count}" if meta.hard_links else "-"
    xattrs = ",".join(f"{escape(x.name)}={short(x.value)}" for x in meta.xattrs) or "-"
    times = " ".join(map(at, (meta.modified, meta.changed, meta.accessed)))
    return f"{meta.mode:04o} {meta.user}:{meta.group} {times} {meta.inode} {links} {xattrs} {later(meta.extensions)}"


def some(items):
    return ",".join(escape(str(item).encode()) for item in items) or "-"


def listing(repository):
    yield f"repository {repository.keys.repository.hex()}"
    limits = repository.config
    yield f"config {at(limits.created)} {' '.join(str(n) for n in limits[2:9])}"
    yield f"keys {repository.slots}"
    yield f"packs {' '.join(map(str, repository.check_packs()))}"
    for _, id_, body, committed in repository.snapshots():
        yield f"snapshot {id_.hex()} {'committed' if committed else 'tentative'}"
        yield f"  made {at(body.time)} {body.utc_offset} {some([body.host, body.user])} {body.user_number}:{body.group_number}"
        yield f"  of {some(body.source)} {some([body.label] if body.label is not None else [])} {some(body.paths)}"
        yield f"  tags {some(body.tags)} {some(body.excludes)}"
        yield f"  from {body.parent.hex() if body.parent else '-'} {body.original.hex() if body.original else '-'}"
        yield f"  by {some([body.program])}"
        for what, names in ("users", body.users), ("groups", body.groups):
            yield f"  {what} {some(f'{number}={name}' for number, name in names.items())}"
        until = at(body.protection.fields[0]) if body.protection.fields else "-"
        yield f"  protection {body.protection.number} {until}"
        did = body.summary
        yield f"  summary {at(did.started)} {at(did.ended)} {' '.join(map(str, did.counters))}"
        yield f"  extensions {later(body.extensions)}"
        yield f"  totals {' '.join(map(str, body.totals))}"
        yield f"  root {words(body.root) if body.root else '-'}"
        for path, item, holds in repository.walk(body.tree):
            yield f"  {KINDS[item.kind.number]} {escape(path)} {holds} {words(item.metadata)}"
    for number, note in sorted(repository.notes(), key=lambda note: note[0]):
        if number == SESSION:
            yield f"session {some(note[:3])} {note.process} {at(note.started)}"
        elif number == MARK:
            yield f"mark {at(note.created)} {' '.join(pack.hex() for pack in note.packs) or '-'}"
        elif number == EXPIRE:
            yield f"expire {at(note.created)} {note.body.hex()}"


def compare(repository, directory):
    """Holds the newest committed snapshot against a directory: the entries below its absolute path, or below the root."""
    _, _, body, _ = [s for s in repository.snapshots() if s[3]][-1]
    stored = {path: (item, holds) for path, item, holds in repository.walk(body.tree)}
    base = os.fsencode(os.path.abspath(directory))
    prefix = base.lstrip(b"/")
    inside = prefix in stored
    found = {}
    for parent, directories, files in os.walk(base):
        for child in directories + files:
            full = os.path.join(parent, child)
            found[os.path.join(prefix, os.path.relpath(full, base)) if inside else os.path.relpath(full, base)] = full
    mine = {path for path in stored if path.startswith(prefix + b"/")} if inside else set(stored)
    need(mine == set(found), f"names differ: {sorted(mine ^ set(found))[:5]}")
    for path, full in found.items():
        item, holds = stored[path]
        was = os.lstat(full)
        need(item.metadata.mode == stat.S_IMODE(was.st_mode), f"{path!r}: the mode differs")
        need((item.metadata.user, item.metadata.group) == (was.st_uid, was.st_gid), f"{path!r}: the owner differs")
        seconds, nanoseconds = item.metadata.modified
        need(seconds * 10**9 + nanoseconds == was.st_mtime_ns, f"{path!r}: the time differs")
        if stat.S_ISREG(was.st_mode):
            with open(full, "rb") as file:
                expected = f"{was.st_size} {hashlib.file_digest(file, 'sha256').hexdigest()}"
            need(item.kind.number == 0 and holds == expected, f"{path!r}: the content differs")
        elif stat.S_ISLNK(was.st_mode):
            need(item.kind.number == 2 and item.kind.fields[0] == os.readlink(full), f"{path!r}: the target differs")
    return len(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("repository")
    parser.add_argument("password")
    parser.add_argument("--compare", metavar="DIRECTORY")
    arguments = parser.parse_args()
    sys.setrecursionlimit(20000)
    try:
        repository = Repository(arguments.repository, os.fsencode(arguments.password))
        for line in listing(repository):
            print(line)
        if arguments.compare:
            count = compare(repository, arguments.compare)
            print(f"{count} entries are as in {arguments.compare}", file=sys.stderr)
    except Damage as damage:
        sys.exit(f"read-repository: {damage}")


if __name__ == "__main__":
    main()
