"""Services by name, and which container ports their ports lead to.

What a Service object does not say (it is not in the set, or its target port has a name) is unknown, and the unknown is
always taken for "could be": a route of unknown port binds to every port. Must not know: routes or policies.
"""

from __future__ import annotations

from collections.abc import Iterable

from eastgate.model.workloads import Service, ServicePort


class ServiceDirectory:
    """Looks Services up; built once from a policy set."""

    def __init__(self, services: Iterable[Service]) -> None:
        self._services = {(service.namespace, service.name): service for service in services}

    def labels(self, namespace: str, name: str) -> frozenset[tuple[str, str]] | None:
        """The Service's labels; None where it is not in the set, and they are not known."""
        service = self._services.get((namespace, name))
        return frozenset(service.labels) if service is not None else None

    def _port(self, namespace: str, name: str, port: int | str) -> ServicePort | None:
        service = self._services.get((namespace, name))
        for one in service.ports if service is not None else ():
            if port in (one.number, one.name):
                return one
        return None

    def may_be_same_port(self, namespace: str, name: str, one: int | str | None, other: int | str | None) -> bool:
        """Whether two ways to name a port of a Service can mean the same port; None is every port."""
        if one is None or other is None or one == other:
            return True
        first, second = self._port(namespace, name, one), self._port(namespace, name, other)
        if first is not None and second is not None:
            return first.number == second.number
        # A name and a number, and no Service to say whether they belong together.
        return isinstance(one, int) is not isinstance(other, int)

    def targets(self, namespace: str, name: str, port: int | str | None) -> frozenset[int] | None:
        """The container ports behind a port of a Service (None: behind all of them); None when that is not known."""
        service = self._services.get((namespace, name))
        if service is None:
            return None
        ports = service.ports if port is None else tuple(one for one in service.ports if port in (one.number, one.name))
        found = set[int]()
        for one in ports:
            if not isinstance(one.target, int):
                return None
            found.add(one.target)
        return frozenset(found) or None

    def ports_to(self, namespace: str, name: str, port: int | str | None, target: int) -> tuple[int | str | None, ...]:
        """The ports of a Service, of those that ``port`` names, that can lead to a container port; 0 is any of them."""
        service = self._services.get((namespace, name))
        if service is None:
            return (port,)
        named = [one for one in service.ports if port is None or port in (one.number, one.name)]
        if not named:
            return (port,)
        return tuple(
            one.number for one in named if not target or not isinstance(one.target, int) or one.target == target
        )
