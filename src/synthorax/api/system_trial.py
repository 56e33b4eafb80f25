"""The trial of a system: it is trained for seconds, and its maker has to keep the promises of its roles."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, replace
from functools import partial
from io import StringIO
from math import dist
from pathlib import Path
from typing import Any, Literal, cast, get_args, get_origin
from warnings import catch_warnings, simplefilter

import numpy as np
from numpy.typing import NDArray

from synthorax.api.system_checks import SMOKE, check_roles
from synthorax.api.trial_data import noise_patches, write_trial_data
from synthorax.editing.window import HALF_FEATHER_MM
from synthorax.errors import InputError
from synthorax.makers import (
    Edit,
    EditKind,
    Generator,
    Judge,
    Maker,
    Method,
    Options,
    Painter,
    Role,
    Samples,
    ScanStream,
    Streams,
    check_returned,
    checked_samples,
    fill,
)
from synthorax.nodule import ATTRIBUTES, MOST_RATING, NoduleAttributes, place_text
from synthorax.parallel import check_pickles
from synthorax.provenance import patient_key
from synthorax.registry import Entry, place_in_plugin
from synthorax.shapes.diameter import axial_diameter_mm
from synthorax.training.files import WEIGHTS
from synthorax.volume import Volume

USUAL = {"diameter_mm": 6.0, "texture": 5.0, "malignancy": 3.0}
"""Attributes of the requested nodules, of which a maker gets those that it heeds."""
TWO_DIAMETERS_MM = (5.0, 8.0)
"""Diameters whose nodules have to differ if a maker heeds the diameter."""
SOME_SAMPLES, MORE_SAMPLES = 3, 8
"""Numbers of samples that are compared."""
_NETWORK_RANGE = "from -1 to 1 HU, the range of a network's output"
WIDE_MM, MOST_STRETCH = 10.0, 1.8
"""Diameter of a nodule whose shape is compared on voxels of several sizes, and the most by which its ratio of height to
width may differ; rounding to voxels of 2 mm changes it by less."""
MOST_OFF_MM = WIDE_MM / 4
"""Most by which the middle of the mask of a nodule of `WIDE_MM` may differ from the requested place."""
KIND_OF: dict[Role, EditKind] = {"injects": "inject", "erases": "erase"}
MOST_ROUNDING = 1e-5
"""Largest difference between a judgement alone and among others; batches of other sizes round otherwise."""


@dataclass(frozen=True)
class Promise:
    """A promise of the contract, and how a system keeps it.

    Attributes:
        claim: the promise, as a sentence.
        fault: what is wrong; empty if the promise is kept.
        note: what the system cannot be used for, though it keeps the promise; empty if there is nothing to say.
    """

    claim: str
    fault: str = ""
    note: str = ""


class _Broken(Exception):
    """A promise is not kept; the text says what was found."""


class _Noted(Exception):
    """A promise is kept, but there is something to say, which is the text."""


def try_system(entry: Entry, folder: Path, data: str | Path | None = None) -> Iterator[Promise]:
    """Try a system, and yield each promise of its contract with its fault, if it has one.

    A trained system is trained with the preset `smoke` first; if it cannot be trained, the trial ends.

    Args:
        entry: the system.
        folder: empty folder for the training.
        data: store or shapes to train on; by default small cubes of noise with balls.
    """
    if entry.is_trained:
        where = data if data is not None else write_trial_data(folder / "data", entry.data)
        training = _tried(f"the preset {SMOKE} is trained, and changes weights", partial(_train, entry, where, folder))
        yield training
        if training.fault:
            return
        resume = partial(_resume, entry, where, folder)
        resumed = _tried("a run that is stopped and resumed ends with the same bytes", resume)
        yield resumed
        yield _tried("a model that is read back has the same weights", partial(_read_back, entry, folder))
        if entry.data == "store":
            yield _tried("a model knows the patients it was trained on", partial(_knows, where, folder))
        if entry.data == "store" and data is None and not resumed.fault:
            learns = "training learns nothing from patients of validation or test"
            yield _tried(learns, partial(_held_out, entry, folder))
    if not entry.roles:
        return
    try:
        maker = _maker(entry, folder)
    except Exception as error:  # whatever another package raises
        yield Promise("the maker has the roles of the entry", _told(error))
        return
    yield Promise("the maker has the roles of the entry")
    claims = [*_claims(entry, maker)]
    if entry.roles & {"makes patches", "makes shapes", "injects", "erases"} and (
        others := _other_values(entry.options)
    ):
        names = f"the options change what is made: {', '.join(others)}"
        claims.append((names, partial(_options, entry, folder, others)))
    if (values := _other_values(entry.options)) and (not entry.is_trained or entry.roles & KIND_OF.keys()):
        kept = "the maker keeps the options that it is made with"
        claims.append((kept, partial(_own_options, entry, folder, values)))
    yield from _each_fault_once(_tried(claim, check) for claim, check in claims)


def _each_fault_once(promises: Iterable[Promise]) -> Iterator[Promise]:
    """Yield promises; those with the fault of an earlier one are named together in a note at the end."""
    told: dict[str, list[str]] = {}
    for promise in promises:
        if promise.fault and promise.fault in told:
            told[promise.fault].append(promise.claim)
            continue
        if promise.fault:
            told[promise.fault] = []
        yield promise
    for fault, claims in told.items():
        if claims:
            yield Promise(
                "not tried",
                note=f"not tried, because of the same fault ({fault.partition(';')[0]}): {'; '.join(claims)}",
            )


def _tried(claim: str, check: Callable[[], None]) -> Promise:
    """Try a promise, without the progress and the warnings of the training and the samples that this takes."""
    try:
        with redirect_stderr(StringIO()):
            check()
    except _Noted as noted:
        return Promise(claim, note=str(noted))
    except Exception as error:  # whatever another package raises
        return Promise(claim, _told(error))
    return Promise(claim)


def _told(error: Exception) -> str:
    known = isinstance(error, InputError | _Broken)
    text = " ".join((str(error) if known else f"{type(error).__name__}: {error}").split())
    return text if known else ", ".join(filter(None, (text, place_in_plugin(error))))


def _train(entry: Entry, data: str | Path, folder: Path) -> None:
    import torch
    from safetensors.torch import load_file

    from synthorax.api.training import train
    from synthorax.training.precision import with_precision

    train(entry.name, data, folder / "run", preset=SMOKE, device="cpu")
    config = with_precision(entry.presets[SMOKE], "cpu")
    before = entry.load("training", "training")(config, data, 0, entry.make_training_options({})).model.weights()
    after = load_file(folder / "run" / WEIGHTS)
    if before and all(name in after and torch.equal(before[name], after[name]) for name in before):
        raise _Broken("the weights after the training are those before it; `training_step` has to update a network")


def _resume(entry: Entry, data: str | Path, folder: Path) -> None:
    """Take two steps of each stage, once at a stretch, and once with a stop after the first step."""
    if _short_run(entry, data, folder / "whole") != _short_run(entry, data, folder / "parts", first=1):
        one, other = (_untrained(entry, data) for _ in range(2))
        if one != other:
            raise _Broken(
                "the initial weights of two runs with one seed differ; draw them in `System.__init__` after "
                "`torch.manual_seed(seed)`, inside of `torch.random.fork_rng`"
            )
        raise _Broken("other weights; batches and noise have to depend on the step alone")


def _untrained(entry: Entry, data: str | Path) -> dict[str, bytes]:
    """Return the bytes of the weights, by name, that a training with the preset `SMOKE` starts from."""
    from synthorax.training.precision import with_precision

    config = with_precision(entry.presets[SMOKE], "cpu")
    made = entry.load("training", "training")(config, data, 0, entry.make_training_options({}))
    return {name: tensor.numpy().tobytes() for name, tensor in made.model.weights().items()}


def _held_out(entry: Entry, folder: Path) -> None:
    """Take two steps of each stage on two stores that differ in the voxels of validation and test patients alone."""
    other = write_trial_data(folder / "other-data", entry.data, held_out_seed=1)
    if _short_run(entry, other, folder / "other") != (folder / "whole" / WEIGHTS).read_bytes():
        raise _Broken("other weights if their voxels change; train on `store.in_split('train')` alone")


def _short_run(entry: Entry, data: str | Path, out: Path, first: int = 0) -> bytes:
    """Take two steps of each stage of the preset `SMOKE`, with a stop after `first` steps; return the weights."""
    from synthorax.training.devices import make_fabric
    from synthorax.training.loop import fit
    from synthorax.training.precision import with_precision
    from synthorax.training.run_folder import RunFolder
    from synthorax.training.system import Training

    config: Any = with_precision(entry.presets[SMOKE], "cpu")
    fabric = make_fabric("cpu", precision=getattr(config, "precision", "32"))

    def short(steps: int) -> Training:
        """The training, with at most two steps of each stage, and at most `steps` steps in all."""
        made: Training = entry.load("training", "training")(config, data, 0, entry.make_training_options({}))
        stages = []
        for stage in made.stages:
            stages.append(replace(stage, steps=min(stage.steps, 2, steps)))
            steps -= stages[-1].steps
        return replace(made, stages=stages, validation=None)

    every = sum(stage.steps for stage in short(10**6).stages)
    out.mkdir()
    for steps in filter(None, (first, every)):
        fit(short(steps), RunFolder(out), fabric)
    return (out / WEIGHTS).read_bytes()


def _read_back(entry: Entry, folder: Path) -> None:
    """Compare the weights of a model that is read with those of its file, and with those of one restored from it."""
    from safetensors.torch import load_file

    from synthorax import hub
    from synthorax.training.files import BEST, WEIGHTS

    run = folder / "run"
    saved = load_file(run / (BEST if (run / BEST).is_file() else WEIGHTS))
    system = hub.load(run).system
    weights = system.weights()
    for name in saved.keys() & weights.keys():
        if saved[name].numpy().tobytes() != weights[name].numpy().tobytes():
            raise _Broken(f"other values of {name} than in the file: `restore` has to load the weights it is given")
    config = json.loads(json.dumps(system.config.model_dump(mode="json")))
    found = entry.load("system", "System").restore(config, weights).weights()
    if found.keys() != weights.keys():
        raise _Broken(f"other tensors: {', '.join(sorted(found.keys() ^ weights.keys()))}")
    for name, tensor in weights.items():
        if found[name].numpy().tobytes() != tensor.numpy().tobytes():
            raise _Broken(f"other values of {name}")


def _knows(data: str | Path, folder: Path) -> None:
    from synthorax import hub
    from synthorax.datasets.store import Store

    seen, trained = hub.load(folder / "run").lineage.seen, set(map(patient_key, Store(Path(data)).splits["train"]))
    if not trained <= seen:
        raise _Broken(f"{len(trained & seen)} of {len(trained)} training patients in its data.json")


def _maker(entry: Entry, folder: Path, options: Options | None = None) -> Maker:
    """Return the maker of the trained model, or of a system without weights.

    Args:
        entry: the system.
        folder: folder of the trial, with the run.
        options: options that the maker is made with; by default the defaults.

    Raises:
        InputError: it lacks a role of the entry, or has another lineage than the one that it was given.
    """
    if not entry.is_trained:
        made: Maker = entry.load("maker", "maker")(entry.make_options({}) if options is None else options)
        check_roles(entry, made)
        return made
    from synthorax import hub

    model = hub.load(folder / "run")
    made = model.system.maker(model.lineage)
    check_roles(entry, made)
    if not made.lineage.seen >= model.lineage.seen:
        raise InputError(entry.name, "a maker without the lineage that it was given", "maker.lineage with its patients")
    return made if options is None else model.maker(options)


def _other_values(options: type[Options]) -> dict[str, list[Any]]:
    """Return other values than the default of each option that has a number, yes or no, or one of several words.

    Of a number, these are twice the number, and half of it if twice as much is refused.
    """
    found: dict[str, list[Any]] = {}
    for name, field in options.model_fields.items():
        default, words = field.default, get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
        if words:
            found[name] = [word for word in words if word != default]
        elif isinstance(default, bool):
            found[name] = [not default]
        elif isinstance(default, int | float):
            found[name] = [2 * default or 1, type(default)(default / 2)]
    return found


def _options(entry: Entry, folder: Path, others: Mapping[str, Sequence[Any]]) -> None:
    """Note options that change nothing: the first of the other values that is not refused gives the same bytes."""
    usual, idle = _bytes_made(entry, folder, entry.make_options({})), []
    for name, values in others.items():
        for value in values:
            try:
                changed = _bytes_made(entry, folder, entry.make_options({name: value})) != usual
            except InputError:
                continue
            default = entry.options.model_fields[name].default
            idle += [] if changed else [f"{name}={value} gives the same as {name}={default}"]
            break
    if idle:
        raise _Noted(f"options that change nothing here: {', '.join(idle)}")


def _bytes_made(entry: Entry, folder: Path, options: Options) -> list[bytes]:
    """Return what a system makes with these options: some samples, and an edit of each kind that it does."""
    from synthorax import hub

    what = folder / "run" if entry.is_trained else entry.name
    made = _sampled(_maker(entry, folder), options) if entry.roles & {"makes patches", "makes shapes"} else []
    for role, kind in KIND_OF.items():
        if role in entry.roles:
            method = cast(Method, hub.find(what, role, options))
            volumes, regions = noise_patches()
            filled = fill(method, volumes[0], regions[0], _edits(kind, regions)[0], 7)
            made += [filled.hu.tobytes()]
    return made


def _own_options(entry: Entry, folder: Path, others: Mapping[str, Sequence[Any]]) -> None:
    """Refuse a maker that was made with options and does not say so, or samples with others."""
    usual = _maker(entry, folder)
    for name, values in others.items():
        for value in values:
            try:
                options = entry.make_options({name: value})
                maker = _maker(entry, folder, options)
                same = _sampled(maker) == _sampled(usual, options)
            except InputError:
                continue
            if getattr(maker, "options", None) != options:
                raise _Broken(f"made with {name}={value}, it has other options, or none, in its attribute `options`")
            if not same:
                raise _Broken(
                    f"made with {name}={value}, it ignores this where a call gives no options; in `sample` and `scan`, "
                    "use makers.options_of(options, Options, name, self.options)"
                )
            break


def _sampled(maker: Maker, options: Options | None = None) -> list[bytes]:
    """Return what a maker samples with the options of a call: some samples, or a scan; nothing if it only edits."""
    made: list[bytes] = []
    if maker.roles & {"makes patches", "makes shapes"}:
        generator = cast(Generator, maker)
        samples = Samples.joined(checked_samples(generator, _requests(generator, SOME_SAMPLES), 5, options))
        made += [array.tobytes() for array in samples.arrays.values()]
    if "makes scans" in maker.roles:
        made.append(cast(Streams, maker).scan(0, 5, options).whole().voxels.tobytes())
    return made


def _claims(entry: Entry, maker: Maker) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield the promises of a maker's roles, each with the function that checks it."""
    from synthorax import hub

    if entry.roles & KIND_OF.keys():
        yield "the maker can be sent to other processes", partial(check_pickles, maker)
    yield "the attributes that the maker uses are those of nodules", partial(_heeds, maker)
    if maker.heeds and entry.roles & {"makes patches", "makes shapes", "injects"}:
        yield "the attributes that the maker uses change what is made", partial(_idle_attributes, maker, entry.roles)
    if entry.roles & {"makes patches", "makes shapes"}:
        generator = cast(Generator, maker)
        yield "samples are what the contract says", partial(_samples, generator)
        if hub.blends(entry.roles):
            yield "samples have masks, so inject can blend their nodules into scans", partial(_masks, generator)
        yield "a nodule has the place and the diameter of its mask", partial(_measured, generator)
        yield "the same seed gives the same bytes, and another seed others", partial(_seeds, generator)
        yield "sample i does not depend on how many are made", partial(_numbers, generator)
        yield "an attribute that it does not use is refused by the call of sample", partial(_unheeded, generator)
        yield "a patch without a nodule is made or refused as makes_empty says", partial(_empty, generator)
    if "makes scans" in entry.roles:
        yield (
            "scan i of a seed is the same whenever it is made, and another scan or seed gives others",
            partial(_scans, cast(Streams, maker)),
        )
    if entry.roles & {"makes patches", "makes shapes", "makes scans"} and entry.options.model_fields:
        yield "options of another system are refused", partial(_others_options, maker)
    for role, kind in KIND_OF.items():
        if role in entry.roles:
            method = cast(Method, maker)
            yield (
                f"an edit changes its region only, and is what the contract says ({kind})",
                partial(_outside, method, kind),
            )
            yield f"edits done together equal each done alone ({kind})", partial(_together, method, kind)
            yield f"a patch reaches at least as far as its region ({kind})", partial(_reach, method, kind)
    if "injects" in entry.roles:
        yield "another seed gives another nodule (inject)", partial(_another_seed, cast(Method, maker))
        if not entry.is_trained:  # after the few steps of a trial, a network marks anything
            yield "the mask is that of the nodule (inject)", partial(_marked, cast(Method, maker))
        yield "a nodule has the same shape in mm on voxels of any size", partial(_shape_mm, cast(Method, maker))
    if "paints" in entry.roles:
        yield "a painted window is finite and the same for a seed", partial(_paints, cast(Painter, maker))
    if "judges" in entry.roles:
        yield "a judgement is a probability that does not depend on the others", partial(_judges, cast(Judge, maker))


def _heeds(maker: Maker) -> None:
    if unknown := set(maker.heeds) - set(ATTRIBUTES):
        raise _Broken(f"{', '.join(sorted(unknown))}; the attributes are {', '.join(ATTRIBUTES)}")


def _idle_attributes(maker: Maker, roles: frozenset[Role]) -> None:
    """Note attributes whose lowest and highest value give the same bytes."""
    idle = []
    for name in sorted(set(maker.heeds) & set(ATTRIBUTES)):
        values = TWO_DIAMETERS_MM if name == "diameter_mm" else (1.0, float(MOST_RATING[name]))
        usual = {own: value for own, value in USUAL.items() if own in maker.heeds}
        try:
            low, high = (_nodule_bytes(maker, roles, NoduleAttributes(**usual | {name: value})) for value in values)
        except InputError:  # a value that the maker refuses is one that it looks at
            continue
        idle += [name] if low == high else []
    if idle:
        raise _Noted(f"{', '.join(idle)}: in heeds, but another value gives the same nodule")


def _nodule_bytes(maker: Maker, roles: frozenset[Role], nodule: NoduleAttributes) -> list[bytes]:
    """Return the voxels that a maker makes of a nodule: those of a sample, and those of an injection."""
    made: list[bytes] = []
    if roles & {"makes patches", "makes shapes"}:
        samples = Samples.joined(checked_samples(cast(Generator, maker), [(nodule,)], 5))
        made += [array.tobytes() for array in samples.arrays.values()]
    if "injects" in roles:
        volumes, regions = noise_patches()
        edit = Edit("inject", replace(nodule, diameter_mm=nodule.diameter_mm or TWO_DIAMETERS_MM[0]))
        made += [fill(cast(Method, maker), volumes[0], regions[0], edit, 7).hu.tobytes()]
    return made


def _requests(maker: Generator, n: int) -> list[tuple[NoduleAttributes, ...]]:
    """Return requests that the maker accepts: the usual attributes that it heeds, none, and no nodule, in turn."""
    usual = (NoduleAttributes(**{name: value for name, value in USUAL.items() if name in maker.heeds}),)
    each = [usual, *(asked for asked in ((NoduleAttributes(),), ()) if _takes(maker, asked))]
    return [each[i % len(each)] for i in range(n)]


def _takes(maker: Generator, asked: tuple[NoduleAttributes, ...]) -> bool:
    try:
        maker.sample([asked], 0)
    except InputError:
        return False
    return True


def _made(maker: Generator, n: int, seed: int = 5) -> Samples:
    return Samples.joined(checked_samples(maker, _requests(maker, n), seed))


def _same(one: Samples, other: Samples) -> bool:
    """Return whether samples are the same to the bit."""
    arrays = one.arrays.keys() == other.arrays.keys() and all(
        np.array_equal(one.arrays[name], other.arrays[name]) for name in one.arrays
    )
    return arrays and (one.nodules, one.details) == (other.nodules, other.details)


def _samples(maker: Generator) -> None:
    if inspect.isgeneratorfunction(maker.sample):
        raise _Broken(
            "`sample` is a generator function, which refuses requests only when its first part is taken; let it return "
            "a generator of the parts, as in help(makers.Generator.sample)"
        )
    with catch_warnings(record=True) as told:
        simplefilter("always")
        samples = _made(maker, MORE_SAMPLES)
    if any("invalid value encountered in cast" in str(one.message) for one in told):
        raise _Broken("NaN or infinite values cast to integers; PatchSpec.to_int16 refuses them")
    if list(samples.asked) != _requests(maker, MORE_SAMPLES):
        raise _Broken("samples whose `asked` is not what was requested")
    for i, (nodules, asked) in enumerate(zip(samples.nodules, samples.asked, strict=True)):
        if len(nodules) != len(asked):
            raise _Broken(f"{len(nodules)} nodules in sample {i}, of which {len(asked)} were requested")
    json.dumps(samples.details, allow_nan=False)
    if (ct := samples.arrays.get("ct")) is not None and abs(ct).max() <= 1:
        raise _Noted(f"all voxels are {_NETWORK_RANGE}; PatchSpec.to_int16 converts them")


def _masks(maker: Generator) -> None:
    masks = _made(maker, MORE_SAMPLES).arrays.get("mask")
    if masks is not None and not masks.any():
        raise _Noted(
            f"the masks of {len(masks)} samples are all empty, so inject cannot use them; is {SMOKE} too short?"
        )
    if masks is None:
        cure = f"; {maker.masks_missing}" if getattr(maker, "masks_missing", "") else ""
        raise _Noted(f"samples have no masks, so inject cannot use them{cure}")


def _measured(maker: Generator) -> None:
    """Refuse nodules whose place or diameter differs from that of their masks by more than the width of a voxel."""
    samples, tried = _made(maker, MORE_SAMPLES), 0
    spacing = samples.spec.spacing_mm
    for i, (nodules, mask) in enumerate(zip(samples.nodules, samples.arrays.get("mask", ()), strict=False)):
        for nodule in nodules:
            if nodule.label and nodule.attributes.diameter_mm is not None:
                tried += 1
                inside = np.argwhere(mask == nodule.label)
                z, y, x = (inside.mean(0) * spacing).tolist()
                if (away := dist(nodule.center_mm, (x, y, z))) > max(spacing):
                    found = f"{place_text(nodule.center_mm)} mm, {away:.3g} mm from the middle of its mask"
                    raise _Broken(f"a nodule of sample {i} at {found}; shapes.diameter.as_measured measures it")
                measured = axial_diameter_mm(inside, spacing)
                if abs(measured - nodule.attributes.diameter_mm) > max(spacing[1:]):
                    found = f"{nodule.attributes.diameter_mm:g} mm, but its mask is {measured:.3g} mm wide"
                    raise _Broken(f"a nodule of sample {i} of {found}; shapes.diameter.as_measured measures it")
    if "mask" in samples.arrays and not tried:
        longer = f"train {SMOKE} for more steps, or give --data STORE"
        raise _Noted(f"not tried, as no nodule has a voxel in its mask; {longer}")


def _seeds(maker: Generator) -> None:
    first, again, other = (_made(maker, SOME_SAMPLES, seed) for seed in (1, 1, 2))
    if not _same(first, again):
        raise _Broken("other samples of the same seed; noise has to be drawn from the seed")
    if _same(first, other):
        raise _Broken("the same samples of another seed")
    alike = Samples.joined(checked_samples(maker, [_requests(maker, 1)[0]] * 2, 1))
    if all(np.array_equal(*array) for array in alike.arrays.values()):
        raise _Broken("samples 0 and 1 of one request are the same; noise has to depend on the sample's number too")


def _numbers(maker: Generator) -> None:
    if not _same(_made(maker, MORE_SAMPLES).rows(np.arange(SOME_SAMPLES)), _made(maker, SOME_SAMPLES)):
        raise _Broken(f"the first {SOME_SAMPLES} of {MORE_SAMPLES} samples differ from {SOME_SAMPLES} samples")


def _unheeded(maker: Generator) -> None:
    others = sorted(set(ATTRIBUTES) - maker.heeds)
    usual = {name: value for name, value in USUAL.items() if name in maker.heeds}
    if others and _takes(maker, (NoduleAttributes(**usual, **{others[0]: 3.0}),)):
        raise _Broken(f"{others[0]} is taken; makers.check_heeds refuses it, outside of a generator function")


def _empty(maker: Generator) -> None:
    if (takes := _takes(maker, ())) != maker.makes_empty:
        raise _Broken(f"makes_empty is {maker.makes_empty}, but such a patch is {'made' if takes else 'refused'}")


def _scans(maker: Streams) -> None:
    check_returned(maker.name, "the result of `scan`", maker.scan(1, 5), ScanStream, "a makers.ScanStream")
    one, again, other, of_seed = (maker.scan(*which).whole() for which in ((1, 5), (1, 5), (0, 5), (1, 6)))
    if one.voxels.tobytes() != again.voxels.tobytes():
        raise _Broken("other voxels of the same scan")
    if one.voxels.tobytes() == other.voxels.tobytes():
        raise _Broken("the same voxels of another scan")
    if one.voxels.tobytes() == of_seed.voxels.tobytes():
        raise _Broken("the same voxels for another seed")
    stream = maker.scan(0, 5)
    json.dumps([stream.details, stream.arithmetic], allow_nan=False)


def _others_options(maker: Maker) -> None:
    class Others(Options):
        """Options of no system."""

    calls: list[Callable[[], object]] = []
    if "makes scans" in maker.roles:
        calls.append(partial(cast(Streams, maker).scan, 0, 5, Others()))
    if maker.roles & {"makes patches", "makes shapes"}:
        generator = cast(Generator, maker)
        calls.append(partial(generator.sample, _requests(generator, 1), 5, Others()))
    for call in calls:
        try:
            call()
        except InputError:
            continue
        except Exception as error:  # whatever another package raises when it looks for an option
            raise _Broken(f"they are not ({type(error).__name__}: {error}); makers.options_of refuses them") from error
        raise _Broken("they are taken; makers.options_of refuses them")


def _edits(kind: EditKind, regions: Sequence[NDArray[np.bool_]]) -> list[Edit]:
    """Return an edit of each region, of nodules of 5, 6 and 7 mm."""
    masks = [region & (np.indices(region.shape).sum(0) % 2 == 0) if kind == "erase" else None for region in regions]
    return [Edit(kind, NoduleAttributes(diameter_mm=5.0 + i), mask) for i, mask in enumerate(masks)]


def _outside(method: Method, kind: EditKind) -> None:
    volumes, regions = noise_patches()
    for volume, region, edit in zip(volumes, regions, _edits(kind, regions), strict=True):
        given = replace(volume, voxels=volume.voxels.copy())
        filled = fill(method, given, region, edit, 7)
        if not np.array_equal(given.voxels, volume.voxels):
            raise _Broken("the voxels of the patch that was given changed; the edit needs a copy of them")
        if not np.array_equal(filled.hu[~region], volume.voxels[~region]):
            raise _Broken("voxels outside the region changed")
        if np.array_equal(filled.hu, volume.voxels):
            raise _Broken("no voxel changed")
        if filled.mask is not None and (filled.mask & ~region).any():
            raise _Broken("the mask of the nodule reaches beyond the region")
        if filled.mask is not None and not filled.mask.any():
            raise _Broken(f"the mask of the nodule is empty; if a network marks nothing yet, train {SMOKE} longer")
        changed = filled.hu != volume.voxels if filled.mask is None else filled.mask
        if abs(filled.hu[changed]).max() <= 1:
            which = "that changed" if filled.mask is None else "of the nodule"
            raise _Noted(f"all voxels {which} are {_NETWORK_RANGE}; PatchSpec.to_hu converts them")


def _together(method: Method, kind: EditKind) -> None:
    volumes, regions = noise_patches()
    edits, seeds = _edits(kind, regions), [7, 8, 7]
    given = [region.copy() for region in regions]
    together = method.fill_many(volumes, given, edits, seeds)
    check_returned(method.name, "the result of `fill_many`", together, Sequence, "a list with a Filled for each edit")
    if len(together) != len(edits):
        raise _Broken(f"{len(together)} results of `fill_many` for {len(edits)} edits")
    if any(not np.array_equal(one, region) for one, region in zip(given, regions, strict=True)):
        raise _Broken("the region that was given changed; the edit needs a copy of it")
    for found, volume, region, edit, seed in zip(together, volumes, regions, edits, seeds, strict=True):
        single = fill(method, volume, region, edit, seed)
        same_mask = (found.mask is None) == (single.mask is None) and np.array_equal(found.mask, single.mask)  # type: ignore[arg-type]
        if found.hu.tobytes() != single.hu.tobytes() or not same_mask or found.attributes != single.attributes:
            raise _Broken(
                "another result of the same patch, edit and seed; draw all noise from the seed that `fill_many` gets"
            )


def _reach(method: Method, kind: EditKind) -> None:
    found = check_returned(
        method.name,
        "the result of `reach_mm`",
        method.reach_mm(Edit(kind, NoduleAttributes(diameter_mm=8.0))),
        tuple,
        "two numbers in mm",
    )
    if len(found) != 2:
        raise _Broken(
            f"{len(found)} numbers; expected half the width of the patch, and the radius of the region, in mm"
        )
    context, region = found
    if region > context:
        raise _Broken(f"a region of {region:g} mm in a patch that reaches {context:g} mm; the patch has to hold it")
    if region <= 4.0:
        raise _Broken(f"a region of {region:g} mm around a nodule of 8 mm; its radius has to be 5 mm or more")
    if kind == "inject" and region < (least := 4.0 + HALF_FEATHER_MM):
        shrinks = "inject fades the edit in at its border, so the nodule becomes smaller"
        raise _Noted(f"a region of {region:g} mm around a nodule of 8 mm; {shrinks}: {least:g} mm or more hold it")


def _another_seed(method: Method) -> None:
    volumes, regions = noise_patches()
    edit = _edits("inject", regions)[0]
    one, other = (fill(method, volumes[0], regions[0], edit, seed).hu for seed in (7, 8))
    if np.array_equal(one, other):
        raise _Noted("another seed gave the same nodule; draw its noise or its shape from the seed")


def _marked(method: Method) -> None:
    """Note a mask that lies beside the nodule: off the middle, or on voxels that changed less than those around it."""
    volumes, regions = noise_patches()
    edit = Edit("inject", NoduleAttributes(diameter_mm=WIDE_MM))
    for volume, region in zip(volumes, regions, strict=True):
        filled = fill(method, volume, region, edit, 7)
        if filled.mask is None or not filled.mask.any():
            return
        change, around = abs(filled.hu - volume.voxels), region & ~filled.mask
        if around.any() and (own := change[filled.mask].mean()) <= (other := change[around].mean()):
            raise _Noted(f"voxels of the mask change by {own:.0f} HU, the others of the region by {other:.0f} HU")
        middle = (np.array(volume.shape) - 1) / 2
        off = dist(np.multiply(np.argwhere(filled.mask).mean(0) - middle, volume.spacing_mm), (0, 0, 0))
        if off > max(MOST_OFF_MM, *volume.spacing_mm):
            raise _Noted(f"the middle of the mask is {off:.1f} mm from the middle of the patch, the requested place")


def _shape_mm(method: Method) -> None:
    """Note a nodule whose height differs from its width on voxels of one size, and not on those of another."""
    volumes, regions = noise_patches()
    edit, slimness = Edit("inject", NoduleAttributes(diameter_mm=WIDE_MM)), []
    for volume, region in zip(volumes, regions, strict=True):
        mask = fill(method, volume, region, edit, 7).mask
        if mask is None or not mask.any():
            return
        height, *widths = np.multiply(np.ptp(np.argwhere(mask), 0) + 1, volume.spacing_mm).tolist()
        slimness.append((height / max(widths), max(widths) / min(widths), volume.spacing_mm))
    for which, ratios in (
        ("tall as wide", [one[0] for one in slimness]),
        ("wide one way as the other", [one[1] for one in slimness]),
    ):
        least, most = int(np.argmin(ratios)), int(np.argmax(ratios))
        if ratios[most] > MOST_STRETCH * ratios[least]:
            said = [
                f"{ratios[i]:.1f} times as {which} on voxels of {' x '.join(f'{s:g}' for s in slimness[i][2])} mm"
                for i in (least, most)
            ]
            raise _Noted(
                f"the voxels stretch a nodule: it is {', and '.join(said)}; measure by patch.spacing_mm (z, y, x)"
            )


def _paints(painter: Painter) -> None:
    z, y, x = painter.smallest
    codes = np.array(sorted(painter.codes), np.uint8)
    random = np.random.default_rng(0)
    labels = Volume(codes[random.integers(0, len(codes), (z + 2 * painter.context, y, x))], painter.spacing_mm)
    one, again = (
        check_returned(painter.name, "the result of `paint`", painter.paint(labels, (7, 0, 40), 1), Volume, "a Volume")
        for _ in range(2)
    )
    if one.shape != (z, y, x) or one.voxels.dtype != np.float32 or not np.isfinite(one.voxels).all():
        raise _Broken(f"{one.voxels.dtype} {one.shape}; expected finite float32 {(z, y, x)}")
    if one.voxels.tobytes() != again.voxels.tobytes():
        raise _Broken("other voxels of the same seed")
    if one.voxels.tobytes() == painter.paint(labels, (7, 0, 40), 2).voxels.tobytes():
        raise _Noted("another seed gave the same voxels; draw the noise of a window from the seed")


def _judges(judge: Judge) -> None:
    hu = np.random.default_rng(1).integers(-1000, 400, (MORE_SAMPLES, *judge.spec.size)).astype(np.int16)
    found = check_returned(judge.name, "the result of `judge`", judge.judge(hu), np.ndarray, "an array [n]")
    if found.shape != (MORE_SAMPLES,) or found.dtype != np.float64 or not ((found >= 0) & (found <= 1)).all():
        raise _Broken(f"{found.dtype} {found.shape}; expected float64 ({MORE_SAMPLES},) from 0 to 1")
    if abs(judge.judge(hu[:SOME_SAMPLES]) - found[:SOME_SAMPLES]).max() > MOST_ROUNDING:
        raise _Broken("other probabilities of the same patches among fewer")
