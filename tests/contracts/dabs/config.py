"""What a dab can be told. No torch here."""

from synthorax import makers


class Options(makers.Options):
    """Options of an edit.

    Attributes:
        hu: density of the balls.
    """

    hu: float = 40.0
