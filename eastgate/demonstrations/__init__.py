"""Things to try Eastgate with: keys and tokens, upstreams, an identity provider, and the four scenarios of ``demo``.

Knows: how to stand in for everything around a workload, on loopback, for real: sockets, TLS, processes. Must not know:
how anything is decided; it talks to ``eastgate serve`` as a client does. Nothing else imports it but ``eastgate.cli``.
"""
