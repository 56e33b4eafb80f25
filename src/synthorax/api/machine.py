"""Checks of this machine: packages, memory, GPU, disk and speed."""

from __future__ import annotations

import os
import platform
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from synthorax.api.system_checks import check_entry
from synthorax.errors import Stopped, reason
from synthorax.registry import Entry, registry, with_version

if TYPE_CHECKING:
    from torch import nn

    from synthorax.training.config import Precision

State = Literal["ok", "note", "missing", "wrong"]
LEAST_PYTHON = (3, 11)
LEAST_MEMORY_GB = 4
LEAST_DISK_GB = 1
REAL_DATA = "SYNTHORAX_REAL_DATA"
TIMED_BATCH = 8
"""Patches in the batch of a timed layer."""
CONVOLUTIONS = ((8, 24), (64, 12))
"""Channels and voxels along each axis of the timed layers: the finest grid of preset compact, and a wide network's."""
RUNS = 3
"""Timed runs of a layer, of which the fastest counts."""
CUDA_BUILD = "torch built for CUDA, as its installation page tells"


@dataclass(frozen=True)
class MachineCheck:
    """The result of one check.

    Attributes:
        name: what was checked.
        state: `ok`; `note`, if only something optional or faster needs it; `missing`, if the package needs it; or
            `wrong`, if a system does not keep its contract.
        found: what was found.
        advice: what to do about it; empty if there is nothing to do.
    """

    name: str
    state: State
    found: str
    advice: str = ""


def doctor(
    system: str | None = None, data: str | Path | None = None, tell: Callable[[MachineCheck], None] | None = None
) -> list[MachineCheck]:
    """Check this machine, or whether a system keeps the contract of its roles.

    Of this machine: Python, packages, torch, memory, GPU, disk, cache folder, extras, other packages' systems, and
    speed. A small file is written into the cache folder and removed. The speed is the time of 3D convolutions.

    A trained system is trained on the CPU with its preset `smoke`, in a temporary folder.

    Args:
        system: name of a system to check; None checks the machine.
        data: store or shapes to train the system on; by default small cubes of noise with balls.
        tell: called with each check as soon as it is done.

    Raises:
        InputError: there is no such system.
        Stopped: Ctrl-C or another signal ended the trial of a system, of which nothing is kept.
    """
    found = []
    for check in _machine() if system is None else _tried(registry()[system], data):
        if tell is not None:
            tell(check)
        found.append(check)
    return found


def _machine() -> Iterator[MachineCheck]:
    """Check this machine."""
    yield from _python()
    yield from _packages()
    if not all(map(_has, ("torch", "platformdirs"))):  # the other checks need these packages
        return
    for checks in (_computer, _gpu, _places, _extras, _systems):
        yield from checks()
    yield _real_data()
    yield _convolutions()


def is_fit(found: Sequence[MachineCheck]) -> bool:
    """Return whether nothing that the package needs is missing, and no system is wrong."""
    return all(finding.state not in ("missing", "wrong") for finding in found)


def _tried(entry: Entry, data: str | Path | None) -> Iterator[MachineCheck]:
    """Check the package of a system, and if it is complete, its promises."""
    from synthorax.api.system_trial import try_system

    name = f"system {entry.name}"
    try:
        check_entry(entry)
    except Exception as error:  # whatever another package raises
        yield MachineCheck(name, "wrong", " ".join(str(error).split()))
        return
    complete = f"the package {with_version(entry.distribution)} has all that its entry promises"
    yield MachineCheck(name, "ok", complete)
    with tempfile.TemporaryDirectory(prefix="synthorax-") as folder:
        try:
            for promise in try_system(entry, Path(folder), data):
                text = f"{promise.claim}: {promise.fault}" if promise.fault else promise.note or promise.claim
                yield MachineCheck(name, "wrong" if promise.fault else "note" if promise.note else "ok", text)
        except KeyboardInterrupt as stopped:  # the training's own text names a folder that is removed here
            text = "before all promises were tried; nothing was kept"
            raise Stopped(getattr(stopped, "number", signal.SIGINT), text) from None


def _python() -> Iterator[MachineCheck]:
    least = ".".join(map(str, LEAST_PYTHON))
    fits = sys.version_info >= LEAST_PYTHON
    yield MachineCheck(
        "python", "ok" if fits else "missing", platform.python_version(), "" if fits else f"Python {least}"
    )


def _packages() -> Iterator[MachineCheck]:
    needed = [_name(line) for line in requires("synthorax") or () if "extra ==" not in line]
    absent = [name for name in needed if not _has(name)]
    found = f"{len(needed) - len(absent)} of {len(needed)} that are needed"
    yield MachineCheck(
        "packages", "missing" if absent else "ok", found, f"pip install {' '.join(absent)}" if absent else ""
    )


def _computer() -> Iterator[MachineCheck]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield MachineCheck("processor", "ok", f"{cores} cores, {platform.machine()}, {platform.system()}")
    memory = _memory_gb()
    if memory is None:
        yield MachineCheck("memory", "note", "cannot be read here", f"{LEAST_MEMORY_GB} GB or more")
    else:
        few = memory < LEAST_MEMORY_GB
        advice = f"{LEAST_MEMORY_GB} GB, for whole scans" if few else ""
        yield MachineCheck("memory", "note" if few else "ok", f"{memory:.1f} GB", advice)


def _gpu() -> Iterator[MachineCheck]:
    import torch

    built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU only"
    yield MachineCheck("torch", "ok", f"{torch.__version__}, built for {built}, {torch.get_num_threads()} threads")
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            card = torch.cuda.get_device_properties(number)
            bf16 = "bf16" if torch.cuda.is_bf16_supported() else "no bf16"
            yield MachineCheck(f"gpu {number}", "ok", f"{card.name}, {card.total_memory / 1e9:.0f} GB, {bf16}")
    elif torch.backends.mps.is_available():
        yield MachineCheck("gpu", "note", "Apple's, which is untested", "--device mps, to try it")
    elif torch.version.cuda is None:
        advice = f"with an NVIDIA card: {CUDA_BUILD}"
        yield MachineCheck("gpu", "note", "none: this torch is built for the CPU only", advice)
    else:
        yield MachineCheck(
            "gpu", "note", "none that torch can use", "a driver that `nvidia-smi` sees; else --device cpu"
        )


def _places() -> Iterator[MachineCheck]:
    import platformdirs

    yield _disk("disk here", Path.cwd())
    cache = platformdirs.user_cache_path("synthorax")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=cache) as file:
            file.write(b"written")
            file.seek(0)
            assert file.read() == b"written"
    except OSError as error:
        yield MachineCheck("cache", "missing", f"{cache}: {reason(error)}", "a folder to write to")
    else:
        yield _disk("cache", cache)


def _extras() -> Iterator[MachineCheck]:
    of_extra: dict[str, list[str]] = {}
    for line in requires("synthorax") or ():
        if match := re.search(r"extra == ['\"]([\w-]+)['\"]", line):
            of_extra.setdefault(match[1], []).append(_name(line))
    for extra, names in of_extra.items():
        there = all(_has(name) for name in names)
        advice = "" if there else f"pip install 'synthorax[{extra}]'"
        yield MachineCheck(f"extra {extra}", "ok" if there else "note", "there" if there else "not there", advice)


def _systems() -> Iterator[MachineCheck]:
    """Check that each system of another package can be imported and has what its entry declares."""
    found = registry()
    for name, entry in found.entries.items():
        if entry.distribution == "synthorax":
            continue
        try:
            check_entry(entry)
        except Exception as error:  # whatever another package raises
            message = " ".join(f"{entry.distribution}: {error}".split())
            yield MachineCheck(
                f"system {name}", "note", message, "the other systems work; update or uninstall this package"
            )
        else:
            yield MachineCheck(f"system {name}", "ok", f"of {entry.distribution}: {entry.help}")
    for name, why in found.broken.items():
        yield MachineCheck(f"system {name}", "note", why, "the other systems work; update or uninstall this package")


def _real_data() -> MachineCheck:
    folder = os.environ.get(REAL_DATA)
    if not folder:
        return MachineCheck("real data", "note", f"{REAL_DATA} is not set", "only some tests and results pages need it")
    if not Path(folder).is_dir():
        return MachineCheck(
            "real data", "note", f"{REAL_DATA} names no folder: {folder}", "the folder of unpacked data"
        )
    return MachineCheck("real data", "ok", folder)


def _convolutions() -> MachineCheck:
    """Time forward and backward passes of a narrow and a wide 3D convolution, and tell what `precision=auto` is."""
    import torch

    from synthorax.training.precision import WIDE, multiplies_bf16, of_auto

    device = "cuda" if torch.cuda.is_available() else "cpu"
    name = f"3D convolution, {device}"
    precisions: tuple[Precision, ...] = ("32", "tf32", "bf16") if device == "cuda" else ("32", "bf16")
    before = torch.backends.cudnn.allow_tf32
    found = []
    try:
        for channels, side in CONVOLUTIONS:
            layer = torch.nn.Conv3d(channels, channels, 3, padding=1).to(device)
            ms = ", ".join(f"{each} {_milliseconds(layer, side, each):.1f} ms" for each in precisions)
            found.append(f"{channels} channels: {ms} (auto: {of_auto(device, channels)})")
    except RuntimeError as error:  # such as a GPU that this torch has no kernels for
        message = f"does not run: {(str(error).strip() or 'no reason given').splitlines()[0]}"
        return MachineCheck(
            name, "note", message, "--device cpu, or a torch built for this GPU" if device == "cuda" else ""
        )
    finally:
        torch.backends.cudnn.allow_tf32 = before
    if not multiplies_bf16(device):
        rule = "32 for all networks here, as this processor has no instructions for bfloat16"
    else:
        rule = "bf16 here" if device == "cuda" else f"bf16 here for networks of {WIDE} channels or more"
    advice = f"--set precision=auto, the default, is {rule}; precision=32 and precision=bf16 force either"
    return MachineCheck(name, "ok", f"channels last, {'; '.join(found)}", advice)


def _milliseconds(layer: nn.Module, side: int, precision: Precision) -> float:
    """Return the time in ms of a forward and a backward pass, the fastest of `RUNS`."""
    import torch

    torch.backends.cudnn.allow_tf32 = precision != "32"
    weight = next(layer.parameters())
    layer.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    values = torch.ones(TIMED_BATCH, weight.shape[1], side, side, side, device=weight.device, requires_grad=True)
    values = values.to(memory_format=torch.channels_last_3d)
    least = float("inf")
    for _ in range(RUNS + 1):  # the first one warms up
        started = time.perf_counter()
        with torch.autocast(weight.device.type, torch.bfloat16, enabled=precision == "bf16"):
            made = layer(values)
        made.float().sum().backward()
        if weight.device.type == "cuda":
            torch.cuda.synchronize()
        least = min(least, time.perf_counter() - started)
    return 1e3 * least


def _disk(name: str, folder: Path) -> MachineCheck:
    free = shutil.disk_usage(folder).free / 1e9
    few = free < LEAST_DISK_GB
    return MachineCheck(name, "note" if few else "ok", f"{folder}, {free:.1f} GB free", "make room" if few else "")


def _memory_gb() -> float | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (AttributeError, ValueError, OSError):
        return None


def _name(requirement: str) -> str:
    """Return the name of the package that a requirement such as `torch>=2` names."""
    match = re.match(r"[\w.-]+", requirement)
    assert match is not None
    return match[0]


def _has(name: str) -> bool:
    try:
        return bool(version(name))
    except PackageNotFoundError:
        return False
