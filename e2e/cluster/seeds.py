"""The seeds' scenarios as somebody with a cluster plays them: apply a folder, send requests, look at the answers.

The requests and what must happen are those of ``eastgate demo``; what the application saw and why the sidecar decided
as it did is read from their logs. The example manifests are applied unchanged; where a seed tells its reader to put in
something of their own (a CA), it is put in as the seed says.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from e2e.cluster.cluster import Answer, Cluster
from e2e.cluster.identity import NAMESPACE as IDENTITY
from e2e.cluster.node import ROOT
from eastgate.demonstrations import scenarios
from eastgate.demonstrations.identity import Authority
from eastgate.demonstrations.scenarios import Material
from eastgate.demonstrations.scenes import Result, Scene
from eastgate.demonstrations.signing import read_private_key
from eastgate.demonstrations.stage import compare
from eastgate.demonstrations.upstreams import Seen

EXAMPLES = ROOT / "manifests" / "examples"
LOG_SECONDS, MORE_SECONDS = 15.0, 0.5
"""How long a line may take from a container to its log; and how long is waited for one that must not come."""
UNLOGGED = "nothing was logged"


@dataclass(frozen=True, slots=True)
class Example:
    """Where a scene is played: a folder of the examples, and what it makes."""

    folder: str
    namespace: str
    deployment: str
    container: str
    service: str
    policy: tuple[str, str]

    @property
    def path(self) -> Path:
        """For ``kubectl apply -k``."""
        return EXAMPLES / self.folder

    @property
    def address(self) -> str:
        """As a client writes it."""
        name, _, port = self.service.partition(":")
        return f"{name}.{self.namespace}:{port}"


ENVOY_GATEWAY, GLOO = "securitypolicies.gateway.envoyproxy.io", "jwtpolicies.security.policy.gloo.solo.io"
CLAIM_AUTHORIZATION = Example(
    "claim-authorization", "claim-authorization", "backend", "backend", "backend:3000",
    (ENVOY_GATEWAY, "authorization-jwt-claim"),
)  # fmt: skip
HTTP = Example(
    "jwt-authentication/http", "jwt-http", "backend", "backend", "backend:3000", (ENVOY_GATEWAY, "jwt-example")
)
GRPC = Example("jwt-authentication/grpc", "jwt-grpc", "yages", "grpcsrv", "yages:9000", (ENVOY_GATEWAY, "jwt-example"))
SELF_SIGNED = Example(
    "jwt-authentication/self-signed", "jwt-self-signed", "backend", "backend", "backend:3000",
    (ENVOY_GATEWAY, "jwt-example"),
)  # fmt: skip
CLAIMS = Example("claims", "httpbin", "httpbin", "httpbin", "httpbin:8000", (GLOO, "jwt-policy"))
EAST_WEST = Example("east-west", "httpbin", "httpbin", "httpbin", "httpbin:8000", (GLOO, "jwt-policy"))


def list_scenes(material: Material, private: Authority) -> list[tuple[Example, Scene]]:
    """In the order in which they can be played: two share a namespace, and one goes on where another ends."""
    return [
        (CLAIM_AUTHORIZATION, scenarios.claim_authorization(material)),
        (HTTP, scenarios.jwt_authentication(material)),
        (GRPC, scenarios.grpc_authentication(material)),
        # As applied, the ConfigMap holds the example's own CA, whose key nobody has.
        (SELF_SIGNED, scenarios.wrong_authority(material, private.pem)),
        (SELF_SIGNED, scenarios.self_signed_keys(material, private.pem)),
        (CLAIMS, scenarios.claims(with_key(material, "claims"))),
        (EAST_WEST, scenarios.east_west(with_key(material, "east-west"))),
    ]


def with_key(material: Material, name: str) -> Material:
    """The examples' own key pair, so that the policy is applied as it is."""
    pem = (ROOT / "tests" / "keys" / f"{name}.pem").read_text()
    return replace(material, local=read_private_key(pem))


def apply_example(cluster: Cluster, example: Example) -> None:
    """``kubectl apply -k``, no more."""
    cluster.kubectl("apply", "-k", str(example.path))


def await_example(cluster: Cluster, example: Example) -> None:
    """Until the app is ready and the policy in force on its pods."""
    cluster.rolled_out(example.namespace, f"deployment/{example.deployment}")
    cluster.await_programmed(example.namespace, *example.policy)


def remove_example(cluster: Cluster, example: Example) -> None:
    """With its namespace."""
    cluster.kubectl("delete", "-k", str(example.path), "--wait=true", "--timeout=180s", timeout=200)


def put_authority(cluster: Cluster, example: Example, pem: str) -> None:
    """The seed: "create a ConfigMap with the CA of the JWKS server". Returns when it is in force."""
    before = cluster.bundle(example.namespace)
    metadata = {"name": "remote-jwks-server-ca", "namespace": example.namespace}
    cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"ca.crt": pem}})
    cluster.await_true(lambda: cluster.bundle(example.namespace) != before, "the bundle has the new CA")
    cluster.await_in_force(example.namespace)


def play(cluster: Cluster, example: Example, scene: Scene) -> list[Result]:
    """Send a scene's requests from the client pod; compare each answer, and what was seen and logged meanwhile.

    The answers are what they are. What a log lacks it may have some moments later, so that is looked up again.
    """
    before = len(list_decisions(cluster, example))
    answers = cluster.send([(example.address, step.call) for step in scene.steps], await_open=True)
    deadline = time.monotonic() + LOG_SECONDS
    while time.monotonic() < deadline:
        if all(one.passed and one.why != UNLOGGED for one in compare_logs(cluster, example, scene, answers, before)):
            break
        time.sleep(0.2)
    time.sleep(MORE_SECONDS)
    return list(compare_logs(cluster, example, scene, answers, before))


def list_decisions(cluster: Cluster, example: Example) -> list[dict[str, object]]:
    """What the sidecar has decided so far."""
    records = cluster.log(example.namespace, f"deployment/{example.deployment}", "eastgate-sidecar")
    return [record for record in records if record.get("event") == "decision"]


def compare_logs(
    cluster: Cluster, example: Example, scene: Scene, answers: list[Answer], before: int
) -> Iterator[Result]:
    """A result for each answer, as far as the logs tell. ``before`` is how many decisions are not of these."""
    seen = cluster.log(example.namespace, f"deployment/{example.deployment}", example.container)
    decided = list_decisions(cluster, example)[before:][-len(answers) :]
    keys = cluster.log(IDENTITY, "deployment/keys", "keys")
    for number, (step, answer) in enumerate(zip(scene.steps, answers, strict=True)):
        arrived = list_arrived(seen, answer)
        problems = list(compare(step.expected, answer.got, arrived))
        reason = str(decided[number].get("reason")) if number < len(decided) else UNLOGGED
        if step.expected.reason is not None and reason != step.expected.reason:
            problems.append(f"reason: expected {step.expected.reason}, got {reason}")
        if step.expected.key_answers is not None:
            given = tuple(one["answer"] for one in keys if one.get("server") == "private" and "answer" in one)
            if given != step.expected.key_answers:
                problems.append(f"the key server answered {given}, expected {step.expected.key_answers}")
        got = f"{answer.got.status} {answer.got.body if not step.expected.passes else ''}".strip()
        came = f"{arrived[0].method} {arrived[0].path.partition('?')[0]}" if arrived else "nothing"
        yield Result(scene, step, got, came, reason, tuple(problems))


def list_arrived(seen: list[dict[str, object]], answer: Answer) -> list[Seen]:
    """What reached the application between question and answer, but for the kubelet's own questions."""
    found = []
    for record in seen:
        at, request = record.get("at"), record.get("seen")
        if not isinstance(at, float) or not isinstance(request, list):
            continue
        if not answer.asked <= at <= answer.answered:
            continue
        one = Seen(request[0], request[1], tuple((name, value) for name, value in request[2]))
        if not (one.header("user-agent") or "").startswith("kube-probe/"):
            found.append(one)
    return found


def draw_table(results: list[Result]) -> str:
    """As docs/seeds.md has it."""
    rows = ["| seed | request | answer | the app saw | why |", "|---|---|---|---|---|"]
    for one in results:
        cells = (f"{one.scene.seed} {one.scene.title}", one.step.says, f"`{one.got}`", one.seen, f"`{one.why}`")
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"
