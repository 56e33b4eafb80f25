"""The options of an edit. Does not import torch."""

from synthorax import makers


class Options(makers.Options):
    """Options of an edit.

    Attributes:
        hu: density of the balls.
    """

    hu: float = 40.0
