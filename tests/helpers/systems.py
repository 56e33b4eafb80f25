"""The systems that the contracts are tested on, their roles, and requests that they accept."""

from synthorax.errors import InputError
from synthorax.hub import blends
from synthorax.nodule import ATTRIBUTES, NoduleAttributes
from synthorax.registry import BUILT_IN

GENERATORS = {"makes shapes", "makes patches"}
OTHERS = {"toy": {"makes patches"}, "dabs": {"injects", "erases", "judges"}}
"""Roles of the systems of other packages."""
ROLES = {
    name: frozenset(roles) | ({"injects"} if blends(roles) else set())
    for name, roles in ({entry.name: entry.roles for entry in BUILT_IN} | OTHERS).items()
}
"""Roles of every system; a system whose patches are blended into scans injects too."""
USUAL = NoduleAttributes(diameter_mm=6.0, texture=5.0, malignancy=3.0)


def entries(*roles):
    """Return the names of the systems that have at least one of the roles; of all systems if no role is given."""
    return [name for name, own in ROLES.items() if not roles or own & set(roles)]


def wanted(maker, n):
    """Return `n` requests that a generator accepts.

    They have in turn all attributes that it heeds, no attribute, and no nodule.
    """
    usual = NoduleAttributes(**{name: value for name, value in vars(USUAL).items() if name in maker.heeds})
    each = [(usual,), *(one for one in ((NoduleAttributes(),), ()) if takes(maker, one))]
    return [each[i % len(each)] for i in range(n)]


def takes(maker, asked):
    """Return whether a generator accepts a request; some need a diameter."""
    try:
        maker.sample([asked], 0)
    except InputError:
        return False
    return True


def not_heeded(maker):
    """Return a nodule with one attribute that the maker does not heed."""
    return NoduleAttributes(**{min(set(ATTRIBUTES) - maker.heeds): 3.0})
