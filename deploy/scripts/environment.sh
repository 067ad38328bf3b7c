#!/bin/bash
# Makes .venv as requirements.lock (run) or requirements-dev.lock (dev) says; does nothing when it is so already.
# Several of these may run at once, also beside a running hl.
set -euo pipefail
cd "$(dirname "$0")/../.."

kind=$1
python=${PYTHON:-python3}
lock=requirements.lock
[ "$kind" = dev ] && lock=requirements-dev.lock

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "hl needs Python 3.11 or newer as $python. Run \`apt-get install python3 python3-venv\`," >&2
    echo "or name another one: make up PYTHON=/path/to/python3." >&2
    exit 2
fi

# What decides how the environment looks; where it lies is written into its scripts.
wanted() {
    { pwd; "$python" -V; cat "$1" pyproject.toml; } | sha256sum | cut -d' ' -f1
}
is_made() {
    [ -x .venv/bin/hl ] && [ "$(cat ".venv/.made-$1" 2>/dev/null)" = "$(wanted "$2")" ]
}
# The environment for development holds all of the other.
is_there() {
    is_made dev requirements-dev.lock || { [ "$kind" = run ] && is_made run requirements.lock; }
}

is_there && exit 0
exec 9>.environment.lock
flock 9
is_there && exit 0

if [ ! -x .venv/bin/python ] || ! .venv/bin/python -c 'import pip' 2>/dev/null; then
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
            echo "Installing python3-venv with apt-get …"
            apt-get update -q >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -qy python3-venv >/dev/null
        else
            echo "Python's venv is missing. Run \`apt-get install python3-venv\`." >&2
            exit 2
        fi
    fi
    "$python" -m venv --clear .venv
fi

echo "Installing the packages of $lock into .venv (once; about a minute) …"
rm -f .venv/.made-*
pip() { .venv/bin/python -m pip --disable-pip-version-check "$@"; }
pip install --quiet --require-hashes -r "$lock"
pip install --quiet --no-deps --no-build-isolation -e .
wanted "$lock" >".venv/.made-$kind"
