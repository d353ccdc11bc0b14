"""The command line: `dispatch`. People and programs reach the console's API through it; `up` starts everything.

Never   reads the database or the broker (only `up`, `run-service`, `migrate` and `demo` do), never prints a stack trace
"""

import sys


def main() -> None:
    """Run the command line and exit with its code."""
    from services.cli.app import run

    sys.exit(run(sys.argv[1:]))
