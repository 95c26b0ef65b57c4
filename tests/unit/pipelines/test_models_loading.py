from __future__ import annotations

import errno
import json
import math
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from stillwatt.errors import StillwattError
from stillwatt.pipelines import prepare_data
from stillwatt.pipelines.model_fit import output_rows
from stillwatt.pipelines.model_sources import resolve_model
from stillwatt.pipelines.models import choose_layers, load_model, load_tokenizer, save_model
from stillwatt.pipelines.progress import SilentProgress
from stillwatt.pipelines.runner import run_pipeline
from stillwatt.pipelines.spec import PipelineSpec, StudentSpec, TeacherSpec
from stillwatt.pipelines.whole_folder import check_folder
from tiny_models import CountingTask, list_meter, smoke_spec


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder that a test may damage."""
    place = resolve_model("tiny-random", revision=None, announce=lambda _: None)
    return Path(shutil.copytree(place.directory, tmp_path / "model"))


def _rewrite(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _without(folder: Path, *parts: str) -> list[str]:
    """Take the tensors out whose name holds one of these; returns their names."""
    tensors = load_file(folder / "model.safetensors")
    gone = sorted(name for name in tensors if any(part in name for part in parts))
    _rewrite(folder, {name: values for name, values in tensors.items() if name not in gone})
    return gone


def test_weights_that_are_not_there_are_refused_by_name(folder: Path) -> None:
    gone = _without(folder, "layers.3.mlp")
    assert len(gone) == 3
    with pytest.raises(StillwattError) as caught:
        load_model(folder, dtype="float32")
    assert str(folder) in str(caught.value)
    assert all(name in str(caught.value) for name in gone)
    assert "random" in str(caught.value)


def test_a_folder_is_held_to_the_same_rule_without_its_weights(folder: Path) -> None:
    check_folder(folder)  # its tied output layer is in no file
    whole = load_file(folder / "model.safetensors")
    _rewrite(folder, {**whole, "more": torch.zeros(1)})
    check_folder(folder)
    _rewrite(folder, {**whole, "model.norm.weight": torch.zeros(3)})
    with pytest.raises(StillwattError, match=r"model\.norm\.weight is \[3\]"):
        check_folder(folder)
    gone = _without(folder, "layers.3.mlp")
    with pytest.raises(StillwattError, match=f"{folder}: lacks 3 tensors .*{gone[0]}"):
        check_folder(folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(StillwattError, match=f"{folder}: cannot be loaded .*incomplete"):
        check_folder(folder)


@pytest.mark.parametrize(
    "config", [{"quantization_config": {"quant_method": "gptq", "bits": 4}}, {"model_type": "of-tomorrow"}]
)
def test_what_transformers_cannot_judge_is_left_to_whoever_loads_it(folder: Path, config: dict[str, object]) -> None:
    _without(folder, "layers.3.mlp")
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **config}), encoding="utf-8")
    check_folder(folder)


def test_a_model_of_a_kind_that_is_not_known_here_is_named(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), "model_type": "of-tomorrow"}))
    with pytest.raises(StillwattError, match=r"its config\.json is of no model that can be loaded here .*of-tomorrow"):
        output_rows(folder)
    path.write_text("{")
    with pytest.raises(StillwattError, match=r"config\.json is of no model"):
        output_rows(folder)


def test_of_many_missing_tensors_a_few_are_named_and_all_are_counted(folder: Path) -> None:
    gone = _without(folder, "layers.2", "layers.3")
    with pytest.raises(StillwattError, match=rf"lacks {len(gone)} tensors .* and {len(gone) - 4} more"):
        load_model(folder, dtype="float32")


def test_a_tied_output_layer_is_not_missed_and_its_embedding_is(folder: Path) -> None:
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")
    load_model(folder, dtype="float32")
    _without(folder, "embed_tokens")
    with pytest.raises(StillwattError, match=r"model\.embed_tokens\.weight"):
        load_model(folder, dtype="float32")


def test_a_tensor_of_another_shape_is_refused_by_name(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    _rewrite(folder, {**tensors, "model.norm.weight": torch.zeros(3)})
    with pytest.raises(StillwattError, match=r"model\.norm\.weight"):
        load_model(folder, dtype="float32")


def test_a_model_file_that_is_cut_short_names_the_folder(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    with pytest.raises(StillwattError, match=rf"{folder}: cannot be loaded .*incomplete"):
        load_model(folder, dtype="float32")


@contextmanager
def _small_files() -> Iterator[None]:
    """A disk on which no file can be larger than a block."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_is_full_is_the_systems_own_error(folder: Path, tmp_path: Path) -> None:
    model, tokenizer = load_model(folder, dtype="float32"), load_tokenizer(folder)
    with pytest.raises(OSError, match="while tensors were written; make room") as caught, _small_files():
        save_model(model, tokenizer, tmp_path / "out")
    assert caught.value.errno == errno.EFBIG
    assert caught.value.filename == str(tmp_path / "out")


def test_prepared_text_that_finds_no_room_says_so_too(folder: Path, tmp_path: Path) -> None:
    spec, tokenizer = smoke_spec(), load_tokenizer(folder)
    with pytest.raises(OSError, match="while tensors were written; make room"), _small_files():
        prepare_data.make(spec.data, spec.evaluate, tokenizer, tmp_path / "out", task=CountingTask())


def test_a_teacher_that_gives_nan_prunes_no_student(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][0] = math.nan
    _rewrite(folder, tensors)
    student = smoke_spec().students[0]
    with pytest.raises(StillwattError, match=rf"{folder}: the model gives NaN on training text"):
        choose_layers(load_model(folder, dtype="float32"), student, torch.arange(64).view(2, 32))


def _study(teacher: str, student: str) -> PipelineSpec:
    spec = smoke_spec(serve=None)
    own = StudentSpec(
        name="own",
        source=student,
        revision=None,
        dtype="float32",
        drop_layers=0,
        candidate_starts=(),
        selection_tokens=0,
    )
    return smoke_spec(
        serve=None,
        teacher=TeacherSpec(source=teacher, revision=None, dtype="float32"),
        students=(own,),
        arms=spec.arms[:1],
    )


def _run(spec: PipelineSpec, run_dir: Path) -> list[str]:
    said: list[str] = []
    meter, _ = list_meter()
    run_pipeline(
        spec,
        meter=meter,
        run_id="r1",
        run_dir=run_dir,
        artifacts_dir=run_dir / "artifacts",
        progress=SilentProgress(),
        announce=said.append,
    )
    return said


@pytest.mark.parametrize("whose", ["teacher", "student"])
def test_a_study_on_a_model_that_lacks_weights_stops(folder: Path, tmp_path: Path, whose: str) -> None:
    (gone,) = _without(folder, "layers.1.mlp.up_proj")
    sources = {"teacher": "tiny-random", "student": "tiny-random"} | {whose: f"path:{folder}"}
    with pytest.raises(StillwattError, match=gone):
        _run(_study(**sources), tmp_path / "run")


def test_tensors_that_the_model_has_no_place_for_are_told_of_once(folder: Path, tmp_path: Path) -> None:
    _rewrite(folder, {**load_file(folder / "model.safetensors"), "vision.head.weight": torch.zeros(2)})
    said = _run(_study("tiny-random", f"path:{folder}"), tmp_path / "run")
    (told,) = [line for line in said if "vision.head.weight" in line]
    assert str(folder) in told
