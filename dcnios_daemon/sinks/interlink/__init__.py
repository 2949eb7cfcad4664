"""The ``interlink`` sink: pods that interLink carries to an HPC, made safe to use."""
