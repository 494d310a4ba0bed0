"""The ``clusterkit`` command, also as ``python -m clusterkit``."""

import os
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line and end the process with its exit code."""
    try:
        import click  # noqa: F401, PLC0415 - the extra may be missing
    except ModuleNotFoundError:
        print("clusterkit: the command line needs the [cli] extra", file=sys.stderr)  # noqa: T201
        print("hint: pip install 'clusterkit[cli]'", file=sys.stderr)  # noqa: T201
        sys.exit(1)
    from clusterkit.cli.main import run  # noqa: PLC0415

    code, at_once = run(sys.argv[1:])
    if at_once:  # the time is up: a name that still resolves in a thread must not hold the process
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
