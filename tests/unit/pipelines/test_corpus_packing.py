from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatt.errors import MissingInputError, StillwattError, UnknownNameError
from stillwatt.pipelines import prepare_data
from stillwatt.pipelines.corpus import pack_documents, pack_samples, prompts_of
from stillwatt.pipelines.document_tokens import DocumentTokens, tokenise
from stillwatt.pipelines.documents import load_corpus, split_documents
from stillwatt.pipelines.model_sources import resolve_model
from stillwatt.pipelines.models import load_tokenizer
from stillwatt.pipelines.rubrics import read_rubric
from tiny_models import CountingTask, smoke_spec

_names = st.lists(st.text(max_size=8), min_size=3, max_size=60, unique=True)


@given(names=_names, share=st.floats(0.05, 0.6), seed=st.integers(0, 99))
def test_a_split_uses_each_document_once_and_depends_on_names_alone(names: list[str], share: float, seed: int) -> None:
    train, held_out = split_documents(names, held_out_share=share, seed=seed)
    assert sorted(train + held_out) == list(range(len(names)))
    backwards = names[::-1]
    _, again = split_documents(backwards, held_out_share=share, seed=seed)
    assert [names[index] for index in held_out] == [backwards[index] for index in again]


@given(names=_names)
def test_another_seed_gives_another_order(names: list[str]) -> None:
    orders = {
        tuple(train) + tuple(held_out)
        for train, held_out in (split_documents(names, held_out_share=0.3, seed=seed) for seed in range(40))
    }
    assert len(orders) > 1


def test_a_split_without_a_side_is_refused() -> None:
    with pytest.raises(StillwattError, match="1 of 1 documents"):
        split_documents(["only"], held_out_share=0.5, seed=1)


@given(
    documents=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=12), min_size=1, max_size=20),
    length=st.integers(2, 7),
)
def test_packing_keeps_every_token_in_order_and_adds_ends_only(documents: list[list[int]], length: int) -> None:
    stream = [token for document in documents for token in (*document, 0)]
    count = len(stream) // length
    if count == 0:
        return
    given_tokens = (DocumentTokens.whole(np.array(d)) for d in documents)
    packed = pack_documents(given_tokens, end_id=0, length=length, sequences=count)
    flat = packed.ids_ST.flatten().tolist()
    assert flat == stream[: len(flat)]
    assert packed.ids_ST.shape == (count, length)
    assert not packed.supervised_ST[:, 0].any()
    assert packed.supervised_ST[:, 1:].all()
    # nothing is padding: dropped tokens are what was read and left over
    read = next(n for n in np.cumsum([len(d) + 1 for d in documents]) if n >= count * length)
    assert packed.dropped_tokens == read - count * length


def test_text_that_is_too_short_names_both_numbers() -> None:
    def packed(length: int, sequences: int, epochs: int) -> None:
        given = iter([DocumentTokens.whole(np.array([1, 2]))])
        pack_documents(given, end_id=0, length=length, sequences=sequences, epochs=epochs)

    with pytest.raises(StillwattError, match=r"holds 3 tokens and the budget is 8: lower data\.train_tokens"):
        packed(4, 2, 1)


def test_text_that_is_too_short_says_which_passes_reach_the_budget() -> None:
    def refused(sequences: int, epochs: int) -> str:
        given = iter([DocumentTokens.whole(np.arange(1, 10))])  # three sequences of three
        with pytest.raises(StillwattError) as info:
            pack_documents(given, end_id=0, length=3, sequences=sequences, epochs=epochs)
        return str(info.value)

    assert "holds 10 tokens and the budget is 18: set data.epochs = 2, lower" in refused(6, 1)
    assert "holds 10 tokens and the budget is 24, 12 in each of 2 passes: set data.epochs = 3 with" in refused(4, 2)
    assert "data.epochs = 3 with data.train_tokens = 27, lower" in refused(4, 2)


@given(
    samples=st.lists(
        st.tuples(
            st.lists(st.integers(1, 9), min_size=1, max_size=4), st.lists(st.integers(0, 9), min_size=1, max_size=8)
        ),
        min_size=1,
        max_size=12,
    ),
    length=st.integers(2, 6),
)
def test_only_the_teachers_own_tokens_are_supervised(samples: list[tuple[list[int], list[int]]], length: int) -> None:
    sequences = [[*prompt, *completion] for prompt, completion in samples]
    marks: list[bool] = []
    for prompt, completion in samples:
        marks += [False] * len(prompt) + [True] * len(completion)
        marks += [False] if completion[-1] != 0 else []
    count = len(marks) // length
    if count == 0:
        return
    packed = pack_samples(sequences, [len(p) for p, _ in samples], end_id=0, length=length, count=count)
    wanted = np.array(marks[: count * length]).reshape(count, length)
    wanted[:, 0] = False
    assert (packed.supervised_ST == wanted).all()


@given(rows=st.integers(1, 3), length=st.integers(4, 40), prompt=st.integers(1, 40))
def test_prompts_are_whole_and_never_overlap(rows: int, length: int, prompt: int) -> None:
    if prompt > length:
        return
    ids = np.arange(rows * length, dtype=np.int32).reshape(rows, length)
    prompts = prompts_of(ids, prompt)
    assert prompts[:rows] == ids[:, :prompt].tolist()
    assert all(len(found) == prompt for found in prompts)
    assert all(found[0] // length == found[-1] // length for found in prompts)
    tokens = [token for found in prompts for token in found]
    assert len(tokens) == len(set(tokens))
    assert len(prompts) // rows == (4 if prompt <= length // 4 else 2 if prompt <= 2 * (length // 4) else 1)


def test_the_python_topics_are_there_without_a_download() -> None:
    corpus = load_corpus("pydoc-topics", seed=1)
    assert len(corpus.names) > 50
    assert all(corpus.read(index).text for index in range(len(corpus.names)))
    assert list(corpus.names) == sorted(corpus.names)


def test_random_words_follow_the_seed() -> None:
    texts = [load_corpus("random-words", seed=seed).read(0).text for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def _jsonl(path: Path, rows: list[Any]) -> str:
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return f"path:{path}"


def test_a_file_of_texts_and_conversations_is_read(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "world"}]
    corpus = load_corpus(_jsonl(tmp_path / "c.jsonl", [{"text": "abc"}, {"messages": messages}]), seed=1)
    assert len(corpus.names) == 2
    tokenizer = load_tokenizer(resolve_model("tiny-random", revision=None, announce=lambda _: None).directory)
    tokenizer.chat_template = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}"
    assert tokenizer.decode(tokenise(tokenizer, corpus.read(0)).ids_T.tolist()) == "abc"
    assert tokenizer.decode(tokenise(tokenizer, corpus.read(1)).ids_T.tolist()) == "[user]hello[assistant]world"


@pytest.mark.parametrize(("row", "said"), [({"body": "x"}, "neither `text`"), ([1], "expected an object")])
def test_a_line_of_another_kind_is_named(tmp_path: Path, row: Any, said: str) -> None:
    with pytest.raises(StillwattError, match=said) as caught:
        load_corpus(_jsonl(tmp_path / "c.jsonl", [{"text": "a"}, row]), seed=1)
    assert f"{tmp_path / 'c.jsonl'}:2" in str(caught.value)


@pytest.mark.parametrize("messages", [[1, 2], ["hi"], [{"content": "hi"}], [{"role": 3, "content": "hi"}]])
def test_messages_that_nobody_says_are_named(tmp_path: Path, messages: list[Any]) -> None:
    with pytest.raises(StillwattError, match=rf"{tmp_path / 'c.jsonl'}:2: `messages` must be objects with a `role`"):
        load_corpus(_jsonl(tmp_path / "c.jsonl", [{"text": "a"}, {"messages": messages}]), seed=1)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (None, "the tokenizer has no chat template"),
        ("{{ raise_exception('no such role') }}", r"refuses the messages \(no such role"),
        ("{% for m in messages %}{{ 'a' + m['content'] }}{% endfor %}", "refuses the messages"),
        ("{{ messages", "refuses the messages"),
    ],
)
def test_conversations_that_cannot_be_made_text_are_named(tmp_path: Path, template: str | None, said: str) -> None:
    corpus = load_corpus(_jsonl(tmp_path / "c.jsonl", [{"messages": [{"role": "user", "content": 1}]}]), seed=1)
    tokenizer = load_tokenizer(resolve_model("tiny-random", revision=None, announce=lambda _: None).directory)
    tokenizer.chat_template = template
    with pytest.raises(StillwattError, match=rf"{tmp_path / 'c.jsonl'}:1: .*{said}"):
        tokenise(tokenizer, corpus.read(0))


def test_a_line_that_is_not_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_text('{"text": "a"}\n\n{"text":\n')
    with pytest.raises(StillwattError, match=r"c\.jsonl:3: not JSON"):
        load_corpus(f"path:{tmp_path / 'c.jsonl'}", seed=1)


def test_the_mark_that_editors_begin_a_file_with_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "a"}\n')
    assert load_corpus(f"path:{tmp_path / 'c.jsonl'}", seed=1).read(0).text == "a"
    (tmp_path / "rubric.txt").write_bytes(b"\xef\xbb\xbf{question} {answer_a} {answer_b} Verdict:")
    assert read_rubric(f"path:{tmp_path / 'rubric.txt'}", "pairwise").text.startswith("{question}")


@pytest.mark.parametrize("line", ["[" * 100_000, '{"text": ' + "[" * 100_000])
def test_a_line_of_brackets_is_no_row(tmp_path: Path, line: str) -> None:
    (tmp_path / "c.jsonl").write_text(f'{{"text": "a"}}\n{line}\n')
    with pytest.raises(StillwattError, match=r"c\.jsonl:2: not JSON"):
        load_corpus(f"path:{tmp_path / 'c.jsonl'}", seed=1)


def test_a_line_ends_where_json_lines_end_and_nowhere_else(tmp_path: Path) -> None:
    """A separator of lines of Unicode may stand in a JSON text as it is."""
    text = "one\u2028two\x85three"
    line = json.dumps({"text": text}, ensure_ascii=False)
    (tmp_path / "c.jsonl").write_text(f"{line}\r\n", encoding="utf-8", newline="")
    assert load_corpus(f"path:{tmp_path / 'c.jsonl'}", seed=1).read(0).text == text


def test_sources_that_are_not_there_say_so(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"none\.jsonl"):
        load_corpus(f"path:{tmp_path / 'none.jsonl'}", seed=1)
    with pytest.raises(UnknownNameError, match="pydoc-topics"):
        load_corpus("pydoc-topic", seed=1)


@pytest.fixture
def hub_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A data set with two configurations in the hub's form, in a folder; needs no network."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    entries = ["---", "configs:"]
    for config in ("main", "socratic"):
        entries += [f"- config_name: {config}", "  data_files:"]
        for split in ("train", "test"):
            path = tmp_path / "set" / config / f"{split}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            _jsonl(path, [{"text": f"{config} {split} {number}"} for number in range(4)])
            entries += [f"  - split: {split}", f"    path: {config}/{split}.jsonl"]
    (tmp_path / "set" / "README.md").write_text("\n".join([*entries, "---", ""]))
    return f"hf:{tmp_path / 'set'}"


def test_of_a_hub_data_set_the_configuration_and_the_split_are_chosen(hub_set: str) -> None:
    corpus = load_corpus(hub_set, seed=1, config="socratic", split="test")
    assert [corpus.read(index).text for index in range(len(corpus.names))] == [f"socratic test {n}" for n in range(4)]
    assert len(load_corpus(hub_set, seed=1, config="main", split="train[:50%]").names) == 2


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({}, "Config name is missing.*main.*socratic.*; data.config names one"),
        ({"config": "maine"}, "BuilderConfig 'maine' not found. Available: .*socratic"),
        ({"config": "main", "split": "dev"}, 'Unknown split "dev".*test'),
    ],
)
def test_a_choice_that_the_data_set_does_not_have_is_told_in_its_own_words(
    hub_set: str, how: dict[str, str], words: str
) -> None:
    with pytest.raises(StillwattError, match=f"data.source: hf:.* cannot be read: {words}"):
        load_corpus(hub_set, seed=1, **how)


def test_a_data_set_that_is_not_there_is_told_in_the_hubs_own_words() -> None:
    with pytest.raises(MissingInputError, match=r"a hub data set \(.+\).*nobody/nothing"):
        load_corpus("hf:nobody/nothing", seed=1)


def test_preparing_twice_gives_the_same_tokens_and_no_overlap(tmp_path: Path) -> None:
    spec = smoke_spec()
    tokenizer = load_tokenizer(resolve_model("tiny-random", revision=None, announce=lambda _: None).directory)
    found = [
        prepare_data.make(spec.data, spec.evaluate, tokenizer, tmp_path / name, task=CountingTask()) for name in "ab"
    ]
    assert found[0] == found[1]
    data = prepare_data.load(tmp_path / "a")
    assert data.sha256 == found[0]["corpus_sha256"]
    assert data.train.ids_ST.shape == (16, 32)
    assert found[0]["train_tokens"] == 512
    assert found[0]["held_out_tokens"] == sum(map(len, data.held_out_documents))
    train_text = tokenizer.decode(data.train.ids_ST.flatten().tolist())
    for document in data.held_out_documents:
        assert tokenizer.decode(document[:60].tolist()) not in train_text


def test_a_budget_that_is_not_whole_sequences_is_refused() -> None:
    spec = smoke_spec()
    broken = type(spec.data)(source="random-words", sequence_tokens=32, train_tokens=500, held_out_share=0.25, seed=1)
    with pytest.raises(StillwattError, match="the nearest is 480"):
        prepare_data.num_sequences(broken)
