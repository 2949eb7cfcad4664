"""What people bring from elsewhere, as our configuration: OSCAR services (``fdl``), DCNiOS (``workflow``).

Pure: texts in; a configuration, the files that hold its secrets, and a report out. The command writes them.
``fields`` reads what was given and sees to it that nothing is passed over in silence, ``report`` tells what
became of it, ``draft`` collects the configuration, ``writing`` makes YAML with comments of it.
"""
