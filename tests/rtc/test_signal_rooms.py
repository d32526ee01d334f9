"""Rooms: tokens are for one use, everything is bounded."""

import json

import pytest

from avlab.core.clock import FakeClock
from avlab.core.errors import ConfigError, Denied
from avlab.media.signaling.address import Address, Invitation
from avlab.media.signaling.rooms import Bounds, Rooms


class Box(list):
    """Keeps what is delivered, as far as there is room."""

    def __init__(self, room=100):
        super().__init__()
        self.room = room

    def deliver(self, message):
        if len(self) >= self.room:
            return False
        self.append(json.loads(message))
        return True


def entered(rooms, room="studio", role="script"):
    member, box = rooms.admit(room, rooms.invite(room), role), Box()
    rooms.enter(member, box.deliver)
    return member, box


def test_a_token_lets_one_in_once_and_only_into_its_room():
    clock = FakeClock()
    rooms = Rooms(Bounds(), clock)
    token = rooms.invite("studio")
    for wrong in ("", "x", token[:-1], token + "x", None, 5, ["a"]):
        with pytest.raises(Denied, match="invitation"):
            rooms.admit("studio", wrong, "view")
    rooms.admit("studio", token, "view")
    with pytest.raises(Denied, match="used"):
        rooms.admit("studio", token, "view")
    with pytest.raises(Denied):
        rooms.admit("other", rooms.invite("studio"), "view")
    late = rooms.invite("studio")
    clock.advance(601)
    with pytest.raises(Denied, match="too old"):
        rooms.admit("studio", late, "view")


def test_members_hear_of_each_other_and_messages_go_to_one():
    rooms = Rooms(Bounds(), FakeClock())
    first, heard_first = entered(rooms)
    second, heard_second = entered(rooms, role="camera")
    stranger, heard_stranger = entered(rooms, "other")
    assert heard_first == [{"joined": second.id, "role": "camera"}]
    rooms.route(second, {"to": first.id, "data": {"sdp": "x"}})
    rooms.route(stranger, {"to": first.id, "data": "from another room"})
    rooms.route(second, {"to": "nobody", "data": 1})
    assert heard_first[1:] == [{"from": second.id, "data": {"sdp": "x"}}]
    rooms.leave(second)
    rooms.leave(second)
    assert heard_first[2:] == [{"left": second.id}]
    assert heard_second == heard_stranger == []


@pytest.mark.parametrize("message", [None, 1, [], {}, {"to": 1, "data": 1}, {"to": "x"}, {"data": 1}, "text"])
def test_malformed_messages_are_denied(message):
    rooms = Rooms(Bounds(), FakeClock())
    member, _ = entered(rooms)
    with pytest.raises(Denied):
        rooms.route(member, message)


def test_a_message_that_can_just_be_read_is_passed_on_or_denied():
    rooms = Rooms(Bounds(burst=10_000), FakeClock())
    first, (second, _) = entered(rooms)[0], entered(rooms)
    denied = 0
    for depth in range(500, 2000):
        try:
            data = json.loads("[" * depth + "]" * depth)
        except RecursionError:
            break
        try:
            rooms.route(first, {"to": second.id, "data": data})
        except Denied:
            denied += 1
    assert denied


def test_a_member_may_send_so_much_and_again_after_a_while():
    clock = FakeClock()
    rooms = Rooms(Bounds(rate=10, burst=5), clock)
    first, _ = entered(rooms)
    second, heard = entered(rooms)
    for number in range(5):
        rooms.route(second, {"to": first.id, "data": number})
    with pytest.raises(Denied, match="per second"):
        rooms.route(second, {"to": first.id, "data": 6})
    clock.advance(1)
    rooms.route(second, {"to": first.id, "data": 7})
    assert heard == []


def test_a_lost_connection_is_taken_up_with_the_key_once_and_in_time():
    clock = FakeClock()
    rooms = Rooms(Bounds(away_seconds=60), clock)
    _, heard = entered(rooms)
    second, _ = entered(rooms)
    key = rooms.key(second)
    rooms.away(second)
    clock.advance(30)
    assert rooms.resume(key) is second
    rooms.enter(second, Box().deliver)
    assert heard == [{"joined": second.id, "role": "script"}]
    rooms.key(second)
    assert rooms.resume(key) is second  # the new key was lost with its welcome
    new = rooms.key(second)
    rooms.route(second, {"to": "", "data": 0})
    with pytest.raises(Denied):
        rooms.resume(key)
    key = new
    rooms.away(second)
    clock.advance(61)
    with pytest.raises(Denied):
        rooms.resume(key)
    assert heard[1:] == [{"left": second.id}]


def test_everything_has_a_bound():
    rooms = Rooms(Bounds(rooms=1, members=2, invitations=5), FakeClock())
    entered(rooms)
    entered(rooms)
    with pytest.raises(Denied, match="full"):
        entered(rooms)
    with pytest.raises(Denied, match="rooms"):
        entered(rooms, "other")
    for _ in range(5):
        rooms.invite("studio")
    with pytest.raises(Denied, match="unused"):
        rooms.invite("studio")
    for name in ("", "a b", "x" * 65, "../x", None, 4):
        with pytest.raises(ConfigError, match="room"):
            rooms.invite(name)
    with pytest.raises(Denied, match="role"):
        entered(Rooms(Bounds(), FakeClock()), role="admin")


def test_who_does_not_listen_is_not_waited_for():
    rooms = Rooms(Bounds(), FakeClock())
    first, box = rooms.admit("studio", rooms.invite("studio"), "script"), Box(room=1)
    rooms.enter(first, box.deliver)
    second, _ = entered(rooms)
    rooms.route(second, {"to": first.id, "data": 1})
    assert first.deliver is None and len(box) == 1


def test_what_waits_for_one_who_is_away_is_the_newest_and_bounded_in_bytes():
    rooms = Rooms(Bounds(waiting=10, waiting_bytes=5000), FakeClock())
    (first, _), (second, _) = entered(rooms), entered(rooms)
    rooms.away(first)
    for number in range(300):
        first._tokens = second._tokens = 2
        rooms.route(second, {"to": first.id, "data": [number, "x" * (1000 if number < 200 else 1)]})
        assert len(first.waiting) <= 10 and sum(map(len, first.waiting)) <= 5000
    rooms.enter(first, (box := Box()).deliver)
    assert [message["data"][0] for message in box] == list(range(290, 300))


def test_one_url_says_it_all():
    address = Address.parse("https://lab.example.org:8765/#room=studio&token=a-b_c&role=camera")
    assert (address.base, address.room, address.token, address.role) == (
        "https://lab.example.org:8765", "studio", "a-b_c", "camera",
    )  # fmt: skip
    assert Address.parse(str(address)) == address
    assert address.socket == "https://lab.example.org:8765/socket"
    assert "a-b_c" not in repr(address)
    assert Address.parse("wss://h/#room=x").base == "https://h"
    for wrong in ("", "studio", "ftp://host", "http://", None, "https://user:pw@host"):
        with pytest.raises(ConfigError, match="address"):
            Address.parse(wrong)


def test_an_invitation_is_a_picture_in_a_notebook_and_in_a_terminal():
    invitation = Invitation(Address("https://host:8765", "studio", "<&>"))
    html = invitation._repr_html_()
    assert html.count("<svg") == 1 and "join room studio" in html and "<&>" not in html
    assert "▄" in invitation.text() or "█" in invitation.text()
    assert str(invitation) == invitation.url == "https://host:8765/#room=studio&token=%3C%26%3E"
