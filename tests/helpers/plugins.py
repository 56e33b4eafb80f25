"""Installs packages with systems, in the layout of pip."""

import re
import tomllib
from pathlib import Path
from textwrap import dedent

from synthorax.registry import GROUP

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"
BLOCKS = dict(re.findall(r"```\w+\n# (\S+)\n(.*?)```", PAGE.read_text(), re.DOTALL))
"""The files of the example packages in docs/extending.md: text by path."""


def install(folder, package, modules, entries):
    """Write a package and its metadata into a folder that is, or will be, on `sys.path`.

    Args:
        modules: text of each module, by its dotted name below the package; "" is `__init__`.
        entries: `module:object` of each entry point, by its name.
    """
    for name, text in {"": "", **modules}.items():
        file = (folder / package).joinpath(*name.split(".")) if name else folder / package / "__init__"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.with_suffix(".py").write_text(dedent(text))
    write_metadata(folder, package, entries)


def write_metadata(folder, package, entries):
    """Write the metadata by which Python knows an installed package and its entry points."""
    about = folder / f"{package}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    points = "".join(f"{name} = {place}\n" for name, place in entries.items())
    (about / "entry_points.txt").write_text(f"[synthorax.systems]\n{points}")


def modules_on_page(package):
    """Return the text of each module of an example package, by its name in the package; "" is `__init__`."""
    modules = {Path(file).stem: text for file, text in BLOCKS.items() if file.startswith(f"{package}/")}
    return {"": modules.pop("__init__"), **modules}


def install_mold(folder):
    """Install the second example package of docs/extending.md, which needs the first one, into a folder."""
    install(folder, "mold", modules_on_page("mold"), {"mold": "mold:entry"})


def install_drop(folder):
    """Install the example package of docs/extending.md whose maker has no weights into a folder."""
    install(folder, "drop", modules_on_page("drop"), {"drop": "drop:entry"})


def install_puff(folder, **changes):
    """Install the example package of docs/extending.md that makes patches without weights into a folder.

    Args:
        changes: for a module, a text of it and the text to put there instead.
    """
    modules = modules_on_page("puff") | {"config": modules_on_page("drop")["config"]}
    for module, (old, new) in changes.items():
        assert old in modules[module]
        modules[module] = modules[module].replace(old, new)
    install(folder, "puff", modules, {"puff": "puff:entry"})


def install_toy(folder, **changes):
    """Install the example package of docs/extending.md into a folder.

    Args:
        changes: for a module, a text of it and the text to put there instead.
    """
    modules = modules_on_page("toy")
    for module, (old, new) in changes.items():
        assert old in modules[module]
        modules[module] = modules[module].replace(old, new)
    install(folder, "toy", modules, tomllib.loads(BLOCKS["pyproject.toml"])["project"]["entry-points"][GROUP])
