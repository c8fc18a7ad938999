"""Lanes: several walks at once, whose pages come to one place, where one after the other is committed."""

import threading
from collections.abc import Iterator, Sequence
from queue import Queue
from typing import Final

from backsight_features.spans import Span

from backsight_ingest.live.job import Job, Page

_END: Final = object()


def pages(job: Job, spans: Sequence[Span]) -> Iterator[Page]:
    """Yield the pages of several spans; within a span in order, and of at most ``job.lanes`` spans at once.

    Raises
    ------
    BacksightError
        The first one that a walk raises, after the pages that the others are at.
    """
    if job.lanes == 1 or len(spans) < 2:
        for span in spans:
            yield from job.walk(span)
        return
    # Each lane holds at most one page that nobody has taken yet.
    found: Queue[object] = Queue(maxsize=job.lanes)
    waiting = iter(list(spans))
    lock, over = threading.Lock(), threading.Event()

    def run() -> None:
        try:
            while not over.is_set():
                with lock:
                    span = next(waiting, None)
                if span is None:
                    break
                for page in job.walk(span):
                    found.put(page)
                    if over.is_set():
                        break
        except Exception as error:  # raised where the pages are taken
            found.put(error)
        finally:
            found.put(_END)

    # Daemons: after a signal nobody waits for an answer that is still under way.
    lanes = [threading.Thread(target=run, daemon=True) for _ in range(min(job.lanes, len(spans)))]
    for lane in lanes:
        lane.start()
    running, failure = len(lanes), None
    try:
        while running:
            item = found.get()
            if item is _END:
                running -= 1
            elif isinstance(item, Page):
                yield item
            elif isinstance(item, Exception):
                failure = failure or item
                over.set()
        if failure is not None:
            raise failure
    finally:
        over.set()
        while running:  # so that no lane waits for room in the queue
            running -= found.get() is _END
