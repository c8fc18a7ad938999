"""Prefetching: the next item is made while the caller works on the one before."""

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

_T = TypeVar("_T")
_END: Final = object()


def prefetched(items: Iterator[_T]) -> Generator[_T, None, None]:
    """Yield items, one of them made in advance in a thread of its own; an error in making one comes in its place.

    Close it when its items are not wanted any more: the one that is being made then is waited for.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch") as thread:
        coming = thread.submit(next, items, _END)
        while (item := coming.result()) is not _END:
            coming = thread.submit(next, items, _END)
            yield item  # type: ignore[misc]
