"""End to end, as root: real kernels (``netns``) and a real Kubernetes node (``cluster``).

Nothing here is needed by ``make test``. Both skip, loudly, only where root is missing.
"""
