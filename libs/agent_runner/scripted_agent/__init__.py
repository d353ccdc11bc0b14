"""The built-in scripted agent: a real program in the real sandbox that does what a script says. No model is involved.

It runs under the system's own Python, alone: standard library only, and nothing of the rest of this distribution.
"""
