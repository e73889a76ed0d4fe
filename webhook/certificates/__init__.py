"""The webhook's own certificates: an authority in a Secret, a leaf in every replica, and the API server's trust in it.

Nothing has to be installed for this, and nobody has to remember a date. ``authority``, ``leaf``, ``schedule``,
``holding`` and ``registrations`` are pure: what there is and what time it is go in, what there should be comes out.
``sighting`` watches one object, ``keeper`` does what is to be done, ``serving`` hands the leaf to a TLS server. Where
cert-manager keeps the certificate, none of this runs.
"""
