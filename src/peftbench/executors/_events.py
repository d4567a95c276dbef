"""What a worker process tells, as JSON lines on its standard output, for as long as somebody listens."""

from __future__ import annotations

import json
import os
import select
import sys
import threading
from collections.abc import Callable
from typing import NoReturn

from peftbench.executors._worker import Event


def events_on_stdout() -> Callable[[Event], None]:
    """Take standard output for events alone; whatever else prints goes to standard error from now on.

    When nobody reads the events any more, this process ends at once, in the middle of what it does: whoever gave the
    runs is gone. The run is left interrupted, as a kill leaves it.
    """
    sys.stdout.flush()
    channel = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    if hasattr(select, "poll"):
        threading.Thread(target=_end_with_the_reader, args=(channel,), daemon=True).start()

    def tell(event: Event) -> None:
        try:
            # One write of a short line: it arrives whole or not at all.
            os.write(channel, (json.dumps(event) + "\n").encode())
        except OSError:
            _end()

    return tell


def _end_with_the_reader(channel: int) -> None:
    poll = select.poll()
    # Asked for nothing, it still tells of the end of the other side.
    poll.register(channel, 0)
    poll.poll()
    _end()


def _end() -> NoReturn:
    # An exception could be taken for a fault of the run and recorded.
    os._exit(1)
