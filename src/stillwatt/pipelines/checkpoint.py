"""What a training is gone on with: the student, its optimiser's state, and how far it is.

Whole and ordinary whatever the number of ranks: a folder that transformers loads, and tensors by the number of their
parameter. Of a training by LoRA, the adapters take the student's place until the last one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from stillwatt.errors import StillwattError
from stillwatt.pipelines.adapters import ADAPTER_DIR, adapter_state, merged, write_adapter
from stillwatt.pipelines.artifacts import file_sha256, replace_dir, write_json
from stillwatt.pipelines.models import CausalModel, disk_errors, load_model, load_tokenizer, save_model
from stillwatt.pipelines.optimizers import parameters_of
from stillwatt.pipelines.ranks import Ranks
from stillwatt.pipelines.sharding import as_kept, gathered, is_spread

__all__ = ["damage_of", "read_checkpoint", "write_adapter_checkpoint", "write_checkpoint"]

_OPTIMIZER_FILE = "optimizer.safetensors"
_PROGRESS_FILE = "training.json"
_HASHES = "files"


def damage_of(directory: Path) -> str | None:
    """Which file of a checkpoint is not what was written, as a sentence; None where all are.

    Files that were added since are nobody's harm. A checkpoint of an earlier version has no hashes and counts as whole.
    """
    path = directory / _PROGRESS_FILE
    try:
        hashes = dict(json.loads(path.read_text(encoding="utf-8")).get(_HASHES, {}))
    except (OSError, ValueError, AttributeError, TypeError) as err:
        return f"{path} cannot be read ({type(err).__name__})"
    for name, wanted in sorted(hashes.items()):
        try:
            found = file_sha256(directory / name)
        except OSError as err:
            return f"{directory / name} cannot be read ({type(err).__name__})"
        if found != wanted:
            return f"{directory / name} has changed since it was written"
    return None


def read_checkpoint(directory: Path, first: int, optimizer: Any) -> int:
    """Take over the optimiser's state of a checkpoint; returns the tokens that were trained on.

    Raises:
        StillwattError: It cannot be read, or was written at another step than `first`, or by a version that counted no
            tokens.
    """
    try:
        progress = json.loads((directory / _PROGRESS_FILE).read_text(encoding="utf-8"))
        done = progress["steps_done"]
        tensors = load_file(directory / _OPTIMIZER_FILE)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as err:
        raise StillwattError(f"{directory}: the checkpoint cannot be read ({err}); remove it and run again") from err
    if "tokens_done" not in progress:
        raise StillwattError(f"{directory}: written by an earlier version; remove the run and start again")
    if done != first:
        raise StillwattError(f"{directory}: written at step {done}, expected {first}; remove the run and start again")
    tensors.pop("rng", None)  # an earlier version went on with its random numbers
    parameters = parameters_of(optimizer)
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = as_kept(value, parameters[int(index)])
    whole = optimizer.state_dict()
    whole["state"] = state
    optimizer.load_state_dict(whole)
    return int(progress["tokens_done"])


def write_checkpoint(
    model: CausalModel, optimizer: Any | None, ranks: Ranks, start_dir: Path, out_dir: Path, progress: dict[str, Any]
) -> None:
    """Write a checkpoint beside its place and move it there in one step; the first rank does.

    Args:
        model: The student, spread over ranks or not.
        optimizer: Whose state is kept; None at the end of a training.
        ranks: All must call this; what is spread is gathered from them.
        start_dir: Where the tokenizer lies.
        out_dir: Where the checkpoint goes.
        progress: `arm`, `steps_done`, `tokens_done`.

    Raises:
        OSError: The disk is full, or cannot be written to.
    """
    whole = _whole_model(model, ranks, start_dir)
    kept = _optimizer_state(optimizer)
    if ranks.is_first:
        with _new_folder(out_dir, progress) as scratch:
            save_model(whole, load_tokenizer(start_dir), scratch)
            _save_optimizer(optimizer, kept, scratch)
    ranks.wait()


def write_adapter_checkpoint(
    model: CausalModel, optimizer: Any | None, ranks: Ranks, base_dir: Path, out_dir: Path, progress: dict[str, Any]
) -> None:
    """As `write_checkpoint`, of a student that is trained by LoRA: its adapters, and no weights beside them.

    At the end of a training the adapters are merged into the weights of `base_dir`, and that student is in the folder
    too.
    """
    state, kept = adapter_state(model), _optimizer_state(optimizer)
    if ranks.is_first:
        with _new_folder(out_dir, progress) as scratch:
            write_adapter(model, state, base_dir, scratch / ADAPTER_DIR)
            if optimizer is None:
                save_model(merged(base_dir, scratch / ADAPTER_DIR).cpu(), load_tokenizer(base_dir), scratch)
            _save_optimizer(optimizer, kept, scratch)
    ranks.wait()


@contextmanager
def _new_folder(out_dir: Path, progress: dict[str, Any]) -> Iterator[Path]:
    """A folder that takes its place in one step, once all that belongs in it is there."""
    scratch = out_dir.with_name(f".{out_dir.name}.writing")
    shutil.rmtree(scratch, ignore_errors=True)  # of an attempt that was cut off
    scratch.mkdir(parents=True)
    yield scratch
    write_json(scratch / _PROGRESS_FILE, {**progress, _HASHES: _hashes(scratch)})
    replace_dir(scratch, out_dir)


def _save_optimizer(optimizer: Any | None, state: dict[str, Tensor], directory: Path) -> None:
    if optimizer is not None:
        with disk_errors(directory):
            save_file(state, directory / _OPTIMIZER_FILE)


def _hashes(directory: Path) -> dict[str, str]:
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): file_sha256(path) for path in files}


def _whole_model(model: CausalModel, ranks: Ranks, start_dir: Path) -> CausalModel:
    """The model itself, or, of one that is spread over ranks, a whole copy on the first."""
    tensors = model.state_dict()
    if not any(is_spread(value) for value in tensors.values()):
        return model
    whole = load_model(start_dir, dtype="float32").cpu() if ranks.is_first else None
    own = whole.state_dict() if whole is not None else {}
    for name, value in tensors.items():
        full = gathered(value)  # on every rank, in one order; kept by the first alone
        if name in own:
            own[name].copy_(full)
    return whole


def _optimizer_state(optimizer: Any | None) -> dict[str, Tensor]:
    if optimizer is None:
        return {}
    return {
        f"{index}.{name}": gathered(value).contiguous()
        for index, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
        if isinstance(value, Tensor)
    }
