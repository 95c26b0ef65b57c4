"""Probabilities of an answer's first token, as servers of the OpenAI protocol tell them.

Two forms are in use: a list of entries under `content` (the chat interface of OpenAI and vLLM, and both of
llama.cpp's), and a table from tokens to numbers (the completions interface of OpenAI and vLLM).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["first_probabilities", "logprob_fields"]

_OFF = 0.001
"""How much probabilities may sum to beyond 1, by rounding."""


def logprob_fields(api: str, count: int) -> dict[str, Any]:
    """What a request says to be told so many of the most probable tokens; nothing where none are wanted.

    >>> logprob_fields("chat", 5), logprob_fields("completions", 5)
    ({'logprobs': True, 'top_logprobs': 5}, {'logprobs': 5})
    """
    if not count:
        return {}
    return {"logprobs": True, "top_logprobs": count} if api == "chat" else {"logprobs": count}


def first_probabilities(choice: Mapping[str, Any]) -> dict[str, float] | None:
    """Probability of each text that the first token may be, as far as it is told; None where nothing is.

    Tokens that read alike (some servers drop the bytes of what is no text) count together.

    >>> first_probabilities({"logprobs": {"top_logprobs": [{" A": 0.0}, {".": -1.0}]}})
    {' A': 1.0}
    >>> first_probabilities({"logprobs": {"content": [{"token": "B", "logprob": 0.0, "top_logprobs": []}]}})
    {'B': 1.0}
    """
    found: Counter[str] = Counter()
    for token, logprob in _told(choice.get("logprobs")):
        if isinstance(token, str) and isinstance(logprob, int | float) and not math.isnan(logprob):
            found[token] += math.exp(min(float(logprob), 0.0))  # type: ignore[assignment]  # a sum of parts of 1
    total = math.fsum(found.values())
    return dict(found) if 0.0 < total <= 1.0 + _OFF else None


def _told(logprobs: Any) -> Iterator[tuple[Any, Any]]:
    """Tokens with the logarithms of their probabilities, of the first place alone."""
    if not isinstance(logprobs, Mapping):
        return
    content, tops = logprobs.get("content"), logprobs.get("top_logprobs")
    if isinstance(content, list) and content and isinstance(content[0], Mapping):
        top = [entry for entry in content[0].get("top_logprobs") or () if isinstance(entry, Mapping)]
        yield from ((entry.get("token"), entry.get("logprob")) for entry in top)
        if content[0].get("token") not in [entry.get("token") for entry in top]:
            # what was drawn is none of the most probable, and stands beside them
            yield content[0].get("token"), content[0].get("logprob")
    elif isinstance(tops, list) and tops and isinstance(tops[0], Mapping):
        yield from tops[0].items()
