"""The controller: policy objects and routes in, one bundle a namespace out, and word of it to pods and policies.

Knows: how what changes in the cluster becomes writes to it: informers, a queue, a leader, bundles, nudges, conditions.
Must not know: what a policy means (``eastgate``), or how a bundle's bytes look (``eastgate.pods.bundles``).
"""
