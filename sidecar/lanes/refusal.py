"""The refusal lane: closes. For TLS and whatever else has no business on an HTTP port."""

from __future__ import annotations

from sidecar._mitmproxy import Commands, Lane, commands, events


class RefusalLane(Lane):
    """Says nothing (the peer would not understand) and forwards nothing."""

    def handle_event(self, event: events.Event) -> Commands:
        """Close at the first event."""
        if isinstance(event, events.Start):
            yield commands.CloseConnection(self.context.client)
