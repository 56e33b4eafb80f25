"""A command that cannot be parsed is told in one plain line what is missing or wrong."""

import pytest

from synthorax.cli import main
from synthorax.cli.argument_names import in_flags
from synthorax.errors import InputError


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


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("inject x --with flwo --auto 1 --diameter 8 --out o", "--with: found 'flwo'; expected one that injects: "),
        (
            "sample nope --out o",
            "nope: found no config.yaml, and no bundled model of that name; expected what makes sam",
        ),
        ("prepare shapes --readers 5 --out o", "--readers: found 5; expected 1 to 4 of the four readers"),
        ("inject x --diametr 8 --out o", "--diametr: no option of render; did you mean --diameter? --help shows all"),
    ],
)
def test_a_flag_with_another_value_is_named_as_it_was_typed(command, line, capsys):
    assert main(command.split()) == 2
    assert capsys.readouterr().err.startswith(f"synthorax: {line}")


@pytest.mark.parametrize(
    ("command", "error", "line"),
    [
        ("inject x --at=0,0,0", ("place", "z", "y; `auto` or `force`"), "--at: found z; expected y; --auto or --force"),
        ("inject x --voxel 0,0,0", ("at_mm", "z", "y"), "--voxel: found z; expected y"),
        ("inject x", ("diameter_mm", "z", "`at_mm`"), "--diameter: found z; expected --at or --voxel"),
        (
            "inject x --vessel-mm 3",
            ("nodules", "z", "smaller `clearance`"),
            "nodules: found z; expected smaller --vessel-mm",
        ),
        ("erase x", ("labels", "z", "`only_labels=2,3`"), "--nodules: found z; expected --labels 2,3"),
        (
            "translate x",
            ("nodules", "z", "a `verb` of `synthorax x`"),
            "--nodules: found z; expected a `verb` of `synthorax x`",
        ),
        ("train ct-sgan", ("store", "z", "`region=cube`"), "store: found z; expected --set region=cube"),
        ("train lung", ("more_steps", "z", "`start=RUN`, `out`"), "--more-steps: found z; expected --from RUN, --out"),
        ("sample ac-wgan", ("n", "z", "`at_mm`"), "-n: found z; expected `at_mm`"),
        ("inject x --with flwo", ("method", "z", "y"), "--with: found z; expected y"),
        ("nothing", ("method", "z", "y"), "method: found z; expected y"),
    ],
)
def test_arguments_of_python_functions_are_told_as_the_flags_that_set_them(command, error, line):
    assert str(in_flags(InputError(*error), command.split())) == line
