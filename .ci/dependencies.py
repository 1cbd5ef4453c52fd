"""What the programs are made of, as `cargo metadata` tells it. Shared by the checks in this folder."""

import json
import pathlib
import subprocess
from dataclasses import dataclass

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGETS = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"]


@dataclass(frozen=True)
class Package:
    name: str
    version: str
    licence: str | None
    authors: tuple[str, ...]
    folder: pathlib.Path
    source: str | None
    """Where it comes from; `None` for the project's own crates."""

    def __str__(self):
        return f"{self.name} {self.version}"


def version_key(version):
    """Orders versions of crates as far as the checks need it: numbers by value, a pre-release before its release."""
    release, _, pre = version.split("+")[0].partition("-")
    return [int(number) for number in release.split(".")], pre == "", pre


def packages(linked_only=False):
    """All packages that a build for one of TARGETS uses, in order of name and version, the project's own included.

    With `linked_only`, just those that end up in a program: no dependencies of tests or of build scripts.
    """
    found = {}
    for target in TARGETS:
        command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target]
        metadata = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)
        by_id = {package["id"]: package for package in metadata["packages"]}
        ids = linked(metadata) if linked_only else by_id.keys()
        for package in (by_id[id] for id in ids):
            found[package["id"]] = Package(
                name=package["name"],
                version=package["version"],
                licence=package["license"],
                authors=tuple(package["authors"]),
                folder=pathlib.Path(package["manifest_path"]).parent,
                source=package["source"],
            )
    return sorted(found.values(), key=lambda package: (package.name, version_key(package.version)))


def linked(metadata):
    """Ids of the packages reachable from the workspace through ordinary dependencies, procedural macros left out."""
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    macros = {
        package["id"]
        for package in metadata["packages"]
        if any("proc-macro" in target["kind"] for target in package["targets"])
    }
    reached, todo = set(), list(metadata["workspace_members"])
    while todo:
        id = todo.pop()
        if id in reached or id in macros:
            continue
        reached.add(id)
        for dependency in nodes[id]["deps"]:
            if any(kind["kind"] is None for kind in dependency["dep_kinds"]):
                todo.append(dependency["pkg"])
    return reached


def parse_licence(expression):
    """An SPDX expression as a list of alternatives, each a frozenset of licences that then apply together."""
    words = expression.replace("/", " OR ").replace("(", " ( ").replace(")", " ) ").split()
    words = [word.upper() if word.upper() in ("AND", "OR", "WITH") else word for word in words]

    def any_of():
        alternatives = all_of()
        while words and words[0] == "OR":
            words.pop(0)
            alternatives = alternatives + all_of()
        return alternatives

    def all_of():
        alternatives = one()
        while words and words[0] == "AND":
            words.pop(0)
            right = one()
            alternatives = [left | also for left in alternatives for also in right]
        return alternatives

    def one():
        word = words.pop(0)
        if word == "(":
            inside = any_of()
            if not words or words.pop(0) != ")":
                raise ValueError(f"no licence expression: {expression}")
            return inside
        if words and words[0] == "WITH":
            words.pop(0)
            word = f"{word} WITH {words.pop(0)}"
        return [frozenset([word])]

    alternatives = any_of()
    if words:
        raise ValueError(f"no licence expression: {expression}")
    return alternatives
