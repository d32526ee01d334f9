"""What to do about errors that have to do with where code runs: the system's own words do not say that it is a sandbox."""

from __future__ import annotations

import errno

_DENIED = (
    "a worker has no network, no programs to start (processes= allows some) and no files but its own: "
    "hand data over as arguments, files with --files"
)
_HINTS = {
    errno.EPERM: _DENIED,
    errno.EACCES: _DENIED,
    errno.EROFS: _DENIED,
    errno.ENETUNREACH: _DENIED,
    errno.ENOENT: "a worker has the files that came with it and no others: name them with --files in a %%remote cell",
    errno.ENOSPC: "a session's files are bounded: scratch= sets how many bytes",
    errno.EFBIG: "a session's files are bounded: scratch= sets how many bytes",
    errno.EMFILE: "a session's open files are bounded: open_files= sets how many",
}


def hint(error: BaseException) -> str:
    """The remedy for an error of user code that the sandbox may have caused; empty for any other."""
    if isinstance(error, MemoryError):
        return "a session's memory is bounded: memory= sets how many bytes (--memory in a %%remote cell)"
    return _HINTS.get(error.errno or 0, "") if isinstance(error, OSError) else ""
