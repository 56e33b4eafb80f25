"""What the page may ask for: the fields, types and limits of each request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from synthorax.anatomy.placement import Clearance, Site
from synthorax.editing.plan import NODULE_DIAMETER_MM
from synthorax.errors import InputError
from synthorax.nodule import RATINGS, NoduleAttributes

MOST_SEED = 2**31 - 1
MOST_AUTO = 50
"""Most nodules that one request places."""
MOST_TRIES = 12
"""Most nodules that one sheet compares."""
SeedAsked = Annotated[int, Field(ge=0, le=MOST_SEED)]
Millimetres = Annotated[float, Field(ge=NODULE_DIAMETER_MM[0], le=NODULE_DIAMETER_MM[1])]
VoxelIndex = Annotated[float, Field(ge=-1e5, le=1e5)]
Text = Annotated[str, Field(max_length=4096)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Value = bool | int | float | Annotated[str, Field(max_length=2000)] | list[Annotated[str, Field(max_length=200)]] | None


class Asking(BaseModel):
    """A request of the page; unknown fields and numbers that are not finite are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class OpenAsking(Asking):
    """Open a scan.

    Attributes:
        kind: where it is: below the chosen folder, uploaded, or a phantom that is made.
        path: below the chosen folder.
        upload: id of the upload.
        series: UID of a DICOM series, or the end of it.
        anyway: accept values that do not look like HU.
        seed: of the phantom.
        nodules: mean number of the phantom's own nodules.
    """

    kind: Literal["path", "upload", "phantom"]
    path: Text = ""
    upload: Name | None = None
    series: Name | None = None
    anyway: bool = False
    seed: SeedAsked = 1
    nodules: Annotated[float, Field(ge=0, le=10)] = 0.0


class PlaceAsking(Asking):
    """The place of a nodule and how it is made, without the method.

    Attributes:
        at: voxel (x, y, z) of the page.
        diameter_mm: of the nodule.
        anyway: put it in despite doubts about its place.
    """

    at: tuple[VoxelIndex, VoxelIndex, VoxelIndex] | None = None
    diameter_mm: Millimetres = 10.0
    anyway: bool = False


class NoduleRecipe(Asking):
    """How a nodule is made.

    Attributes:
        method: name of an offer.
        ratings: LIDC's ratings by name; those that are not given are left to the method.
        options: values of the method's form.
        seed: of shape and texture.
    """

    method: Name
    ratings: dict[Name, float] = Field(default_factory=dict, max_length=len(RATINGS))
    options: dict[Name, Value] = Field(default_factory=dict, max_length=50)
    seed: SeedAsked = 0

    def attributes(self) -> NoduleAttributes:
        """Return the ratings as attributes.

        Raises:
            InputError: there is no such rating.
        """
        for name in self.ratings:
            if name not in RATINGS:
                raise InputError("rating", repr(name), ", ".join(RATINGS))
        return NoduleAttributes(**self.ratings)


class InjectAsking(PlaceAsking):
    """Put nodules in: one at a voxel, or several at places that are found.

    Attributes:
        recipe: how they are made.
        auto: number of nodules whose places are found.
        site, wall_mm, vessel_mm, nodule_mm: where `auto` places them; a distance below 0 is no limit.
    """

    recipe: NoduleRecipe
    auto: Annotated[int, Field(ge=0, le=MOST_AUTO)] = 0
    site: Site = "lung"
    wall_mm: Annotated[float, Field(ge=-1, le=100)] = 2.0
    vessel_mm: Annotated[float, Field(ge=-1, le=100)] = 0.0
    nodule_mm: Annotated[float, Field(ge=-1, le=100)] = 5.0

    def places(self) -> dict[str, Any]:
        """Return the arguments of `inject` about places that are found."""
        distances = (None if mm < 0 else mm for mm in (self.wall_mm, self.vessel_mm, self.nodule_mm))
        return {"auto": self.auto, "site": self.site, "clearance": Clearance(*distances)}


class EraseAsking(PlaceAsking):
    """Take a nodule out: that of a label, or one at a voxel.

    Attributes:
        method, options, seed: as of `NoduleRecipe`.
        label: of a nodule in the mask.
    """

    method: Name
    options: dict[Name, Value] = Field(default_factory=dict, max_length=50)
    seed: SeedAsked = 0
    label: Annotated[int, Field(ge=1, le=255)] | None = None


class Try(NoduleRecipe):
    """A nodule of a sheet that compares several.

    Attributes:
        title: shown above it.
    """

    title: Annotated[str, Field(max_length=100)] = ""


class CompareAsking(PlaceAsking):
    """Make nodules at one place by several recipes, to look at them; the scan stays as it is."""

    tries: Annotated[list[Try], Field(min_length=1, max_length=MOST_TRIES)]


class ResultAsking(Asking):
    """Write the result.

    Attributes:
        layout: of the files.
    """

    layout: Literal["as read", "images", "dicom"] = "as read"


class ReaderAsking(Asking):
    """Begin a reader test.

    Attributes:
        kind: images of two folders, or nodules that are made in the open scan beside its real ones.
        real, synthetic: folders below the chosen folder.
        scan: key of an open scan with real nodules in its mask.
        recipe: how the synthetic ones are made.
        most: of each kind.
        seed: of the order and of what is made.
        reader: who reads; kept in the result.
    """

    kind: Literal["folders", "scan"]
    real: Text = ""
    synthetic: Text = ""
    scan: Name | None = None
    recipe: NoduleRecipe | None = None
    most: Annotated[int, Field(ge=1, le=200)] = 20
    seed: SeedAsked = 0
    reader: Annotated[str, Field(max_length=100)] = ""


class CallAsking(Asking):
    """A reader's call of one item.

    Attributes:
        item: number of the item.
        synthetic: whether the reader takes it for synthetic.
        confidence: 1 (guess) to 5 (certain).
        seconds: that the reader took.
    """

    item: Annotated[int, Field(ge=0, le=1000)]
    synthetic: bool
    confidence: Annotated[int, Field(ge=1, le=5)]
    seconds: Annotated[float, Field(ge=0, le=1e6)] = 0.0


def first_fault(errors: Sequence[Any]) -> str:
    """Return the first error of a validation as one sentence.

    Args:
        errors: as pydantic lists them.
    """
    first = errors[0]
    where = ".".join(str(part) for part in first["loc"] if part != "body") or "request"
    found = repr(first.get("input"))[:80]
    return f"{where}: found {found}; expected {first['msg'].removeprefix('Input should be ')}"
