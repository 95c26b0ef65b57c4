"""The binding to NVML: loading it lazily, its error numbers, its field values."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from stillwatt.errors import SensorUnavailableError

UNINITIALIZED, INVALID_ARGUMENT, NOT_SUPPORTED, NO_PERMISSION, NOT_FOUND, INSUFFICIENT_SIZE = 1, 2, 3, 4, 6, 7
DRIVER_NOT_LOADED, LIBRARY_NOT_FOUND, FUNCTION_NOT_FOUND = 9, 12, 13
GPU_IS_LOST, RESET_REQUIRED, VERSION_MISMATCH = 15, 16, 18

LASTING = (UNINITIALIZED, INVALID_ARGUMENT, NOT_SUPPORTED, NO_PERMISSION, LIBRARY_NOT_FOUND, FUNCTION_NOT_FOUND)
"""Errors that asking again at once does not cure."""
REOPEN = (UNINITIALIZED, DRIVER_NOT_LOADED, GPU_IS_LOST, RESET_REQUIRED)
"""Errors after which NVML has to be initialised again before its handles mean anything."""

CURES = {
    LIBRARY_NOT_FOUND: "install the NVIDIA driver; a container needs the `utility` driver capability "
    "(NVIDIA_DRIVER_CAPABILITIES) of the NVIDIA container toolkit",
    DRIVER_NOT_LOADED: "load the driver (`sudo modprobe nvidia`), or pass the GPUs to the container",
    NO_PERMISSION: "let this user read /dev/nvidiactl and /dev/nvidia*",
    VERSION_MISMATCH: "the driver was updated under a running kernel module; reboot or reload the module",
}
"""What would make NVML usable, by the error of its initialisation."""

POWER_AVERAGE, POWER_INSTANT = 185, 186
"""NVML_FI_DEV_POWER_AVERAGE and NVML_FI_DEV_POWER_INSTANT."""
SCOPE_MODULE = 1
"""NVML_POWER_SCOPE_MODULE."""

_UNSIGNED = 1
_SAMPLES = dict(enumerate("dIQQqi"))
"""Formats of the value in nvmlSample_t, a time and a union of eight bytes, by NVML's number of its type."""
_SAMPLE_BYTES = 16

_SAME_US = 1_000
"""Readings of the driver's buffer are never this near to each other."""

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


class _FieldValue(ctypes.Structure):
    """nvmlFieldValue_t as NVML's header has it. The binding's own class is made for printing and slow to read."""

    _fields_ = (
        ("field_id", ctypes.c_uint32),
        ("scope_id", ctypes.c_uint32),
        ("timestamp", ctypes.c_int64),
        ("latency_us", ctypes.c_int64),
        ("value_type", ctypes.c_int32),
        ("code", ctypes.c_int32),
        ("value", ctypes.c_uint64),
    )


_VALUE_TYPES: dict[int, Any] = {
    0: ctypes.c_double,
    1: ctypes.c_uint32,
    2: ctypes.c_ulong,
    3: ctypes.c_uint64,
    4: ctypes.c_int64,
    5: ctypes.c_int32,
}
"""C types by NVML's number of the value's type."""


def number_reader(nvml: Any, call: str, number_type: Any) -> Callable[[Any], int]:
    """A function that makes one NVML call of the form `call(device, *number)`, with nothing made anew for each.

    The sampling process makes these calls a million times a day for every card; the binding's own functions look the
    symbol up and make their buffer each time. The function raises `pynvml.NVMLError` as they do.
    """
    number = number_type()
    reference = ctypes.byref(number)
    function = None

    def read(handle: Any) -> int:
        nonlocal function
        if function is None:  # a library that has no such call says so when it is called
            function = nvml._nvmlGetFunctionPointer(call)
        code = function(handle, reference)
        if code:
            raise nvml.NVMLError(code)
        return int(number.value)

    return read


def field_reader(nvml: Any, number: int, scope: int = 0) -> Callable[[Any], int]:
    """The same for one field, of the card alone or of its module.

    What it gives raises `pynvml.NVMLError` where the call or this field in it failed.
    """
    field = _FieldValue(field_id=number, scope_id=scope)
    reference, one = ctypes.byref(field), ctypes.c_int32(1)
    function = None

    def read(handle: Any) -> int:
        nonlocal function
        if function is None:
            function = nvml._nvmlGetFunctionPointer("nvmlDeviceGetFieldValues")
        code = function(handle, one, reference)
        if code or field.code:
            raise nvml.NVMLError(code or field.code)
        if field.value_type == _UNSIGNED:
            return int(field.value & 0xFFFFFFFF)
        value_type = _VALUE_TYPES.get(field.value_type)
        if value_type is None:
            raise nvml.NVMLError(NOT_SUPPORTED)
        return int(value_type.from_buffer_copy(field, _FieldValue.value.offset).value)

    return read


def power_samples(nvml: Any, handle: Any, since_us: int) -> tuple[list[int], list[int]]:
    """The driver's buffered power readings after a time: wall-clock microseconds and milliwatts, oldest first.

    The driver works a reading's time out anew whenever it is asked, some microseconds off: one that lies so near to
    `since_us` was given before.

    Raises:
        pynvml.NVMLError: the driver keeps no buffer, or the call failed.
    """
    # the binding makes two objects for each sample, of fifty a second and card; here they stay bytes until they are
    # read in one go
    function = nvml._nvmlGetFunctionPointer("nvmlDeviceGetSamples")
    since, kind, count = ctypes.c_ulonglong(since_us), ctypes.c_int32(), ctypes.c_uint32()
    asked = handle, nvml.NVML_TOTAL_POWER_SAMPLES, since, ctypes.byref(kind), ctypes.byref(count)
    code = function(*asked, None)
    samples = bytearray(count.value * _SAMPLE_BYTES)
    if not code and samples:
        code = function(*asked, (ctypes.c_char * len(samples)).from_buffer(samples))
    if code and code != NOT_FOUND:
        raise nvml.NVMLError(code)
    sample = _SAMPLES.get(kind.value)
    if sample is None:
        raise nvml.NVMLError(NOT_SUPPORTED)
    return _after(since_us + _SAME_US, *_columns(sample, samples[: 0 if code else count.value * _SAMPLE_BYTES]))


def _columns(code: Any, samples: bytearray) -> tuple[list[int], list[int]]:
    """Times and values of nvmlSample_t; the value is at the beginning of its eight bytes."""
    values = memoryview(samples).cast(code)
    each = _SAMPLE_BYTES // values.itemsize
    return memoryview(samples).cast("Q")[::2].tolist(), [int(value) for value in values[each // 2 :: each].tolist()]


def _after(floor_us: int, times_us: list[int], values: list[int]) -> tuple[list[int], list[int]]:
    """Those after a time, in order: nearly always all of them, as they are."""
    if times_us and times_us[0] > floor_us and times_us == sorted(times_us):
        return times_us, values
    pairs = sorted(pair for pair in zip(times_us, values, strict=True) if pair[0] > floor_us)
    return [t_us for t_us, _ in pairs], [value for _, value in pairs]
