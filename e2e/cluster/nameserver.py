"""A name server for pods: Services by their names, and names of the internet that a test serves.

A node of tests has no DNS add-on, because that is a program of its own; this is enough of RFC 1035 and of Kubernetes'
DNS specification for what is asked here: A and AAAA records of Services with a cluster address. Anything else does not
exist.

    python -m e2e.cluster.nameserver ADDRESS KUBECONFIG [NAME=SERVICE.NAMESPACE]...
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import struct
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

DOMAIN = "svc.cluster.local"
FRESH_SECONDS = 1.0
"""How old the list of Services may be; CoreDNS watches, and its answers live for 5 s or more."""
A, AAAA, IN, NO_SUCH_NAME = 1, 28, 1, 3
FAMILIES = {A: socket.AF_INET, AAAA: socket.AF_INET6}


class Services:
    """The cluster's Services, asked for when somebody wants to know."""

    def __init__(self, kubeconfig: Path) -> None:
        read = json.loads(kubeconfig.read_text())
        self._server = urlsplit(read["clusters"][0]["cluster"]["server"])
        self._token = read["users"][0]["user"]["token"]
        self._known: dict[str, list[str]] = {}
        self._asked = 0.0

    def find(self, name: str) -> list[str]:
        """The addresses of ``SERVICE.NAMESPACE``; none where there is no such Service, or it is headless."""
        if time.monotonic() - self._asked > FRESH_SECONDS:
            self._ask()
        return self._known.get(name, [])

    def _ask(self) -> None:
        # The node's own API server, with a certificate of its own.
        context = ssl._create_unverified_context()
        host, port = self._server.hostname, self._server.port
        assert host is not None
        connection = http.client.HTTPSConnection(host, port, timeout=5, context=context)
        try:
            connection.request("GET", "/api/v1/services", headers={"authorization": f"Bearer {self._token}"})
            items = json.loads(connection.getresponse().read())["items"]
        except (OSError, ValueError, KeyError, http.client.HTTPException):
            return  # What was known is still the best answer.
        finally:
            connection.close()
        self._asked = time.monotonic()
        self._known = {
            f"{one['metadata']['name']}.{one['metadata']['namespace']}": [
                address for address in one["spec"].get("clusterIPs", []) if address != "None"
            ]
            for one in items
        }


def answer(query: bytes, services: Services, aliases: dict[str, str]) -> bytes:
    """The whole answer to a query with one question."""
    number, flags, questions = struct.unpack_from(">HHH", query)
    labels, at = [], 12
    while length := query[at]:
        labels.append(query[at + 1 : at + 1 + length].decode("ascii", "replace").lower())
        at += 1 + length
    kind, kind_class = struct.unpack_from(">HH", query, at + 1)
    question = query[12 : at + 5]
    name = ".".join(labels)
    service = aliases.get(name) or (name.removesuffix(f".{DOMAIN}") if name.endswith(f".{DOMAIN}") else "")
    addresses = services.find(service) if service and questions == 1 else []
    family = FAMILIES.get(kind) if kind_class == IN else None
    packed = [socket.inet_pton(family, one) for one in addresses if family and (":" in one) is (kind == AAAA)]
    records = b"".join(struct.pack(">HHHIH", 0xC00C, kind, IN, 1, len(one)) + one for one in packed)
    # A name that is there without such a record is no error: a client that asks for both takes the other.
    code = 0 if addresses else NO_SUCH_NAME
    head = struct.pack(">HHHHHH", number, 0x8400 | (flags & 0x0100) | code, 1, len(packed), 0, 0)
    return head + question + records


def main(address: str, kubeconfig: str, *names: str) -> None:
    """Answer until ended."""
    services = Services(Path(kubeconfig))
    aliases = dict(name.split("=", 1) for name in names)
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((address, 53))
    while True:
        query, client = server.recvfrom(4096)
        try:
            server.sendto(answer(query, services, aliases), client)
        except (IndexError, struct.error, OSError):
            continue  # Not a question, or nobody is there any more to hear the answer.


if __name__ == "__main__":
    main(*sys.argv[1:])
