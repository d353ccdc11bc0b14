"""Dispatcher: the only writer of runs.

Owns    tasks, runs, run_steps, run_queue, agent_slots
Never   talks to the outside world, to agents or to Kubernetes
"""
