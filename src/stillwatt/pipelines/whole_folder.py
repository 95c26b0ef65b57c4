"""Whether a model's folder holds all of the model that its config.json describes.

Engines fill what is not there with random numbers and go on, so a teacher without some of its tensors would write
nonsense at full cost.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from stillwatt.errors import StillwattError

__all__ = ["check_folder", "check_whole", "named_tensors"]

_MOST_NAMES = 4
"""How many tensors an error names."""


def check_folder(directory: Path) -> None:
    """Refuse a folder without some of the model's tensors, of which no weights are read.

    transformers puts the model together on the device `meta`, which has no memory, so that only the headers of the
    files are read and the rule is that of loading: tied tensors are not missed, and renamed ones are known. What it
    cannot judge is left to whoever loads the weights: files of another kind than safetensors, quantised weights, whose
    tensors have names of their own, and models that it does not know.

    Raises:
        StillwattError: Tensors are missing or have another shape, or a file is cut short.
    """
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModelForCausalLM

    if not any(directory.glob("*.safetensors")):
        return
    asked: dict[str, Any] = {"output_loading_info": True, "ignore_mismatched_sizes": True, "local_files_only": True}
    try:
        if hasattr(AutoConfig.from_pretrained(str(directory), local_files_only=True), "quantization_config"):
            return
        loaded: Any = AutoModelForCausalLM.from_pretrained(str(directory), device_map="meta", **asked)
    except SafetensorError as err:
        raise StillwattError(f"{directory}: cannot be loaded as a causal language model ({err})") from err
    except (OSError, ValueError, KeyError):
        return
    check_whole(directory, loaded[1])


def check_whole(directory: Path, info: Mapping[str, Any]) -> None:
    """Refuse a folder by what transformers says of its loading (`output_loading_info`).

    Raises:
        StillwattError: Tensors are missing, or have another shape than the model wants.
    """
    if info["missing_keys"]:
        raise StillwattError(
            f"{directory}: lacks {named_tensors(info['missing_keys'])} of the model that its config.json describes, "
            "which would be random numbers; save the whole model there, or correct config.json"
        )
    for name, found, wanted in sorted(info["mismatched_keys"]):
        raise StillwattError(
            f"{directory}: {name} is {list(found)} and the model that its config.json describes wants {list(wanted)}; "
            "save the whole model there, or correct config.json"
        )


def named_tensors(tensors: Collection[str]) -> str:
    """How many tensors, and the names of the first few.

    >>> named_tensors({"b", "a"})
    '2 tensors (a, b)'
    """
    names = sorted(tensors)
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f"{len(names)} tensor{'s' * (len(names) != 1)} ({', '.join(names[:_MOST_NAMES])}{more})"
