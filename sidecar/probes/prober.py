"""The probe table as routes of the admin port.

Only what stands in the table is asked for. The admin port is open to the pod's network, so a stranger may ask, too: at
one time each probe runs once, whoever asks meanwhile gets the same answer, and of what the app said nothing but the
status goes to callers that are not on this host. A hook does something, and so it runs only for a caller that shows its
token: the kubelet finds that in the pod, and nobody else in the cluster need be able to read pods.

Knows: the table and how its results are told. Must not know: protocols.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
from collections.abc import Iterable, Mapping

from eastgate.pods.names import APP_HOOK_PATH, APP_PROBE_PATH, HOOK_TOKEN_HEADER
from eastgate.pods.probes import HOOK_NAMES, PROBE_NAMES, AppProbe
from sidecar.admin import AdminAnswer, AdminRequest, Handler, NoAnswer
from sidecar.probes.http import ask_http, connect
from sidecar.probes.verdict import ProbeError, Verdict

logger = logging.getLogger("eastgate.probes")

AGENT = "kube-probe/eastgate"
"""Where the caller does not say that it is a kubelet. Apps leave ``kube-probe/`` out of their access logs."""

_KUBELET = re.compile(r"kube-(?:probe|lifecycle)/[A-Za-z0-9.+-]{1,32}")
"""What a kubelet calls itself; the app is told nothing else that a stranger might say."""
_LIFECYCLE = "kube-lifecycle/"

NOWHERE = "127.0.0.1"
"""Where the app is when the pod's address is not known."""


class Prober:
    """``address`` is the pod's own: the kubelet asks there, and an app may listen nowhere else."""

    def __init__(self, table: Mapping[str, AppProbe], address: str) -> None:
        self._table = table
        self._address = address or NOWHERE
        self._running: dict[str, asyncio.Task[Verdict]] = {}
        self._last: dict[str, bool] = {}
        self._refused: set[str] = set()

    def find_routes(self) -> Iterable[tuple[str, str, Handler]]:
        """One route for probes, one for hooks."""
        yield "GET", APP_PROBE_PATH, self.answer_probe
        yield "GET", APP_HOOK_PATH, self.answer_hook

    async def answer_probe(self, request: AdminRequest) -> AdminAnswer:
        """A status that the kubelet understands as the app's health."""
        key = request.path.removeprefix(APP_PROBE_PATH)
        if key not in self._table or key.rpartition("/")[2] not in PROBE_NAMES.values():
            return AdminAnswer(404, b"no such probe\n")
        verdict = await self._ask_once(key, request.agent)
        text = f"{verdict.why}\n".encode()
        return AdminAnswer(verdict.status, text + verdict.body if request.local else text)

    async def answer_hook(self, request: AdminRequest) -> AdminAnswer:
        """Any status for a hook that ran, and none for one that could not: the kubelet looks at nothing else."""
        key = request.path.removeprefix(APP_HOOK_PATH)
        if key not in self._table or key.rpartition("/")[2] not in HOOK_NAMES.values():
            return AdminAnswer(404, b"no such hook\n")
        if why := self._find_objection(key, request):
            self._complain(key, why)
            if request.agent.startswith(_LIFECYCLE):
                raise NoAnswer(why)  # or a hook that did not run would be taken for one that did
            return AdminAnswer(403, f"{why}\n".encode())
        verdict = await self._ask_once(key, request.agent)
        if not verdict.answered:
            raise NoAnswer(verdict.why)
        return AdminAnswer(verdict.status, f"{verdict.why}\n".encode())

    def _find_objection(self, key: str, request: AdminRequest) -> str:
        """Why the caller may not have the hook run; empty where it may."""
        token = self._table[key].token
        if not token:
            return "this hook has no token, without which nobody may run it; create the pod anew"
        if not request.token:
            return f"this hook runs only with the header {HOOK_TOKEN_HEADER}, which the pod's own hook has"
        if not hmac.compare_digest(request.token.encode("latin-1"), token.encode()):
            return f"this hook runs only with the pod's own {HOOK_TOKEN_HEADER}, and this is another one"
        return ""

    def _complain(self, key: str, why: str) -> None:
        """Once for each hook and reason: a stranger who asks and asks must not fill the log."""
        if (subject := f"{key} {why}") not in self._refused:
            self._refused.add(subject)
            logger.warning("a hook was not run", extra={"fields": {"hook": key, "why": why}})

    async def _ask_once(self, key: str, agent: str) -> Verdict:
        task = self._running.get(key)
        if task is None:
            agent = agent if _KUBELET.fullmatch(agent) else AGENT
            task = asyncio.get_running_loop().create_task(self._ask(key, agent), name=f"probe {key}")
            self._running[key] = task
            task.add_done_callback(lambda _: self._running.pop(key, None))
        # Whoever hangs up must not take the answer from the others.
        return await asyncio.shield(task)

    async def _ask(self, key: str, agent: str) -> Verdict:
        probe = self._table[key]
        try:
            async with asyncio.timeout(probe.timeout_seconds):
                verdict = await self._perform(probe, agent)
        except TimeoutError:
            verdict = Verdict(504, f"no answer within {probe.timeout_seconds} s", answered=False)
        except ProbeError as error:
            verdict = Verdict(error.status, str(error), answered=False)
        except UnicodeError:
            verdict = Verdict(502, "the probe cannot be written as a request: it is not Unicode text", answered=False)
        except OSError as error:
            verdict = Verdict(502, (error.strerror or type(error).__name__).lower(), answered=False)
        if self._last.get(key) is not verdict.well:
            self._last[key] = verdict.well
            fields = {"probe": key, "status": verdict.status, "why": verdict.why}
            logger.info("the app is well" if verdict.well else "the app is not well", extra={"fields": fields})
        return verdict

    async def _perform(self, probe: AppProbe, agent: str) -> Verdict:
        if probe.kind == "http":
            return await ask_http(probe, self._address, agent)
        if probe.kind == "grpc":
            from sidecar.probes.grpc import ask_grpc  # brings h2, which most pods do without

            return await ask_grpc(probe, self._address, agent)
        async with connect(self._address, probe.port, secure=False):
            return Verdict(200, "accepts connections")
