"""From the model to a plan: every decision that does not need a request is taken here, once.

``paths`` and ``matchers`` turn configured text into things that can be asked; ``rules`` and ``policies`` compile what a
policy demands; ``services``, ``hosts`` and ``routes`` order routes as their dialect does; ``selection`` says which
policies hold on which route and ``guards`` what that means for a request; ``plan`` puts it together for one workload;
``review`` says what an author should know. Must not know: requests' content, tokens, time, or how anything was written
in YAML. What cannot be compiled becomes a refusal with its reason, never an absence.
"""
