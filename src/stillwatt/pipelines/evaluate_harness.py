"""Tasks of lm-evaluation-harness, run on a model that is already loaded."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, Any

from stillwatt.errors import MissingExtraError, StillwattError, UnknownNameError
from stillwatt.metering.meter import Stage
from stillwatt.pipelines.harness_scores import Asked, task_scores
from stillwatt.pipelines.models import CausalModel
from stillwatt.pipelines.ranks import Ranks
from stillwatt.pipelines.spec_evaluate import EvaluateSpec
from stillwatt.pipelines.written_together import Together, together

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

__all__ = ["harness_scores"]

_BOOTSTRAP_DRAWS = 1000
"""Behind a standard error that has no formula; it is then known to 2 %. The harness' own 100,000 are drawn by a process
for each core, on every rank, while the model waits."""
_ONE_PROCESS = "DISABLE_MULTIPROC"
"""With this in the environment the harness draws in this process."""


def harness_scores(
    model: CausalModel,
    tokenizer: PreTrainedTokenizerBase,
    spec: EvaluateSpec,
    *,
    stage: Stage,
    ranks: Ranks,
    has_bos: bool = False,
) -> list[dict[str, Any]]:
    """Run the recipe's harness tasks; one score for each task and metric, named `lm_eval:<task>:<metric>`.

    Behind the name stands, after an `@`, what was asked otherwise than the task itself says (`Asked`). A group has the
    scores that the harness makes of its tasks', if its definition says how; any other group, and a tag, is its tasks.

    Ranks share what the harness asks of the model, and the first one has the scores; on the others there are none. Each
    counts its own `tokens`, read and written, and `generated_tokens`. With `has_bos` the harness is told to begin every
    text with the tokenizer's BOS, which its older releases do not do by themselves.

    Raises:
        MissingExtraError: The harness is not installed.
        UnknownNameError: A task, group or tag that it does not know.
        StillwattError: A task that fails.
    """
    try:
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager
    except ImportError as err:
        raise MissingExtraError("lm-eval", "evaluate") from err
    from datasets.exceptions import DatasetsError
    from jinja2.exceptions import TemplateError

    local = spec.lm_eval_include_path is not None
    try:
        with _quietly():
            # reading the harness' own thousands of tasks takes seconds, so they are read only where no folder is named
            manager = TaskManager(include_path=spec.lm_eval_include_path, include_defaults=not local)
            loaded = manager.load(_known(spec.lm_eval_tasks, manager))
            names = list(dict.fromkeys(name for top in _tops(loaded) for name in _scored(top)))
            asked = {name: _asked(name, loaded, spec) for name in names}
            engine = _shared(_counted(HFLM, stage), ranks)(
                pretrained=model,
                tokenizer=tokenizer,
                batch_size=spec.batch_size,
                **({"add_bos_token": True} if has_bos else {}),
            )
            found = _run(engine, loaded, spec, manager)
    except (OSError, ValueError, KeyError, AssertionError, TemplateError, DatasetsError) as err:
        why = f"{err} ({err.__cause__})" if isinstance(err, DatasetsError) and err.__cause__ else err
        raise StillwattError(f"lm-evaluation-harness failed on {', '.join(spec.lm_eval_tasks)}: {why}") from err
    # the harness gives results on the first process of each machine
    return [score for name in names for score in task_scores(name, found, asked[name])] if ranks.is_first else []


def _run(engine: Any, loaded: Mapping[str, Any], spec: EvaluateSpec, manager: Any) -> dict[str, Any]:
    """What the harness finds."""
    from lm_eval import simple_evaluate

    found: dict[str, Any] | None = simple_evaluate(
        model=engine,
        tasks=_tops(loaded),
        task_manager=manager,
        limit=spec.lm_eval_limit,
        num_fewshot=spec.lm_eval_few_shot,
        apply_chat_template=spec.lm_eval_chat_template,
        system_instruction=spec.lm_eval_system,
        fewshot_as_multiturn=spec.lm_eval_few_shot_as_turns,
        gen_kwargs=spec.lm_eval_generation.told if spec.lm_eval_generation else None,
        bootstrap_iters=_BOOTSTRAP_DRAWS,
        random_seed=spec.seed,
        numpy_random_seed=spec.seed,
        torch_random_seed=spec.seed,
        fewshot_random_seed=spec.seed,
        log_samples=False,
        verbosity="ERROR",
    )
    return found or {}


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """The harness and what it calls draw bars and print lines of their own, over ours, and begin processes."""
    before = os.environ.get(_ONE_PROCESS)
    os.environ[_ONE_PROCESS] = "1"
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        if before is None:
            os.environ.pop(_ONE_PROCESS, None)
        else:
            os.environ[_ONE_PROCESS] = before


def _known(asked: Sequence[str], manager: Any) -> list[str]:
    """The names that are meant: tags are taken apart, since a task may be asked for twice.

    Raises:
        UnknownNameError: A name that is no task, group or tag.
    """
    tags = set(manager.all_tags)
    names: list[str] = []
    for name in asked:
        meant = [known for known in manager.all_tasks if fnmatchcase(known, name)] if "*" in name else [name]
        if not meant or any(each not in manager.task_index for each in meant):
            raise UnknownNameError("task", name, manager.all_tasks, place="evaluate.lm_eval_tasks")
        for each in meant:
            names += sorted(manager.task_index[each].tags) if each in tags else [each]
    return list(dict.fromkeys(names))


def _tops(loaded: Mapping[str, Any]) -> list[Any]:
    """The tasks and groups that are in no other."""
    groups = list(loaded["groups"].values())
    inner = {id(each) for group in groups for each in (*group.get_all_groups(), *group.get_all_tasks())}
    return [each for each in (*groups, *loaded["tasks"].values()) if id(each) not in inner]


def _scored(item: Any) -> list[str]:
    """Names of what has scores: a group that does not say how its tasks' are put together has none of its own."""
    if not hasattr(item, "child_names"):
        return [item.task_name]
    return [item.name] if item.has_aggregation else [name for child in item for name in _scored(child)]


def _asked(name: str, loaded: Mapping[str, Any], spec: EvaluateSpec) -> Asked:
    """How a task is asked, or the tasks of a group, before the harness puts the recipe's settings into them."""
    group = loaded["groups"].get(name)
    tasks = [loaded["tasks"][name]] if group is None else group.get_all_tasks()
    own = [int(task.get_config("num_fewshot") or 0) for task in tasks]
    # the harness leaves a task alone that says itself that it shows none
    is_fixed = [task.get_config("num_fewshot") == 0 for task in tasks]
    told = spec.lm_eval_few_shot
    used = [n if told is None or fixed else told for n, fixed in zip(own, is_fixed, strict=True)]
    if told:
        for task, shots in zip(tasks, used, strict=True):
            _check_examples(task, shots)
    return Asked(
        spec=spec,
        tasks=tuple(task.task_name for task in tasks),
        few_shot=tuple(sorted(set(used))),
        is_own=used == own,
        writes=any(task.get_config("output_type") == "generate_until" for task in tasks),
    )


def _check_examples(task: Any, shots: int) -> None:
    """Refuse examples that may be the question itself: the harness takes them from what it asks, and leaves none out.

    Raises:
        ValueError: The task names no other split for examples.
    """
    if not shots or not hasattr(task, "fewshot_cfg") or task.fewshot_cfg.split or task.fewshot_cfg.samples:
        return
    if not task.has_training_docs() and not task.has_validation_docs():
        raise ValueError(
            f"task {task.task_name} has no examples but its own questions, so that one of {shots} shown may be the one "
            "that is asked; name a `fewshot_split` in its definition, or leave evaluate.lm_eval_few_shot out"
        )


def _counted(plain: type[Any], stage: Stage) -> type[Any]:
    """The harness' own model, which counts the tokens that go through it; padding is none.

    Behind prompts it writes in batches where the model heeds none but its own, and one by one where not.
    """

    class Counted(plain):  # type: ignore[misc]  # mypy takes no base that only a run knows: the harness is optional
        def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[Any]:
            size: int = self.batch_size
            if together(self.model, self.tokenizer.pad_token_id) is not Together.ANY_LENGTHS:
                self.batch_size_per_gpu = 1
            try:
                written: list[Any] = super().generate_until(requests, disable_tqdm=disable_tqdm)
            finally:
                self.batch_size_per_gpu = size
            return written

        def _loglikelihood_tokens(self, requests: Sequence[Any], **settings: Any) -> list[Any]:
            read = [tuple([*context, *asked][:-1]) for _, context, asked in requests]
            # options that differ in their last token alone are read off one pass; each is cut on the left to what fits
            passed = set(read) if self.logits_cache else read
            stage.add(tokens=sum(min(len(ids), self.max_length) for ids in passed))
            answers: list[Any] = super()._loglikelihood_tokens(requests, **settings)
            return answers

        def _model_generate(self, context: Tensor, *args: Any, **settings: Any) -> Tensor:
            written: Tensor = super()._model_generate(context, *args, **settings)
            mask = settings.get("attention_mask")
            read = context.numel() if mask is None else int(mask.sum())
            new = _num_written(written[:, context.shape[1] :], self.tokenizer.pad_token_id, self.eot_token_id)
            stage.add(tokens=read + new, generated_tokens=new)
            return written

    return Counted


def _num_written(ids_BT: Tensor, pad_id: int, end_id: int) -> int:
    """Tokens without the padding behind them, each text's end token among them.

    >>> import torch
    >>> _num_written(torch.tensor([[5, 0, 0], [5, 6, 7]]), 0, 0), _num_written(torch.tensor([[5, 1, 0]]), 0, 1)
    (5, 2)
    """
    padded_B = (ids_BT.flip(1) == pad_id).long().cumprod(1).sum(1)
    ends = int((padded_B > 0).sum()) if pad_id == end_id else 0
    return ids_BT.numel() - int(padded_B.sum()) + ends


def _shared(plain: type[Any], ranks: Ranks) -> type[Any]:
    """The harness' own model, asked for a part of the answers on each rank; each rank is told all of them.

    The harness is left to believe that it runs alone: its own way of sharing deals out questions, which ends in an
    error where there are fewer of them than ranks.
    """
    if ranks.count == 1:
        return plain

    class Shared(plain):  # type: ignore[misc]  # as `Counted`: its base is only known in a run
        def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[Any]:
            return ranks.divide(requests, partial(super().loglikelihood, disable_tqdm=disable_tqdm))

        def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[Any]:
            return ranks.divide(requests, partial(super().loglikelihood_rolling, disable_tqdm=disable_tqdm))

        def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[Any]:
            return ranks.divide(requests, partial(super().generate_until, disable_tqdm=disable_tqdm))

    return Shared
