"""Executor: turns one request into one attempt of an agent, and says how it ended once nothing of it lives.

Hears   AttemptRequested, AttemptStopAsked
Says    AttemptPreparing, AttemptStarted, AttemptFinished, QuestionAsked
Owns    attempts
Never   decides whether a run goes on, pushes, holds a provider's key, or runs git where an agent could write
"""
