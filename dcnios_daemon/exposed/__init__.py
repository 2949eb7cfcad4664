"""Exposed services: servers and notebooks that are kept running, reachable, and shut to those without a
login.

``settings`` has what is written, ``registry`` the kinds. ``objects`` and ``reach`` make Kubernetes objects of
it, ``jupyter`` what a notebook server needs besides. ``applying`` brings them into the cluster by server-side
apply and takes them away, and only what is ours; ``seen`` tells how they are; ``scaling`` puts them to sleep.
``local`` starts a notebook on this machine. ``check`` asks whether the cluster would let us.

The daemon itself needs none of this: the commands do it, with the rights of who runs them.
"""
