"""Pictures in one style: surfaces and slices of nodules, CT slices, label maps, histograms, curves.

Every function returns a Matplotlib figure. None of them writes files or uses Matplotlib's global state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from textwrap import fill
from typing import Any, Literal

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.colors import LightSource, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom

from synthorax.anatomy.tissue import TissueClass
from synthorax.shapes.mesh import surface
from synthorax.volume import Volume

REAL, SYNTHETIC = "#3b6ea5", "#d9822b"
"""Colours of real data, blue, and of synthetic data, orange, in every picture."""
DISPLAY_WINDOW_HU = (-1350.0, 150.0)
"""Radiology's lung window, centre -600 HU and width 1500 HU."""
TISSUE_WINDOW_HU = (-1000.0, 400.0)
"""A window that shows air, lung, fat, soft tissue and bone in different greys."""
CLASS_COLOURS = {
    TissueClass.OUTSIDE: "#10141a",
    TissueClass.OTHER: "#3a4f66",
    TissueClass.FAT: "#e8c95c",
    TissueClass.WATER: "#58a6d6",
    TissueClass.SOFT: "#c96f5a",
    TissueClass.BONE: "#f4f1e6",
    TissueClass.NODULE: "#35d07f",
}
"""Colour of each tissue class, in the order of the classes' codes."""
INK, PAPER = "#1d2733", "#ffffff"
DPI = 110
CAPTION_LINE_INCHES = 0.13
"""Height of a line of a caption above a CT slice."""
CAPTION_CHARACTERS = 36
"""Characters of a caption that fit into the width of a CT slice."""
SCALE_BAR_MM = 10.0
"""Length of the bar in a CT slice."""
DISPLAY_LEVEL = 0.4
"""Level of a smoothed mask at which its surface is drawn; below 0.5, so that bridges one voxel wide stay visible."""


def surfaces(
    masks: Sequence[NDArray[np.bool_]],
    spacing_mm: tuple[float, float, float],
    *,
    captions: Sequence[str],
    colours: Sequence[str],
    columns: int,
    extent_mm: float | None = None,
) -> Figure:
    """Draw nodules as shaded surfaces, all at one scale, seen obliquely from above.

    Masks are smoothed by less than a voxel, so that the steps between voxels do not distract.

    Args:
        masks: bool [z, y, x] each.
        spacing_mm: voxel size (z, y, x).
        captions: a line under each nodule.
        colours: colours of each nodule.
        columns: nodules in a row of the figure.
        extent_mm: width of each view; the width of the widest nodule if not given.
    """
    meshes = [surface(*_smooth(mask, spacing_mm), level=DISPLAY_LEVEL) for mask in masks]
    centred = [m.triangles_mm - (m.vertices_mm.min(0) + m.vertices_mm.max(0)) / 2 for m in meshes]
    half = (extent_mm / 2) if extent_mm else max(abs(t).max() for t in centred)
    rows = -(-len(masks) // columns)
    figure = Figure(figsize=(1.75 * columns, 1.95 * rows), dpi=DPI, facecolor=PAPER)
    light = LightSource(azdeg=235, altdeg=50)
    for i, (triangles, caption, colour) in enumerate(zip(centred, captions, colours, strict=True)):
        axes = figure.add_subplot(rows, columns, i + 1, projection="3d")
        body = Poly3DCollection(
            triangles, facecolors=colour, edgecolors=colour, linewidths=0.3, shade=True, lightsource=light
        )
        axes.add_collection3d(body)
        for set_limits in (axes.set_xlim, axes.set_ylim, axes.set_zlim):
            set_limits(-half, half)
        axes.set_box_aspect((1, 1, 1), zoom=1.45)
        axes.view_init(elev=22, azim=-60)
        axes.set_axis_off()
        axes.text2D(0.5, -0.08, caption, transform=axes.transAxes, ha="center", fontsize=8.5, color=INK)
    figure.subplots_adjust(0, 0.06, 1, 1, 0, 0.1)
    return figure


def slices(
    fields: Sequence[NDArray[np.floating]],
    spacing_mm: tuple[float, float, float],
    *,
    captions: Sequence[str],
    colours: Sequence[str],
    n_slices: int = 8,
) -> Figure:
    """Draw the middle axial slices of occupancy fields, one row for each nodule, as in figure 2 of LuNG's paper.

    Args:
        fields: [z, y, x] each, from 0 to 1, all of one shape.
        spacing_mm: voxel size (z, y, x).
        captions: captions of the rows.
        colours: frame of each row.
        n_slices: slices shown of each field.
    """
    height = fields[0].shape[0]
    first = (height - n_slices) // 2
    aspect = spacing_mm[1] / spacing_mm[2]
    figure = Figure(figsize=(1.0 * n_slices + 1.6, 1.0 * len(fields)), dpi=DPI, facecolor=PAPER)
    grid = figure.subplots(len(fields), n_slices, squeeze=False)
    for row, field, caption, colour in zip(grid, fields, captions, colours, strict=True):
        for j, axes in enumerate(row):
            axes.imshow(field[first + j], cmap="gray", vmin=0, vmax=1, aspect=aspect, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            for side in axes.spines.values():
                side.set_color(colour)
        row[0].set_ylabel(caption, rotation=0, ha="right", va="center", fontsize=8.5, color=INK)
    for j, axes in enumerate(grid[0]):
        offset = (first + j - (height - 1) / 2) * spacing_mm[0]
        axes.set_title(f"{offset:+.1f} mm", fontsize=7.5, color=INK)
    figure.subplots_adjust(1.5 / (n_slices + 1.6), 0.01, 0.99, 1 - 0.25 / len(fields), 0.04, 0.04)
    return figure


@dataclass(frozen=True, eq=False)
class Slice:
    """A picture of one slice of a CT, for `ct_slices`.

    Attributes:
        hu: HU [y, x].
        mask: bool [y, x]; its outline is drawn.
        caption: one line or several above the picture, of at most `CAPTION_CHARACTERS`.
        center: pixel (y, x) in the middle of the picture.
        colour: colour of the outline.
        half: pixels shown on each side of `center`; the `half` of `ct_slices` if None.
        others: bool [y, x]; the outline of further nodules is drawn, dashed; None for none.
        pixel_mm: width of a pixel, for a bar of 10 mm; None for no bar.
    """

    hu: NDArray[np.number]
    mask: NDArray[np.bool_]
    caption: str
    center: Sequence[int]
    colour: str = REAL
    half: int | None = None
    others: NDArray[np.bool_] | None = None
    pixel_mm: float | None = None


def ct_slices(
    slices: Sequence[Slice],
    *,
    half: int,
    columns: int = 5,
    window_hu: tuple[float, float] = DISPLAY_WINDOW_HU,
    below: str = "",
) -> Figure:
    """Draw CT slices with the outlines of their masks, all in one window.

    Args:
        slices: one for each picture.
        half: pixels shown on each side of a slice's centre, unless the slice has a `half` of its own.
        columns: pictures in a row.
        window_hu: HU (low, high) drawn black and white.
        below: lines below all pictures; those that are wider than the pictures are broken.
    """
    columns = min(columns, len(slices))
    below = "\n".join(fill(line, CAPTION_CHARACTERS * columns) for line in below.splitlines())
    rows = -(-len(slices) // columns)
    more = CAPTION_LINE_INCHES * max(shown.caption.count("\n") for shown in slices)
    foot = CAPTION_LINE_INCHES * (below.count("\n") + 1.5) if below else 0.0
    tall = (2.4 + more) * rows + foot
    figure = Figure(figsize=(2.2 * columns, tall), dpi=DPI, facecolor=PAPER)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, shown in zip(grid, slices, strict=False):
        low, high = window_hu
        axes.imshow(shown.hu, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
        if shown.mask.any():
            axes.contour(shown.mask, [0.5], colors=[shown.colour], linewidths=1.0)
        if shown.others is not None and shown.others.any():
            axes.contour(shown.others, [0.5], colors=[shown.colour], linewidths=1.0, linestyles="dotted")
        y, x = shown.center
        height, width = shown.hu.shape
        reach = shown.half or half
        axes.set_xlim(max(x - reach, 0) - 0.5, min(x + reach, width) - 0.5)
        axes.set_ylim(min(y + reach, height) - 0.5, max(y - reach, 0) - 0.5)
        axes.set_title(shown.caption, fontsize=7.5, color=INK, parse_math=False)
        if shown.pixel_mm is not None:
            _bar(axes, SCALE_BAR_MM / shown.pixel_mm)
    top = 1 - (0.2 + more) / tall
    figure.subplots_adjust(0.01, 0.01 + foot / tall, 0.99, top, 0.05, 0.12 + more / 2.1)
    if below:
        figure.text(0.01, 0.3 * CAPTION_LINE_INCHES / tall, below, fontsize=7.5, color=INK, va="bottom")
    return figure


def _bar(axes: Axes, pixels: float) -> None:
    """Draw a bar of `SCALE_BAR_MM` with its length into the lower left corner of a picture of a slice."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    x, y = left + 0.05 * (right - left), bottom + 0.06 * (top - bottom)
    outline = [patheffects.withStroke(linewidth=2.2, foreground="black")]
    axes.plot([x, x + pixels], [y, y], color="white", linewidth=1.4, path_effects=outline)
    above = y + 0.03 * (top - bottom)
    axes.text(x, above, f"{SCALE_BAR_MM:g} mm", fontsize=6, color="white", va="bottom", path_effects=outline)


def tissue_slices(
    tissues: Sequence[NDArray[np.uint8]],
    rows: Mapping[str, Sequence[NDArray[np.number]]],
    *,
    captions: Sequence[str],
    window_hu: tuple[float, float] = TISSUE_WINDOW_HU,
) -> Figure:
    """Draw slices of label maps in the colours of their tissue classes, and below each the same slice of some CTs.

    Args:
        tissues: uint8 [y, x] each, codes of `TissueClass`; one for each column.
        rows: name of a row of CT slices -> HU [y, x] for each column.
        captions: captions of the columns.
        window_hu: HU (low, high) drawn black and white.
    """
    colours = ListedColormap(list(CLASS_COLOURS.values()))
    size = 1.7
    width = max(size * len(tissues), 5.0)  # inches; the legend takes 5
    figure = Figure(figsize=(width + 0.5, size * (len(rows) + 1) + 0.5), dpi=DPI, facecolor=PAPER)
    grid = figure.subplots(len(rows) + 1, len(tissues), squeeze=False)
    for axes, tissue, caption in zip(grid[0], tissues, captions, strict=True):
        axes.imshow(tissue, cmap=colours, vmin=-0.5, vmax=len(CLASS_COLOURS) - 0.5, interpolation="nearest")
        axes.set_title(caption, fontsize=7.5, color=INK)
    for own, (name, shown) in zip(grid[1:], rows.items(), strict=True):
        for axes, hu in zip(own, shown, strict=True):
            axes.imshow(hu, cmap="gray", vmin=window_hu[0], vmax=window_hu[1], interpolation="nearest")
        own[0].set_ylabel(name, fontsize=7.5, color=INK)
    grid[0][0].set_ylabel("label map", fontsize=7.5, color=INK)
    for axes in grid.ravel():
        axes.set_xticks([])
        axes.set_yticks([])
    handles = [Patch(facecolor=colour, edgecolor=INK, linewidth=0.4) for colour in CLASS_COLOURS.values()]
    names = [own.name.lower() for own in CLASS_COLOURS]
    figure.legend(handles, names, loc="lower center", ncols=len(names), fontsize=7, frameon=False, handlelength=1)
    figure.tight_layout(rect=(0, 0.25 / figure.get_figheight(), 1, 1), pad=0.4)
    return figure


def chest_planes(
    scans: Sequence[Volume],
    colour: str,
    *,
    captions: Sequence[str] = (),
    window_hu: tuple[float, float] = DISPLAY_WINDOW_HU,
) -> Figure:
    """Draw the middle axial, coronal and sagittal plane of each scan in true proportions, a column for each scan.

    Args:
        scans: HU [z, y, x], with axes along LPS.
        colour: colour of the captions, such as `REAL` or `SYNTHETIC`.
        captions: captions of the columns.
        window_hu: HU (low, high) drawn black and white.
    """
    figure = Figure(figsize=(2.2 * len(scans), 6.4), dpi=DPI, facecolor=PAPER)
    grid = figure.subplots(3, len(scans), squeeze=False)
    low, high = window_hu
    for column, scan in enumerate(scans):
        for axis, axes in enumerate(grid[:, column]):
            plane = scan.voxels.take(scan.shape[axis] // 2, axis)
            rows, columns = (spacing for i, spacing in enumerate(scan.spacing_mm) if i != axis)
            # The head is up; in the axial plane the front is up.
            origin: Literal["upper", "lower"] = "lower" if axis else "upper"
            axes.imshow(plane, cmap="gray", vmin=low, vmax=high, aspect=rows / columns, origin=origin)
            axes.set_axis_off()
        if captions:
            grid[0, column].set_title(captions[column], fontsize=7.5, color=colour)
    figure.subplots_adjust(0.01, 0.01, 0.99, 0.96 if captions else 0.99, 0.03, 0.03)
    return figure


def histograms(
    groups: Mapping[str, NDArray[np.float64]],
    names: Mapping[str, str],
    colours: Sequence[str],
    *,
    columns: int = 4,
) -> Figure:
    """Draw the histogram of each feature in several groups, with the groups' medians as lines.

    Values beyond the first and last percentile are counted in the outermost bars.

    Args:
        groups: label -> values [n, features].
        names: short name -> description of each feature, in the order of the values' columns.
        colours: colours of the groups.
        columns: histograms in a row.
    """
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(2.6 * columns, 1.75 * rows), dpi=DPI, facecolor=PAPER)
    panels = figure.subplots(rows, columns).ravel()
    for i, (axes, (name, description)) in enumerate(zip(panels, names.items(), strict=False)):
        columns_of = [values[np.isfinite(values[:, i]), i] for values in groups.values()]
        low, high = np.percentile(np.concatenate(columns_of), [1, 99])
        bins = np.linspace(low, high if high > low else low + 1, 22)
        for values, colour, label in zip(columns_of, colours, groups, strict=True):
            clipped = np.clip(values, bins[0], bins[-1])
            axes.hist(clipped, bins, weights=np.full(len(clipped), 1 / len(clipped)), color=colour, alpha=0.55)
            axes.axvline(float(np.median(values)), color=colour, linewidth=1.4, label=f"{label}, median")
        axes.set_title(f"{name}  {description}", fontsize=7.5, color=INK, loc="left")
        axes.tick_params(labelsize=6.5, length=2)
        axes.set_yticks([])
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="lower right", fontsize=8, frameon=False, ncols=2)
    figure.tight_layout(rect=(0, 0.03, 1, 1))
    return figure


def curve(x: Sequence[float], y: Sequence[float], x_label: str, y_label: str) -> Figure:
    """Draw a curve with a logarithmic y axis."""
    figure = Figure(figsize=(5.2, 2.4), dpi=DPI, facecolor=PAPER)
    axes = figure.subplots()
    axes.semilogy(x, y, color=SYNTHETIC, linewidth=1.6)
    _label(axes, x_label, y_label)
    figure.tight_layout()
    return figure


def scatter(
    groups: Mapping[str, tuple[Sequence[float] | NDArray, Sequence[float] | NDArray]],
    colours: Sequence[str],
    x_label: str,
    y_label: str,
    *,
    diagonal: bool = False,
    logarithmic: bool = False,
) -> Figure:
    """Draw points of several groups in one plane.

    Args:
        groups: label -> x and y, [n] each.
        colours: colours of the groups.
        x_label, y_label: labels of the axes.
        diagonal: draw the line y = x.
        logarithmic: whether both axes have a logarithmic scale.
    """
    figure = Figure(figsize=(5.2, 4.0), dpi=DPI, facecolor=PAPER)
    axes = figure.subplots()
    for (label, (x, y)), colour in zip(groups.items(), colours, strict=True):
        many = len(x) > 200
        axes.scatter(x, y, s=7 if many else 26, color=colour, alpha=0.45 if many else 0.9, label=label, linewidths=0)
    if logarithmic:
        axes.set_xscale("log")
        axes.set_yscale("log")
    if diagonal:
        low, high = axes.get_xlim()
        axes.plot([low, high], [low, high], color=INK, linewidth=0.8, linestyle="--")
        axes.set_xlim(low, high)
    _label(axes, x_label, y_label)
    _legend(axes, len(groups))
    figure.tight_layout()
    return figure


def lines(
    panels: Mapping[str, Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]],
    colours: Sequence[str],
    x_label: str,
    y_label: str,
) -> Figure:
    """Draw lines of several groups in panels side by side, which share the y axis.

    Args:
        panels: title of a panel -> label of a line -> x and y, [n] each.
        colours: colours of the lines, in their order.
        x_label, y_label: labels of the axes.
    """
    figure = Figure(figsize=(2.6 * len(panels) + 0.4, 2.8), dpi=DPI, facecolor=PAPER)
    grid = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axes, (title, groups) in zip(grid, panels.items(), strict=True):
        for (label, (x, y)), colour in zip(groups.items(), colours, strict=True):
            axes.plot(x, y, color=colour, linewidth=1.6, label=label)
        _label(axes, x_label, y_label if axes is grid[0] else "")
        axes.set_title(title, fontsize=8.5, color=INK, loc="left")
    grid[-1].legend(fontsize=7.5, frameon=False)
    figure.tight_layout()
    return figure


@dataclass(frozen=True)
class Numbered:
    """A point in the panels of `numbered`.

    Attributes:
        name: written beside its number in the list below the panels.
        colour: colour of the point.
        values: name -> value; a `Panel` names the two that place the point in it.
    """

    name: str
    colour: str
    values: Mapping[str, float]


@dataclass(frozen=True)
class Panel:
    """A panel of `numbered`: two values of each point against each other.

    Attributes:
        x, y: name of the value along the axis, and the axis' label.
        x_range, y_range: ends (low, high) of the axis; chosen to hold all points if None.
        logarithmic: whether the y axis is.
    """

    x: tuple[str, str]
    y: tuple[str, str]
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    logarithmic: bool = False


def numbered(points: Sequence[Numbered], panels: Sequence[Panel], columns: int = 4) -> Figure:
    """Draw points as numbers in several panels, with a list of the numbers' names below.

    A point that lacks one of a panel's two values is left out of that panel.

    Args:
        points: numbered from 1 in their order.
        panels: side by side.
        columns: number of columns in the list of names.
    """
    lines = -(-len(points) // columns)
    height = 3.4 + 0.16 * lines
    figure = Figure(figsize=(3.7 * len(panels), height), dpi=DPI, facecolor=PAPER)
    grid = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, panel in zip(grid, panels, strict=True):
        for number, point in enumerate(points, start=1):
            if panel.x[0] in point.values and panel.y[0] in point.values:
                at = point.values[panel.x[0]], point.values[panel.y[0]]
                axes.scatter(*at, s=60, color=point.colour, alpha=0.25, linewidths=0)
                style: Any = {"ha": "center", "va": "center", "fontsize": 6.5, "color": point.colour, "clip_on": True}
                axes.annotate(str(number), at, annotation_clip=True, **style)
        if panel.logarithmic:
            axes.set_yscale("log")
        if panel.x_range:
            axes.set_xlim(panel.x_range)
        if panel.y_range:
            axes.set_ylim(panel.y_range)
        _label(axes, panel.x[1], panel.y[1])
    figure.subplots_adjust(0.06, 1 - 3.3 / height * 0.88, 0.99, 0.98, 0.33)
    for i, point in enumerate(points):
        column, line = divmod(i, lines)
        place = (0.02 + 0.98 * column / columns, (lines - line - 0.5) * 0.16 / height)
        figure.text(*place, f"{i + 1}  {point.name}", fontsize=7, color=point.colour, va="center")
    return figure


def bars(groups: Mapping[str, Sequence[float]], labels: Sequence[str], colours: Sequence[str], y_label: str) -> Figure:
    """Draw a cluster of bars for each label, with a bar for each group.

    Args:
        groups: name -> a value for each label; NaN leaves the bar out.
        labels: labels of the clusters.
        colours: colours of the groups.
        y_label: label of the y axis.
    """
    figure = Figure(figsize=(max(5.2, 0.75 * len(labels) + 1), 2.8), dpi=DPI, facecolor=PAPER)
    axes = figure.subplots()
    width = 0.8 / len(groups)
    for i, ((name, values), colour) in enumerate(zip(groups.items(), colours, strict=True)):
        axes.bar(np.arange(len(labels)) + (i - (len(groups) - 1) / 2) * width, values, width, color=colour, label=name)
    axes.set_xticks(range(len(labels)), labels)
    _label(axes, "", y_label)
    _legend(axes, len(groups))
    figure.tight_layout()
    return figure


def forest(rows: Mapping[str, tuple[float, float, float]], x_label: str) -> Figure:
    """Draw differences with their confidence intervals, one under the other, and a line at zero.

    Args:
        rows: name -> difference and the ends of its interval (value, low, high).
        x_label: label of the x axis.
    """
    figure = Figure(figsize=(6.4, 0.26 * len(rows) + 0.9), dpi=DPI, facecolor=PAPER)
    axes = figure.subplots()
    for y, (value, low, high) in enumerate(rows.values()):
        axes.plot([low, high], [y, y], color=SYNTHETIC, linewidth=1.6)
        axes.plot(value, y, "o", color=SYNTHETIC, markersize=4.5)
    axes.axvline(0, color=INK, linewidth=0.8)
    _label(axes, x_label, "")
    axes.set_yticks(range(len(rows)), list(rows), fontsize=7.5)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.locator_params(axis="x", nbins=5)  # long names leave little width for the numbers
    figure.tight_layout()
    return figure


def training_curves(
    panels: Mapping[str, Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]], window: int
) -> Figure:
    """Draw noisy training curves as running means, in bands that hold 95 % of the averaged values.

    Args:
        panels: title of a panel -> label of a curve -> steps and values, [n] each.
        window: neighbouring values that are averaged.
    """
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.2 * columns, 2.8 * rows), dpi=DPI, facecolor=PAPER)
    for place, (title, curves) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(rows, columns, place)
        for (label, (steps, values)), colour in zip(curves.items(), cycle((SYNTHETIC, REAL, INK)), strict=False):
            padded = np.pad(values, (window // 2, (window - 1) // 2), mode="reflect")
            near = np.lib.stride_tricks.sliding_window_view(padded, window)
            low, high = np.quantile(near, [0.025, 0.975], axis=1)
            axes.fill_between(steps, low, high, color=colour, alpha=0.2, linewidth=0)
            axes.plot(steps, near.mean(1), color=colour, linewidth=1.4, label=label)
        _label(axes, "step", "")
        axes.set_title(title, fontsize=8.5, color=INK, loc="left")
        if len(curves) > 1:
            axes.legend(fontsize=7.5, frameon=False)
    figure.tight_layout()
    return figure


def _legend(axes: Axes, columns: int) -> None:
    """Put the legend above the axes, where it cannot cover a point."""
    place: Any = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2, "columnspacing": 1.2}
    axes.legend(fontsize=7.5, frameon=False, ncols=columns, handletextpad=0.4, **place)


def _label(axes: Axes, x_label: str, y_label: str) -> None:
    axes.set_xlabel(x_label, fontsize=8.5, color=INK)
    axes.set_ylabel(y_label, fontsize=8.5, color=INK)
    axes.tick_params(which="both", labelsize=7.5)
    axes.grid(alpha=0.25, which="both", linewidth=0.5)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _smooth(
    mask: NDArray[np.bool_], spacing_mm: tuple[float, float, float]
) -> tuple[NDArray[np.float32], tuple[float, float, float]]:
    """Blur a mask on nearly cubic voxels, for a smooth surface at `DISPLAY_LEVEL`; give the field and its spacing."""
    factor = tuple(max(1, round(s / min(spacing_mm))) for s in spacing_mm)
    padded = np.pad(mask, 2).astype(np.float32)
    finer = zoom(padded, factor, order=1, mode="grid-constant", grid_mode=True)
    z, y, x = (s / f for s, f in zip(spacing_mm, factor, strict=True))
    return gaussian_filter(finer, 0.6), (z, y, x)
