"""Dispatcher: the only writer of runs.

Hears   TaskReceived, PolicyDecided, ApprovalDecided, AttemptPreparing, AttemptStarted, AttemptFinished, QuestionAsked,
        AnswerGiven, ResultVerified, ResultPublished, CancelAsked, ResourceApplied
Says    DeliveryDecided, PolicyAsked, AttemptRequested, AttemptStopAsked, PublishRequested, PublishStopAsked, RunEnded
Owns    tasks, runs, run_steps, run_queue, agent_slots
Never   talks to the outside world, to agents or to Kubernetes
"""
