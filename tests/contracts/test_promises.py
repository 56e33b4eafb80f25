"""The guarantees of every maker, tested on every system of the registry and two of other packages."""

import json
import pickle
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from shutil import copytree

import numpy as np
import pytest

from synthorax import api, hub
from synthorax.editing.painting import painted_slabs
from synthorax.errors import InputError, Stopped
from synthorax.io.images import write_image
from synthorax.makers import PARTS, Edit, Options, Samples, check_maker, fill
from synthorax.nodule import NoduleAttributes
from synthorax.patch import PatchSpec
from synthorax.provenance import SEEN_BEFORE, patient_key
from synthorax.registry import BUILT_IN, registry
from synthorax.training import loop
from synthorax.volume import Volume
from tests.helpers.systems import GENERATORS, OTHERS, ROLES, entries, not_heeded, takes, wanted

pytestmark = pytest.mark.usefixtures("one_thread", "plugged_in", "lenient", "sure_segmenter")

BLIND = """
import sys
from importlib import import_module
for name in sys.argv[1:]:
    import_module(name)
    assert "torch" not in sys.modules, name
"""
EDITS = {"injects": "inject", "erases": "erase"}
EDITORS = [(name, role) for name in entries() for role in EDITS if role in ROLES[name]]
SHAPED_BY_OPTION = [e.name for e in BUILT_IN if "injects" in e.roles and "shapes" in e.options.model_fields]
TRAINED = [*(entry.name for entry in BUILT_IN if entry.is_trained), "toy"]


def made(maker, asked, seed=5):
    return Samples.joined(maker.sample(asked, seed))


def alike(one, other):
    """Return whether two samples are bit-identical, except for the model's name."""
    return (
        one.arrays.keys() == other.arrays.keys()
        and all(np.array_equal(one.arrays[name], other.arrays[name]) for name in one.arrays)
        and (one.nodules, one.details, one.asked) == (other.nodules, other.details, other.asked)
    )


@pytest.fixture(scope="module")
def generator(maker_of):
    def find(name):
        roles = registry()[name].roles & GENERATORS
        return maker_of(name, *roles)

    return find


@pytest.fixture(scope="module")
def patches():
    """Three patches of noise as in lung, of other spacings, a region each, and seeds."""
    rng = np.random.default_rng(0)
    volumes, regions = [], []
    for spacing in ((1.0, 1.0, 1.0), (2.0, 0.8, 0.8), (1.25, 1.1, 1.1)):
        shape = tuple(round(56 / s) for s in spacing)
        hu = np.rint(rng.normal(-850, 30, shape)).astype(np.float32)
        volumes.append(Volume(hu, spacing, (0.0, 0.0, 0.0)))
        regions.append(PatchSpec(shape, spacing).distances_mm() <= 9.0)
    return volumes, regions, [7, 8, 7]


def edits(kind, regions, patches):
    """An edit of each patch, of 5, 6 and 7 mm."""
    made = []
    for i, (patch, region) in enumerate(zip(patches, regions, strict=True)):
        mask = region & (np.indices(patch.shape).sum(0) % 2 == 0) if kind == "erase" else None
        made.append(Edit(kind, NoduleAttributes(diameter_mm=5.0 + i), mask))
    return made


def test_the_contract_and_every_configuration_load_without_torch(plugged_in):
    names = [f"{entry.package}.config" for entry in registry().entries.values()]
    arguments = ["synthorax.makers", "synthorax.patch", "synthorax.registry", *names]
    command = [sys.executable, "-c", f"import sys; sys.path += {plugged_in!r}\n{BLIND}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", TRAINED)
def test_every_preset_is_of_the_systems_own_class_and_is_read_back_from_what_a_run_folder_holds(name):
    entry = registry()[name]
    assert "smoke" in entry.presets
    for config in entry.presets.values():
        assert isinstance(config, entry.config)
        assert entry.config.model_validate(json.loads(json.dumps(config.model_dump(mode="json")))) == config


@pytest.mark.parametrize("name", TRAINED)
def test_a_system_has_the_name_of_its_entry(name, plugged_in):
    assert registry()[name].load("system", "System").name == name


def test_the_other_packages_have_the_roles_that_these_tests_take_them_for():
    assert {name: registry()[name].roles for name in OTHERS} == OTHERS


@pytest.mark.parametrize("name", entries(*PARTS))
def test_a_maker_has_the_roles_of_its_entry_and_what_they_ask_for(name, maker_of):
    for role in ROLES[name]:
        maker = maker_of(name, role)
        assert check_maker(maker, [role]) is maker
        assert maker.heeds <= set(vars(NoduleAttributes()))


@pytest.mark.parametrize("name", entries())
def test_a_role_that_a_system_does_not_have_is_refused(name, maker_of):
    for role in sorted(PARTS.keys() - ROLES[name]):
        with pytest.raises(InputError):
            maker_of(name, role)


@pytest.mark.parametrize("name", entries(*GENERATORS))
def test_sample_i_does_not_depend_on_how_many_are_made(name, generator):
    maker = generator(name)
    many, few = (made(maker, wanted(maker, n)) for n in (20, 3))
    assert alike(many.rows(np.arange(3)), few)
    assert not np.array_equal(next(iter(many.arrays.values()))[0], next(iter(many.arrays.values()))[3])


@pytest.mark.parametrize("name", entries(*GENERATORS))
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(name, generator):
    maker = generator(name)
    first, again, other = (made(maker, wanted(maker, 4), seed) for seed in (1, 1, 2))
    assert alike(first, again)
    assert not alike(first, other)


@pytest.mark.parametrize("name", entries(*GENERATORS))
def test_samples_are_what_the_contract_says(name, generator):
    maker = generator(name)
    asked = wanted(maker, 7)
    samples = made(maker, asked)
    expected = {"ct": "int16", "mask": "uint8", "occupancy": "float32"}
    assert {key: array.dtype.name for key, array in samples.arrays.items()}.items() <= expected.items()
    assert ("ct" if "makes patches" in maker.roles else "occupancy") in samples.arrays
    assert samples.index.tolist() == list(range(7))
    assert samples.asked == tuple(asked)
    assert [len(nodules) for nodules in samples.nodules] == [len(one) for one in asked]
    assert samples.spec == maker.spec
    assert samples.lineage == maker.lineage
    assert json.loads(json.dumps(samples.details, allow_nan=False)) == list(samples.details)
    if "mask" in samples.arrays:
        for mask, nodules in zip(samples.arrays["mask"], samples.nodules, strict=True):
            assert set(np.unique(mask)) - {0} <= {nodule.label for nodule in nodules}


@pytest.mark.parametrize("name", entries(*GENERATORS))
def test_an_attribute_that_a_maker_does_not_heed_is_refused_before_anything_is_made(name, generator):
    maker = generator(name)
    with pytest.raises(InputError, match="does not use"):
        maker.sample([(not_heeded(maker),)], 0)


@pytest.mark.parametrize("name", entries(*GENERATORS))
def test_a_patch_without_a_nodule_is_made_or_refused_as_the_maker_says(name, generator):
    maker = generator(name)
    assert takes(maker, ()) == maker.makes_empty


@pytest.mark.parametrize("name", entries("makes scans"))
def test_a_scan_of_a_number_in_a_seed_is_the_same_whenever_it_is_made(name, maker_of):
    maker = maker_of(name, "makes scans")
    scans = [maker.scan(index, seed).whole() for index, seed in ((3, 5), (0, 5), (3, 5), (3, 6))]
    assert np.array_equal(scans[0].voxels, scans[2].voxels)
    assert scans[0].spacing_mm == scans[2].spacing_mm
    for other in (1, 3):
        assert not np.array_equal(scans[0].voxels, scans[other].voxels)


@pytest.mark.parametrize("name", entries("makes scans"))
def test_a_scan_is_what_its_stream_said(name, maker_of):
    stream = maker_of(name, "makes scans").scan(1, 2)
    assert len(stream.shape) == 3
    assert min(stream.spacing_mm) > 0
    slabs = list(stream.checked())
    assert sum(map(len, slabs)) == stream.shape[0]
    assert json.loads(json.dumps([stream.details, stream.arithmetic], allow_nan=False))


@pytest.mark.parametrize("name", entries("makes scans"))
def test_options_of_another_system_are_refused_before_a_scan_is_begun(name, maker_of):
    class Others(Options):
        pass

    with pytest.raises(InputError, match="options"):
        maker_of(name, "makes scans").scan(0, 0, Others())


@pytest.mark.parametrize(("name", "role"), EDITORS)
def test_every_voxel_outside_an_edits_region_is_the_same_to_the_bit(name, role, maker_of, patches):
    method = maker_of(name, role)
    volumes, regions, seeds = patches
    for volume, region, edit, seed in zip(volumes, regions, edits(EDITS[role], regions, volumes), seeds, strict=True):
        filled = fill(method, volume, region, edit, seed)
        assert np.array_equal(filled.hu[~region], volume.voxels[~region])
        assert not np.array_equal(filled.hu, volume.voxels)
        if role == "injects":
            assert filled.mask.any()
            assert not (filled.mask & ~region).any()


@pytest.mark.parametrize(("name", "role"), EDITORS)
def test_edits_done_together_equal_each_done_alone(name, role, maker_of, patches):
    method = maker_of(name, role)
    volumes, regions, seeds = patches
    asked = edits(EDITS[role], regions, volumes)
    together = method.fill_many(volumes, regions, asked, seeds)
    for filled, *alone in zip(together, volumes, regions, asked, seeds, strict=True):
        single = fill(method, *alone)
        assert filled.hu.tobytes() == single.hu.tobytes()
        assert filled.attributes == single.attributes
        assert (filled.mask is None) == (single.mask is None)
        assert filled.mask is None or np.array_equal(filled.mask, single.mask)


@pytest.mark.parametrize(("name", "role"), EDITORS)
def test_an_editor_that_is_sent_to_another_process_makes_the_same(name, role, maker_of, patches):
    method = maker_of(name, role)
    sent = pickle.loads(pickle.dumps(method))
    volumes, regions, seeds = (each[:1] for each in patches)
    asked = edits(EDITS[role], regions, volumes)
    (own,), (theirs,) = (each.fill_many(volumes, regions, asked, seeds) for each in (method, sent))
    assert own.hu.tobytes() == theirs.hu.tobytes()


@pytest.mark.parametrize(("name", "role"), EDITORS)
def test_an_editor_with_the_usual_options_makes_what_it_makes_without_any(name, role, maker_of, run_of, patches):
    entry = registry()[name]
    what = run_of(name) if entry.is_trained else name
    chosen = hub.find(what, role, entry.make_options({}))
    volumes, regions, seeds = (each[:1] for each in patches)
    asked = edits(EDITS[role], regions, volumes)
    (usual,), (found,) = (each.fill_many(volumes, regions, asked, seeds) for each in (maker_of(name, role), chosen))
    assert found.hu.tobytes() == usual.hu.tobytes()


@pytest.mark.parametrize("name", SHAPED_BY_OPTION)
def test_an_option_reaches_what_injects(name, run_of, patches):
    """A flat shape of one's own gives a flat nodule."""
    what = run_of(name) if registry()[name].is_trained else name
    shape = Volume(np.ones((1, 9, 9), bool), (1.0, 1.0, 1.0))
    (volume, *_), (region, *_), _ = patches
    edit = Edit("inject", NoduleAttributes(diameter_mm=7.0))
    found = [
        fill(hub.find(what, "injects", registry()[name].make_options(given)), volume, region, edit, 3).mask.sum()
        for given in ({"shapes": shape}, {})
    ]
    assert found[0] < 0.7 * found[1]


@pytest.mark.parametrize(("name", "role"), EDITORS)
def test_an_edit_reaches_no_farther_than_the_method_sees(name, role, maker_of):
    context, region = maker_of(name, role).reach_mm(Edit(EDITS[role], NoduleAttributes(diameter_mm=8.0)))
    assert context >= region > 4.0


def label_map(shape, seed=0):
    """A label map of blocks of all tissue classes."""
    blocks = np.random.default_rng(seed).integers(0, 7, [-(-n // 4) for n in shape]).astype(np.uint8)
    voxels = blocks.repeat(4, 0).repeat(4, 1).repeat(4, 2)[: shape[0], : shape[1], : shape[2]]
    return Volume(np.ascontiguousarray(voxels), (1.0, 1.0, 1.0), (3.0, 2.0, 1.0))


@pytest.mark.parametrize("name", entries("paints"))
def test_a_painter_gives_finite_hu_at_the_place_of_its_window_the_same_for_a_seed(name, maker_of):
    painter = maker_of(name, "paints")
    assert all(a <= b for a, b in zip(painter.smallest, painter.largest, strict=True))
    for size in (
        painter.smallest,
        [min(n + 5, most) for n, most in zip(painter.smallest, painter.largest, strict=True)],
    ):
        labels = label_map((size[0] + 2 * painter.context, *size[1:]))
        made, again = (painter.paint(labels, (7, 0, 40), 1) for _ in range(2))
        assert made.shape == tuple(size)
        assert made.voxels.dtype == np.float32
        assert np.isfinite(made.voxels).all()
        assert made.voxels.tobytes() == again.voxels.tobytes()
        assert made.origin_mm == (3.0, 2.0, 1.0 + painter.context)


@pytest.mark.parametrize("name", entries("paints"))
def test_a_map_of_several_windows_is_painted_slab_by_slab_and_its_texture_belongs_to_the_voxel(name, maker_of):
    painter = maker_of(name, "paints")
    labels = label_map([n + 11 for n in painter.smallest])
    painter.largest = painter.smallest
    slabs = list(painted_slabs(labels, painter, 3))
    assert sum(len(slab) for _, slab in slabs) == labels.shape[0]
    assert all(slab.dtype == np.int16 for _, slab in slabs)
    again = list(painted_slabs(labels, painter, 3))
    assert all(np.array_equal(one, other) for (_, one), (_, other) in zip(slabs, again, strict=True))
    other = list(painted_slabs(labels, painter, 4))
    assert not np.array_equal(slabs[0][1], other[0][1])


@pytest.mark.parametrize("name", entries("judges"))
def test_a_judgement_is_a_probability_that_does_not_depend_on_the_others(name, maker_of):
    judge = maker_of(name, "judges")
    hu = np.random.default_rng(1).integers(-1000, 400, (20, *judge.spec.size)).astype(np.int16)
    found = judge.judge(hu)
    assert found.dtype == np.float64
    assert ((found >= 0) & (found <= 1)).all()
    np.testing.assert_allclose(judge.judge(hu[:3]), found[:3], atol=1e-5)  # batches of other sizes round otherwise


@pytest.mark.parametrize("name", entries("injects"))
def test_a_place_where_nothing_is_lung_is_refused_and_told_of_where_it_is_wanted(name, maker_of, chest):
    method = maker_of(name, "injects")
    for place in ((0.0, 0.0, 0.0), chest.to_world((2.0, 2.0, 2.0)).tolist()):  # in the body, and in the air around it
        with pytest.raises(InputError, match="expected one in the lungs"):
            api.inject(chest, method, at_mm=place, diameter_mm=8.0)
        made = api.inject(chest, method, at_mm=place, diameter_mm=8.0, force=True)
        assert any("expected one in the lungs" in note for note in made.notes)


@contextmanager
def after(checks):
    """A signal that arrives before a loop's step of that number."""

    class Signal:
        seen = 0

        def __bool__(self):
            self.seen += 1
            return self.seen > checks

        def __getitem__(self, _):
            return 2

    yield Signal()


@pytest.mark.parametrize("name", TRAINED)
def test_a_run_that_was_stopped_and_went_on_ends_with_the_bytes_of_one_that_did_not(
    name, train, run_of, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(loop, "_stop_request", lambda tell: after(3))
        train(name, tmp_path / "run")
    assert train(name, tmp_path / "run").finished
    whole, parts = run_of(name), tmp_path / "run"
    for file in sorted(whole.glob("*.safetensors")):
        assert (parts / file.name).read_bytes() == file.read_bytes(), file.name


@pytest.mark.parametrize(
    "name", [name for name in TRAINED if name not in OTHERS and "steps" in registry()[name].config.model_fields]
)
def test_a_finished_run_gets_more_steps_as_often_as_it_is_asked_for_them(name, train, run_of, tmp_path):
    copytree(run_of(name), tmp_path / "run")
    had = train(name, tmp_path / "run").step
    steps = [train(name, tmp_path / "run", more_steps=more).step for more in (4, 3)]
    assert steps == [had + 4, had + 7]


@pytest.mark.parametrize("name", TRAINED)
def test_a_model_that_is_read_back_has_the_same_weights_and_makes_the_same(name, run_of):
    entry, model = registry()[name], hub.load(run_of(name))
    weights = model.system.weights()
    config = json.loads(json.dumps(model.system.config.model_dump(mode="json")))
    again = replace(model, system=entry.load("system", "System").restore(config, weights))
    found = again.system.weights()
    assert found.keys() == weights.keys()
    assert all(found[key].numpy().tobytes() == weights[key].numpy().tobytes() for key in weights)
    if "makes scans" in entry.roles:
        one, other = (each.maker().scan(0, 1).whole() for each in (model, again))
        assert np.array_equal(one.voxels, other.voxels)
    if entry.roles & GENERATORS:
        one, other = (made(each.maker(), wanted(each.maker(), 3)) for each in (model, again))
        assert alike(one, other)


@pytest.mark.parametrize("name", TRAINED)
def test_a_model_knows_the_patients_it_was_trained_on(name, run_of, data):
    lineage = hub.load(run_of(name)).lineage
    if registry()[name].data == "shapes":  # masks without a table of their patients
        assert not lineage.tells
        return
    patients = json.loads((run_of(name) / "data.json").read_text())
    trained = patients["patients"]["train"] if "patients" in patients else patients["train_patients"]
    assert trained
    assert lineage.tells
    assert lineage.seen == frozenset(map(patient_key, [*trained, *patients.get(SEEN_BEFORE, [])]))


def check_survives(lineage, outlines, folder, train, place, by="toy"):
    """Check that a maker's patients are recorded in a store of its results, and in a model trained on the store.

    Args:
        by: the system of that model.
    """
    store = api.prepare("patches", folder, place / "store", split=(1, 0, 0), workers=1)
    for case in store.cases:
        assert (case.lineage.name, case.lineage.model_sha256) == (lineage.name, lineage.model_sha256)
        assert (case.lineage.seen, case.lineage.outlines) == (lineage.seen, outlines)
    train(by, place / "run", store.path)
    assert hub.load(place / "run").lineage.seen >= lineage.seen | outlines


@pytest.mark.parametrize("name", entries("makes patches"))
def test_whom_a_maker_of_patches_knows_is_known_to_what_is_trained_on_them(name, maker_of, train, tmp_path):
    maker = maker_of(name, "makes patches")
    assert maker.lineage.seen
    samples = maker.sample([wanted(maker, 1)[0]] * 3, 4)
    api.write_samples(tmp_path / "samples", samples, seed=4)
    check_survives(maker.lineage, maker.lineage.outlines, tmp_path / "samples", train, tmp_path)


@pytest.mark.parametrize("name", entries("makes scans"))
def test_whom_a_maker_of_scans_knows_is_known_to_what_is_trained_on_them(name, maker_of, train, tmp_path):
    maker = maker_of(name, "makes scans")
    assert maker.lineage.seen
    api.sample_scans(maker, 2, tmp_path / "scans", seed=4)
    check_survives(maker.lineage, frozenset(), tmp_path / "scans", train, tmp_path, by=name)


@pytest.mark.parametrize("name", entries("injects"))
def test_whom_an_injector_knows_is_known_to_what_is_trained_on_its_scans(name, maker_of, train, chest, tmp_path):
    method = maker_of(name, "injects")
    write_image(tmp_path / "chest.nii.gz", chest)
    out = tmp_path / "injected"
    edited = api.inject(
        tmp_path / "chest.nii.gz", method, at_mm=(-70.0, 0.0, 0.0), diameter_mm=7.0, out=out, force=True
    )
    origins = {nodule.extra.get("shape_origin", "") for nodule in edited.nodules} - {""}
    check_survives(method.lineage, frozenset(map(patient_key, origins)), out, train, tmp_path)
