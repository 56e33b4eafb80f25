"""The picture of the architecture is up to date."""

import re

from architecture_picture import PICTURE, ROOT, rooms_of, svg


def test_the_committed_picture_is_that_of_this_tree():
    assert PICTURE.read_text() == svg(rooms_of(ROOT)), "the picture is out of date: make architecture"


def test_every_import_between_rooms_is_drawn_right_of_the_rooms_own_column():
    rooms = rooms_of(ROOT)
    places = {room.name: i for i, room in enumerate(rooms)}
    pairs = re.findall(r"<title>(\w+) imports (\w+)</title>", svg(rooms))
    assert len(pairs) == sum(len(room.imports) for room in rooms) > 100
    assert all(places[room] < places[other] for room, other in pairs)
