"""Console: what people and programs see of the system, and how they speak to it.

Hears   nothing through an inbox; its streams read the broker by position
Says    ApprovalAnswered, CancelAsked, ResourceApplied
Owns    resources, secrets, principals
Never   moves a run, makes a task, shows a secret, or tells a person a stack trace
"""
