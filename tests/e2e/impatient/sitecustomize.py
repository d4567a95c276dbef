"""For processes that have this folder in PYTHONPATH: the hub they are tested with is not going to come back."""

import time

_sleep = time.sleep
# The clients wait seconds between their tries. None at all would let whoever waits for a lock keep a processor busy.
time.sleep = lambda seconds: _sleep(min(float(seconds), 0.01))
