"""Workers: one event loop each, in this process or in others of their own.

``worker`` is one; ``process`` is one alone in a process; ``supervisor`` starts, watches and adds up several, and talks
to them by ``messages``. Knows: processes and loops. Must not know: files, signals, or what a plan says.
"""
