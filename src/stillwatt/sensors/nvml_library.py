"""The binding to NVML: loading it lazily, its error numbers, its field values."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, NamedTuple

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

UNSIGNED = 1
"""NVML_VALUE_TYPE_UNSIGNED_INT."""
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


class _Value(ctypes.Union):
    """The value in nvmlFieldValue_t, whole and as the unsigned number that nearly all fields are."""

    _fields_ = (("value", ctypes.c_uint64), ("number", ctypes.c_uint32))


class _FieldValue(ctypes.Structure):
    """nvmlFieldValue_t as NVML's header has it. The binding's own class is made for printing and slow to read."""

    _anonymous_ = ("value_union",)
    _fields_ = (
        ("field_id", ctypes.c_uint32),
        ("scope_id", ctypes.c_uint32),
        ("timestamp", ctypes.c_int64),
        ("latency_us", ctypes.c_int64),
        ("value_type", ctypes.c_int32),
        ("code", ctypes.c_int32),
        ("value_union", _Value),
    )


class _Number(ctypes.Structure):
    """A bare number that NVML writes, with what a field says of itself and a number never does."""

    _fields_ = (("number", ctypes.c_uint64), ("value_type", ctypes.c_int32), ("code", ctypes.c_int32))


_VALUE_TYPES: dict[int, Any] = {
    0: ctypes.c_double,
    1: ctypes.c_uint32,
    2: ctypes.c_ulong,
    3: ctypes.c_uint64,
    4: ctypes.c_int64,
    5: ctypes.c_int32,
}
"""C types by NVML's number of the value's type."""


class BareCall(NamedTuple):
    """An NVML call of one device with nothing left to be made, for a loop that runs a million times a day.

    Where `function(*arguments)` gives 0, `seen.code` is 0 and `seen.value_type` is `UNSIGNED`, the answer is
    `seen.number`; anything else is for `Reader.answer`.
    """

    function: Callable[..., int]
    arguments: tuple[Any, ...]
    seen: Any


class Reader:
    """One NVML call that writes a number: `call(device, *arguments)`, with nothing made anew for each.

    The sampling process makes these calls a million times a day for every card; the binding's own functions look the
    symbol up and make their buffer each time.
    """

    def __init__(self, nvml: Any, call: str, seen: ctypes.Structure, *arguments: Any) -> None:
        self._nvml, self._call, self._seen, self._arguments = nvml, call, seen, arguments
        self._function: Callable[..., int] | None = None

    def __call__(self, handle: Any) -> int:
        """Ask one device.

        Raises:
            pynvml.NVMLError: the library has no such call, or the call failed, or the field in it.
        """
        function, arguments, _ = self.bare(handle)
        return self.answer(function(*arguments))

    def bare(self, handle: Any) -> BareCall:
        """The call for one device, to be made by somebody else.

        Raises:
            pynvml.NVMLError: the library has no such call.
        """
        if self._function is None:
            self._function = self._nvml._nvmlGetFunctionPointer(self._call)
        return BareCall(self._function, (handle, *self._arguments), self._seen)

    def answer(self, code: int) -> int:
        """What the call brought that has just returned that code.

        Raises:
            pynvml.NVMLError: it failed.
        """
        seen = self._seen
        if code or seen.code:
            raise self._nvml.NVMLError(code or seen.code)
        if seen.value_type == UNSIGNED:
            return int(seen.number)
        value_type = _VALUE_TYPES.get(seen.value_type)
        if value_type is None:
            raise self._nvml.NVMLError(NOT_SUPPORTED)
        return int(value_type.from_buffer_copy(seen, _FieldValue.value.offset).value)


def number_reader(nvml: Any, call: str) -> Reader:
    """Reads what a call of the form `call(device, *number)` gives, of 32 or 64 bits."""
    number = _Number(value_type=UNSIGNED)
    return Reader(nvml, call, number, ctypes.byref(number))


def field_reader(nvml: Any, number: int, scope: int = 0) -> Reader:
    """Reads one field, of the card alone or of its module."""
    field = _FieldValue(field_id=number, scope_id=scope)
    return Reader(nvml, "nvmlDeviceGetFieldValues", field, ctypes.c_int32(1), ctypes.byref(field))


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
