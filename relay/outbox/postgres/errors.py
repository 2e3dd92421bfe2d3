"""What PostgreSQL's errors mean to an operator: what happened, where, and the hint."""

from collections.abc import Sequence
from pathlib import Path

import asyncpg

from relay.core.ports import CALL_SECONDS, RowRefusedError, StoreError
from relay.core.validation import Problem
from relay.observability import open_files

DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

_CLASS = 2  # the first characters of an SQLSTATE are its class

_NO_ANSWER = ("08", "57P", "40003")
"""The connection ended, whoever ended it: what became of its transaction is not known."""

_SPARING = frozenset({"21", "22", "23", "26", "40", "42", "55"})

_OF_A_ROW = frozenset({"09", "21", "22", "23", "27", "2F", "38", "39", "44", "P0"})
"""Constraints, values out of range, and what triggers raise: of one row, not of the store."""

_OF_THE_STORE = frozenset({"08", "25", "28", "40", "53", "55", "57", "58", "XX"})
"""Also where they are met within a trigger."""

_IDS_USED_UP = "2200H"
"""In the class of wrong values, and no row's fault."""

_BY_STATE = {
    "53100": "its disk is full; free some space there; nothing that was stored is lost",
    "53200": "it is out of memory; lower its work_mem or the number of its connections",
    "53300": "it takes no more connections; raise its max_connections, or run fewer relays or a pooler",
    _IDS_USED_UP: "its ids are used up: a sequence was set to its limit; delete the rows with such ids, "
    "and set it back with ALTER TABLE … ALTER COLUMN id RESTART WITH …",
    "25006": "it is read-only, as a standby is; let the URL name the primary, or all hosts of the cluster",
    "57014": "a statement was cancelled, perhaps by a statement_timeout; raise that of the relay's role",
    "55P03": "a row stayed locked; end the transaction that holds it",
    "55006": "a table is in use by a change of its structure; wait for its end",
    "40P01": "it collided with another transaction; it is retried",
    "40001": "it collided with another transaction; it is retried",
    "57P01": "it ended the connection; it is being stopped or restarted, or an administrator did it",
    "57P02": "it crashed and restarts",
    "57P03": "it is starting, stopping or recovering",
}

_REFUSED_BY_STATE = {
    "28P01": "it refused the password; correct it in RELAY_OUTBOX__URL, or in the file that "
    "RELAY_OUTBOX__URL_FILE or PGPASSFILE names",
    "28000": "it refused the role; correct RELAY_OUTBOX__URL, the role's right to log in, or the server's "
    "pg_hba.conf",
    "3D000": "it refused the login: it has no such database; create it, or correct RELAY_OUTBOX__URL",
    "42501": "it refused the login: the role lacks a right; GRANT CONNECT ON DATABASE … TO the relay's role",
}
"""Of a login: all of these may be corrected on the server while the relay waits."""

_LASTING_BY_STATE = {
    "42501": "the role lacks a right; grant what docs/postgres.md lists for the relay's role",
    "3F000": "it has no such schema; correct RELAY_OUTBOX__SCHEMA, or run: relay outbox upgrade",
    "42P01": "it holds no outbox, or not all of it; create it with: relay outbox upgrade",
    "42703": "its outbox is of another version; bring it up to date with: relay outbox upgrade",
}

_GENERATED_KEYS = ("outbox_pkey", "history_pkey", "audit_pkey")

_UNREACHABLE = "check that it runs and that this machine reaches it; the relay resumes automatically"


class LoginRefusedError(StoreError):
    """The server is there, and does not take these credentials now."""


def is_passing(error: BaseException) -> bool:
    """Whether to retry the same transaction: it collided with another one, or its statement was lost."""
    collisions = asyncpg.DeadlockDetectedError | asyncpg.SerializationError
    return isinstance(error, collisions) or is_lost_statement(error)


def is_lost_statement(error: BaseException) -> bool:
    """Whether the server's session lost the statement that was prepared, or has another of its name."""
    lost = asyncpg.InvalidSQLStatementNameError | asyncpg.DuplicatePreparedStatementError
    return isinstance(error, lost)


def spares_connection(error: BaseException) -> bool:
    """Whether the connection can be used further: what failed is the statement, or our own work."""
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        return False  # the role may have been replaced by another one: the next login is that one's
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "")[:_CLASS] in _SPARING or is_of_a_row(error)
    return isinstance(error, Exception) and not isinstance(error, (OSError, *DRIVER_ERRORS))


def is_of_a_standby(error: StoreError) -> bool:
    """Whether it answered, but takes no writes: of several hosts the other one's error explains more."""
    return isinstance(error.__cause__, asyncpg.TargetServerAttributeNotMatched)


def is_of_a_row(error: asyncpg.PostgresError) -> bool:
    """Whether a constraint or a trigger refused a row; triggers raise whatever SQLSTATE they like."""
    kind = (error.sqlstate or "")[:_CLASS]
    if error.sqlstate == _IDS_USED_UP:
        return False
    return kind in _OF_A_ROW or bool(error.context and kind not in _OF_THE_STORE)


def explain(error: BaseException, where: str) -> StoreError:
    """The error that the relay's log and command line show. Nothing was stored, as far as known."""
    match error:
        case StoreError():
            return error
        case asyncpg.TargetServerAttributeNotMatched():
            return StoreError(f"the outbox {where}: {_BY_STATE['25006']}")
        case asyncpg.UniqueViolationError() if (error.constraint_name or "").endswith(_GENERATED_KEYS):
            return StoreError(
                f"the outbox {where} generated an id that is in use: its sequence lags behind, as after a "
                f"restore; run, as the owner of the tables: relay outbox upgrade ({_text_of(error)})"
            )
        case asyncpg.PostgresError() if is_of_a_row(error):
            return RowRefusedError(f"the outbox {where} refused a row: {_text_of(error)} ({error.sqlstate})")
        case asyncpg.PostgresError() if error.sqlstate in _LASTING_BY_STATE:
            return StoreError(
                f"the outbox {where}: {_LASTING_BY_STATE[error.sqlstate]} ({_text_of(error)})", lasting=True
            )
        case asyncpg.PostgresError() if error.sqlstate in _BY_STATE:
            return StoreError(f"the outbox {where}: {_BY_STATE[error.sqlstate]} ({_text_of(error)})")
        case (
            ConnectionError()
            | asyncpg.PostgresConnectionError()
            | asyncpg.InterfaceError()
            | asyncpg.InternalClientError()
        ):
            return StoreError(
                f"the connection to the outbox {where} was lost or refused; "
                f"{_UNREACHABLE} ({_text_of(error)})"
            )
        case asyncpg.PostgresError():
            return StoreError(f"the outbox {where} failed: {_text_of(error)} ({error.sqlstate})")
        case TimeoutError():
            return StoreError(
                f"the outbox {where} did not answer within {CALL_SECONDS:g} s; check for a transaction "
                "that holds locks, and the network between; what was being written may be stored"
            )
        case _:
            return _unreachable(error, where)


def _unreachable(error: BaseException, where: str) -> StoreError:
    if isinstance(error, OSError) and (open_files.is_exhausted(error) or open_files.are_exhausted()):
        return StoreError(f"the outbox {where} cannot be reached: {open_files.described()}")
    return StoreError(f"the outbox {where} cannot be reached; {_UNREACHABLE} ({_text_of(error)})")


def explain_login(error: BaseException, where: str) -> StoreError:
    """The same for an error while a connection was opened."""
    match error:
        case asyncpg.PostgresError() if error.sqlstate in _REFUSED_BY_STATE:
            meaning = _REFUSED_BY_STATE[error.sqlstate]
            return LoginRefusedError(f"the outbox {where}: {meaning} ({_text_of(error)})")
        case _:
            return explain(error, where)


def of_all_hosts(failed: Sequence[StoreError]) -> StoreError:
    """One error for those of all hosts of the URL; a standby's says nothing beside another's."""
    told = [error for error in failed if not is_of_a_standby(error)] or failed[:1]
    if len(told) == 1:
        return told[0]
    text = "; ".join(dict.fromkeys(map(str, told)))
    if all(isinstance(error, LoginRefusedError) for error in told):
        return LoginRefusedError(text)
    return StoreError(text, lasting=all(error.lasting for error in told))


def unusable_url_file(path: Path, why: str) -> StoreError:
    """Perhaps it is being replaced."""
    return LoginRefusedError(f"the file {path} that RELAY_OUTBOX__URL_FILE names cannot be used: {why}")


def explain_call(error: BaseException, where: str) -> StoreError:
    """The same for a call on an open connection: the server may have done it, and its answer be lost."""
    explained = explain(error, where)
    answered = isinstance(error, asyncpg.PostgresError) and not (error.sqlstate or "").startswith(_NO_ANSWER)
    explained.answer_lost = not answered
    return explained


def unreadable_url(where: str, problem: Problem | None = None) -> StoreError:
    """No driver can parse it, or as something else than was meant.

    A driver's own text is not shown: it may contain characters of a password.
    """
    what = f": it {problem.what}" if problem else ""
    return StoreError(
        f"{where} is no PostgreSQL URL{what}; use postgresql://role@host:5432/database, with %2F for a /, "
        "%40 for an @ and %23 for a # in a password, or a ?host=/folder of a socket",
        lasting=True,
    )


def silent(where: str, seconds: float) -> StoreError:
    """Nobody answers there."""
    return StoreError(f"the outbox {where} did not answer within {seconds:g} s; {_UNREACHABLE}")


def replaced(where: str, found: int, newest: int) -> StoreError:
    """A primary of an older timeline than one that was seen: two servers of a cluster accept writes."""
    return StoreError(
        f"the outbox {where}: this server writes timeline {found}, and its cluster was seen on timeline "
        f"{newest}, so it is a primary that was replaced; stop it, or make it a standby of the new one; "
        "if it was restored on purpose, restart the relay"
    )


def closed(where: str) -> StoreError:
    """A call after the close."""
    return StoreError(f"the outbox {where} is closed", lasting=True)


def missing(where: str) -> StoreError:
    """A database without the outbox's tables."""
    return StoreError(
        f"the database {where} holds no outbox yet; create it with: relay outbox upgrade", lasting=True
    )


def too_old(where: str, found: int, needed: int) -> StoreError:
    """The tables are of an earlier version."""
    return StoreError(
        f"the outbox {where} has schema version {found}, this relay needs {needed}; "
        "bring it up to date with: relay outbox upgrade",
        lasting=True,
    )


def too_new(where: str, found: int, known: int) -> StoreError:
    """The tables are of a later version that this relay cannot use."""
    return StoreError(
        f"the outbox {where} was made by a newer relay (schema version {found}, this one knows up to "
        f"{known}); install that relay; relay outbox upgrade of this one cannot go back",
        lasting=True,
    )


def not_utf8(where: str, encoding: str) -> StoreError:
    """Documents would be sent in another encoding."""
    return StoreError(
        f"the database {where} keeps text as {encoding}; the outbox needs one in UTF8", lasting=True
    )


def too_old_server(where: str, version: int) -> StoreError:
    """Triggers and types that it lacks."""
    return StoreError(
        f"the database {where} is PostgreSQL {version // 10_000}; the outbox needs 14 or later", lasting=True
    )


def _text_of(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
