"""The binding to NVML: loading it lazily, its error numbers, its field values."""

from __future__ import annotations

import ctypes
from typing import Any

from stillwatt.errors import SensorUnavailableError

UNINITIALIZED, INVALID_ARGUMENT, NOT_SUPPORTED, NO_PERMISSION, NOT_FOUND = 1, 2, 3, 4, 6
DRIVER_NOT_LOADED, LIBRARY_NOT_FOUND, FUNCTION_NOT_FOUND = 9, 12, 13
GPU_IS_LOST, RESET_REQUIRED, VERSION_MISMATCH = 15, 16, 18

LASTING = (UNINITIALIZED, INVALID_ARGUMENT, NOT_SUPPORTED, NO_PERMISSION, LIBRARY_NOT_FOUND, FUNCTION_NOT_FOUND)
"""Errors that asking again at once does not cure."""
REOPEN = (UNINITIALIZED, DRIVER_NOT_LOADED, GPU_IS_LOST, RESET_REQUIRED)
"""Errors after which NVML has to be initialised again before its handles mean anything."""

POWER_AVERAGE, POWER_INSTANT = 185, 186
"""NVML_FI_DEV_POWER_AVERAGE and NVML_FI_DEV_POWER_INSTANT."""

_VALUE_FIELDS = {0: "dVal", 1: "uiVal", 2: "ulVal", 3: "ullVal", 4: "sllVal", 5: "siVal"}
"""Member of the value's union by NVML's value type."""

_loaded_from: str | None = None


def load(library: str | None) -> Any:
    """The `pynvml` module, bound to the system's NVML or to the library at that path.

    Raises:
        SensorUnavailableError: the binding is not installed, or the library cannot be loaded.
    """
    global _loaded_from
    try:
        import pynvml
    except ImportError as err:
        raise SensorUnavailableError(
            "nvml", f"the NVML binding is missing ({err})", "pip install nvidia-ml-py"
        ) from err
    if library != _loaded_from:
        try:
            bound = None if library is None else ctypes.CDLL(library)
        except OSError as err:
            raise SensorUnavailableError("nvml", str(err), "check the option `library`") from err
        # the binding has no call for this: it loads a fixed name once, and caches the functions it found there
        pynvml.nvmlLib = bound
        pynvml._nvmlGetFunctionPointer_cache.clear()
        _loaded_from = library
    return pynvml


def field_value(nvml: Any, handle: Any, number: int) -> int:
    """One field of a card.

    Raises:
        pynvml.NVMLError: the call, or this field in it, failed.
    """
    value = nvml.nvmlDeviceGetFieldValues(handle, [number])[0]
    if value.nvmlReturn != 0:
        raise nvml.NVMLError(value.nvmlReturn)
    member = _VALUE_FIELDS.get(value.valueType)
    if member is None:
        raise nvml.NVMLError(NOT_SUPPORTED)
    return int(getattr(value.value, member))


def power_samples(nvml: Any, handle: Any, since_us: int) -> list[tuple[int, int]]:
    """The driver's buffered power readings after a time: wall-clock microseconds and milliwatts, oldest first.

    Raises:
        pynvml.NVMLError: the driver keeps no buffer, or the call failed.
    """
    try:
        kind, samples = nvml.nvmlDeviceGetSamples(handle, nvml.NVML_TOTAL_POWER_SAMPLES, since_us)
    except nvml.NVMLError as err:
        if err.value == NOT_FOUND:
            return []
        raise
    member = _VALUE_FIELDS.get(kind)
    if member is None:
        raise nvml.NVMLError(NOT_SUPPORTED)
    found = ((int(one.timeStamp), int(getattr(one.sampleValue, member))) for one in samples)
    return sorted(one for one in found if one[0] > since_us)
