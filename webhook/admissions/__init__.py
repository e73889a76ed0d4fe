"""Admission: what the API server asks before it stores something, and what it is answered.

A review comes in as bytes and goes out as bytes (``review``); ``mutate``, ``validate`` and ``pods`` judge in between.
Knows: AdmissionReview v1, pods as far as their annotations go, and who reads policies. Must not know: Flask, sockets,
or the Kubernetes API: no question is asked while one is being answered.
"""
