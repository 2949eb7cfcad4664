"""The session with a Kubernetes cluster, for all who go there: sinks that make Jobs, and exposed services.

``cluster`` owns the client library and the credentials, and ``plugins`` the commands that give some of them;
``calls`` says how a request goes out, ``answers`` what its answer means. ``rights`` asks what we may do, and
``marks`` has the labels by which what we made is known again. ``pods`` has what the settings and the specs of
all pods share.
"""
