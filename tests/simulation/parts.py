"""The functions of the product that the worlds are made of; a test replaces one of them to plant a bug."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from services.dispatcher import decide as deciding
from services.dispatcher import match as matching
from services.dispatcher import tasks
from services.executor import lease, reconcile
from services.policy import answering, approval
from services.result_publisher import judge, plan

F = Callable[..., Any]


@dataclass(frozen=True)
class Parts:
    """One field per function under test, the real one by default."""

    decide: F = deciding.decide
    receive: F = tasks.receive
    match: F = matching.match
    reply: F = answering.reply
    answer: F = approval.answer
    take: F = lease.take
    stop: F = lease.stop
    launch: F = lease.launch
    renew: F = lease.renew
    started: F = lease.started
    finished: F = lease.finished
    expired: F = lease.expired
    reconcile: F = reconcile.reconcile
    next_move: F = plan.next_move
    after_look: F = plan.after_look
    after_write: F = plan.after_write
    judge: F = judge.judge
    #: Not a function of its own: whether an inbox remembers what it took, and a freed slot is given back.
    remembers: bool = True
    frees: bool = True
    sees_taken: bool = True  #: whether a claim looks at free slots only
    #: Whether a supervisor that cannot renew kills its agent before its lease ends.
    kills_in_time: bool = True
