"""A node to try things on: it comes up with all images in it, and ends with the command.

    python -m e2e.cluster                               a shell in the node's network, with kubectl and KUBECONFIG
    python -m e2e.cluster make e2e-cluster              the tests, against a cluster that was given
    python -m e2e.cluster kubectl get nodes

Nothing is installed in it. Needs root; Services have their names in pods only.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from e2e.cluster.identity import ALIASES
from e2e.cluster.images import ImageError, load_layout, prepare_images
from e2e.cluster.node import NodeError, run_node


def main(command: list[str]) -> int:
    """Returns what the command did."""
    folder = Path(tempfile.mkdtemp(prefix="eastgate-node-"))
    try:
        with ExitStack() as stack:
            with prepare_images() as layout:
                node = stack.enter_context(run_node(folder, f"eastgate-{os.getpid()}", ALIASES))
                load_layout(node, layout)
            path = f"{node.programs}:{os.environ['PATH']}"
            print(f"node ready: KUBECONFIG={node.kubeconfig}, network namespace {node.namespace}", file=sys.stderr)
            environment = {**os.environ, "PATH": path, "KUBECONFIG": str(node.kubeconfig)}
            return subprocess.run(node.enter(*command), env=environment, check=False).returncode
    except (NodeError, ImageError) as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or [os.environ.get("SHELL", "/bin/sh")]))
