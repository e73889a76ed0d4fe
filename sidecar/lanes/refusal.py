"""The refusal lane: closes. For TLS and whatever else has no business on an HTTP port."""

from __future__ import annotations

import logging

from sidecar._mitmproxy import Commands, Lane, commands, events

logger = logging.getLogger("eastgate.refusal")


class RefusalLane(Lane):
    """Says nothing (the peer would not understand) and forwards nothing. The log tells whoever wonders why."""

    def handle_event(self, event: events.Event) -> Commands:
        """Close at the first event."""
        if isinstance(event, events.Start):
            client, address = self.context.client, self.context.server.address
            fields = {"peer": client.peername[0], "port": address[1] if address else 0}
            logger.warning("refused TLS on a port that is not declared opaque", extra={"fields": fields})
            yield commands.CloseConnection(client)
