"""Read by Python before anything else, where it lies on the path: a clock that is set, again and again.

Every second what the wall clock says jumps: a day ahead, a year back, to the beginning of 1970.
"""

import time

_real, _since = time.time, time.monotonic()
_JUMPS = (86_400.0, -31_536_000.0, None)


def _offset(now: float) -> float:
    jump = _JUMPS[int(time.monotonic() - _since) % len(_JUMPS)]
    return -now if jump is None else jump


def _time() -> float:
    now = _real()
    return now + _offset(now)


time.time = _time
time.time_ns = lambda: int(_time() * 1e9)
