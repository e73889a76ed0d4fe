"""Renderers: one decision, said to everyone who has to hear it.

``http`` and ``grpc`` answer the caller, ``record`` the log, ``labels`` the metrics, ``text`` a person and ``trace`` a
program. Knows how a decision is written down. Must not know how one is made, nor any socket, clock or logger: every
renderer is a pure function. None of them ever sees a token: a decision names it by its place.
"""
