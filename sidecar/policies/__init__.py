"""Policies on their way into force: files or a mounted bundle, read, reviewed and compiled to a plan.

Knows: where policies lie, and when they have changed. Must not know: connections, or who is served by a plan. Readers
and the compiler are the core's: nothing here interprets a policy.
"""
