"""Arguments of another type than a function of the API takes are refused by name, before anything is done."""

import inspect
import pickle
import re

import numpy as np
import pytest

import synthorax as sx
from synthorax.errors import InputError
from tests.helpers.toy_makers import Dots


@pytest.fixture(scope="module")
def scan():
    return sx.make_phantom(seed=1).ct


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"attributes": {"texture": 5}}, "attributes: found an object of type dict; expected NoduleAttributes or None"),
        ({"attributes": sx.NoduleAttributes(texture="solid")}, "texture: found 'solid'; expected 1 to 5"),
        ({"method": Dots}, "method: found the class Dots; expected a text, a path, Model or a maker"),
        ({"method": None}, "method: found None; expected"),
        ({"seed": 1.5}, "seed: found 1.5; expected a whole number"),
        ({"auto": 1.5}, "auto: found 1.5; expected a number of nodules, or lidc"),
        ({"diameter_mm": "wide"}, "diameter_mm: found 'wide'; expected a number or a list of numbers"),
        ({"at_mm": 3}, "at_mm: found 3; expected a list of numbers or a list of lists of numbers"),
        ({"clearance": 5}, "clearance: found 5; expected Clearance or None"),
        ({"force": "no"}, "force: found 'no'; expected True or False"),
        ({"out": 3}, "out: found 3; expected a text, a path or None"),
        ({"auto": 0}, "nodules: found no place; expected `auto` for places that are found, `at_mm`, or `plan`"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_inject_names_the_argument_that_it_cannot_use(given, said, scan):
    with pytest.raises(InputError, match=re.escape(said)):
        sx.inject(scan, **{"auto": 1, "diameter_mm": 6.0} | given)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda: sx.inject(np.zeros((9, 9, 9))),
            "scan: found an object of type ndarray; expected a text, a path, Scan",
        ),
        (lambda: sx.sample("ac-wgan", 1.5), "n: found 1.5; expected a whole number"),
        (lambda: sx.sample("ac-wgan", 1, texture="solid"), "texture: found 'solid'; expected 1 to 5"),
        (lambda: sx.sample("ac-wgan", 1, diameter_mm="8"), "diameter_mm: found '8'; expected a number of mm"),
        (lambda: sx.open_store(3), "path: found 3; expected a text or a path"),
        (lambda: sx.study_detection("x", "y", amounts=1), "amounts: found 1; expected a list of numbers"),
        (lambda: sx.study_detection("x", "y", models="flow"), "models: found 'flow'; expected a list of"),
    ],
)
def test_every_function_names_the_argument(call, said):
    with pytest.raises(InputError, match=re.escape(said)):
        call()


def test_numbers_of_numpy_and_arrays_are_taken(scan):
    made = sx.inject(scan, auto=np.int64(1), diameter_mm=np.array([6.0]), seed=np.int64(1), force=np.bool_(False))
    assert len(made.nodules) == 1


def test_a_missing_argument_is_told_as_by_any_function():
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'n'"):
        sx.sample("ac-wgan")


def test_functions_keep_their_help_and_can_be_sent_to_other_processes():
    assert pickle.loads(pickle.dumps(sx.sample)) is sx.sample
    assert list(inspect.signature(sx.sample).parameters)[:2] == ["model", "n"]
    assert "Make `n` new samples" in sx.sample.__doc__
