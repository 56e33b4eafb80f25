"""Batches are made in one thread, and the caller's number of threads is restored."""

import multiprocessing

import pytest
import torch

from synthorax.datasets.one_thread import in_one_thread


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_within_torch_has_one_thread_and_without_as_many_as_before(two_threads):
    assert in_one_thread(torch.get_num_threads) == 1
    assert torch.get_num_threads() == 2
    torch.set_num_threads(3)
    assert in_one_thread(torch.get_num_threads) == 1
    assert torch.get_num_threads() == 3


def test_what_goes_wrong_within_is_raised(two_threads):
    with pytest.raises(ZeroDivisionError):
        in_one_thread(lambda: 1 / 0)


def test_a_forked_process_has_a_thread_of_its_own(two_threads):
    in_one_thread(torch.get_num_threads)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply_async(in_one_thread, (int, "7")).get(timeout=60) == 7
