#!/bin/sh
# What the server's image starts with: the project's notebooks into the person's home, then the server itself.
set -eu
project=$(dirname "$0")/../..
python -I -S "$project/spawner/seed.py" "$project/notebooks" "$HOME"
exec "$@"
