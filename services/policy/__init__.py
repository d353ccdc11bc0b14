"""Policy: may this run happen, and with what? It answers, and keeps every answer; it moves nothing itself.

Hears   PolicyAsked, ApprovalAnswered
Says    PolicyDecided, ApprovalDecided
Owns    decisions, approvals, approval_answers
Never   starts an agent, sees a secret, or lets an error mean yes
"""
