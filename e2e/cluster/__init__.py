"""A whole Kubernetes on this machine, with the published manifests and images: what a user would see.

``node`` brings a one-node cluster up inside a network namespace (or uses ``KUBECONFIG``); the tests apply what a user
would apply and ask what a user would ask, from pods.
"""
