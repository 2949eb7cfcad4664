"""Files that appear in a directory, found by looking: works on every file system, network ones included.

A file is complete once its size and modification time stayed the same for a while; names that copying tools
give to unfinished files are passed over until they are renamed. A file is known by path, inode, size and
modification time, so that writing it again, or another of its name, is a new event.

After a restart the files are all still there. Which of them were given is told by one instant in the cursor:
the change time (``st_ctime``) up to which all files were given. The kernel sets it when a file comes into its
place or changes, and nobody can set it back. Files from an hour before it are given again, and known by
their keys.

``look`` goes through the directory, ``watch`` is told by the kernel when that is worth while, ``tidy`` moves
away what is done with, ``source`` is the port.
"""
