"""The numbers of both banks: what a peer may not do, and what is acknowledged when."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avlab.core.errors import LinkError
from avlab.core.message import ItemMessage
from avlab.remote.delivery import MAX_IN_FLIGHT, CallerBank, HostBank

# What a peer may not do.


def output(ordinal: int, input: int = 1, last: bool = False) -> ItemMessage:
    return ItemMessage(input=input, k=1, ordinal=ordinal, last=last)


@pytest.fixture
def caller() -> CallerBank:
    bank = CallerBank(window=4)
    bank.granted = 8
    for _ in range(3):
        bank.number(ItemMessage())
    return bank


def test_a_repeated_output_is_dropped(caller) -> None:
    assert caller.accept(output(1))
    assert not caller.accept(output(1))
    assert caller.accept(output(2))


@pytest.mark.parametrize(
    ("outputs", "text"),
    [
        ([output(2)], "lost"),
        ([output(1, input=2)], "instead of 1"),
        ([output(1, input=0)], "instead of 1"),
        ([output(1, last=True), output(2, input=1)], "instead of 2"),
        ([output(n, n, True) for n in (1, 2, 3)] + [output(4, 4)], "never sent"),
        ([output(n) for n in range(1, 6)], "window of 4"),
    ],
)
def test_an_impossible_output_is_refused(caller, outputs, text) -> None:
    *possible, impossible = outputs
    for message in possible:
        assert caller.accept(message)
    with pytest.raises(LinkError, match=text):
        caller.accept(impossible)


def test_credit_is_never_overdrawn_whatever_is_granted(caller) -> None:
    caller.granted = 1 << 63
    while caller.room:
        caller.number(ItemMessage())
    assert caller.sent == MAX_IN_FLIGHT


@pytest.mark.parametrize(("numbers", "text"), [([2], "lost"), ([1, 2, 3], "without credit"), ([1, 3], "lost")])
def test_an_impossible_input_is_refused(numbers, text) -> None:
    bank = HostBank(inputs=2)
    *possible, impossible = numbers
    for number in possible:
        assert bank.accept(ItemMessage(input=number))
    with pytest.raises(LinkError, match=text):
        bank.accept(ItemMessage(input=impossible))


def test_an_acknowledgement_of_what_was_never_made_is_refused() -> None:
    bank = HostBank()
    with pytest.raises(LinkError, match="before it was made"):
        bank.acknowledge(1)
    with pytest.raises(LinkError, match="before it was made"):
        bank.accept(ItemMessage(input=1, acked=1))


@given(st.lists(st.booleans(), max_size=20), st.permutations(range(8)))
def test_outputs_delivered_in_any_order_are_acknowledged_without_gaps(lasts, order) -> None:
    bank = CallerBank(window=8)
    bank.granted = 8
    number = 1
    bank.number(ItemMessage())
    for ordinal in range(1, 9):
        last = ordinal <= len(lasts) and lasts[ordinal - 1]
        bank.accept(ItemMessage(input=number, ordinal=ordinal, last=last))
        if last:
            bank.number(ItemMessage())
            number += 1
    done: set[int] = set()
    for index in order:
        bank.delivered(index + 1)
        done.add(index + 1)
        assert bank.acked == next(n for n in range(9) if n + 1 not in done)


def test_what_could_not_be_sent_leaves_no_trace() -> None:
    caller, host = CallerBank(), HostBank()
    caller.granted = 4
    first = caller.number(ItemMessage())
    caller.withdraw(caller.number(ItemMessage()))
    assert (caller.sent, caller.in_flight, caller.first_undelivered) == (1, 1, 1)
    host.accept(first)
    host.output(ItemMessage(), last=False)
    host.withdraw(host.output(ItemMessage(), last=True))
    again = host.output(ItemMessage(), last=True)
    assert (again.input, again.k, again.ordinal, again.granted) == (1, 2, 2, 17)
