"""How a measured program starts its sampling process: `python -m stillwatt.ledger.apart`, which is no child of it.

A program that waits until all its children are gone would wait for ever, were the sampling process one of them. So
what the program starts ends at once, and another process goes on: told apart by the line `process <number>`, the first
that the program hears. It is forked before anything else is imported, so that the program has a child for some
milliseconds only. Where no other process can be had, it goes on itself.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress


def go_on_apart() -> None:
    """Go on in another process than the one that was started, and say in which."""
    try:
        number = os.fork()
    except OSError:  # so many processes and no more; a child of the program is better than no reading
        number, is_first = os.getpid(), False
    else:
        is_first = number > 0
    with suppress(OSError):  # nobody listens any more; the end of input says the same in a moment
        # both say it: the first before it ends, the other before its next word, whichever of them is quicker
        os.write(sys.stdout.fileno(), b"process %d\n" % (number or os.getpid()))
    if is_first:
        os._exit(0)


if __name__ == "__main__":
    go_on_apart()
    from stillwatt.ledger.recorder import main

    sys.exit(main())
