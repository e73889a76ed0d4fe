"""The data plane: a mitmproxy that decides at the door of one workload.

Knows: ``connections``, ``lanes`` (http1, http2, opaque, refusal), fetching keys (``jwks``), ``policies`` and their
reloading, ``workers``, the app's ``probes``, ``redirections``, the admin port, the log. It starts by ``serve`` or by
``pod``.
Must not know: Kubernetes' API, Flask, ``webhook``, or any policy rule: it asks ``eastgate.decide`` and obeys.
``_mitmproxy`` is the only module that imports mitmproxy; ``gate`` the only one that asks for decisions.
"""
