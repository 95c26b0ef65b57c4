"""Install Stillwatt and some of its extras into .venv, with the pinned versions, without CUDA by accident.

    python3 tools/install.py report distill

PyTorch's default Linux wheels bring several gigabytes of CUDA libraries that a laptop without a GPU has no use
for. Before torch is installed for the first time, pip is asked for its plan; where the plan holds CUDA packages,
torch comes from PyTorch's own CPU index instead. Set TORCH=cuda to take the CUDA build on a GPU machine.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
CONSTRAINTS = ROOT / "constraints.txt"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
CUDA_PREFIXES = ("nvidia-", "cuda-", "triton")


def main(extras: list[str]) -> int:
    """Make the environment if it is not there and install into it; pip's exit status on failure."""
    if sys.version_info < (3, 11):
        print(f"Stillwatt needs Python 3.11 or newer; this is {sys.version.split()[0]}. Try: make PYTHON=python3.11")
        return 1
    if not PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
    if "distill" in extras:
        status = install_torch()
        if status:
            return status
    target = f"{ROOT}[{','.join(extras)}]" if extras else str(ROOT)
    return pip("install", "-e", target)


def pip(*arguments: str) -> int:
    """Run pip with the pins; its exit status."""
    quiet = [] if sys.stdout.isatty() else ["-q"]
    command = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", arguments[0], *quiet, "-c", str(CONSTRAINTS)]
    return subprocess.run([*command, *arguments[1:]], check=False).returncode


def install_torch() -> int:
    """Install the pinned torch, from the CPU index where the default would bring CUDA."""
    if subprocess.run([str(PYTHON), "-c", "import torch"], capture_output=True, check=False).returncode == 0:
        return 0
    pin = next(line for line in CONSTRAINTS.read_text().splitlines() if line.startswith("torch=="))
    index: tuple[str, ...] = ()
    if os.environ.get("TORCH") != "cuda" and plan_has_cuda(pin):
        print(f"pip would bring CUDA libraries; taking the CPU build of {pin} from {CPU_INDEX} (TORCH=cuda to change)")
        index = ("--index-url", CPU_INDEX)
    return pip("install", *index, pin)


def plan_has_cuda(pin: str) -> bool:
    """Whether pip's own plan for torch holds CUDA packages; a plan that cannot be made counts as no."""
    command = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "install", "--dry-run", "-q", "--report", "-"]
    plan = subprocess.run([*command, "-c", str(CONSTRAINTS), pin], capture_output=True, text=True, check=False)
    if plan.returncode:
        return False
    names = [item["metadata"]["name"].lower() for item in json.loads(plan.stdout)["install"]]
    return any(name.startswith(CUDA_PREFIXES) for name in names)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
