"""Small version of benchmarks/proof_resume.py: stages killed at random moments, gone on with, and compared."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

pytest.importorskip("torch", reason="the distill extra is not installed")
pytest.importorskip("constriction", reason="the cache extra is not installed")

from kill_stage import Studies
from study_outcome import Outcome

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studies]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STILLWATT_HOME", str(tmp_path_factory.mktemp("home")))
        with Studies(tmp_path_factory.mktemp("studies"), tokens=1024) as studies:
            yield studies


@pytest.fixture(scope="module")
def fixed(studies: Studies) -> Outcome:
    return studies.whole("fixed rows")


@pytest.mark.parametrize("stage", ["teacher_logits", "teacher_generate", "train.gkd.1.0"])
def test_a_killed_stage_ends_as_if_it_had_not_been_and_its_loss_is_booked(
    studies: Studies, fixed: Outcome, stage: str
) -> None:
    kill = studies.killed(fixed, "fixed rows", stage, random.Random(), times=2)
    assert kill.faults == []


def test_a_killed_coded_cache_is_the_same_to_the_byte(studies: Studies) -> None:
    whole = studies.whole("coded rows")
    assert list(whole.book_faults()) == []
    kill = studies.killed(whole, "coded rows", "teacher_logits", random.Random(), times=2)
    assert kill.faults == []
