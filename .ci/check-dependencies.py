#!/usr/bin/env python3
"""Holds the locked dependencies against deny.toml: licences, banned crates, registries. Needs no network.

It covers what `cargo deny check licenses bans sources` would say; advisories need cargo-deny and its database.
"""

import re
import sys
import tomllib

from dependencies import ROOT, packages, parse_licence, version_key

COMPARISONS = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "=": lambda a, b: a == b,
}


def is_banned(name, version, ban):
    """Whether a `deny` entry of the form `name` or `name@<comparison><version>, …` covers this crate."""
    banned_name, _, requirement = ban.partition("@")
    if name != banned_name:
        return False
    if not requirement:
        return True
    for one in requirement.split(","):
        comparison, wanted = re.fullmatch(r"([<>]?=?)\s*([0-9].*)", one.strip()).groups()
        padded = wanted + ".0" * (2 - wanted.count("."))
        if not COMPARISONS[comparison or "="](version_key(version), version_key(padded)):
            return False
    return True


def problems(rules, locked, used):
    allowed = set(rules["licenses"]["allow"])
    for package in used:
        if package.licence is None:
            yield f"{package}: names no licence"
        elif not any(licences <= allowed for licences in parse_licence(package.licence)):
            yield f"{package}: licence {package.licence} is not on the list in deny.toml"
    for entry in locked:
        for ban in rules["bans"]["deny"]:
            if is_banned(entry["name"], entry["version"], ban["crate"]):
                yield f"{entry['name']} {entry['version']}: banned by {ban['crate']}: {ban['reason']}"
        source = entry.get("source")
        if source is not None and not source.startswith("registry+https://github.com/rust-lang/crates.io-index"):
            yield f"{entry['name']} {entry['version']}: comes from {source}, not from crates.io"
        if source is not None and "checksum" not in entry:
            yield f"{entry['name']} {entry['version']}: has no checksum in Cargo.lock"


def self_test():
    """The parts of this check that can be wrong without anyone noticing."""
    assert parse_licence("(MIT OR Apache-2.0) AND Unicode-3.0") == [
        frozenset(["MIT", "Unicode-3.0"]),
        frozenset(["Apache-2.0", "Unicode-3.0"]),
    ]
    assert parse_licence("MIT/Apache-2.0 WITH LLVM-exception") == [
        frozenset(["MIT"]),
        frozenset(["Apache-2.0 WITH LLVM-exception"]),
    ]
    assert is_banned("bincode", "3.0.0", "bincode@>=3") and not is_banned("bincode", "2.0.1", "bincode@>=3")
    assert is_banned("aes", "0.9.3", "aes@<0.9.4") and not is_banned("aes", "0.10.0", "aes@<0.9.4")
    ban = "aes@>=0.9.0, <0.9.4"
    assert [version for version in ("0.8.4", "0.9.0", "0.9.3", "0.9.4") if is_banned("aes", version, ban)] == ["0.9.0", "0.9.3"]
    assert is_banned("jwalk", "1.0.0", "jwalk") and not is_banned("walk", "1.0.0", "jwalk")
    rules = {"licenses": {"allow": ["MIT"]}, "bans": {"deny": [{"crate": "bad", "reason": "bad"}]}}
    locked = [{"name": "bad", "version": "1.0.0", "source": "git+https://example.org/bad"}]
    assert len(list(problems(rules, locked, []))) == 3


def main():
    self_test()
    rules = tomllib.loads((ROOT / "deny.toml").read_text())
    locked = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    used = packages()
    found = list(problems(rules, locked, used))
    for problem in found:
        print(problem, file=sys.stderr)
    for ignored in rules["advisories"]["ignore"]:
        print(f"note: {ignored['id']} is ignored on purpose, see deny.toml")
    print(f"{len(used)} packages in use, {len(locked)} locked, {len(found)} problems")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
