"""A server as the teacher, as a plain frozen dataclass; the part of `spec` that says how it is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from stillwatt.records.energy import Total

__all__ = ["LEAVABLE", "EndpointSpec"]

LEAVABLE = ("temperature", "top_p", "seed", "n", "stream")
"""Fields that a request to an endpoint has unless the recipe leaves them out: not every server takes all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSpec:
    """A server that writes text, and how it is asked; its key lies in the environment alone."""

    url: str
    """What `/completions` or `/chat/completions` is added to."""
    model: str
    api: str
    """`completions` or `chat`."""
    api_key_env: str | None
    concurrency: int
    timeout_s: float
    max_retries: int
    """Of one request, after its first try."""
    length_field: str = "max_tokens"
    """Under which name a request bounds its answer."""
    leave_out: tuple[str, ...] = ()
    """Fields of `LEAVABLE` that a request does not have."""
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    """Fields that every request has beside its own."""
    token_energy: Total | None = None
    """Of one generated token, modelled; None where the server's energy stays absent."""
    energy_source: str = ""
    """Whose model that is, its release and its parameters."""
    table: str = "teacher_endpoint"
    """Where these settings stand in a recipe."""
    asked_in: str = "teacher_generate"
    """The table that says what is asked."""
    top_logprobs: int = 0
    """How many of the most probable first tokens are asked for, with their probabilities; 0 asks for none."""

    @property
    def host(self) -> str:
        """The machine in the address."""
        return urlsplit(self.url).hostname or self.url

    @property
    def identity(self) -> dict[str, Any]:
        """What tells one teacher from another, as far as can be told from here, as JSON values.

        What is at its default is left out, so that text made before a setting was there is found again.
        """
        asked: dict[str, Any] = {"leave_out": sorted(set(self.leave_out)), "extra_body": dict(self.extra_body)}
        named = {name: value for name, value in asked.items() if value}
        return {"endpoint": self.url, "model": self.model, "api": self.api, **named}
