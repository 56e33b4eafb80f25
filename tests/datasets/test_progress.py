"""The progress of long work that is not shown on a terminal: a line now and then."""

import time

from synthorax.datasets import progress


def test_a_log_gets_a_line_now_and_then_and_none_at_the_end(monkeypatch, capsys):
    clock = iter([0.0, 10.0, 31.0, 50.0, 70.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    assert [*progress.with_progress("abcde", "inject", 5)] == [*"abcde"]
    assert capsys.readouterr().err == "inject: 2 of 5\ninject: 4 of 5\n"
