"""Where events come from. ``runner`` supervises them all; each kind is one module or package."""
