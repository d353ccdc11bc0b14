"""What to do about an attempt, given what its launcher finds of it on this host. PURE.

Asked at start and every few seconds; the answer is the same whatever the executor had begun before it died.
"""

from enum import StrEnum

from services.executor.attempt import Attempt, State
from services.executor.launchers import LaunchState


class Do(StrEnum):
    """One thing to do; every one of them may be done twice."""

    NOTHING = "nothing"  #: it lives and its lease speaks for it, or time will tell
    START = "start"  #: prepare (again) and start it
    STOP = "stop"  #: ask its supervisor to end
    KILL = "kill"  #: nothing of it may live any more
    COLLECT = "collect"  #: take the result that its supervisor kept
    LOST = "lost"  #: nothing of it lives, and no result will come
    REMOVE = "remove"  #: it is over; forget what the launcher kept


def reconcile(attempt: Attempt, found: LaunchState) -> Do:
    """Return what brings the attempt on. ``found`` is what the launcher of the attempt's own executor sees."""
    if not attempt.is_open:
        return _after_the_end(found)
    if attempt.state is State.ACCEPTED:
        return Do.NOTHING
    match found:
        case LaunchState.ALIVE if attempt.is_revoked:
            return Do.KILL
        case LaunchState.ALIVE:
            return Do.STOP if attempt.stop is not None else Do.NOTHING
        case LaunchState.LOST:
            return Do.LOST
        case LaunchState.ENDED:
            return Do.LOST if attempt.is_revoked else Do.COLLECT
        case LaunchState.UNKNOWN if attempt.state is State.LAUNCHING:
            return Do.LOST if attempt.is_revoked or attempt.stop is not None else Do.START
        case LaunchState.UNKNOWN:
            # Its folder is gone: who lives cannot be seen, so only the end of its lease proves anything.
            return Do.NOTHING


def _after_the_end(found: LaunchState) -> Do:
    match found:
        case LaunchState.ALIVE:
            return Do.KILL
        case LaunchState.UNKNOWN:
            return Do.NOTHING
        case _:
            return Do.REMOVE
