"""Loads teachers and students, checks that they fit together, and makes a student by leaving layers out.

Shapes: B sequences, T tokens of a sequence, D hidden width, V vocabulary, N positions (batch and time flattened).
"""

from __future__ import annotations

import copy
import errno
import gc
import hashlib
import math
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from stillwatt.errors import StillwattError
from stillwatt.pipelines.corpus import positions_of
from stillwatt.pipelines.model_sources import ModelPlace
from stillwatt.pipelines.output_layer import CausalModel, check_plain_head, head_weight, hidden_states
from stillwatt.pipelines.spec import StudentSpec
from stillwatt.pipelines.whole_folder import check_whole, named_tensors

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "CausalModel",
    "LayerChoice",
    "check_apart",
    "check_plain_head",
    "choose_layers",
    "device",
    "disk_errors",
    "free_memory",
    "head_weight",
    "hidden_states",
    "load_model",
    "load_tokenizer",
    "next_token_losses",
    "open_place",
    "prune_layers",
    "quieten",
    "save_model",
    "token_losses",
    "tokenizer_sha256",
]

_CHUNK = 256
"""Positions whose logits exist at once; never alters a result."""
_SELECTION_BATCH = 2
_PROBE_TOKENS = 4
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def quieten() -> None:
    """Stop the training stack from writing bars and advice to the terminal."""
    import transformers

    logging: Any = transformers.logging
    logging.set_verbosity_error()
    logging.disable_progress_bar()


def device() -> torch.device:
    """The device that `accelerate` places work on: the first GPU where there is one, else the CPU."""
    from accelerate import PartialState

    place: torch.device = PartialState().device
    return place


def free_memory() -> None:
    """Give back what dropped models held, on the host and on the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def load_model(
    directory: Path, *, dtype: str, may_spread: bool = False, announce: Callable[[str], None] | None = None
) -> CausalModel:
    """Load a model for evaluation onto `device()`; with `may_spread`, over all GPUs where there are several.

    Args:
        directory: A folder that transformers loads.
        dtype: One of the numbers' forms in which weights are held.
        may_spread: Whether several GPUs may hold it together.
        announce: Told of tensors in the folder that the model has no place for.

    Raises:
        StillwattError: The folder cannot be loaded, lacks tensors of the model (tied ones are not missed), or its
            output layer is one that the fused losses do not cover.
    """
    from pickle import UnpicklingError  # noqa: TID251  # the error alone: torch refuses to unpickle more than weights

    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    spread: dict[str, Any] = {"device_map": "auto"} if may_spread and torch.cuda.device_count() > 1 else {}
    # left to itself, transformers refuses a tensor of another shape without saying which
    asked: dict[str, Any] = {"output_loading_info": True, "ignore_mismatched_sizes": True, "local_files_only": True}
    asked["weights_only"] = True  # what torch pickled may hold code
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(str(directory), dtype=_DTYPES[dtype], **asked, **spread)
    except (OSError, ValueError, KeyError, SafetensorError) as err:
        raise StillwattError(f"{directory}: cannot be loaded as a causal language model ({err})") from err
    except UnpicklingError as err:
        raise StillwattError(
            f"{directory}: pytorch_model*.bin holds more than weights, which may be code and is not run; have the "
            "model saved as safetensors by somebody who trusts it"
        ) from err
    model, info = loaded
    check_whole(directory, info)
    if info["unexpected_keys"] and announce is not None:
        announce(f"{directory}: {named_tensors(info['unexpected_keys'])} have no place in this model and are left out")
    check_plain_head(model)
    return (model if spread else model.to(device())).eval()


def load_tokenizer(directory: Path) -> PreTrainedTokenizerBase:
    """Load a tokenizer from a model's folder.

    Raises:
        StillwattError: It cannot be loaded or has no end-of-text token.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(str(directory), local_files_only=True)
    except (OSError, ValueError, KeyError) as err:
        raise StillwattError(f"{directory}: no tokenizer can be loaded ({err})") from err
    if tokenizer.eos_token_id is None:
        raise StillwattError(f"{directory}: the tokenizer has no end-of-text token; documents cannot be separated")
    return tokenizer


def tokenizer_sha256(tokenizer: PreTrainedTokenizerBase) -> str:
    """A hash over every token and its id."""
    digest = hashlib.sha256()
    for token, index in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]):
        digest.update(f"{index}:{token}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


@torch.no_grad()
def check_apart(model: CausalModel, what: str) -> None:
    """Refuse a model that does not keep documents apart when told where each token stands in its own.

    transformers makes the mask from positions that begin anew; a model with attention or states of its own kind may
    take no notice of them. Two documents go through it in one sequence, and the second one by itself.

    Raises:
        StillwattError: The second document's states depend on the first.
    """
    ids_1T = torch.arange(2 * _PROBE_TOKENS, device=model.device)[None] % head_weight(model).shape[0]
    positions_1T = ids_1T % _PROBE_TOKENS
    was_training = model.training
    model.eval()
    try:
        alone = hidden_states(model, ids_1T[:, _PROBE_TOKENS:]).float()
        beside = hidden_states(model, ids_1T, positions_1T)[:, _PROBE_TOKENS:].float()
    finally:
        model.train(was_training)
    distance, size = float((beside - alone).norm()), float(alone.norm())
    # far above what rounding does, far below what another document does
    if not distance <= math.sqrt(torch.finfo(head_weight(model).dtype).eps) * size:
        raise StillwattError(
            f"{what} ({type(model).__name__}) does not keep documents apart: a document's states change by "
            f'{distance / size:.2g} of their size where another one stands before it; set data.packing = "stream"'
        )


@torch.no_grad()
def token_losses(states_ND: Tensor, weight_VD: Tensor, targets_N: Tensor) -> Tensor:
    """Cross-entropy of each target in nats, float32 [N]; logits exist for a few hundred positions at a time."""
    # of a model spread over devices, the output layer may lie on another one than the last hidden states
    states_ND, targets_N = states_ND.to(weight_VD.device), targets_N.to(weight_VD.device)
    parts = [
        F.cross_entropy((states_CD @ weight_VD.T).float(), targets_C, reduction="none")
        for states_CD, targets_C in zip(torch.split(states_ND, _CHUNK), torch.split(targets_N, _CHUNK), strict=True)
    ]
    return torch.cat(parts)


@torch.no_grad()
def next_token_losses(model: CausalModel, ids_BT: Tensor, positions_BT: Tensor | None = None) -> Tensor:
    """Cross-entropy of each token but the first, given those before it, in nats; float32 [B, T - 1].

    With positions, of a document's first token it is what the document before would have led to: leave it out.
    """
    ids_BT = ids_BT.to(model.device)
    states_ND = hidden_states(model, ids_BT, positions_BT)[:, :-1].flatten(0, 1)
    losses_N = token_losses(states_ND, head_weight(model), ids_BT[:, 1:].flatten())
    return losses_N.view(ids_BT.shape[0], -1)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerChoice:
    """Which block of layers a student goes without, and how the candidates compared."""

    start: int
    count: int
    losses: dict[int, float]
    """Mean cross-entropy in nats on training text, by first layer of the block left out."""


def choose_layers(
    model: CausalModel, student: StudentSpec, ids_ST: Tensor, starts_ST: Tensor | None = None
) -> LayerChoice:
    """Choose the block of layers that the teacher misses least, on training text only (method.md, eq. 47).

        start* = argmin_s  1/N * sum_n -ln p(x_n | x_<n; teacher without layers s .. s + drop_layers - 1)

    Args:
        model: The teacher.
        student: Which blocks are tried.
        ids_ST: The training text.
        starts_ST: Where its documents start, if they are kept apart; these tokens are in no mean then.

    Raises:
        StillwattError: A candidate block does not lie within the teacher, or the teacher gives NaN.
    """
    num_layers = len(_layers(model))
    losses: dict[int, float] = {}
    for start in student.candidate_starts:
        if start < 0 or start + student.drop_layers > num_layers or student.drop_layers >= num_layers:
            raise StillwattError(
                f"student {student.name!r}: layers {start} to {start + student.drop_layers - 1} cannot be left out of "
                f"a teacher of {num_layers}; correct candidate_starts or drop_layers"
            )
        with _without_layers(model, start, student.drop_layers):
            losses[start] = _mean_loss(model, ids_ST, starts_ST)
        if math.isnan(losses[start]):
            raise StillwattError(f"{model.name_or_path}: the model gives NaN on training text; look at its weights")
    if not losses:
        raise StillwattError(f"student {student.name!r}: candidate_starts is empty; name at least one first layer")
    return LayerChoice(start=min(losses, key=lambda s: losses[s]), count=student.drop_layers, losses=losses)


def _mean_loss(model: CausalModel, ids_ST: Tensor, starts_ST: Tensor | None) -> float:
    if starts_ST is None:
        return float(
            torch.cat([next_token_losses(model, ids_BT) for ids_BT in torch.split(ids_ST, _SELECTION_BATCH)]).mean()
        )
    positions_ST = torch.from_numpy(positions_of(starts_ST.numpy()))
    parts = zip(torch.split(ids_ST, _SELECTION_BATCH), torch.split(positions_ST, _SELECTION_BATCH), strict=True)
    losses = torch.cat([next_token_losses(model, ids_BT, positions_BT) for ids_BT, positions_BT in parts])
    return float(losses[~starts_ST[:, 1:].to(losses.device)].mean())


def prune_layers(model: CausalModel, start: int, count: int) -> CausalModel:
    """A copy of the model without `count` layers from `start` on; the model itself is left as it was."""
    with _without_layers(model, start, count):
        student = copy.deepcopy(model)
    for index, layer in enumerate(_layers(student)):
        for part in layer.modules():
            if hasattr(part, "layer_idx"):
                part.layer_idx = index  # type: ignore[assignment]  # a plain int attribute, typed as a submodule
    return student


@contextmanager
def _without_layers(model: CausalModel, start: int, count: int) -> Iterator[None]:
    decoder, config = model.get_decoder(), model.config.get_text_config()
    whole = decoder.layers
    kept = [index for index in range(len(whole)) if not start <= index < start + count]
    types = getattr(config, "layer_types", None)
    decoder.layers = torch.nn.ModuleList([whole[index] for index in kept])
    config.num_hidden_layers = len(kept)
    if types is not None:
        config.layer_types = [types[index] for index in kept]
    try:
        yield
    finally:
        decoder.layers = whole
        config.num_hidden_layers = len(whole)
        if types is not None:
            config.layer_types = types


def _layers(model: CausalModel) -> Sequence[torch.nn.Module]:
    layers: Sequence[torch.nn.Module] | None = getattr(model.get_decoder(), "layers", None)
    if layers is None:
        raise StillwattError(f"{type(model).__name__}: its layers cannot be found; prune it elsewhere and give `path:`")
    return layers


def save_model(model: CausalModel, tokenizer: PreTrainedTokenizerBase, directory: Path) -> None:
    """Write a folder that `load_model` and other programs load.

    Raises:
        OSError: The disk is full, or cannot be written to.
    """
    with warnings.catch_warnings(), disk_errors(directory):
        # saving re-reads generation settings of the source model, which may warn of its own defaults
        warnings.simplefilter("ignore", UserWarning)
        model.save_pretrained(directory)
        tokenizer.save_pretrained(directory)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what safetensors says of the disk into the system's own error, with the path and what to do.

    Raises:
        OSError: In place of a SafetensorError.
    """
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as err:
        said = re.search(r"os error (\d+)", str(err))
        code = int(said[1]) if said else errno.EIO
        cure = "make room and give the same command once more: it goes on from the last finished stage"
        raise OSError(code, f"{os.strerror(code)} while tensors were written; {cure}", str(path)) from err


def open_place(place: ModelPlace, *, dtype: str) -> tuple[CausalModel, PreTrainedTokenizerBase]:
    """Load a model and its tokenizer from where `resolve_model` put them."""
    return load_model(place.directory, dtype=dtype), load_tokenizer(place.directory)
