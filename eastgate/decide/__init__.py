"""One request, one answer.

``targets`` makes the request's target canonical; ``tokens`` finds tokens in raw bytes; ``token`` reads one, ``verify``
checks its signature (the only module here that is near PyJWT), ``memory`` keeps what was verified; ``requirement`` says
whether a policy has the token it wants, ``authorize`` whether its rules allow the request; ``headers`` is what tokens
say to the application, ``refusals`` what a refusal says to the client, ``statuses`` every way a token can fail;
``decision`` is the door. Must not know: YAML, sockets, clocks, how keys are fetched. ``now`` and the keys are
arguments.
"""
