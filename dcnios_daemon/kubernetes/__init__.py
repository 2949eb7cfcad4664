"""The session with a Kubernetes cluster, for all who go there: sinks that make Jobs, and exposed services.

``login`` owns the client library and the credentials, and ``plugins`` the commands that give some of them;
``cluster`` sends requests, ``calls`` says how they go out, ``answers`` what an answer means. ``rights`` asks
what we may do, and ``marks`` has the labels by which what we made is known again. ``pods`` has what the
settings and the specs of all pods share.
"""
