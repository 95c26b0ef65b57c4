"""Several requests to one server under way at once; the first that fails for good ends them all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

from stillwatt.pipelines.endpoint_client import EndpointClient

__all__ = ["ask_together", "request_seed"]

Found = TypeVar("Found")


def ask_together(client: EndpointClient, requests: Sequence[Callable[[], Found]]) -> list[Found]:
    """What each request gives, in their order, with as many under way at once as the server's settings allow.

    Args:
        client: Asks; told to stop where a request fails for good.
        requests: Each asks `client` for something.

    Raises:
        EndpointError: A request failed for good; those that were not begun are left.
    """
    pool = ThreadPoolExecutor(max_workers=client.spec.concurrency, thread_name_prefix="stillwatt-endpoint")
    asked = [pool.submit(request) for request in requests]
    try:
        done, _ = wait(asked, return_when=FIRST_EXCEPTION)
        for each in done:
            each.result()  # raises what it failed with
        return [each.result() for each in asked]
    except BaseException:
        # of a batch that failed nobody will use the rest: what is not begun is left, what waits gives up
        client.stop()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def request_seed(seed: int, number: int) -> int:
    """A request's own seed; 31 bits, which every server takes."""
    digest = hashlib.sha256(f"{seed}/{number}".encode()).digest()
    return int.from_bytes(digest[:4], "little") >> 1
