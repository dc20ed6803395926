#!/bin/sh
# Find a Python that fits and let it set the project up: tools/setup.sh [test|bench]
# When run as root, a Python that other accounts can execute is preferred: users' servers run under accounts of their own.
set -eu
cd "$(dirname "$0")/.."

fits() {
    command -v "$1" >/dev/null 2>&1 && "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

open_to_all() {
    path=$("$1" -c 'import os, sys; print(os.path.realpath(sys.executable))')
    while [ "$path" != / ]; do
        case $(stat -L -c %A "$path") in *[xt]) ;; *) return 1 ;; esac
        path=$(dirname "$path")
    done
}

found=
for candidate in ${PYTHON:-} /usr/bin/python3 /usr/local/bin/python3 python3 python3.11 python3.12 python3.13 /usr/bin/python3.1[1-9]; do
    fits "$candidate" || continue
    found=${found:-$candidate}
    if [ -n "${PYTHON:-}" ] || open_to_all "$candidate"; then found=$candidate; break; fi
done
if [ -z "$found" ]; then
    echo "setup: no Python 3.11 or later was found. Install one (Debian: apt-get install python3 python3-venv)," >&2
    echo "       or name it: make up PYTHON=/path/to/python3" >&2
    exit 1
fi
exec "$found" tools/setup.py --python "$found" "$@"
