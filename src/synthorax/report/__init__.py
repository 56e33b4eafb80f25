"""Report pages: single HTML files that contain their pictures, so that a page can be mailed."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from matplotlib.figure import Figure

from synthorax.io.atomic import atomic_file


def write_page(path: Path, template: str, **content: Any) -> None:
    """Fill a template of this package and write the page.

    Args:
        path: HTML file to write.
        template: file name in `report/templates`. `{{ figure | picture("what it shows") }}` in it embeds a figure,
            `{{ p | chance }}` is a p value, `{{ test | ends }}` the interval of a comparison's difference.
        content: values by their names in the template.

    Raises:
        OutputError: the page cannot be written.
    """
    environment = Environment(
        loader=PackageLoader("synthorax.report", "templates"),
        undefined=StrictUndefined,
        autoescape=select_autoescape(["html"]),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"picture": _picture, "chance": _chance, "ends": _ends}
    page = environment.get_template(template).render(**content)
    with atomic_file(path) as file:
        file.write_text(page, encoding="utf-8")


def _chance(p: float | None) -> str:
    """Return a p value with four decimals; empty for None."""
    if p is None:
        return ""
    return f"{p:.4f}" if p >= 0.0001 else "< 0.0001"


def _ends(test: Any) -> str:
    """Return the ends of the interval of a difference of two shares, or that it is wider than shares are."""
    return f"{test.low:+.3f} to {test.high:+.3f}" if test.low >= -1 and test.high <= 1 else "too wide to tell"


def _picture(figure: Figure, text: str) -> Markup:
    """Return an <img> element that contains the figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    data = base64.b64encode(buffer.getvalue()).decode()
    return Markup('<img alt="{}" src="data:image/png;base64,{}">').format(text, data)
