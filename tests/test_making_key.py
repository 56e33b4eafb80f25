"""The key of what a maker makes, by which studies keep made patches: other options, weights or shapes make others."""

from dataclasses import replace

import numpy as np
import pytest

from synthorax import hub
from synthorax.io.images import write_image
from synthorax.provenance import making_key
from synthorax.registry import Entry, registry
from synthorax.volume import Volume


def found(name, **options):
    return hub.find(name, "injects", registry()[name].make_options(options) if options else None)


@pytest.fixture
def disc():
    def of_radius(radius):
        z, y, x = np.indices((9, 9, 9)) - 4
        return Volume((z**2 + y**2 + x**2 <= radius**2).astype(np.uint8), (1.0, 1.0, 1.0))

    return of_radius


def test_options_decide_what_is_made_and_defaults_are_the_same_whether_given_or_not():
    usual = making_key(found("flow"))
    assert usual == making_key(found("flow")) == making_key(found("flow", guidance=1.5))
    others = {making_key(found("flow", guidance=3.0)), making_key(found("flow", steps=4)), making_key(found("ac-wgan"))}
    assert len(others - {usual}) == 3


def test_shapes_count_by_their_content(disc, tmp_path):
    keys = [making_key(found("render", shapes=disc(radius))) for radius in (2, 3, 3)]
    assert keys[0] != keys[1] == keys[2]
    file = tmp_path / "shape.nii.gz"
    write_image(file, disc(2))
    before = making_key(found("render", shapes=file))
    write_image(file, disc(3))
    assert making_key(found("render", shapes=file)) != before


def test_a_new_default_of_a_system_gives_another_key(monkeypatch):
    before = making_key(found("flow"))
    usual = registry()["flow"].options
    monkeypatch.setattr(Entry, "options", property(lambda entry: type("Options", (usual,), {"__module__": __name__})))
    assert making_key(found("flow")) == before
    fewer = usual.model_fields["steps"]
    monkeypatch.setattr(fewer, "default", 5)
    usual.model_rebuild(force=True)
    try:
        assert making_key(found("flow")) != before
    finally:
        monkeypatch.undo()
        usual.model_rebuild(force=True)


def test_other_weights_or_patients_give_another_key():
    flow = found("flow")
    before = making_key(flow)
    for other in ({"model_sha256": "0" * 64}, {"seen": frozenset({"f" * 12})}):
        flow.lineage = replace(flow.lineage, **other)
        assert making_key(flow) != before
