"""Against a real kube-apiserver: what the manifests, the webhook and the controller do to a cluster.

``environment`` starts etcd and kube-apiserver (found by ``KUBEBUILDER_ASSETS``, the envtest convention, else built by
``hack/kubernetes/build``) and connects Services to processes on this machine. There is no kubelet and no controller
manager: pods stay pending, and what would make them from a Deployment is done by the tests.
"""
