"""What did the machine refuse: a full disk, a folder that may not be written to?"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator

_REFUSED = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EIO}
)
_REFUSED_SQLITE = frozenset(
    {sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR}
)


def explain_refusal(err: BaseException) -> str | None:
    """Say what the operating system or SQLite refused, however deep libraries wrapped it.

    Returns None for an error that has another cause.
    """
    reason = next(filter(None, map(_refusal, _causes(err))), None)
    if reason is None:
        return None
    return (
        f"This machine refused to read or write: {reason}. What was recorded stays as it is; "
        "`modelyard doctor` looks at the disk and at the home folder. Mend it, then run the same "
        "command again."
    )


def _causes(err: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = err
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _refusal(err: BaseException) -> str | None:
    if isinstance(err, OSError) and err.errno in _REFUSED:
        return f"{err.strerror}: {err.filename}" if err.filename else str(err.strerror)
    if isinstance(err, sqlite3.Error):
        code = getattr(err, "sqlite_errorcode", 0)
        return f"{err} (SQLite)" if code & 0xFF in _REFUSED_SQLITE else None
    return None
