"""`python -m hub_config.workbench up | demo`: what `make up` and `make demo` run."""

import argparse
import asyncio
import sys

from hub_config.workbench import session
from majlis.errors import MajlisError
from majlis.settings import load


def main() -> int:
    """Run the workbench; an operator's mistake is told in words, never in a traceback."""
    parser = argparse.ArgumentParser(prog="python -m hub_config.workbench", description=__doc__)
    parser.add_argument("purpose", choices=["up", "demo"], help="up: until Ctrl-C; demo: verify and exit")
    parser.add_argument("--bare", action="store_true", help="do not run the demo pipeline")
    arguments = parser.parse_args()
    try:
        return asyncio.run(session.run(load(), arguments.purpose, pipeline=not arguments.bare))
    except MajlisError as error:
        print(f"majlis: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
