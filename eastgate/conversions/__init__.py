"""Foreign policy kinds said in our own: what ``eastgate convert`` does.

A Gloo JWTPolicy or RouteTable becomes ours by little more than its first line (``gloo``). Envoy Gateway's policies name
routes where ours select labels, and its routes compete by precedence where ours are tried in order: they are written
anew from what was read of them (``security_policies``, ``gateway_routes``). What comes out is read again and compared,
object by object, with what went in (``proof``): a conversion that would decide otherwise is an error that says where.

Knows: dialects, the compiler's rules of selection and precedence. Must not know: files, requests, keys. Pure.
"""
