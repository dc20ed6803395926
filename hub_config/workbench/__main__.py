"""`python -m hub_config.workbench up | demo | demo-review`: what the make targets of these names run."""

import argparse
import asyncio
import sys

from hub_config.workbench import session
from majlis.errors import MajlisError
from majlis.settings import load


def main() -> int:
    """Run the workbench; an operator's mistake is told in words, never in a traceback."""
    parser = argparse.ArgumentParser(prog="python -m hub_config.workbench", description=__doc__)
    purposes = (
        "up: until Ctrl-C; demo: verify and exit; demo-review: let three people decide, verify and exit"
    )
    parser.add_argument("purpose", choices=["up", "demo", "demo-review"], help=purposes)
    parser.add_argument("--bare", action="store_true", help="do not run the demo pipeline")
    arguments = parser.parse_args()
    try:
        return asyncio.run(session.run(load(), arguments.purpose, pipeline=not arguments.bare))
    except MajlisError as error:
        print(f"majlis: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
