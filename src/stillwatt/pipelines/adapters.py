"""LoRA: adapters of low rank that are trained in the place of a student's weights (method.md, eq. 47b).

The weights themselves stay as they are, bit for bit. A checkpoint amid a training keeps the adapters alone, in the
form of `peft`; the last one is an ordinary student, into whose weights they are merged, with the adapters beside it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from stillwatt.errors import MissingExtraError, StillwattError
from stillwatt.pipelines.models import CausalModel, disk_errors, load_model
from stillwatt.pipelines.sharding import gathered
from stillwatt.pipelines.spec_lora import ALL_LINEAR, LoraSpec

__all__ = [
    "ADAPTER_DIR",
    "adapt",
    "adapter_state",
    "check_installed",
    "check_targets",
    "is_adapter_only",
    "load_student",
    "merged",
    "read_adapter",
    "write_adapter",
]

ADAPTER_DIR = "adapter"
"""Folder of the adapters, inside a checkpoint's."""
_NAME, _WEIGHTS = "default", "adapter_model.safetensors"
_PREFIX = "base_model.model."
"""What `peft` puts before the names of a model's own parts in its files."""
_READ_PAST = "whose matrix is read past the layer, and past any adapter"
_MIXER = ("A_log", "D", "conv1d")
"""What a state-space mixer has."""
_PAST = ("x_proj", "dt_proj", "out_proj")
"""Its layers whose matrices its kernels take; what a machine without them calls of these differs by model."""


def check_installed() -> None:
    """Refuse to go on without the library that makes adapters; it is looked for and not loaded.

    Raises:
        MissingExtraError: It is not installed.
    """
    if find_spec("peft") is None:
        raise MissingExtraError("peft", "lora")


def _find_peft() -> ModuleType:
    """The library that makes adapters.

    Raises:
        MissingExtraError: It is not installed.
    """
    check_installed()
    import peft  # takes seconds

    return peft


def check_targets(model: CausalModel, lora: LoraSpec, what: str) -> None:
    """Refuse names of layers that a model does not have, or that cannot be adapted; no weight is looked at.

    Args:
        model: May be put together without memory for its weights.
        lora: Whose target modules are looked for.
        what: The student, as it is called.

    Raises:
        StillwattError: With the names that there are.
    """
    known = dict(_adaptable(model))
    names = sorted({name.rpartition(".")[2] for name in known})
    by_weight = set(_read_by_weight(model))
    if not known:
        kind = type(model).__name__
        raise StillwattError(f"{what} ({kind}) has no linear layer that can be adapted; leave out [train.lora]")
    for target in () if isinstance(lora.target_modules, str) else lora.target_modules:
        met = [name for name, _ in model.named_modules() if name == target or name.endswith(f".{target}")]
        others = [name for name in met if name not in known]
        if not met or others:
            reason = "is none of its layers"
            if met:
                why = _READ_PAST if others[0] in by_weight else "no linear layer inside it"
                reason = f"is {others[0]}, {why}"
            raise StillwattError(
                f"train.lora.target_modules: {target!r} {reason}, of {what} ({type(model).__name__}); there are: "
                f'{", ".join(names)}, or "{ALL_LINEAR}"'
            )


def _adaptable(model: CausalModel) -> Iterator[tuple[str, torch.nn.Module]]:
    """Linear layers by name whose adapters would be seen.

    The output layer's would not be, as the losses take its matrix, nor those of `_read_by_weight`.
    """
    from transformers.pytorch_utils import Conv1D

    head, by_weight = model.get_output_embeddings(), set(_read_by_weight(model))
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear | Conv1D) and module is not head and name not in by_weight:
            yield name, module


def _read_by_weight(model: CausalModel) -> Iterator[str]:
    """Names of layers that a state-space mixer (Mamba's and its kin's) never calls, or not where it has its kernels."""
    for name, module in model.named_modules():
        if all(hasattr(module, own) for own in _MIXER):
            yield from (f"{name}.{own}" for own in _PAST if hasattr(module, own))


def adapt(model: CausalModel, lora: LoraSpec, *, seed: int) -> None:
    """Put new adapters beside the model's layers, in place; they alone are trained from then on.

    At first they change nothing: one of each pair of matrices is 0. The other is drawn with the seed.

    Raises:
        MissingExtraError: `peft` is not installed.
        StillwattError: A target is none of the model's layers.
    """
    peft = _find_peft()
    check_targets(model, lora, "the student")
    targets = lora.target_modules
    config = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        exclude_modules=sorted(_read_by_weight(model)) or None,
        use_rslora=lora.use_rslora,
        task_type="CAUSAL_LM",
    )
    torch.manual_seed(seed)
    _tuner(peft, model, config)


def _tuner(peft: ModuleType, model: CausalModel, config: Any) -> Any:
    """What `peft` holds a model and its adapters by, which are put into the model in place."""
    with warnings.catch_warnings():
        # of GPT-2's layers, which hold their matrices the other way; peft finds that out and does it right
        warnings.filterwarnings("ignore", message="fan_in_fan_out", category=UserWarning)
        return peft.LoraModel(model, config, _NAME)


def adapter_state(model: CausalModel) -> dict[str, Tensor]:
    """An adapted model's adapters, whole and by their names in the model; of one that is spread all ranks must ask."""
    peft = _find_peft()
    state = peft.get_peft_model_state_dict(
        model, state_dict=model.state_dict(), adapter_name=_NAME, save_embedding_layers=False
    )
    return {name: gathered(value).detach().cpu().contiguous() for name, value in state.items()}


def write_adapter(model: CausalModel, state: dict[str, Tensor], base_dir: Path, directory: Path) -> None:
    """Write adapters as `peft` does.

    Args:
        model: What they belong to.
        state: Of `adapter_state`.
        base_dir: Where the weights lie that they stand beside.
        directory: A new folder.

    Raises:
        OSError: The disk is full, or cannot be written to.
    """
    directory.mkdir(parents=True)
    config: Any = model.peft_config[_NAME]
    config.base_model_name_or_path, config.inference_mode = str(base_dir), True
    config.save_pretrained(str(directory))
    config.inference_mode = False
    with disk_errors(directory):
        save_file({f"{_PREFIX}{name}": value for name, value in state.items()}, directory / _WEIGHTS)


def read_adapter(model: CausalModel, directory: Path) -> None:
    """Take adapters from a folder into a model that has such, in place.

    Raises:
        StillwattError: They cannot be read, or are not those of the model.
    """
    path = directory / _WEIGHTS
    try:
        kept = {name.removeprefix(_PREFIX): value for name, value in load_file(path).items()}
    except (OSError, SafetensorError) as err:
        raise StillwattError(
            f"{path}: the adapters cannot be read ({err}); remove the checkpoint and run again"
        ) from err
    own = adapter_state(model)
    if {name: value.shape for name, value in kept.items()} != {name: value.shape for name, value in own.items()}:
        raise StillwattError(f"{path}: these adapters are not of this student's layers; begin a new run")
    _find_peft().set_peft_model_state_dict(model, kept, adapter_name=_NAME)


def merged(base_dir: Path, adapter_dir: Path) -> CausalModel:
    """An ordinary model in float32: the weights of one folder with the adapters of another added to them.

    Raises:
        MissingExtraError: `peft` is not installed.
        StillwattError: One of them cannot be read, or they do not belong together.
    """
    peft = _find_peft()
    model = load_model(base_dir, dtype="float32")
    tuner = _tuner(peft, model, peft.LoraConfig.from_pretrained(str(adapter_dir)))
    read_adapter(model, adapter_dir)
    whole: CausalModel = tuner.merge_and_unload()
    return whole.requires_grad_(True).eval()


def is_adapter_only(directory: Path) -> bool:
    """Whether a checkpoint keeps adapters and no weights that they are merged into."""
    return (directory / ADAPTER_DIR).is_dir() and not (directory / "config.json").exists()


def load_student(
    directory: Path, base_dir: Path, *, dtype: str, announce: Callable[[str], None] | None = None
) -> CausalModel:
    """Load the student of any checkpoint for evaluation, with its adapters merged where it keeps them alone.

    Raises:
        StillwattError: As `load_model` and `merged`.
    """
    if not is_adapter_only(directory):
        return load_model(directory, dtype=dtype, announce=announce)
    whole: CausalModel = merged(base_dir, directory / ADAPTER_DIR).to(getattr(torch, dtype))
    return whole
