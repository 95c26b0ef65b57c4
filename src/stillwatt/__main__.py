"""`python -m stillwatt` is the command `stillwatt`."""

from __future__ import annotations

import sys

_INTERRUPTED = 130
"""128 + SIGINT, as the command itself says it; it is told here because nothing of the command is loaded yet."""


def main() -> None:
    """Entry point of the console script: an interrupt while the command is being loaded ends it without a traceback."""
    try:
        from stillwatt.cli.main import main as command
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    command()


if __name__ == "__main__":
    main()
