"""Run directories: names that stay inside, manifests that are whole."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from run_dirs import FixedClock
from stillwatt.errors import LedgerError, UsageError
from stillwatt.ledger.environment import boot_id, capture_environment, cpu_model, git_commit, host_name, versions
from stillwatt.ledger.liveness import ThisHost
from stillwatt.ledger.rundir import (
    JournalPaths,
    create_run_dir,
    list_run_dirs,
    meter_journals,
    program_journals,
    read_manifest,
    session_name,
    sessions,
    settings_hash,
    slug,
    write_whole,
)


def _create(runs_dir: Path, name: str, **settings: Any) -> str:
    return create_run_dir(runs_dir, name, clock=FixedClock(), settings=settings, environment={"host": "h"})


def test_a_new_run_directory(runs_dir: Path) -> None:
    run_id = _create(runs_dir, "Quick start", period=1)
    assert re.fullmatch(r"20260101-000000-quick-start-[0-9a-f]{4}", run_id)
    manifest = read_manifest(runs_dir / run_id)
    assert manifest["name"] == "Quick start"
    assert manifest["run_id"] == run_id
    assert manifest["settings"] == {"period": 1}
    assert manifest["settings_sha256"] == settings_hash({"period": 1})
    assert manifest["created_utc"] == "2026-01-01T00:00:00.000Z"
    assert list_run_dirs(runs_dir) == (runs_dir / run_id,)


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "..",
        "/abs",
        "a/b\\c",
        "nul\x00byte",
        "line\nbreak",
        "-rf",
        "",
        " ",
        "~",
        "ü" * 300,
        "x" * 999,
    ],
)
def test_no_name_leaves_the_directory(runs_dir: Path, name: str) -> None:
    run_id = _create(runs_dir, name)
    assert re.fullmatch(r"[0-9]{8}-[0-9]{6}-[a-z0-9-]+-[0-9a-f]{4}", run_id)
    assert len(run_id) < 80
    assert [path.name for path in runs_dir.parent.iterdir()] == ["runs"]
    assert [path.name for path in runs_dir.iterdir()] == [run_id]
    assert "\n" not in read_manifest(runs_dir / run_id)["name"]


def test_ids_of_one_second_differ(runs_dir: Path) -> None:
    assert len({_create(runs_dir, "same") for _ in range(20)}) == 20


def test_a_taken_id_is_left_alone(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digits = iter([b"\x00\x01", b"\x00\x01", b"\x00\x02"])
    monkeypatch.setattr(os, "urandom", lambda _n: next(digits))
    assert _create(runs_dir, "n").endswith("0001")
    assert _create(runs_dir, "n").endswith("0002")
    monkeypatch.setattr(os, "urandom", lambda _n: b"\x00\x01")
    with pytest.raises(FileExistsError, match="no free run id"):
        _create(runs_dir, "n")


@pytest.mark.parametrize("value", [{1, 2}, float("nan"), object()])
def test_settings_that_are_no_json_are_refused_before_anything_is_made(runs_dir: Path, value: Any) -> None:
    with pytest.raises(UsageError, match="JSON"):
        _create(runs_dir, "n", value=value)
    assert not runs_dir.exists()


def test_a_directory_without_a_manifest_is_no_run(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        _create(runs_dir, "n")
    assert list_run_dirs(runs_dir) == ()
    assert list_run_dirs(runs_dir / "nowhere") == ()


def test_writing_whole_keeps_the_old_file_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f.json"
    write_whole(path, "old")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _fd: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        with pytest.raises(OSError, match="Input/output"):
            write_whole(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["f.json"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"schema": "stillwatt.manifest/9"}', '{"schema": "stillwatt.manifest/1"}']
)
def test_a_bad_manifest_says_where(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(LedgerError, match=r"manifest\.json"):
        read_manifest(tmp_path)


def test_journals_are_found_by_session(tmp_path: Path) -> None:
    for name in (
        "journal.a-1-f.jsonl",
        "journal.a-1-f.meter.jsonl",
        "journal.b-2-f.meter.jsonl",
        "journal.a-1-f.fork-77-1f.jsonl",
        "journal.jsonl",
        "x.jsonl",
    ):
        (tmp_path / name).touch()
    assert [path.name for path in program_journals(tmp_path)] == [
        "journal.a-1-f.jsonl",
        "journal.a-1-f.fork-77-1f.jsonl",
    ]
    assert len(meter_journals(tmp_path)) == 2
    assert sessions(tmp_path) == {
        "a-1-f": JournalPaths(
            program=tmp_path / "journal.a-1-f.jsonl",
            meter=tmp_path / "journal.a-1-f.meter.jsonl",
            forks=(tmp_path / "journal.a-1-f.fork-77-1f.jsonl",),
        ),
        "b-2-f": JournalPaths(program=None, meter=tmp_path / "journal.b-2-f.meter.jsonl"),
    }


def test_session_names_are_file_names_and_distinct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stillwatt.ledger.rundir.host_name", lambda: "node.7/..:x" + "y" * 99)
    names = {session_name(FixedClock()) for _ in range(20)}
    assert len(names) > 15
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", name) and f"-{os.getpid()}-" in name for name in names)


def test_slugs() -> None:
    assert slug("Ünïcode name!") == "n-code-name"
    assert slug("a" * 10, longest=4) == "aaaa"


def test_equal_settings_have_equal_hashes() -> None:
    assert settings_hash({"a": {"y": 1, "x": 2}}) == settings_hash({"a": {"x": 2, "y": 1}})
    assert settings_hash({"a": 1}) != settings_hash({"a": 2})


def test_the_environment_is_json_and_names_the_machine() -> None:
    environment = capture_environment()
    assert json.loads(json.dumps(environment)) == environment
    assert environment["logical_cpus"] >= 1
    assert environment["memory_bytes"] > 0
    assert set(environment["packages"]) >= {"torch", "transformers", "accelerate"}
    assert environment["boot_id"] == boot_id()


def test_the_host_is_called_what_the_library_of_sockets_calls_it() -> None:
    assert host_name() == socket.gethostname()


def test_what_the_kernel_does_not_say_is_unknown(tmp_path: Path) -> None:
    assert boot_id(tmp_path / "none") == ""
    assert cpu_model(tmp_path / "none") is None
    (tmp_path / "cpuinfo").write_text("processor : 0\nmodel name\t: Some CPU @ 2 GHz\n")
    assert cpu_model(tmp_path / "cpuinfo") == "Some CPU @ 2 GHz"


def test_the_commit_is_read_from_files(tmp_path: Path) -> None:
    git = tmp_path / ".git"
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    assert git_commit(inside) is None
    (git / "packed-refs").write_text("# pack\nabc123 refs/heads/main\n")
    assert git_commit(inside) == "abc123"
    (git / "refs" / "heads" / "main").write_text("def456\n")
    assert git_commit(inside) == "def456"
    (git / "HEAD").write_text("0123abcd\n")
    assert git_commit(inside) == "0123abcd"


def test_the_commit_of_a_linked_work_tree(tmp_path: Path) -> None:
    main, linked = tmp_path / "main", tmp_path / "linked"
    private = main / ".git" / "worktrees" / "linked"
    private.mkdir(parents=True)
    linked.mkdir()
    (linked / ".git").write_text(f"gitdir: {private}\n")
    (private / "HEAD").write_text("ref: refs/heads/topic\n")
    (private / "commondir").write_text("../..\n")
    (main / ".git" / "refs" / "heads").mkdir(parents=True)
    (main / ".git" / "refs" / "heads" / "topic").write_text("feed01\n")
    assert git_commit(linked) == "feed01"


def test_this_process_lives_and_others_do_not(tmp_path: Path) -> None:
    host = os.uname().nodename
    here = ThisHost()
    now_ns = 1 << 62
    assert here.is_alive(host, boot_id(), os.getpid(), now_ns) is True
    assert here.is_alive(host, boot_id(), os.getpid(), 0) is False, "a process that began later is another one"
    assert here.is_alive(host, "another-boot", os.getpid(), now_ns) is False
    assert here.is_alive("another-host", boot_id(), os.getpid(), now_ns) is None
    assert here.is_alive(host, "", os.getpid(), now_ns) is None
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "stat").write_text("7 (odd ) name) Z 1 " + "0 " * 40)
    faked = ThisHost(tmp_path)
    assert faked.is_alive(host, boot_id(), 7, now_ns) is False, "a zombie writes no more"
    assert faked.is_alive(host, boot_id(), 8, now_ns) is False


def test_versions_are_those_that_the_installer_tells(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    names = ("numpy", "nvidia-ml-py", "pyarrow", "pytest", "no-such-package")
    expected = {name: metadata.version(name) for name in names[:-1]} | {"no-such-package": None}
    assert versions(names) == expected
    (tmp_path / "Odd.Name-1.2+cpu.dist-info").mkdir()
    (tmp_path / "old_style-3.4-py3.11.egg-info").mkdir()
    (tmp_path / "nameless.dist-info").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path / "gone"), str(tmp_path)])
    assert versions(("odd-name", "old.style", "nameless")) == {
        "odd-name": "1.2+cpu",
        "old.style": "3.4",
        "nameless": None,
    }
