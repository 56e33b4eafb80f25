"""`precision=auto` is resolved by the processor's flags and the network's width, and a run keeps the result."""

import json

import pytest
import torch
import yaml

from synthorax import api
from synthorax.datasets.patches import PatchSpec
from synthorax.makers import Lineage
from synthorax.nodule import NoduleAttributes
from synthorax.systems.ac_wgan.config import PRESETS, AcWganConfig, AcWganOptions
from synthorax.systems.ac_wgan.system import AcWgan
from synthorax.tasks.config import DETECTION, MALIGNANCY
from synthorax.training import precision
from synthorax.training.precision import of_auto, processor_flags, with_precision

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def flags(tmp_path, monkeypatch):
    """Sets the flags that /proc/cpuinfo lists."""

    def set_flags(text):
        (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nmodel name\t: Any\nflags\t\t: fpu {text}\nbugs\t:\n")
        monkeypatch.setattr(precision, "CPUINFO", tmp_path / "cpuinfo")

    return set_flags


@pytest.mark.parametrize(
    ("text", "narrow", "wide"),
    [
        ("avx2 fma", "32", "32"),
        ("avx512f avx512_vnni", "32", "32"),
        ("avx512f avx512_bf16", "32", "bf16"),
        ("amx_tile amx_int8 amx_bf16", "32", "bf16"),
    ],
)
def test_auto_on_a_cpu_is_bf16_for_wide_networks_where_it_multiplies_bfloat16(flags, text, narrow, wide):
    flags(text)
    assert (of_auto("cpu", 31), of_auto("cpu", 32)) == (narrow, wide)


def test_a_system_that_lists_no_flags_takes_32(tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "CPUINFO", tmp_path / "none")
    assert processor_flags() == frozenset()
    assert of_auto("cpu", 64) == "32"


@pytest.mark.parametrize(("card", "found"), [(True, "bf16"), (False, "32")])
def test_auto_on_cuda_is_bf16_where_the_card_has_it(monkeypatch, card, found):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: card)
    assert of_auto("cuda", 8) == found


def test_the_width_of_a_network_is_that_of_its_finest_grid(flags, tmp_path):
    flags("amx_bf16")
    wide = {
        "compact": PRESETS["compact"],
        "patch24": PRESETS["patch24"],
        "folded24": PRESETS["folded24"],
        "detector": DETECTION["compact"],
        "malignancy": MALIGNANCY["compact"],
    }
    found = {name: with_precision(config, "cpu", tmp_path).precision for name, config in wide.items()}
    assert found == {"compact": "32", "patch24": "bf16", "folded24": "bf16", "detector": "bf16", "malignancy": "32"}


def test_what_was_asked_for_is_kept_and_hosts_that_may_differ_take_32(flags, tmp_path):
    flags("amx_bf16")
    config = PRESETS["patch24"]
    assert with_precision(config.model_copy(update={"precision": "32"}), "cpu", tmp_path).precision == "32"
    assert with_precision(config, "cpu", tmp_path, hosts=2).precision == "32"


@pytest.mark.parametrize(("noted", "found"), [({"precision": "32"}, "32"), ({"precision": "bf16"}, "bf16"), ({}, "32")])
def test_a_run_keeps_its_precision_on_a_machine_of_another_kind(flags, tmp_path, noted, found):
    flags("amx_bf16" if found == "32" else "")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"config": noted}))
    assert with_precision(PRESETS["patch24"], "cpu", tmp_path).precision == found


SMALL = AcWganConfig(size=(16, 16, 16), noise=16, widths=(8, 8), fold=2, precision="bf16")


@pytest.mark.parametrize(
    ("trained", "asked", "text", "recorded"),
    [
        ("bf16", "auto", "amx_bf16", "bf16"),
        ("bf16", "auto", "avx2", "32"),
        ("32", "auto", "amx_bf16", "32"),
        ("bf16", "32", "amx_bf16", "32"),
        ("32", "bf16", "avx2", "bf16"),
    ],
)
def test_samples_tell_the_precision_that_they_were_made_in(flags, tmp_path, trained, asked, text, recorded):
    flags(text)
    system = AcWgan(SMALL.model_copy(update={"precision": trained}))
    maker = system.maker(Lineage("ac-wgan", "0" * 64))
    made = maker.sample([(NoduleAttributes(),)], 0, AcWganOptions(precision=asked))
    api.write_samples(tmp_path / "out", made, seed=0)
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["precision"] == recorded


def test_samples_in_bf16_are_near_those_in_32_and_their_voxels_are_not_rounded_to_it():
    maker = AcWgan(SMALL).maker(Lineage("ac-wgan", "0" * 64))
    made = {
        each: next(maker.sample([(NoduleAttributes(),)] * 2, 0, AcWganOptions(precision=each))).ct.astype(int)
        for each in ("32", "bf16")
    }
    assert 0 < abs(made["32"] - made["bf16"]).max() < 100
    assert len(set(made["bf16"].ravel())) > 0.9 * len(set(made["32"].ravel()))
    assert next(maker.sample([()], 0)).spec == PatchSpec((16, 16, 16))
