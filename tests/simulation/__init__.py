"""The whole protocol as one deterministic machine, on the very functions that the product runs.

A world is the tables of the dispatcher, policy, the executor and the publisher, the facts that are under way, the
supervisors that really live, and what really stands outside. One action is one transaction of one service, or one act
outside, or one thing that people or misfortune do. Between two actions anything may happen, so every place where a
process can die between two writes is explored by what is (not) chosen next; memory that dies with a process is wiped by
an action of its own (``crash``).

    python -m tests.simulation --seed 7            replay one random walk as a numbered story
    python -m tests.simulation --walks 500         explore longer
    python -m tests.simulation --small NAME        one small world, whole
"""
