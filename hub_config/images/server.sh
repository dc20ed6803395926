#!/bin/sh
# What the server's image starts with: the project's notebooks into the person's home, then the server itself.
set -eu
python -I -S /srv/majlis/spawner/seed.py /srv/majlis/notebooks "$HOME"
exec "$@"
