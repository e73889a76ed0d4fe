"""How fast policy is read and compiled, on one core: the controller's path, the sidecar's, and ``lint``'s review.

``python -m bench.compile [--policies N] [--tables N] [--rounds N]``. No cluster and no sockets: objects as the API
server gives them, in memory. The bars: everything from the beginning in 2 s, one change in 300 ms, the sidecar's part
in 500 ms. Results go to ``bench/results/`` as JSON, with the machine they were measured on.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from eastgate.compile.plan import compile_plan
from eastgate.compile.review import review
from eastgate.dialects.corpus import Document, parse_object, read_parsed
from eastgate.model.workloads import Workload
from eastgate.pods.bundles import pack
from webhook.controllers.conditions import Progress, judge
from webhook.controllers.state import BuiltBundle, ClusterState

RESULTS = Path(__file__).parent / "results"
NAMESPACE = "shop"
SERVICES = 50
KEYS = 20
JWKS = json.dumps(
    {
        "keys": [
            {
                "kty": "EC",
                "crv": "P-256",
                "kid": "a",
                "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
            }
        ]
    }
)

type Data = dict[str, Any]


def make(kind: str, name: str, api: str = "policy.eastgate.dev/v1alpha1", **body: Any) -> Data:
    """An object of the namespace."""
    metadata = {"name": name, "namespace": NAMESPACE, "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"}
    return {"apiVersion": api, "kind": kind, "metadata": metadata, **body}


def make_policy(index: int, everywhere: bool = False) -> Data:
    """Two providers, one remote and one in a ConfigMap, and two claims."""
    remote = {
        "issuer": "https://login.example.com",
        "audiences": ["orders", "invoices"],
        "tokenSource": {"headers": [{"name": "X-Auth", "prefix": "Bearer "}], "queryParams": ["token"]},
        "claimsToHeaders": [{"claim": "org", "header": "x-org"}],
        "remote": {"url": "https://login.example.com/jwks", "timeout": "5s"},
    }
    local = {
        "issuer": "https://partner.example.com",
        "local": {"configMapRef": {"name": f"keys{index % KEYS}", "key": "jwks"}},
    }
    claims = [{"key": "org", "values": ["internal"]}, {"key": "role", "values": ["a", "b*"], "notValues": ["c"]}]
    labels = {} if everywhere else {"app": f"a{index}"}
    config = {"providers": {"login": remote, "partner": local}, "claims": claims}
    return make("JWTPolicy", f"p{index}", spec={"applyToRoutes": [{"route": {"labels": labels}}], "config": config})


def make_table(index: int) -> Data:
    """Four entries with a path and a header each."""
    http = [
        {
            "name": f"r{entry}",
            "matchers": [{"uri": {"prefix": f"/p{entry}"}, "headers": [{"name": "x-version", "value": "1"}]}],
            "forwardTo": {"destinations": [{"ref": {"name": f"s{index % SERVICES}"}, "port": {"number": 8080}}]},
        }
        for entry in range(4)
    ]
    found = make("RouteTable", f"t{index}", spec={"hosts": [f"h{index}.example.com"], "http": http})
    found["metadata"]["labels"] = {"app": f"a{index}"}
    return found


def make_cluster(policies: int, tables: int, everywhere: bool = False) -> list[Data]:
    """Everything in one namespace."""
    ports = [{"port": 8080, "targetPort": 80, "name": "http"}]
    return [
        *(make_policy(index, everywhere) for index in range(policies)),
        *(make_table(index) for index in range(tables)),
        *(
            make("Service", f"s{index}", "v1", spec={"selector": {"app": "x"}, "ports": ports})
            for index in range(SERVICES)
        ),
        *(make("ConfigMap", f"keys{index}", "v1", data={"jwks": JWKS}) for index in range(KEYS)),
    ]


def measure(action: Callable[[], object], rounds: int) -> dict[str, float]:
    """Milliseconds of wall time, best and median, and of CPU, best: the machine may have others to serve."""
    walls, cpus = [], []
    for _ in range(rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        action()
        walls.append((time.perf_counter() - wall) * 1000)
        cpus.append((time.process_time() - cpu) * 1000)
    return {"best": min(walls), "median": statistics.median(walls), "cpu": min(cpus)}


def judge_done(built: BuiltBundle) -> object:
    """The conditions, everything being in force."""
    return judge(built, {NAMESPACE: Progress("digest", 2, 3)})


def from_nothing(objects: list[Data]) -> ClusterState:
    """What a controller does when it starts."""
    state = ClusterState()
    for one in objects:
        state.put(one)
    judge_done(state.build(NAMESPACE))
    return state


def change(state: ClusterState, found: Data, edit: Callable[[Data, int], None], numbers: Iterator[int]) -> BuiltBundle:
    """One object is changed, and the bundle is packed."""
    changed = copy.deepcopy(found)
    edit(changed["spec"], next(numbers))
    state.put(changed)
    built = state.build(NAMESPACE)
    pack(NAMESPACE, built.documents, built.secrets)
    return built


def edit_policy(spec: Data, number: int) -> None:
    """Another claim value."""
    spec["config"]["claims"][0]["values"] = [f"v{number}"]


def edit_table(spec: Data, number: int) -> None:
    """Another path."""
    spec["http"][0]["matchers"][0]["uri"] = {"prefix": f"/v{number}"}


def run(policies: int, tables: int, rounds: int) -> dict[str, dict[str, float]]:
    """Every measurement by its name."""
    objects, numbers = make_cluster(policies, tables), count()
    state = from_nothing(objects)
    built = state.build(NAMESPACE)
    workload = Workload(NAMESPACE, (("app", "x"),), ((NAMESPACE, "s1", None),))

    def parse() -> list[Document]:
        return [parse_object(one["metadata"]["name"], one) for one in (*built.documents, *built.secrets)]

    parsed = parse()
    read_parsed(parsed)
    wide = read_parsed(parse_object(one["metadata"]["name"], one) for one in make_cluster(1000, 500, everywhere=True))
    actions: dict[str, Callable[[], object]] = {
        "controller: everything, with conditions": lambda: from_nothing(objects),
        "controller: a policy changed, bundle packed": lambda: change(state, objects[3], edit_policy, numbers),
        "controller: a table changed, bundle packed": lambda: change(state, objects[policies + 3], edit_table, numbers),
        "controller: a policy changed, with conditions": lambda: judge_done(
            change(state, objects[3], edit_policy, numbers)
        ),
        "sidecar: bundle to plan, from nothing": lambda: compile_plan(read_parsed(parse()), workload),
        "sidecar: bundle to plan, nothing else changed": lambda: compile_plan(read_parsed(parsed), workload),
        "review: 1,000 policies for every one of 2,000 routes": lambda: review(wide),
    }
    return {name: measure(action, rounds) for name, action in actions.items()}


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--policies", type=int, default=500)
    parser.add_argument("--tables", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    found = run(options.policies, options.tables, options.rounds)
    table = Table(title=f"{options.policies} policies, {options.tables} route tables of 4 routes: milliseconds")
    table.add_column("what")
    for column in ("best", "median", "cpu"):
        table.add_column(column, justify="right")
    for name, figures in found.items():
        table.add_row(name, *(f"{figures[column]:.0f}" for column in ("best", "median", "cpu")))
    Console().print(table)
    machine = {"machine": platform.machine(), "python": platform.python_version()}
    RESULTS.mkdir(exist_ok=True)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    result = {**machine, "policies": options.policies, "tables": options.tables, "milliseconds": found}
    (RESULTS / f"compile-{stamp}.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
