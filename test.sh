#!/usr/bin/env bash
# Runs all tests. Installs what they need and this machine has not (Debian packages, when run as root).
# Arguments go to `cargo test`: ./test.sh -p repo-core chunker
set -euo pipefail
cd "$(dirname "$0")"

# need PROGRAM PACKAGE: makes sure that a program is there. Tests that need it say so and are skipped when it is not.
need() {
    command -v "$1" >/dev/null && return
    if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
        echo "installing $2 for $1"
        apt-get update -qq </dev/null || true
        DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$2" </dev/null >/dev/null ||
            echo "could not install $2; tests that need $1 are skipped"
    else
        echo "there is no $1 (package $2); tests that need it are skipped"
    fi
}

need cc gcc
.ci/install-test-servers
need strace strace # the sweep over system calls fails without it

if (($#)); then
    exec cargo test --locked "$@"
fi
exec cargo test --locked --workspace --no-fail-fast
