"""A command that cannot be parsed is told in one plain line what is missing or wrong."""

import pytest

from synthorax.cli import main


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("inject x.nii", "--out is required; `synthorax inject --help` shows all flags"),
        ("inject x.nii --out", "--out has no value; `synthorax inject --help` shows all flags"),
        ("inject --out o", "SCAN is required; `synthorax inject --help` shows all flags"),
        ("prepare scans --out o", "SOURCE is required; `synthorax prepare scans --help` shows all flags"),
        ("inject x --auto three --out o", "--auto: found 'three'; expected a whole number or lidc"),
        ("sample ac-wgan -n two --out o", "-n: found 'two'; expected a whole number"),
        ("inject x --wall-mm far --out o", "--wall-mm: found 'far'; expected a number"),
        ("inject x --site moon --out o", "--site: found 'moon'; expected lung, pleura or vessel"),
        ("inject x --force=maybe --out o", "--force: found 'maybe'; expected true or false"),
        (
            "inject x --at=-70, 0, -150 --out o",
            "found 0, -150, which belongs to no flag; write several numbers with commas and without spaces, as in "
            "--at=-70,0,-150; `synthorax inject --help` shows all flags",
        ),
        ("erase x y --out o", "found y, which belongs to no flag; `synthorax erase --help` shows all flags"),
    ],
)
def test_the_line_says_what_is_missing_or_what_is_expected(command, line, capsys):
    assert main(command.split()) == 2
    assert capsys.readouterr().err == f"synthorax: {line}\n"
