"""Result publisher: imports what an attempt made, checks it, and writes it to the outside, each effect exactly once.

Hears   PublishRequested, PublishStopAsked, RunEnded
Says    ResultVerified, ResultPublished
Owns    publications, effects
Never   checks out what an agent wrote, runs git where an agent could write, forces a push, merges, or moves a run
"""
