"""Which launch a process belongs to, and how its ranks agree on one run."""

from __future__ import annotations

import itertools
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil
import pytest

from stillwatt.clock import SystemClock
from stillwatt.ledger.ancestors import began_ticks, environment_of, holds_port, parents_alike, starter
from stillwatt.ledger.group import RANK_PROCESS, LaunchGroup, launch_group, without_word
from stillwatt.ledger.joining import began_s, join_run
from stillwatt.ledger.launched import OPEN_RUN, leave_word, run_begun_before, take_back

TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29500",
    "RANK": "2",
    "WORLD_SIZE": "8",
    "GROUP_WORLD_SIZE": "2",
    "TORCHELASTIC_RESTART_COUNT": "1",
}
RENDEZVOUS = {"RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "node-a", "MASTER_PORT": "29500"}
"""What DeepSpeed's launcher and others set, by which torch's ranks find each other."""
OPEN_MPI = {"PMIX_NAMESPACE": "prterun-host-7@1", "OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "4"}
MPICH = {"PMI_RANK": "0", "PMI_SIZE": "2", "PMI_JOBID": "77"}
SLURM = {
    "SLURM_CLUSTER_NAME": "c",
    "SLURM_JOB_ID": "12",
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "5",
    "SLURM_NTASKS": "16",
    "SLURM_RESTART_COUNT": "2",
}


@pytest.mark.parametrize(
    ("environment", "launcher", "rank", "world_size", "restart"),
    [
        (TORCHRUN, "torchrun", 2, 8, 1),
        (RENDEZVOUS, "rendezvous", 1, 4, 0),
        ({**SLURM, **RENDEZVOUS}, "slurm", 5, 16, 2),
        (OPEN_MPI, "openmpi", 3, 4, 0),
        (MPICH, "pmi", 0, 2, 0),
        (SLURM, "slurm", 5, 16, 2),
        # torchrun started once a node by srun: the inner launcher's ranks are the ones that work
        ({**SLURM, **TORCHRUN}, "torchrun", 2, 8, 1),
        (
            {"STILLWATT_RUN_GROUP": "j", "STILLWATT_RANK": "1", "STILLWATT_WORLD_SIZE": "2", **SLURM},
            "stillwatt",
            1,
            2,
            0,
        ),
        ({"STILLWATT_RUN_GROUP": "ray job"}, "stillwatt", None, 0, 0),
        # `srun -n 2` in a job of 16 tasks
        ({**SLURM, "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"}, "slurm", 1, 2, 2),
    ],
)
def test_every_launcher_is_told_by_its_environment(
    environment: Mapping[str, str], launcher: str, rank: int | None, world_size: int, restart: int
) -> None:
    found = launch_group(environment)
    assert found is not None
    assert (found.launcher, found.rank, found.world_size, found.restart) == (launcher, rank, world_size, restart)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {**TORCHRUN, "RANK": "8"},
        {**TORCHRUN, "RANK": "-1"},
        {**TORCHRUN, "WORLD_SIZE": "many"},
        {name: value for name, value in SLURM.items() if name != "SLURM_STEP_ID"},  # a batch script: it runs once
        # the shell that `salloc` gives, as SLURM 22.05 sets it up: one task, in a job of 16
        {**SLURM, "SLURM_PROCID": "0", "SLURM_STEP_ID": "4294967290", "SLURM_STEP_NUM_TASKS": "1"},
        {"RANK": "0", "WORLD_SIZE": "2"},  # nothing says of which launch
        {**RENDEZVOUS, "RANK": "0", "WORLD_SIZE": "1"},  # a program on its own that was told so
    ],
)
def test_what_makes_no_sense_is_no_launch(environment: Mapping[str, str]) -> None:
    assert launch_group(environment) is None


def test_ranks_of_a_bare_rendezvous_have_one_key_on_all_nodes() -> None:
    nodes = [launch_group({**RENDEZVOUS, "RANK": rank, "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}) for rank in "02"]
    here = launch_group({**RENDEZVOUS, "MASTER_ADDR": "127.0.0.1"})
    keys = [group.key("train") for group in (*nodes, here) if group is not None]
    assert keys[0] == keys[1] != keys[2]


def test_launches_of_torchrun_on_many_nodes_are_told_apart_by_the_job() -> None:
    torchrun = {**TORCHRUN, "GROUP_WORLD_SIZE": "2"}
    groups = [launch_group({**torchrun, "SLURM_JOB_ID": job}) for job in ("7", "7", "8")]
    keys = [group.key("train") for group in groups if group is not None]
    assert keys[0] == keys[1] != keys[2]


def test_one_key_for_all_ranks_and_another_for_another_launch_or_name() -> None:
    first, second = launch_group(SLURM), launch_group({**SLURM, "SLURM_PROCID": "6"})
    later = launch_group({**SLURM, "SLURM_JOB_ID": "13"})
    assert first is not None
    assert second is not None
    assert later is not None
    assert first.key("train") == second.key("train")
    assert len({first.key("train"), later.key("train"), first.key("evaluate")}) == 3
    assert first.member != second.member
    assert first.stage_prefix() == "r5"


def test_launches_of_mpich_in_one_job_are_told_apart_by_their_steps_and_on_one_node_by_who_started_them() -> None:
    mpich = {"PMI_RANK": "0", "PMI_SIZE": "2", "SLURM_JOB_ID": "12", "SLURM_STEP_ID": "1"}
    places = [
        {},
        {"SLURM_STEP_ID": "2"},
        {"MPI_LOCALNRANKS": "2"},
        {"MPI_LOCALNRANKS": "1"},  # another node has the other rank, and a proxy of its own
    ]
    groups = [launch_group({**mpich, **place}) for place in places]
    keys = [group.key("train") for group in groups if group is not None]
    assert keys[0] == keys[3]
    assert len(set(keys)) == 3


SAID = "import os; from stillwatt.ledger.group import launch_group; print(launch_group(os.environ).launch_id)"


@pytest.mark.parametrize(
    "launch",
    [
        {"PMI_RANK": "{}", "PMI_SIZE": "2"},
        {**TORCHRUN, "RANK": "{}", "GROUP_WORLD_SIZE": "1"},
        {**RENDEZVOUS, "RANK": "{}", "MASTER_ADDR": "localhost"},
    ],
)
def test_a_script_between_launcher_and_program_hides_the_launcher_from_nobody(launch: Mapping[str, str]) -> None:
    """Whoever started the ranks is this process, with and without shells between."""
    told = set()
    for rank, before in enumerate(([], ["sh", "-c", '"$@"; exit $?', "sh"])):
        own = {name: value.format(rank) for name, value in launch.items()}
        command = [*before, sys.executable, "-c", SAID]
        done = subprocess.run(command, env={**os.environ, **own}, capture_output=True, text=True, check=True)
        told.add(done.stdout)
    (launch_id,) = told
    assert f"parent {os.getpid()} " in launch_id


RANK_PROGRAM = """
import os, socket, subprocess, sys
from stillwatt.ledger.group import launch_group, without_word
does, said = sys.argv[1:]
with socket.create_server(("127.0.0.1", 0)) as store:
    if does == "meets the others":
        os.environ["MASTER_PORT"] = str(store.getsockname()[1])
    meeting = socket.create_connection(store.getsockname()) if does.startswith("meets") else None
    if does.startswith("opens"):
        launch_group(os.environ).leave_word(os.environ)
        assert launch_group(os.environ) is not None
    environment = without_word(os.environ) if does == "opens and measures" else os.environ
    subprocess.run([sys.executable, "-c", said], env=environment, check=True)
    if meeting:
        meeting.close()
"""
RANK_SAID = "import os; from stillwatt.ledger.group import launch_group; print(launch_group(os.environ) is not None)"


@pytest.mark.parametrize("script", [[], ["sh", "-c", '"$@"; exit $?', "sh"]])
@pytest.mark.parametrize(
    ("does", "is_rank"),
    [
        ("opens a run", False),
        ("meets the others", False),
        ("nothing yet", True),  # it may be a script that starts the rank
        ("meets another", True),
        ("opens and measures", True),  # `stillwatt measure -- PROGRAM` as what the launcher starts
    ],
)
def test_what_a_rank_starts_is_no_rank(script: list[str], does: str, is_rank: bool) -> None:
    """A rank that has opened a run, or has met the others, is the one whose variables its children inherit."""
    own = {**TORCHRUN, "GROUP_WORLD_SIZE": "1"}
    command = [*script, sys.executable, "-W", "error", "-c", RANK_PROGRAM, does, RANK_SAID]
    done = subprocess.run(command, env={**os.environ, **own}, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(is_rank)


def test_a_word_of_another_rank_or_launch_is_no_word() -> None:
    environment = {"STILLWATT_RUN_GROUP": "j", "STILLWATT_RANK": "0", "STILLWATT_WORLD_SIZE": "2"}
    own = launch_group(environment)
    assert own is not None
    own.leave_word(environment)
    environment[RANK_PROCESS] = environment[RANK_PROCESS].replace(str(os.getpid()), "1")
    assert launch_group(environment) is None
    assert launch_group({**environment, "STILLWATT_RANK": "1"}) is not None
    assert launch_group({**environment, "STILLWATT_RUN_GROUP": "k"}) is not None
    unnumbered = {"STILLWATT_RUN_GROUP": "j"}
    group = launch_group(unnumbered)
    assert group is not None
    group.leave_word(unnumbered)
    assert RANK_PROCESS not in unnumbered


@pytest.mark.parametrize(
    ("environment", "size"),
    [
        ({**TORCHRUN, "LOCAL_WORLD_SIZE": "4"}, 4),
        ({**TORCHRUN, "GROUP_WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "8"}, 8),
        (TORCHRUN, None),
        ({**TORCHRUN, "LOCAL_WORLD_SIZE": "all"}, None),
        ({**RENDEZVOUS, "LOCAL_SIZE": "2"}, 2),
        ({**RENDEZVOUS, "MASTER_ADDR": "localhost"}, 4),
        (RENDEZVOUS, None),
        ({**OPEN_MPI, "OMPI_COMM_WORLD_LOCAL_SIZE": "4"}, 4),
        ({**MPICH, "MPI_LOCALNRANKS": "2"}, 2),
        ({**MPICH, "SLURM_STEP_NUM_NODES": "1"}, 2),
        (MPICH, None),
        ({**SLURM, "SLURM_STEP_NUM_NODES": "1"}, 16),
        ({**SLURM, "SLURM_STEP_NUM_NODES": "2"}, None),
        # a script has given this rank a card of its own: what the others draw is not seen from here
        ({**TORCHRUN, "LOCAL_WORLD_SIZE": "8", "CUDA_VISIBLE_DEVICES": "a card of its own"}, None),
        ({"STILLWATT_RUN_GROUP": "j", "STILLWATT_RANK": "1", "STILLWATT_WORLD_SIZE": "2"}, None),
    ],
)
def test_how_many_ranks_a_machine_has_is_known_where_the_launcher_says(
    environment: Mapping[str, str], size: int | None
) -> None:
    found = launch_group(environment)
    assert found is not None
    assert found.local_size == size
    assert found.place("train").get("local_size") == size


def test_cards_that_the_launcher_was_given_are_those_of_all_its_ranks() -> None:
    said = "import os; from stillwatt.ledger.group import launch_group; print(launch_group(os.environ).local_size)"
    rank = {**TORCHRUN, "LOCAL_WORLD_SIZE": "8"}
    launcher = (
        "import os, subprocess, sys; os.environ.update(eval(sys.argv[1]));"
        "subprocess.run([sys.executable, '-c', sys.argv[2]], check=True)"
    )
    sizes = []
    for cards in ({}, {"CUDA_VISIBLE_DEVICES": "1"}):
        command = [sys.executable, "-c", launcher, repr({**rank, **cards}), said]
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "0,1"}
        sizes.append(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    assert sizes == ["8\n", "None\n"]


def test_a_connection_is_seen_from_both_of_its_ends_and_while_it_lasts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as store:
        port = store.getsockname()[1]
        assert not holds_port(os.getpid(), port)  # listens, and has met nobody
        with socket.create_connection(store.getsockname()):
            assert holds_port(os.getpid(), port)
            assert not holds_port(os.getppid(), port)


def test_processes_above_are_alike_as_far_as_they_were_started_alike() -> None:
    started_with = environment_of(os.getppid())
    name, _, value = next(each.decode() for each in sorted(started_with) if b"=" in each).partition("=")
    above = parents_alike({name: value}, [name])
    assert above[0] == os.getppid()
    assert starter({name: value}, [name]) not in above
    assert parents_alike({name: f"{value} not"}, [name]) == parents_alike({}, [name]) == []
    assert starter({}, [name]) == os.getppid()


def test_a_program_that_is_only_measured_is_not_told_of_a_rank() -> None:
    environment = {"STILLWATT_RUN_GROUP": "j", "STILLWATT_RANK": "0", "STILLWATT_WORLD_SIZE": "2"}
    group = launch_group(environment)
    assert group is not None
    group.leave_word(environment)
    assert RANK_PROCESS in environment
    assert RANK_PROCESS not in without_word(environment)
    environment[RANK_PROCESS] += "0"  # another process is the rank
    assert RANK_PROCESS in without_word(environment)


def test_nothing_is_told_of_a_process_that_is_not_there() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert began_ticks(gone.pid) == ""
    assert environment_of(gone.pid) == set()
    assert not holds_port(gone.pid, 1)


def test_processes_without_numbers_are_told_apart_by_their_sessions() -> None:
    unnumbered = LaunchGroup(launcher="stillwatt", launch_id="x", rank=None, world_size=0)
    assert unnumbered.member is None
    prefixes = {unnumbered.stage_prefix() for _ in range(20)}  # of sessions, some of one process
    assert len(prefixes) == 20
    assert all(prefix.startswith(f"p{os.getpid()}x") for prefix in prefixes)


class Runs:
    """Makes run directories."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: list[str] = []
        self._lock = threading.Lock()

    def create(self) -> str:
        with self._lock:
            run_id = f"run-{len(self.made)}"
            self.made.append(run_id)
        (self.folder / run_id).mkdir()
        return run_id


def test_many_ranks_at_once_agree_and_one_run_is_made(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    joined: list[str] = []
    ranks = [
        threading.Thread(target=lambda rank=rank: joined.append(join_run(tmp_path, "k", f"{rank}-0", runs.create)))
        for rank in range(16)
    ]
    for thread in ranks:
        thread.start()
    for thread in ranks:
        thread.join()
    assert joined == ["run-0"] * 16
    assert runs.made == ["run-0"]


def test_the_second_time_is_a_second_run_for_all(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    times = [[join_run(tmp_path, "k", f"{rank}-0", runs.create) for rank in range(3)] for _ in range(2)]
    assert times == [["run-0"] * 3, ["run-1"] * 3]
    # a rank that was started anew is another session of the first
    assert join_run(tmp_path, "k", "1-1", runs.create) == "run-0"


def _left_alone(runs: Runs, run_id: str, for_s: float) -> None:
    """As a run is that nothing has been written to for so long."""
    folder = runs.folder / run_id
    (folder / "samples").mkdir(exist_ok=True)
    for path in (folder / "journal.a.jsonl", folder / "samples" / "a.raw"):
        path.touch()
    for path in [*folder.rglob("*"), folder]:
        os.utime(path, (time.time() - for_s,) * 2)


@pytest.mark.parametrize(("last_sign_s", "joins"), [(3600.0, "run-1"), (8.0, "run-1"), (4.0, "run-0"), (0.0, "run-0")])
def test_a_rank_that_an_earlier_launch_never_had_passes_over_its_run(
    tmp_path: Path, last_sign_s: float, joins: str
) -> None:
    """Launch 1 lost rank 1 before it opened its run; of launch 2 it is the first to come."""
    runs, began_s = Runs(tmp_path), time.time() - 5.0
    assert join_run(tmp_path, "k", "0-0", runs.create, world_size=2) == "run-0"
    _left_alone(runs, "run-0", last_sign_s)
    assert join_run(tmp_path, "k", "1-0", runs.create, world_size=2, began_s=began_s) == joins
    if joins == "run-1":
        assert join_run(tmp_path, "k", "0-0", runs.create, world_size=2, began_s=began_s) == "run-1"


def test_one_file_that_is_still_written_keeps_a_run_going(tmp_path: Path) -> None:
    runs, began_s = Runs(tmp_path), time.time()
    join_run(tmp_path, "k", "0-0", runs.create)
    _left_alone(runs, "run-0", 60.0)
    (tmp_path / "run-0" / "samples" / "b.raw").touch()
    os.utime(tmp_path / "run-0" / "samples", (began_s - 60.0,) * 2)
    assert join_run(tmp_path, "k", "1-0", runs.create, began_s=began_s) == "run-0"


def test_a_rank_that_is_started_anew_goes_on_with_what_was_left_alone(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    join_run(tmp_path, "k", "0-0", runs.create, world_size=2)
    _left_alone(runs, "run-0", 3600.0)
    assert join_run(tmp_path, "k", "0-1", runs.create, world_size=2) == "run-0"


def test_a_launch_of_another_size_has_a_run_of_its_own(tmp_path: Path) -> None:
    runs, now_s = Runs(tmp_path), time.time()
    assert join_run(tmp_path, "k", "0-0", runs.create, world_size=2, began_s=now_s) == "run-0"
    assert join_run(tmp_path, "k", "3-0", runs.create, world_size=4, began_s=now_s) == "run-1"
    assert join_run(tmp_path, "k", "0-0", runs.create, world_size=4, began_s=now_s) == "run-1"
    assert json.loads((tmp_path / ".groups" / "k.1.json").read_text())["world_size"] == 4


def test_a_process_began_when_the_kernel_says() -> None:
    found_s = began_s(SystemClock())
    assert found_s is not None
    assert time.time() - found_s > 0
    assert found_s == pytest.approx(psutil.Process().create_time(), abs=2.0)


def test_a_further_rank_finds_the_run_of_the_program_that_started_it(tmp_path: Path) -> None:
    (tmp_path / "run-0").mkdir()
    (tmp_path / "run-0" / "manifest.json").write_text("{}")
    environment: dict[str, str] = {}
    leave_word(environment, tmp_path, "student", "run-0")
    further = {**environment, "LOCAL_RANK": "1", "WORLD_SIZE": "2"}
    found = run_begun_before(further, tmp_path, "student")
    assert found is not None
    assert (found.launch_id, found.rank) == ("run-0", None)
    assert run_begun_before({**environment, "NODE_RANK": "1", "WORLD_SIZE": "2"}, tmp_path, "student") is not None
    for other in ({"LOCAL_RANK": "0"}, {"WORLD_SIZE": "1"}, {"WORLD_SIZE": "x"}, {OPEN_RUN: "no"}, {OPEN_RUN: "[1]"}):
        assert run_begun_before({**further, **other}, tmp_path, "student") is None
    assert run_begun_before(environment, tmp_path, "student") is None
    assert run_begun_before(further, tmp_path, "teacher") is None
    assert run_begun_before(further, tmp_path / "elsewhere", "student") is None
    leave_word(environment, tmp_path, "evaluation", "run-1")  # another run, opened inside the first
    take_back(environment, "run-2")
    take_back(environment, "run-1")
    assert run_begun_before({**environment, "LOCAL_RANK": "1", "WORLD_SIZE": "2"}, tmp_path, "student") == found
    take_back(environment, "run-0")
    assert environment == {}
    take_back(environment, "run-0")


def test_whoever_comes_first_and_dies_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    runs = Runs(tmp_path)

    def dies() -> str:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        join_run(tmp_path, "k", "0-0", dies)
    slept: list[float] = []
    assert join_run(tmp_path, "k", "1-0", runs.create, sleep=slept.append, patience_s=2.0) == "run-0"
    assert sum(slept) == pytest.approx(2.0)
    assert join_run(tmp_path, "k", "2-0", runs.create) == "run-0"


def test_members_without_numbers_have_one_run_whenever_they_come_and_how_often(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    assert [join_run(tmp_path, "k", None, runs.create) for _ in range(3)] == ["run-0"] * 3
    _left_alone(runs, "run-0", 3600.0)
    assert join_run(tmp_path, "k", None, runs.create) == "run-0"
    assert join_run(tmp_path, "another word", None, runs.create) == "run-1"


def test_a_run_that_was_deleted_is_made_anew_by_the_first_who_comes(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    slept: list[float] = []
    for made in ("run-0", "run-1", "run-2"):
        joined = [join_run(tmp_path, "k", None, runs.create, sleep=slept.append) for _ in range(3)]
        assert joined == [made] * 3
        (tmp_path / made).rmdir()
        agreed = tmp_path / ".groups" / "k.0.json"
        os.utime(agreed, (time.time() - 3600.0,) * 2)
    assert not slept
    os.utime(agreed)  # made just now: another node may not see the folder yet
    assert join_run(tmp_path, "k", None, runs.create, sleep=slept.append, patience_s=2.0) == "run-3"
    assert sum(slept) == pytest.approx(2.0)


def test_of_many_who_wait_for_one_that_died_one_takes_its_place(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    (tmp_path / ".groups").mkdir()
    (tmp_path / ".groups" / "k.0.claim").touch()
    joined: list[str] = []
    ranks = [
        threading.Thread(target=lambda: joined.append(join_run(tmp_path, "k", None, runs.create, patience_s=0.3)))
        for _ in range(8)
    ]
    for thread in ranks:
        thread.start()
    for thread in ranks:
        thread.join()
    assert joined == ["run-0"] * 8


@pytest.mark.parametrize(
    "text", ["", "{}", '{"run_id": "../elsewhere"}', '{"run_id": ".."}', '{"run_id": 7}', "[]", "\x00"]
)
def test_an_agreement_that_leads_nowhere_is_made_anew(tmp_path: Path, text: str) -> None:
    runs = Runs(tmp_path / "runs")
    (runs.folder / ".groups").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (runs.folder / ".groups" / "k.0.json").write_text(text)
    assert join_run(runs.folder, "k", "0-0", runs.create) == "run-0"
    assert json.loads((runs.folder / ".groups" / "k.0.json").read_text()) == {"run_id": "run-0"}


def test_a_name_from_outside_never_leaves_the_folder(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    numbers = itertools.count()
    create: Callable[[], str] = runs.create
    join_run(tmp_path, "k", f"../../{next(numbers)}", create)
    assert {path.parent.name for path in tmp_path.rglob("k.0.*")} == {".groups"}
