"""Every name that stands in manifests, pods and annotations. Renaming one breaks what is running.

Ports and the user are none of those that other meshes use (Istio: 15000-15090, 1337; Linkerd: 4140-4191, 2102).
"""

from __future__ import annotations

from typing import Final

PREFIX: Final = "eastgate.dev/"
"""Of every label and annotation of ours."""

# --- on a namespace -------------------------------------------------------------------------------------------------
INJECTION_LABEL: Final = PREFIX + "injection"
ENABLED: Final = "enabled"
ENFORCED: Final = "enforced"

# --- on a pod -------------------------------------------------------------------------------------------------------
INJECT_LABEL: Final = PREFIX + "inject"
POLICIES: Final = PREFIX + "policies"
MODE: Final = PREFIX + "mode"
UNMATCHED: Final = PREFIX + "unmatched"
INCLUDE_INBOUND_PORTS: Final = PREFIX + "include-inbound-ports"
EXCLUDE_INBOUND_PORTS: Final = PREFIX + "exclude-inbound-ports"
OPAQUE_PORTS: Final = PREFIX + "opaque-ports"
REWRITE_PROBES: Final = PREFIX + "rewrite-probes"
NATIVE_SIDECAR: Final = PREFIX + "native-sidecar"
CPU_REQUEST: Final = PREFIX + "proxy-cpu-request"
CPU_LIMIT: Final = PREFIX + "proxy-cpu-limit"
MEMORY_REQUEST: Final = PREFIX + "proxy-memory-request"
MEMORY_LIMIT: Final = PREFIX + "proxy-memory-limit"
PROXY_IMAGE: Final = PREFIX + "proxy-image"
LOG_LEVEL: Final = PREFIX + "log-level"

# --- on a pod, written by us ----------------------------------------------------------------------------------------
STATUS: Final = PREFIX + "status"
"""JSON, by the webhook: version, and what was added."""
BUNDLE: Final = PREFIX + "bundle"
"""By the controller: the digest of the bundle that the pod should be running."""

# --- ports and identity ---------------------------------------------------------------------------------------------
INBOUND_PORT: Final = 19006
OUTBOUND_PORT: Final = 19001
ADMIN_PORT: Final = 19020
OWN_PORTS: Final = frozenset({INBOUND_PORT, OUTBOUND_PORT, ADMIN_PORT})
PROXY_ID: Final = 19006
"""uid and gid of the sidecar. Redirection exempts them, so nobody else in the pod may have them."""

# --- containers and volumes of a pod --------------------------------------------------------------------------------
INIT_CONTAINER: Final = "eastgate-init"
SIDECAR_CONTAINER: Final = "eastgate-sidecar"
CONTAINERS: Final = (INIT_CONTAINER, SIDECAR_CONTAINER)

BUNDLE_VOLUME: Final = "eastgate-bundle"
"""ConfigMap ``eastgate-bundle``, not optional: without a bundle no start."""
SHARDS_VOLUME: Final = "eastgate-shards"
"""Projected, every source optional: the further parts of a large bundle, and the Secret behind Secret references."""
POD_VOLUME: Final = "eastgate-pod"
"""Downward API: labels and annotations, which may change while the pod runs."""
TOKEN_VOLUME: Final = "eastgate-token"  # noqa: S105 (a name)
STATE_VOLUME: Final = "eastgate-state"
"""emptyDir that outlives a container: the last good key sets."""
TEMPORARY_VOLUME: Final = "eastgate-tmp"
VOLUMES: Final = (BUNDLE_VOLUME, SHARDS_VOLUME, POD_VOLUME, TOKEN_VOLUME, STATE_VOLUME, TEMPORARY_VOLUME)

BUNDLE_MOUNT: Final = "/var/run/eastgate/bundle"
SHARDS_MOUNT: Final = "/var/run/eastgate/shards"
POD_MOUNT: Final = "/var/run/eastgate/pod"
TOKEN_MOUNT: Final = "/var/run/secrets/eastgate.dev"  # noqa: S105 (a path)
STATE_MOUNT: Final = "/var/lib/eastgate"
TEMPORARY_MOUNT: Final = "/tmp"  # noqa: S108 (in a container with a read-only root)

LABELS_FILE: Final = "labels"
ANNOTATIONS_FILE: Final = "annotations"
TOKEN_FILE: Final = "token"  # noqa: S105 (a name)
TOKEN_AUDIENCE: Final = "eastgate.dev"  # noqa: S105 (a name)
TOKEN_SECONDS: Final = 3600
"""Kubelet renews at 80 %."""

# --- the bundle in the cluster --------------------------------------------------------------------------------------
BUNDLE_NAME: Final = "eastgate-bundle"
"""The ConfigMap with the manifest and the first part, and the Secret. Further parts: ``eastgate-bundle-1`` and on."""
MAX_SHARDS: Final = 7
"""Further parts. A pod names the ConfigMaps that it mounts when it is made, so the number is fixed; with about 768 KiB
each this is 6 MiB of compressed policy for one namespace."""
MANIFEST_KEY: Final = "manifest.json"
PART_KEY: Final = "policies.jsonl.gz"
SECRETS_KEY: Final = "secrets.jsonl.gz"
"""In the mounted ``eastgate-shards``: ``1/policies.jsonl.gz`` ... and ``secrets/secrets.jsonl.gz``."""

# --- environment of the injected containers -------------------------------------------------------------------------
APP_PROBES_VARIABLE: Final = "EASTGATE_APP_PROBES"
"""JSON, ``eastgate.pods.probes``."""
CONTAINER_PORTS_VARIABLE: Final = "EASTGATE_CONTAINER_PORTS"
"""``http=8080,grpc=9090``: what the named ports of the app's containers are, for Services that lead to a name."""
MAX_VARIABLE_BYTES: Final = 127 * 1024
"""Longest value of a variable. Linux starts no program with one of more than 128 KiB (``MAX_ARG_STRLEN``), name
included."""

# --- paths of the admin port that stand in rewritten probes ---------------------------------------------------------
APP_PROBE_PATH: Final = "/app-probe/"
"""``/app-probe/<container>/<readyz|livez|startupz>``."""
APP_HOOK_PATH: Final = "/app-hook/"
"""``/app-hook/<container>/<poststart|prestop>``."""
HOOK_TOKEN_HEADER: Final = "Eastgate-Hook-Token"  # noqa: S105 (a name)
"""In ``httpHeaders`` of a rewritten hook: who does not send it is not the kubelet. Its value is a secret of the pod."""

# --- the installation -----------------------------------------------------------------------------------------------
SYSTEM_NAMESPACE: Final = "eastgate-system"
MANAGER: Final = "eastgate"
"""Field manager, and the value of ``app.kubernetes.io/managed-by``."""
WEBHOOK_PORT: Final = 9443
WEBHOOK_HEALTH_PORT: Final = 9444
