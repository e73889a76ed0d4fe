"""Eastgate: who may call whom inside a Kubernetes cluster, decided by JSON Web Tokens at the receiver.

This package is the pure core and the command line. A request walks through its rooms in this order:

``dialects`` read policy files into the ``model``; ``compile`` turns the model and a workload into a plan;
``decide`` answers one request against the plan with the ``keys`` it is handed; ``render`` writes the answer
down for HTTP, gRPC, the log, metrics and people; ``cli`` is the door.

Nothing here opens a socket, starts a thread, reads the clock or the environment (``cli`` excepted, which is
a shell): ``now`` and keys are arguments. The data plane lives in ``sidecar``, the control plane in ``webhook``.
"""

__version__ = "0.1.0"
