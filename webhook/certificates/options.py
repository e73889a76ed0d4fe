"""What the keeper is told: names in the cluster, and how long things last."""

from __future__ import annotations

from dataclasses import dataclass

from eastgate.pods.names import SYSTEM_NAMESPACE
from webhook.certificates.leaf import name_service
from webhook.certificates.registrations import Service
from webhook.certificates.schedule import AUTHORITY_LIFETIME, LEAF_LIFETIME


@dataclass(frozen=True, slots=True)
class KeeperOptions:
    """The defaults are those of the published manifests."""

    namespace: str = SYSTEM_NAMESPACE
    service: str = "eastgate-webhook"
    secret: str = "eastgate-webhook-ca"  # noqa: S105 (a name)
    mutating: tuple[str, ...] = ("eastgate",)
    validating: tuple[str, ...] = ("eastgate",)
    """Names of the configurations in which our entries stand."""

    cluster_domain: str = "cluster.local"

    leaf_lifetime: float = LEAF_LIFETIME
    authority_lifetime: float = AUTHORITY_LIFETIME

    settle: float = 3.0
    """Seconds from when a bundle was seen in a configuration until a leaf is shown that needs it: by then every API
    server has seen it, too. Their own watches take milliseconds."""

    tick: float = 30.0
    """Seconds between two looks at the clock."""

    @property
    def names(self) -> tuple[str, ...]:
        """The DNS names of the Service."""
        return name_service(self.service, self.namespace, self.cluster_domain)

    @property
    def registered(self) -> Service:
        """The Service as our entries name it."""
        return Service(self.service, self.namespace)
