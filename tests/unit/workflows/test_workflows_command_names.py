"""What a measured command is called."""

from __future__ import annotations

import pytest

from stillwatt.workflows.command_names import is_interpreter, name_of_command


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("python train.py", "train"),
        ("/opt/venv/bin/python3.12 -u -O src/train.py --config c.py", "train"),
        ("python -X dev -W error train.py", "train"),
        ("python -Xdev -Wignore train.py", "train"),
        ("python -m pkg.mod --x 1", "pkg.mod"),
        ("python -um pkg.mod", "pkg.mod"),
        ("python -m torch.distributed.run --nproc-per-node 2 train.py", "train"),
        ("python some_folder", "some_folder"),
        ("torchrun --standalone --nproc-per-node 2 train.py --lr 1", "train"),
        ("torchrun --nproc-per-node=2 -m pkg.train", "pkg.train"),
        ("accelerate launch --num_processes 2 train.py", "train"),
        ("deepspeed train.py --deepspeed", "train"),
        ("bash run.sh", "run"),
        ("sh -ex scripts/run", "run"),
        ("uv run x.py", "x"),
        ("uv run --with torch python -m pkg.mod", "pkg.mod"),
        ("uv run pytest -x", "pytest"),
        ("poetry run python train.py", "train"),
        ("./run.sh 3", "run"),
        ("./train.py", "train"),
    ],
)
def test_a_command_is_called_after_what_it_runs(words: str, name: str) -> None:
    assert name_of_command(words.split(" ")) == name


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("python -c print(1)", "python"),
        ("python -", "python"),
        ("python", "python"),
        ("python -m", "python"),
        ("python3 --version", "python3"),
        ("bash -c ./run.sh", "bash"),
        ("bash -o pipefail run.sh", "bash"),
        ("uv pip install x", "uv"),
        ("uv run --with torch something", "uv"),
        ("accelerate config", "accelerate"),
        ("torchrun --help", "torchrun"),
        ("make all", "make"),
        ("pythonic train.py", "pythonic"),
        ("/", ""),
    ],
)
def test_what_is_not_sure_is_called_after_the_program(words: str, name: str) -> None:
    assert name_of_command(words.split(" ")) == name


def test_names_that_say_nothing_of_the_work() -> None:
    assert all(is_interpreter(name) for name in ("python", "python3.11", "pypy3", "bash", "torchrun", "uv"))
    assert not any(is_interpreter(name) for name in ("train", "python-train", "pkg.mod", "quickstart"))
