"""Ctrl-C, and a request to terminate, between pieces of work, never within one."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

NUMBERS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C waits for the end of the block, and then does what it would have done (raise KeyboardInterrupt).

    Within a training step it would leave half a step; inside libsndfile's callbacks it would be lost, and a
    frame of audio with it. So does a request to terminate that someone handles. Only the main thread ever gets
    them, so elsewhere this does nothing.
    """
    handlers = {number: signal.getsignal(number) for number in NUMBERS}
    before = {number: handler for number, handler in handlers.items() if callable(handler)}
    if threading.current_thread() is not threading.main_thread() or not before:
        yield
        return
    came: list[int] = []
    for number in before:
        signal.signal(number, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        before[signal.Signals(came[0])](came[0], None)
