"""Which tokens of conversations and completions are predicted, and that everything downstream keeps to it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chat_models import CHATML, MARKED, THINKING, chat_tokenizer, jsonl, said
from stillwatt.errors import StillwattError
from stillwatt.pipelines import prepare_data, study
from stillwatt.pipelines.corpus import Packed, pack_documents
from stillwatt.pipelines.document_tokens import DocumentTokens, tokenise
from stillwatt.pipelines.documents import Document, load_corpus
from stillwatt.pipelines.evaluate import perplexity_score
from stillwatt.pipelines.model_sources import resolve_model
from stillwatt.pipelines.models import load_model, load_tokenizer
from stillwatt.pipelines.spec import ArmSpec, Method
from stillwatt.pipelines.student_train import TrainJob, train
from study_place import Place
from tiny_models import CountingStage, CountingTask, smoke_spec

TOKENIZER, MARKING = chat_tokenizer(CHATML), chat_tokenizer(MARKED)


def predicted(tokenizer: Any, document: DocumentTokens) -> str:
    """The text of what is to be predicted; `|` where it breaks off."""
    mask = document.predicted_E[:-1]
    parts, last = list[str](), -2
    for place in np.flatnonzero(mask).tolist():
        parts += ["|"] if parts and place != last + 1 else []
        parts.append(str(tokenizer.decode([int(document.ids_T[place])])))
        last = place
    return "".join(parts)


def of_rows(tmp_path: Path, *rows: Any, tokenizer: Any = TOKENIZER) -> list[DocumentTokens]:
    corpus = load_corpus(jsonl(tmp_path / "rows.jsonl", list(rows)), seed=1)
    return [tokenise(tokenizer, corpus.read(index), predict="assistant") for index in range(len(corpus.names))]


_words = st.text("abc ", min_size=1, max_size=6)


@given(st.lists(_words, min_size=3, max_size=8))
@settings(deadline=None)
def test_of_a_conversation_what_the_assistant_says_is_predicted_up_to_the_end_of_its_turn(turns: list[str]) -> None:
    document = Document("one", None, said(*turns))
    found = tokenise(TOKENIZER, document, predict="assistant")
    assert predicted(TOKENIZER, found) == "|".join(f"{turn}<|im_end|>" for turn in turns[2::2])
    assert found.ids_T.tolist() == tokenise(TOKENIZER, document).ids_T.tolist()
    assert not found.predicted_E[-1]
    marked = tokenise(MARKING, document, predict="assistant")
    assert marked.predicted_E.tolist() == found.predicted_E.tolist()


@given(prompt=st.text("ab é\n", max_size=8), completion=st.text("ab é\n", min_size=1, max_size=8))
@settings(deadline=None)
def test_of_a_completion_all_is_predicted_and_the_end_behind_it(prompt: str, completion: str) -> None:
    found = tokenise(TOKENIZER, Document("one", prompt + completion, asked=len(prompt)), predict="assistant")
    assert found.predicted_E[-1]
    first = int(found.predicted_E.argmax())
    assert found.predicted_E[first:].all()
    # a token that reaches across the border is predicted whole: two line ends are one
    before, own = (TOKENIZER.decode(part.tolist()) for part in (found.ids_T[:first], found.ids_T[first:]))
    assert (before + own, own.endswith(completion)) == (prompt + completion, True)
    assert len(own) - len(completion) in ({0, 1} if prompt.endswith("\n") else {0})


def test_rows_of_prompt_and_completion_are_read_as_strings_and_as_messages(tmp_path: Path) -> None:
    asked, answer = said("S", "u", "old", "more"), [{"role": "assistant", "content": "new"}]
    plain, talk = of_rows(
        tmp_path, {"prompt": "2 + 2 = ", "completion": "4"}, {"prompt": asked, "completion": answer, "id": 7}
    )
    assert TOKENIZER.decode(plain.ids_T.tolist()) == "2 + 2 = 4"
    assert (predicted(TOKENIZER, plain), predicted(TOKENIZER, talk)) == ("4", "new<|im_end|>")
    (marked,) = of_rows(tmp_path, {"prompt": asked, "completion": answer}, tokenizer=MARKING)
    assert marked.predicted_E.tolist() == talk.predicted_E.tolist()


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "a", "completion": ""},
        {"prompt": "a", "completion": 1},
        {"prompt": "a", "completion": [{"role": "assistant", "content": "b"}]},
        {"prompt": [], "completion": [{"role": "assistant", "content": "b"}]},
        {"prompt": [{"role": "user", "content": "a"}], "completion": [{"role": "user", "content": "b"}]},
    ],
)
def test_a_prompt_without_a_fitting_completion_is_named(tmp_path: Path, row: Any) -> None:
    with pytest.raises(StillwattError, match=r"rows\.jsonl:1: `prompt` and `completion` are both strings, or both"):
        of_rows(tmp_path, row)


def test_a_template_that_forgets_thoughts_is_refused_and_its_last_answer_alone_is_not(tmp_path: Path) -> None:
    tokenizer, talk = chat_tokenizer(THINKING), said("S", "u", "<think>x</think>one", "v", "<think>y</think>two")
    with pytest.raises(StillwattError, match=r"rows\.jsonl:1: the chat template writes message 3 or those before it"):
        of_rows(tmp_path, {"messages": talk}, tokenizer=tokenizer)
    (last,) = of_rows(tmp_path, {"prompt": talk[:-1], "completion": talk[-1:]}, tokenizer=tokenizer)
    assert predicted(tokenizer, last) == "<think>y</think>two<|im_end|>"
    (only,) = of_rows(tmp_path, {"messages": talk[:3]}, tokenizer=tokenizer)
    assert predicted(tokenizer, only) == "<think>x</think>one<|im_end|>"


def test_where_no_token_ends_a_turn_the_end_behind_the_document_does(tmp_path: Path) -> None:
    tokenizer = chat_tokenizer("{% for m in messages %}{{ m['role'][0] + ':' + m['content'] + '\n' }}{% endfor %}"
                               "{% if add_generation_prompt %}{{ 'a:' }}{% endif %}")  # fmt: skip
    (found,) = of_rows(tmp_path, {"messages": said("S", "u", "one")}, tokenizer=tokenizer)
    assert predicted(tokenizer, found) == "one\n"
    assert found.predicted_E[-1]


@pytest.mark.parametrize(
    ("row", "template", "words"),
    [
        ({"text": "abc"}, CHATML, "a `text` row does not say what is the assistant's"),
        ({"messages": [{"role": "assistant", "content": "hi"}]}, CHATML, "the conversation begins with the assistant"),
        ({"messages": []}, CHATML, "the chat template refuses the messages"),
        (
            {"messages": said("S", "u", "one")},
            MARKED.replace("m['role'] == 'assistant'", "m['role'] == 'model'"),
            "markers enclose nothing",
        ),
    ],
)
def test_what_does_not_tell_the_assistants_part_is_refused(tmp_path: Path, row: Any, template: str, words: str) -> None:
    with pytest.raises(StillwattError, match=words):
        of_rows(tmp_path, row, tokenizer=chat_tokenizer(template))


def test_the_mask_is_kept_with_the_tokens_and_plain_text_keeps_its_hash(tmp_path: Path) -> None:
    spec, tokenizer = smoke_spec(), load_tokenizer(_teacher())
    for packing, sha256 in (
        ("stream", "47ccc7cddc48d1bd8cca20e6b724d9ba22b95f9a6a6c8f8c5ca16c2b08e3db26"),
        ("documents", "200f29ff0c97736f3426ccf7e53d7188e99aba7cfb4504eb4fc16a634395665a"),
    ):
        data = dataclasses.replace(spec.data, packing=packing)
        found = prepare_data.make(data, spec.evaluate, tokenizer, tmp_path / packing, task=CountingTask())
        assert (found["corpus_sha256"], "supervised_tokens" in found) == (sha256, False)
    rows = [{"prompt": f"ask {n} " * 5, "completion": f"answer {n} " * 4} for n in range(60)]
    hashes = set()
    for predict in ("all", "assistant"):
        data = dataclasses.replace(spec.data, source=jsonl(tmp_path / "rows.jsonl", rows), predict=predict)
        found = prepare_data.make(data, spec.evaluate, tokenizer, tmp_path / predict, task=CountingTask())
        kept = prepare_data.load(tmp_path / predict)
        assert kept.sha256 == found["corpus_sha256"]
        hashes.add(kept.sha256)
        share = kept.train.supervised_ST.mean()
        assert (share > 0.9) == (predict == "all")
    assert len(hashes) == 2
    assert found["supervised_tokens"] == int(kept.train.supervised_ST.sum())
    text = tokenizer.decode(kept.train.ids_ST[kept.train.supervised_ST].tolist())
    assert "ask" not in text
    assert "answer" in text
    assert kept.held_out_predicted is not None
    for ids, marks in zip(kept.held_out_documents, kept.held_out_predicted, strict=True):
        own, others = (str(tokenizer.decode(ids[part].tolist())) for part in (marks[:-1], ~marks[:-1]))
        assert own.startswith("answer")
        assert "answer" not in others


def test_rows_that_do_not_fit_are_refused_before_anything_is_spent(tmp_path: Path) -> None:
    spec, rows = smoke_spec(), [{"prompt": "a", "completion": "b"}, {"text": "abc"}]
    data = dataclasses.replace(spec.data, source=jsonl(tmp_path / "rows.jsonl", rows), predict="assistant")
    with pytest.raises(StillwattError, match=r"rows\.jsonl:2: a `text` row does not say what is the assistant's"):
        study.check(dataclasses.replace(spec, data=data))
    study.check(dataclasses.replace(spec, data=dataclasses.replace(data, predict="all")))
    jsonl(tmp_path / "rows.jsonl", [{"words": "abc"}])
    with pytest.raises(StillwattError, match=r"rows\.jsonl:1: neither `text`"):
        study.check(dataclasses.replace(spec, data=dataclasses.replace(data, predict="all")))


def _teacher() -> Path:
    return resolve_model("tiny-random", revision=None, announce=lambda _: None).directory


def test_text_without_any_token_to_predict_is_refused() -> None:
    nothing = DocumentTokens(np.arange(9, dtype=np.int32), np.zeros(10, dtype=np.bool_))
    with pytest.raises(StillwattError, match="no token of the training text is to be predicted"):
        pack_documents(iter([nothing]), end_id=0, length=5, sequences=2)


def test_a_study_predicts_counts_and_scores_the_assistants_tokens_alone(tmp_path: Path) -> None:
    """SFT, KD from a cache and KD beside the teacher: the same tokens, of which the cache may know more."""
    rows = [{"prompt": f"q{n}? " * 4, "completion": f"a{n}. " * 4} for n in range(60)]
    spec = smoke_spec(serve=None, generate=None)
    data = dataclasses.replace(spec.data, source=jsonl(tmp_path / "rows.jsonl", rows), predict="assistant")
    online = ArmSpec(name="online", method=Method.KD, alpha=0.5, temperature=1.0, loss="forward_kl")
    arms = (*(arm for arm in spec.arms if arm.name in ("sft", "kd")), online)
    place = Place(tmp_path)
    journal = place.run(dataclasses.replace(spec, data=data, arms=arms))
    train_text = journal.results("prepare_data")
    for arm in arms:
        counts = [journal.workload(f"train.{arm.name}.{share}") for share in ("0.5", "1.0")]
        assert sum(each["supervised_tokens"] for each in counts) == train_text["supervised_tokens"] < 0.6 * 512
    (perplexity,) = (s for s in journal.results("evaluate.teacher")["scores"] if s["task"] == "perplexity")
    assert 0 < perplexity["n"] < 0.6 * 128


@pytest.mark.parametrize("method", [Method.SFT, Method.KD])
def test_a_sequence_without_any_predicted_token_changes_no_sum(tmp_path: Path, method: Method) -> None:
    rng = np.random.default_rng(4)
    marks = np.ones((8, 16), dtype=np.bool_)
    marks[:, 0], marks[::2], marks[:4] = False, False, False
    examples = Packed(ids_ST=rng.integers(0, 256, (8, 16)).astype(np.int32), supervised_ST=marks, dropped_tokens=0)
    arm = ArmSpec(name="a", method=Method.SFT, alpha=None, temperature=None)
    cache = None
    if method is Method.KD:
        from stillwatt.pipelines import teacher_logits
        from stillwatt.pipelines.caches import open_cache

        logits = smoke_spec().logits
        assert logits is not None
        teacher_logits.make(
            load_model(_teacher(), dtype="float32"), examples.ids_ST.tolist(), logits, tmp_path / "cache",
            task=CountingTask(), stage=CountingStage(),
        )  # fmt: skip
        arm, cache = ArmSpec(name="a", method=Method.KD, alpha=0.5, temperature=1.0), open_cache(tmp_path / "cache")
    settings_ = dataclasses.replace(smoke_spec().train, batch_size=1, accumulation_steps=1, warmup_steps=0)
    job = TrainJob(arm_id="a", arm=arm, train=settings_, dtype="float32", seed=3, examples=examples, cache=cache)
    stage = CountingStage()
    start = resolve_model("tiny-random", revision=None, announce=lambda _: None, is_student=True).directory
    found = train(job, start, from_share=0.0, to_share=1.0, out_dir=tmp_path / "out", stage=stage, task=CountingTask())
    assert stage.counts["supervised_tokens"] == marks.sum() == 2 * 15
    assert all(np.isfinite(loss) for loss in (found["loss_first"], found["loss_last"]))
    weights = load_model(tmp_path / "out", dtype="float32").state_dict().values()
    assert all(bool(torch.isfinite(each).all()) for each in weights)


def test_sequences_in_which_nothing_counts_are_no_part_of_the_perplexity() -> None:
    losses, counted = np.array([[1.0, 9.0], [3.0, 9.0], [9.0, np.inf]]), np.array([[1, 0], [1, 0], [0, 0]]) > 0
    score, alone = perplexity_score(losses, counted), perplexity_score(losses[:2, :1])
    assert score == alone
    with pytest.raises(StillwattError, match="at least two held-out sequences with tokens to be predicted"):
        perplexity_score(losses[1:], counted[1:])
