"""The oracle: the corpus through a real Envoy (jwt_authn and rbac) and through ``eastgate serve``, compared."""
