#!/usr/bin/env bash
# Makes .venv from requirements.lock and installs the few system packages that are missing. Does nothing when nothing changed.
#   scripts/setup.sh             what it takes to run
#   scripts/setup.sh --browser   also the Chromium that the page tests drive
set -euo pipefail
cd "$(dirname "$0")/.."

die() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

can_install() {
    command -v apt-get >/dev/null && { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }
}

apt_install() {
    local install=(env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@")
    echo "setup: installing $*"
    if ! ls /var/lib/apt/lists/*Packages* >/dev/null 2>&1; then as_root apt-get update -qq; fi
    as_root "${install[@]}" >/dev/null 2>&1 || { as_root apt-get update -qq && as_root "${install[@]}" >/dev/null; }
}

# need COMMAND PACKAGE WHY: the command is there afterwards, or the person knows what to do.
need() {
    command -v "$1" >/dev/null && return
    can_install || die "$3 needs '$1'. Install it (on Debian: apt-get install $2), then run this again."
    apt_install "$2"
    command -v "$1" >/dev/null || die "the package $2 did not bring '$1'; install it by hand, then run this again."
}

newest_python() {
    local name
    for name in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if command -v "$name" >/dev/null && "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
            command -v "$name"
            return
        fi
    done
}

make_venv() {
    local python
    python=$(newest_python)
    if [ -z "$python" ] && [ -z "${PYTHON:-}" ] && can_install; then
        apt_install python3 python3-venv
        python=$(newest_python)
    fi
    [ -n "$python" ] || die "Python 3.11 or newer is needed; ${PYTHON:-python3} is $(${PYTHON:-python3} -V 2>&1 || true). Name one: PYTHON=/path/to/python3.11 make setup"
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        can_install || die "$python lacks the venv module. Install it (on Debian: apt-get install python3-venv), then run this again."
        apt_install python3-venv
    fi
    rm -rf .venv
    "$python" -m venv .venv
}

install_lock() {
    # uv itself comes from the lock too, by the one tool that every venv has.
    .venv/bin/python -m pip install -q --disable-pip-version-check --require-hashes --no-deps \
        -r <(sed -n '/^uv==/,/^ *# via/p' requirements.lock)
    local uv=(.venv/bin/uv pip install --quiet --python .venv/bin/python)
    # Where only pip is set up to reach the packages, pip does it.
    "${uv[@]}" --require-hashes -r requirements.lock ||
        .venv/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
    "${uv[@]}" --no-deps --no-build-isolation -e .
}

mkdir -p .cache
if command -v flock >/dev/null; then
    exec 9>.cache/setup.lock
    flock 9
fi

need git git "the workspace"
if [ "$(uname -s)" = Linux ]; then
    need bwrap bubblewrap "the sandbox"
    need setpriv util-linux "starting the local servers"
    if [ "${1:-}" = --browser ]; then
        command -v chromium >/dev/null || command -v google-chrome >/dev/null ||
            need chromium chromium "the page tests (or run .venv/bin/pytest -m 'not browser')"
    fi
fi

want=$(cat requirements.lock pyproject.toml | cksum)
if [ ! -x .venv/bin/python ] || ! .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    make_venv
fi
if [ "$(cat .venv/installed 2>/dev/null || true)" != "$want" ] || [ ! -x .venv/bin/uv ]; then
    install_lock
    printf '%s\n' "$want" >.venv/installed
fi
