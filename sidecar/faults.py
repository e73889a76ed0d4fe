"""What of an exception is safe to log: its type and our own frames. Its text may quote a request, and with it a
token.
"""

from __future__ import annotations

OWN = ("sidecar.", "eastgate.")


def describe_fault(error: BaseException) -> str:
    """``ValueError in module.function:line < module.function:line``, innermost first."""
    frames = []
    trace = error.__traceback__
    while trace is not None:
        module = trace.tb_frame.f_globals.get("__name__", "")
        if module.startswith(OWN):
            frames.append(f"{module}.{trace.tb_frame.f_code.co_name}:{trace.tb_lineno}")
        trace = trace.tb_next
    return f"{type(error).__name__} in {' < '.join(reversed(frames)) or 'foreign code'}"
