"""Systems that the contracts are run over, what they can do, and what can be asked of them."""

from synthorax.errors import InputError
from synthorax.makers import ATTRIBUTES
from synthorax.nodule import NoduleAttributes
from synthorax.registry import BUILT_IN

GENERATORS = {"makes shapes", "makes patches"}
OTHERS = {"toy": {"makes patches"}, "dabs": {"injects", "erases", "judges"}}
"""Roles of the other packages' systems."""
ROLES = {
    name: frozenset(roles) | ({"injects"} if "makes patches" in roles else set())
    for name, roles in ({entry.name: entry.roles for entry in BUILT_IN} | OTHERS).items()
}
"""What systems can do; whatever makes patches can be injected too."""
USUAL = NoduleAttributes(diameter_mm=6.0, texture=5.0, malignancy=3.0)


def entries(*roles):
    """Names of the systems that can do one of some roles; all if none is given."""
    return [name for name, own in ROLES.items() if not roles or own & set(roles)]


def wanted(maker, n):
    """`n` requests by turns, of those that a generator takes: all that it heeds, nothing of it, and no nodule."""
    told = NoduleAttributes(**{name: value for name, value in vars(USUAL).items() if name in maker.heeds})
    each = [(told,), *(one for one in ((NoduleAttributes(),), ()) if takes(maker, one))]
    return [each[i % len(each)] for i in range(n)]


def takes(maker, asked):
    """Whether a generator makes what is asked for; a diameter may have to be said."""
    try:
        maker.sample([asked], 0)
    except InputError:
        return False
    return True


def not_heeded(maker):
    """An attribute that a maker does not listen to."""
    return NoduleAttributes(**{min(ATTRIBUTES - maker.heeds): 3.0})
