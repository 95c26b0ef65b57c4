"""Arrays on disk: numpy's own format, never a pickle, and a name only once all of it is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stillwatt.errors import ArtifactError
from stillwatt.pipelines.artifacts import file_sha256, whole_file

__all__ = ["read_array", "write_array"]


def write_array(path: Path, array: npt.NDArray[Any]) -> str:
    """Write an array so that its name appears only once all of it is on disk; returns the file's sha256."""
    with whole_file(path) as file:
        np.save(file, array, allow_pickle=False)
    return file_sha256(path)


def read_array(path: Path, *, sha256: str, dtype: np.dtype[Any], is_mapped: bool) -> npt.NDArray[Any]:
    """Read an array, or map it into memory, after checking every byte of it.

    Raises:
        ArtifactError: The file is missing, has changed, or holds something else than `dtype`.
    """
    if not path.is_file():
        raise ArtifactError(str(path.parent), f"{path.name} is missing")
    if file_sha256(path) != sha256:
        raise ArtifactError(str(path.parent), f"{path.name} has changed since it was written")
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r" if is_mapped else None, allow_pickle=False)
    except (ValueError, EOFError, OSError) as err:
        raise ArtifactError(str(path.parent), f"{path.name} cannot be read as an array ({err})") from err
    if array.dtype != dtype:
        raise ArtifactError(str(path.parent), f"{path.name} holds {array.dtype}, and its index says {dtype}")
    return array
