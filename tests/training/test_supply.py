"""The supply of batches gives the batch of each step, from worker processes too."""

import os

import pytest
import torch

from synthorax.errors import InputError
from synthorax.training.supply import Supply, workers_for


def batches(step):
    if step == 7:
        raise InputError("store", "a damaged chunk", "a readable one")
    return {"ct": torch.full((2, 3), float(step)), "process": torch.tensor(os.getpid())}


@pytest.mark.parametrize("workers", [0, 2])
def test_each_step_gets_its_own_batch(workers):
    with Supply(batches, 2, 7, workers) as supply:
        found = [supply[step] for step in range(2, 7)]
    assert [float(batch["ct"][0, 0]) for batch in found] == [2, 3, 4, 5, 6]
    processes = {int(batch["process"]) for batch in found}
    assert (os.getpid() in processes) == (workers == 0)
    assert len(processes) == max(workers, 1)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_in_a_batch_is_raised_at_its_step_as_it_is(workers):
    with Supply(batches, 6, 9, workers) as supply:
        supply[6]
        with pytest.raises(InputError, match="damaged chunk"):
            supply[7]


def test_a_processor_prepares_its_own_batches_and_an_accelerator_has_helpers():
    assert workers_for("cpu") == 0
    assert workers_for("cuda") >= 1
