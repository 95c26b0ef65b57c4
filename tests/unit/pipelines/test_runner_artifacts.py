from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatt.errors import ArtifactError, LedgerError
from stillwatt.pipelines.artifacts import (
    Artifact,
    artifact_id,
    canonical_json,
    find_artifact,
    open_artifact,
    publish_dir,
    seal_artifact,
    whole_file,
    write_json,
)
from stillwatt.pipelines.state import RunState

_INPUTS = {"teacher": "sha256:1", "settings": {"top_k": 8}}
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(inputs=st.dictionaries(st.text(max_size=5), _json, min_size=1, max_size=5))
def test_an_id_depends_on_the_inputs_and_not_on_their_order(inputs: dict[str, object]) -> None:
    backwards = dict(reversed(list(inputs.items())))
    assert artifact_id("logits", inputs) == artifact_id("logits", backwards)
    assert artifact_id("logits", inputs) != artifact_id("logits", {**inputs, "one-more-key": 1})
    assert json.loads(canonical_json(inputs)) == inputs


def _seal(artifacts: Path, content: bytes = b"abc") -> Artifact:
    scratch = artifacts / ".making"
    (scratch / "sub").mkdir(parents=True, exist_ok=True)
    (scratch / "one.bin").write_bytes(content)
    (scratch / "sub" / "two.bin").write_bytes(b"def")
    target = artifacts / artifact_id("logits", _INPUTS)
    made_by = {"run_id": "r1", "stage_id": "a5"}
    return seal_artifact(scratch, target, kind="logits", inputs=_INPUTS, results={"tokens": 3}, made_by=made_by)


def test_what_was_sealed_is_found_again(tmp_path: Path) -> None:
    made = _seal(tmp_path)
    assert find_artifact(made.directory) == made
    assert made.bytes == 6
    assert made.made_by == {"run_id": "r1", "stage_id": "a5"}
    assert [path.name for path in tmp_path.iterdir()] == [made.artifact_id]
    assert find_artifact(tmp_path / "logits-none") is None


def test_what_a_killed_attempt_had_not_named_yet_is_no_part_of_an_artefact(tmp_path: Path) -> None:
    undisturbed = _seal(tmp_path / "undisturbed")
    scratch = tmp_path / ".making"
    (scratch / "sub").mkdir(parents=True)
    for place in (scratch / "artifact.json", scratch / "one.bin", scratch / "sub" / "two.bin"):
        with pytest.raises(RuntimeError, match="killed"), whole_file(place) as file:
            file.write(b"half")
            raise RuntimeError("killed")
    assert sum(path.is_file() for path in scratch.rglob("*")) == 3
    (scratch / ".hidden").write_bytes(b"ours")
    made = _seal(tmp_path)
    (made.directory / ".hidden").unlink()
    assert sorted(path.relative_to(made.directory) for path in made.directory.rglob("*")) == sorted(
        path.relative_to(undisturbed.directory) for path in undisturbed.directory.rglob("*")
    )
    assert made.bytes == undisturbed.bytes + len(b"ours")


@pytest.mark.parametrize("damage", ["change", "remove", "add", "receipt", "inputs"])
def test_a_damaged_artefact_is_set_aside_and_never_used(tmp_path: Path, damage: str) -> None:
    target = _seal(tmp_path).directory
    receipt = target / "artifact.json"
    if damage == "change":
        (target / "sub" / "two.bin").write_bytes(b"deg")
    elif damage == "remove":
        (target / "one.bin").unlink()
    elif damage == "add":
        (target / "three.bin").write_bytes(b"x")
    elif damage == "receipt":
        receipt.write_text("{")
    else:
        record = json.loads(receipt.read_text())
        record["inputs"]["teacher"] = "sha256:2"
        receipt.write_text(json.dumps(record))
    with pytest.raises(ArtifactError, match="set aside"):
        open_artifact(target)
    assert not target.exists()
    assert target.with_name(f"{target.name}.bad").exists()
    assert find_artifact(target) is None


def test_the_second_of_two_writers_leaves_the_first_ones_work(tmp_path: Path) -> None:
    first = _seal(tmp_path)
    second = _seal(tmp_path)
    assert second.sha256 == first.sha256
    assert open_artifact(first.directory) == first
    assert not (tmp_path / ".making").exists()


def test_publishing_to_a_place_that_cannot_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "new").mkdir()
    with pytest.raises(OSError, match="file"):
        publish_dir(tmp_path / "new", tmp_path / "file")


def test_json_is_written_whole(tmp_path: Path) -> None:
    write_json(tmp_path / "deep" / "x.json", {"b": 1, "a": [None]})
    assert json.loads((tmp_path / "deep" / "x.json").read_text()) == {"a": [None], "b": 1}
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "deep" / "x.json", {"a": float("nan")})
    assert json.loads((tmp_path / "deep" / "x.json").read_text()) == {"a": [None], "b": 1}


def test_a_finished_stage_stays_finished(tmp_path: Path) -> None:
    state = RunState(tmp_path)
    assert state.finished("train.sft.0.5") is None
    state.finish("train.sft.0.5", {"tokens": 1})
    assert RunState(tmp_path).finished("train.sft.0.5") == {"tokens": 1}
    assert state.finished("train.sft.1.0") is None
    state.forget("train.sft.0.5")
    state.forget("train.sft.0.5")
    assert state.finished("train.sft.0.5") is None


@pytest.mark.parametrize("content", ["{", "[1]"])
def test_state_that_cannot_be_read_names_its_file(tmp_path: Path, content: str) -> None:
    state = RunState(tmp_path)
    state.finish("prepare_data", {})
    (tmp_path / "state" / "prepare_data.json").write_text(content)
    with pytest.raises(LedgerError, match=r"prepare_data\.json"):
        state.finished("prepare_data")
