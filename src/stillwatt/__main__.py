"""`python -m stillwatt` is the command `stillwatt`."""

from __future__ import annotations

from stillwatt.cli.main import main

if __name__ == "__main__":
    main()
