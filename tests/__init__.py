"""Tests mirror the rooms: unit/, property/, lanes/ (transcripts), live/ (real sockets), cases/ (the corpus).

``differential/`` asks a real Envoy the same questions."""
