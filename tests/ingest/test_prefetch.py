"""What is made in advance comes in its order, and so does what goes wrong in making it."""

from collections.abc import Iterator
from threading import Event, get_ident

import pytest
from backsight_ingest.prefetch import prefetched


def test_one_item_is_made_while_the_one_before_is_worked_on() -> None:
    made = [Event() for _ in range(4)]
    threads = set()

    def items() -> Iterator[int]:
        for number, event in enumerate(made):
            threads.add(get_ident())
            event.set()
            yield number

    coming = prefetched(items())
    assert next(coming) == 0
    assert made[1].wait(timeout=10)
    assert not made[2].is_set()
    assert [*coming] == [1, 2, 3]
    assert threads != {get_ident()}
    assert len(threads) == 1


def test_an_error_comes_after_what_was_made_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("the second is broken")

    coming = prefetched(items())
    assert next(coming) == 1
    with pytest.raises(ValueError, match="the second is broken"):
        next(coming)


def test_what_is_not_wanted_any_more_is_not_made() -> None:
    made = []

    def items() -> Iterator[int]:
        for number in range(10):
            made.append(number)
            yield number

    coming = prefetched(items())
    next(coming)
    coming.close()
    assert made == [0, 1]
    assert [*prefetched(iter(()))] == []
