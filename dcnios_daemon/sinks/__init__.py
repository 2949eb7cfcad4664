"""Where orders go. Each kind of ``run`` is one module."""
