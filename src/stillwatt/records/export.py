"""What an export is: files, and the list of what they could not carry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Something that the report says and the export does not, or says in another way."""

    path: str
    """Where it stands in the report, as a JSON path."""
    what: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """An export's text, and what it lost."""

    text: str
    losses: tuple[Loss, ...]
    files: Mapping[str, str] = field(default_factory=dict)
    """For formats that are a folder: each file's text by its name; `text` is empty then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """What formats ask for and no report of energy holds. Empty or None where nobody said it."""

    created_utc: str = ""
    """When the export is made, ISO 8601."""
    model: str = ""
    version: str = ""
    organisation: str = ""
    base_model: str = ""
    licence: str = ""
    release_date: str = ""
    model_hash: str = ""
    parameters: float | None = None
    """How many the model has."""
    training_flop: float | None = None
    compute_methodology: str = ""
    """How `training_flop` was counted."""
    inference_flop: float | None = None
    inference_task: str = ""
    """What `inference_flop` was spent on, with the hardware."""
    infrastructure: str = ""
    """`publicCloud`, `privateCloud`, `onPremise` or `other`."""
