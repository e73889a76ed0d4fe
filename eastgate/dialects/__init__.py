"""One reader a YAML dialect: text in, model out, and a diagnostic for everything that was not understood.

Knows: the shape of each foreign and own kind, and which objects refer to which. ``documents`` reads YAML the way
kubectl does and keeps line numbers; ``catalogue`` finds referenced objects; ``gloo``, ``eastgate`` and
``envoy_gateway`` read their kinds, ``gateway`` the routes and backends of the Gateway API that policies refer to;
``corpus`` is the door: texts in, ``PolicySet`` out.
Must not know: workloads, requests, keys' contents beyond their text, files or the network.
Rule of the room: every field is honoured, or refused with a message that names it; none is silently ignored.
"""
