#!/usr/bin/env python3
"""Writes THIRD-PARTY-NOTICES.md: every crate that is linked into the programs, and the licence texts to pass on.

Where a crate offers a choice, Apache-2.0 is taken: its text is there once, and a crate's NOTICE file is added. All
other texts are those of the crates themselves, each different one once. With --check nothing is written; the exit
code tells whether the file is up to date.
"""

import re
import sys

from dependencies import ROOT, packages, parse_licence

FILE = ROOT / "THIRD-PARTY-NOTICES.md"

# The licences that ask for nothing, then the one whose text is shared, then the rest.
PREFERENCE = ["MIT-0", "CC0-1.0", "Unlicense", "BSL-1.0", "Apache-2.0", "Zlib", "MIT", "ISC", "BSD-2-Clause"]
NO_TEXT = {"MIT-0", "CC0-1.0", "Unlicense", "BSL-1.0"}

# Sources of others that come inside a crate, with their own licence file.
BUNDLED = {"zstd-sys": ["zstd/LICENSE"]}

HEAD = """\
# Third-party notices

coffer is offered under Apache-2.0 or MIT, at your choice. A program built from it also contains the crates below,
under the licences named. This file is written by `.ci/third-party-notices.py` from `Cargo.lock`.

"""


def chosen(licence):
    """The alternative with the fewest duties."""

    def duties(licences):
        ranks = [PREFERENCE.index(name) if name in PREFERENCE else len(PREFERENCE) for name in licences]
        return max(ranks), len(licences), sorted(licences)

    return min(parse_licence(licence), key=duties)


def licence_files(package, licences):
    """The files of a crate whose text has to be passed on, besides the text of Apache-2.0."""
    needed = licences - NO_TEXT - {"Apache-2.0"}
    wanted = []
    for file in sorted(package.folder.iterdir()):
        name = file.name.upper()
        if not file.is_file() or name.endswith((".RS", ".TOML")):
            continue
        if name.startswith("NOTICE"):
            wanted.append(file)
        elif needed and re.match(r"(LICEN[CS]E|COPYING|COPYRIGHT|UNLICENSE)", name):
            if name.endswith("APACHE") or (name.endswith("-MIT") and "MIT" not in needed):
                continue
            wanted.append(file)
    wanted += [package.folder / path for path in BUNDLED.get(package.name, [])]
    return wanted


def tidy(text):
    lines = [line.rstrip() for line in text.replace("\t", "    ").splitlines()]
    return "\n".join(lines).strip("\n")


def render():
    used = [package for package in packages(linked_only=True) if package.source is not None]
    texts, missing = {}, []
    rows = ["| crate | version | licence | taken as |", "| --- | --- | --- | --- |"]
    for package in used:
        licences = chosen(package.licence)
        rows.append(f"| {package.name} | {package.version} | {package.licence} | {' AND '.join(sorted(licences))} |")
        files = licence_files(package, licences)
        if not files and licences - NO_TEXT - {"Apache-2.0"}:
            missing.append(f"{package} ({package.licence}), by {', '.join(package.authors) or 'its authors'}")
        for file in files:
            texts.setdefault(tidy(file.read_text(encoding="utf-8", errors="replace")), []).append(str(package))
    parts = [HEAD, "\n".join(rows), "\n\n## Apache-2.0\n\nThe text is in [LICENSE-APACHE](LICENSE-APACHE).\n"]
    if missing:
        parts.append("\n## Without a text of their own\n\n")
        parts.append("These crates name their licence but contain no copy of it; the usual text applies.\n\n")
        parts.extend(f"* {line}\n" for line in missing)
    for text, crates in sorted(texts.items(), key=lambda item: item[1]):
        parts.append(f"\n## {', '.join(dict.fromkeys(crates))}\n\n```text\n{text}\n```\n")
    return "".join(parts)


def main():
    text = render()
    if sys.argv[1:] == ["--check"]:
        if not FILE.exists() or FILE.read_text() != text:
            print("THIRD-PARTY-NOTICES.md is out of date: run .ci/third-party-notices.py", file=sys.stderr)
            return 1
        print("THIRD-PARTY-NOTICES.md is up to date")
        return 0
    FILE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
