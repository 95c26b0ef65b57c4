"""A judge reads verdicts by their probabilities; what it cannot read is refused with what to change."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from judge_models import ALWAYS_A, OTHERWISE, judge_spec, open_planted, plant_judge
from stillwatt.errors import MissingInputError, StillwattError, UnknownNameError
from stillwatt.pipelines.judge import task_name
from stillwatt.pipelines.judge_answers import decoded, judged_pieces, read_answers
from stillwatt.pipelines.judge_local import Coder, LocalJudge
from stillwatt.pipelines.judge_scores import duels_of, flip_share, win_rate
from stillwatt.pipelines.model_sources import resolve_model
from stillwatt.pipelines.models import load_model, load_tokenizer
from stillwatt.pipelines.rubrics import BUILT_IN, Rubric, read_rubric
from tiny_models import CountingTask

BY_LAST_LETTER = {"+": {"A": 4.0}, "-": {"B": 4.0}, OTHERWISE: {}}
"""Takes A where the prompt ends in +, and B where it ends in -."""
ENDS_IN_A = Rubric(name="test", text="{question}|{answer_b}|{answer_a}")


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the tiny models are kept."""
    with pytest.MonkeyPatch.context() as patch:
        directory = tmp_path_factory.mktemp("judges")
        patch.setenv("STILLWATT_HOME", str(directory))
        yield directory


@pytest.fixture(scope="module")
def by_last_letter(home: Path) -> LocalJudge:
    return open_planted(plant_judge(home / "letter", BY_LAST_LETTER))


def both_orders(own: list[str], other: list[str]) -> list[str]:
    return [
        ENDS_IN_A.fill(question="q", answer_a=a, answer_b=b)
        for mine, theirs in zip(own, other, strict=True)
        for a, b in ((mine, theirs), (theirs, mine))
    ]


def test_a_planted_preference_wins_from_either_place(by_last_letter: LocalJudge) -> None:
    own, other = ["good+", "x+", "bad-", "same+"], ["poor-", "y-", "fine+", "same+"]
    task = CountingTask()
    found = duels_of(by_last_letter.read(both_orders(own, other), task=task))
    sure = float(torch.softmax(torch.tensor([4.0, 0.0]), dim=0)[0])
    assert [duel.win for duel in found] == pytest.approx([sure, sure, 1.0 - sure, 0.5], abs=1e-5)
    assert flip_share(found) == pytest.approx(0.25)  # of equal answers the first is taken, whichever it is
    assert task.done == 8
    exchanged = duels_of(by_last_letter.read(both_orders(other, own), task=task))
    assert win_rate(exchanged).value == pytest.approx(1.0 - win_rate(found).value, abs=1e-6)


def test_a_judge_that_always_says_a_gives_a_half_and_flips_always(home: Path) -> None:
    judge = open_planted(plant_judge(home / "always", ALWAYS_A))
    found = duels_of(judge.read(both_orders(["one+", "two-"], ["three-", "4+"]), task=CountingTask()))
    assert [duel.own_first > 0.99 for duel in found] == [True, True]
    assert win_rate(found).value == pytest.approx(0.5, abs=1e-6)
    assert flip_share(found) == 1.0


def test_readings_are_those_of_a_plain_forward_pass(home: Path) -> None:
    place = resolve_model("tiny-random", revision=None, announce=lambda _: None).directory
    prompts = ["a", "a longer prompt, so that the batch is padded", "middling"]
    model, tokenizer = load_model(place, dtype="float32"), load_tokenizer(place)
    coder = Coder(tokenizer=tokenizer, judge="tiny", form="plain", verdicts=(" A", " B"), context=512)
    judge = LocalJudge(coder, lambda: model, weights="w", dtype="float32", batch=2)
    judge.open()
    for prompt, reading in zip(prompts, judge.read(prompts, task=CountingTask()), strict=True):
        # the space is a token of its own here: it is read with the prompt
        ids = tokenizer(f"{prompt} ", return_tensors="pt")["input_ids"]
        with torch.no_grad():
            after = model(ids).logits[0, -1].double().softmax(-1)
        a, b = (float(after[tokenizer(letter)["input_ids"][0]]) for letter in "AB")
        assert reading.mass == pytest.approx(a + b, rel=1e-4)
        assert reading.shares == pytest.approx((a / (a + b), b / (a + b)), rel=1e-4)
        assert reading.tokens == ids.shape[1]


def test_a_judge_that_was_not_loaded_says_so(by_last_letter: LocalJudge) -> None:
    closed = LocalJudge(by_last_letter._coder, lambda: None, weights="w", dtype="float32", batch=1)
    with pytest.raises(StillwattError, match="asked before it was loaded"):
        closed.read(["x"], task=CountingTask())


def test_verdicts_that_are_no_single_tokens_are_shown_as_they_are_written(home: Path) -> None:
    judge = open_planted(plant_judge(home / "words", ALWAYS_A), verdicts=("first", "second"))
    with pytest.raises(StillwattError, match=r"not single tokens .*'first' is 'f' 'i' 'r'.*choose others") as caught:
        judge.check(["Which?"])
    assert "evaluate.judge.verdicts" in str(caught.value)


def test_verdicts_that_are_the_same_token_are_refused(home: Path) -> None:
    judge = open_planted(plant_judge(home / "same", ALWAYS_A), verdicts=("A", "A"))
    with pytest.raises(StillwattError, match="not single tokens"):
        judge.check(["Which?"])


def test_a_prompt_longer_than_the_judge_reads_is_refused_with_both_lengths(by_last_letter: LocalJudge) -> None:
    by_last_letter.check(["x" * 512])
    with pytest.raises(StillwattError, match=r"reads 512 tokens at most, and a prompt has 513 .*answer_tokens"):
        by_last_letter.check(["x" * 513])


def test_chat_needs_a_template_and_puts_the_rubric_into_it(by_last_letter: LocalJudge) -> None:
    tokenizer = by_last_letter._coder.tokenizer
    make = partial(Coder, tokenizer=tokenizer, judge="planted", verdicts=("A", "B"), context=None)
    with pytest.raises(StillwattError, match=r'has no chat template; set evaluate\.judge\.form = "plain"'):
        make(form="chat")
    assert by_last_letter.identity["chat_template_sha256"] is None
    tokenizer.chat_template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<answer>"
    try:
        coder = make(form="chat")
        assert tokenizer.decode(list(coder.code("Which?").ids)) == "<user>Which?<answer>"
        assert len(coder.template_sha256 or "") == 64
    finally:
        tokenizer.chat_template = None


@pytest.mark.parametrize(
    ("mode", "text", "words"),
    [
        ("pairwise", "{question} {answer_a}", r"has no place for \{answer_b\}; a rubric of mode pairwise holds"),
        ("pairwise", "{question} {answer}", r"no place for .*answer_a.* and has a place for \{answer\}, which mode"),
        ("score", "how good?", r"has no place for \{answer\}, \{question\}"),
    ],
)
def test_a_rubric_without_its_places_is_refused(tmp_path: Path, mode: str, text: str, words: str) -> None:
    path = tmp_path / "rubric.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(StillwattError, match=words):
        read_rubric(f"path:{path}", mode)


def test_a_rubric_file_ends_before_its_last_line_end_and_is_known_by_its_text(tmp_path: Path) -> None:
    path = tmp_path / "rubric.txt"
    path.write_text("{question} {answer} Grade:\n", encoding="utf-8")
    rubric = read_rubric(f"path:{path}", "score")
    assert rubric.text.endswith("Grade:")
    assert rubric.sha256 != read_rubric("continuation-grade-1", "score").sha256
    with pytest.raises(MissingInputError, match=r"a judge's rubric not found at .*name a built-in rubric"):
        read_rubric(f"path:{tmp_path}/none.txt", "score")
    with pytest.raises(UnknownNameError, match="did you mean 'continuation-grade-1'"):
        read_rubric("continuation-grade", "score")


def test_built_in_rubrics_have_their_places_and_never_change_under_their_names() -> None:
    kept = {name: read_rubric(name, mode).sha256[:12] for name, (mode, _) in BUILT_IN.items()}
    assert kept == {"continuation-pairwise-1": "891b05f4b239", "continuation-grade-1": "36ff7a3f82fd"}


def test_unlike_judges_and_rubrics_have_unlike_names() -> None:
    spec = judge_spec()
    known = {"weights": "sha256:1", "rubric_sha256": "a"}
    names = {task_name(spec, known), task_name(spec, {**known, "weights": "sha256:2"})}
    names.add(task_name(spec, {**known, "rubric_sha256": "b"}))
    assert len(names) == 3
    assert all(name.startswith("judge:win_vs_teacher@") for name in names)
    graded = judge_spec(mode="score", against=None, verdicts=("1", "2", "3"))
    assert task_name(graded, known).startswith("judge:grade_of_3@")


def test_questions_lie_side_by_side_and_are_drawn_by_the_seed() -> None:
    documents = [np.arange(100 * n, 100 * n + 50, dtype=np.int32) for n in range(3)]
    spec = judge_spec(prompts=9, prompt_tokens=8, answer_tokens=6)
    pieces = judged_pieces(documents, spec)
    seen = [token for piece in pieces for token in (*piece.prompt, *piece.really)]
    assert len(set(seen)) == len(seen) == 9 * 14
    assert {piece.prompt for piece in judged_pieces(documents, judge_spec(prompts=9, seed=2))} == {
        piece.prompt for piece in pieces
    }
    assert [p.prompt for p in judged_pieces(documents, judge_spec(prompts=4))] != [
        p.prompt for p in judged_pieces(documents, judge_spec(prompts=4, seed=2))
    ]
    with pytest.raises(StillwattError, match=r"prompts = 10, but the held-out text holds 9 pieces of 8 \+ 6"):
        judged_pieces(documents, judge_spec(prompts=10))


def test_answers_that_changed_or_are_gone_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(StillwattError, match="the answers that are to be judged are gone"):
        read_answers(path, {"sha256": "0"})
    path.write_text('{"texts": []}', encoding="utf-8")
    with pytest.raises(StillwattError, match="have changed since they were written"):
        read_answers(path, {"sha256": "0"})


def test_an_end_token_is_no_text(by_last_letter: LocalJudge) -> None:
    tokenizer = by_last_letter._coder.tokenizer
    assert decoded(tokenizer, [0]) == ""
    assert decoded(tokenizer, [*tokenizer("so .")["input_ids"], 0]) == "so ."
