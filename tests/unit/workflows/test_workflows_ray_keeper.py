"""What looks after a rank, with real processes and no cluster: its words, its end, and what must not stay behind."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stillwatt import __version__
from stillwatt.workflows import ray_keeper
from stillwatt.workflows.ray_keeper import Keeper, News

PATIENCE_S = 60.0
KEEP_AND_DIE = """
import os, sys
from stillwatt.workflows.ray_keeper import Keeper
print(Keeper().start(sys.argv[1:], {}, os.getcwd(), True), flush=True)
sys.stdin.read()
"""


def all_news(keeper: Keeper) -> tuple[dict[str, bytes], News]:
    """Everything it wrote, by stream, and how it ended."""
    said = {"stdout": b"", "stderr": b""}
    while True:
        news = keeper.news()
        for name, piece in news.pieces:
            said[name] += piece
        if news.status is not None:
            return said, news


def sleeping(runs_dir: Path) -> list[str]:
    """A command of ours that lasts until it is ended, and then ends its session; it leaves `up` behind once it runs."""
    lasting = ["sh", "-c", 'touch "$0"; exec sleep 300', str(runs_dir / "up")]
    return ["measure", "--runs", str(runs_dir), "--sensors", "synthetic", "--", *lasting]


def wait_for_session(runs_dir: Path) -> Path:
    """The journal of the session that began."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        for path in runs_dir.glob("2*/journal.*.jsonl"):
            if ".meter." not in path.name and '"stage_started"' in path.read_text(encoding="utf-8"):
                return path
        time.sleep(0.02)
    raise AssertionError("no session began")


def state_of(pid: int, runs_dir: Path) -> str:
    """What can be told of a rank that has not ended its session: what it waits for, and all that it wrote down."""
    told = [path for name in ("status", "wchan") if (path := Path(f"/proc/{pid}/{name}")).exists()]
    told += sorted(runs_dir.glob("2*/journal.*.jsonl"))
    return "\n".join(f"{path}:\n{path.read_text(encoding='utf-8')[-3000:]}" for path in told)


@contextmanager
def interrupt_blocked() -> Iterator[None]:
    """As Ray starts its workers."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_a_rank_is_a_process_of_its_own_and_all_it_writes_is_handed_out(tmp_path: Path) -> None:
    keeper = Keeper()
    pid = keeper.start(["--version"], {"RANK": "1", "STILLWATT_RANK": "1"}, str(tmp_path), True)
    assert pid != os.getpid()
    said, news = all_news(keeper)
    assert said == {"stdout": f"stillwatt {__version__}\n".encode(), "stderr": b""}
    assert news.status == 0
    assert {"RANK", "STILLWATT_RANK"}.isdisjoint(os.environ)


def test_of_a_rank_that_is_not_shown_the_last_lines_are_kept() -> None:
    keeper = Keeper()
    keeper.start(["run", "no_such_recipe"], {}, "/nowhere", False)
    said, news = all_news(keeper)
    assert said == {"stdout": b"", "stderr": b""}
    assert news.status == 2
    assert news.last_lines[-1].startswith("error: unknown recipe 'no_such_recipe'")


def test_a_rank_hears_that_it_is_to_end_though_its_starter_may_not(tmp_path: Path) -> None:
    keeper = Keeper()
    with interrupt_blocked():
        pid = keeper.start(sleeping(tmp_path), {}, str(tmp_path), True)
        journal = wait_for_session(tmp_path)
        deadline = time.monotonic() + PATIENCE_S
        while not (tmp_path / "up").exists():  # an interrupt before the command is there would be nobody's
            assert time.monotonic() < deadline, state_of(pid, tmp_path)
            time.sleep(0.02)
        keeper.stop(signal.SIGINT)
        _, news = all_news(keeper)
    assert news.status == 130
    assert '"session_ended"' in journal.read_text(encoding="utf-8")
    keeper.stop(signal.SIGKILL)  # it is over: nobody is hit


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has died")
def test_a_rank_whose_keeper_is_killed_ends_its_session(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the distill extra is not installed")
    resting = ["run", "smoke_cpu", "--runs", str(tmp_path), "--sensors", "synthetic"]
    resting += ["--set", "meter.idle_baseline_s=300"]  # it is told alone: a measured command would be left to itself
    keeper = subprocess.Popen(
        [sys.executable, "-c", KEEP_AND_DIE, *resting], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert keeper.stdout is not None
    assert keeper.stdin is not None
    pid = int(keeper.stdout.readline())
    journal = wait_for_session(tmp_path)
    keeper.kill()
    keeper.communicate()
    deadline = time.monotonic() + PATIENCE_S
    while '"session_ended"' not in journal.read_text(encoding="utf-8"):
        assert time.monotonic() < deadline, state_of(pid, tmp_path)
        time.sleep(0.02)


def test_a_machine_tells_whether_it_sees_what_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_keeper, "_DISK_PATIENCE_S", 0.2)
    token, recipe = tmp_path / ".launch-1", tmp_path / "study.toml"
    token.write_text(token.name, encoding="utf-8")
    recipe.write_text("name = 'study'\n", encoding="utf-8")
    sha256 = hashlib.sha256(recipe.read_bytes()).hexdigest()
    look = Keeper().look(str(token), str(recipe), sha256, "127.0.0.1")
    assert (look.version, look.sees_runs, look.sees_recipe) == (__version__, True, True)
    assert 0 < look.port < 65536
    recipe.write_text("name = 'another'\n", encoding="utf-8")
    other = Keeper().look(str(tmp_path / "elsewhere" / ".launch-1"), str(recipe), sha256, "192.0.2.77")
    assert (other.sees_runs, other.sees_recipe) == (False, False)
    assert Keeper().look(str(token), str(tmp_path / "gone.toml"), sha256, "127.0.0.1").sees_recipe is False
    assert Keeper().look(str(token), "", "", "127.0.0.1").sees_recipe is True  # a recipe that comes along


def test_a_rank_talks_over_the_interface_that_ray_knows_unless_it_is_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, str]] = []

    class Started:
        pid, stdout, stderr = 7, None, None

        def __init__(self, _command: list[str], env: dict[str, str], **_more: object) -> None:
            seen.append(env)
            raise OSError("seen enough")

    token = tmp_path / ".launch-1"
    token.write_text(token.name, encoding="utf-8")
    monkeypatch.setattr(subprocess, "Popen", Started)
    keeper = Keeper()
    keeper.look(str(token), "", "", "127.0.0.1")
    for told in ({}, {"GLOO_SOCKET_IFNAME": "ib0"}):
        monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
        for name, value in told.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(OSError, match="seen enough"):
            keeper.start([], {}, str(tmp_path), False)
    assert [env["GLOO_SOCKET_IFNAME"] for env in seen] == ["lo", "ib0"]


def test_a_rank_imports_the_stillwatt_that_its_keeper_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    place = str(Path(ray_keeper.__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    assert ray_keeper._import_path().split(os.pathsep) == [place, "/somewhere"]
    monkeypatch.setenv("PYTHONPATH", place)
    assert ray_keeper._import_path() == place
    monkeypatch.delenv("PYTHONPATH")
    monkeypatch.setattr("site.getsitepackages", lambda: [place])
    assert ray_keeper._import_path() == ""
