#!/usr/bin/env bash
# Builds coffer and does its main job once, in a folder that is removed afterwards: back up a folder, change it, back it
# up again, look at both snapshots, restore each, and compare with what was backed up.
#
#   ./demo.sh [FOLDER]      back up FOLDER instead of made-up files (it is only read)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=${1:+$(realpath "$1")}

cargo build --quiet --locked --release --manifest-path "$here/Cargo.toml" -p repo-cli
coffer=${CARGO_TARGET_DIR:-$here/target}/release/coffer

work=$(mktemp -d)
trap 'chmod -R u+rwX "$work"; rm -rf "$work"' EXIT
cd "$work"
# The embedded default: no repository and no password is named; both are made in the user's data folder, here in a folder of the demo.
export COFFER_DATA_DIR=$work/data
unset "${!COFFER_REPOSITORY@}" "${!COFFER_PASSWORD@}" "${!RESTIC_REPOSITORY@}" "${!RESTIC_PASSWORD@}"

run() {
    echo
    echo "\$ coffer $*"
    "$coffer" "$@"
}

same() {
    diff -r --no-dereference "$1" "$2" || { echo "$2 differs from $1" >&2; exit 1; }
    echo "$2 is equal to $1"
}

if [[ -n $folder ]]; then
    cp -a "$folder" files
else
    mkdir -p files/photos files/texts "files/a name with spaces"
    head -c 20000000 /dev/urandom >files/photos/large
    for n in $(seq 300); do printf 'text %s, line %s\n' "$n" {1..200} >"files/texts/$n.txt"; done
    cp files/photos/large "files/a name with spaces/copy of large"
    ln files/texts/1.txt files/texts/hard-link
    ln -s ../texts/1.txt files/photos/link
    truncate -s 50M files/mostly-hole
    touch -d '2001-02-03 04:05:06.789' files/texts/2.txt
    chmod 0750 files/photos
fi
cp -a files first

run init
run backup files

echo "one more line" >>files/added.txt
rm -f files/texts/7.txt
run backup files

run snapshots
run ls latest | tail -n 5
run check --read-data

run restore latest --target latest
first=$("$coffer" snapshots --json | grep -o '"id": *"[0-9a-f]*"' | head -n 1 | grep -o '[0-9a-f]\{64\}')
run restore "$first" --target before
run dump latest files/added.txt

echo
same files latest/files
same first before/files
echo
echo "stored in the repository: $(du -sh --apparent-size data/repository | cut -f1), for $(du -sh --apparent-size files | cut -f1) backed up twice"
