#!/bin/sh
# What CI's static part runs: formats, lints, types, and the library against its notebooks. Leaves the tree as it was, or fails.
set -eu
cd "$(dirname "$0")/.."

tree() {
    git ls-files --cached --others --exclude-standard -- nbs majlis | sort | while read -r file; do
        [ -f "$file" ] && sha256sum "$file"
    done
}

ruff check .
ruff format --check --quiet . || { echo "check: not formatted; run make export, and ruff format on what is listed by: ruff format --check ." >&2; exit 1; }
python tools/check_house.py
mypy
before=$(tree)
nbdev-export
[ "$before" = "$(tree)" ] || { echo "check: majlis/ was not what nbs/ exports; it is now, look at git diff majlis" >&2; exit 1; }
# a process each: notebooks that define tables cannot share one
ls nbs/*.ipynb | xargs -P 2 -I {} nbdev-test {} --save --n-workers 0
nbdev-clean
python tools/drop_warnings.py
[ "$before" = "$(tree)" ] || { echo "check: stored outputs were not what the notebooks print; look at git diff nbs" >&2; exit 1; }
echo "check: all green"
