"""PostgreSQL, for machines that share a store: writers one after the other, and a NOTIFY with each commit.

One advisory lock for all writers makes a write what it is on SQLite: what was looked up in it still holds when it is
committed, and events get their numbers in the order of their commits, so who reads them by `after` misses none. A
writer that is frozen or cut off in mid-transaction loses the lock to the server's own time limit.
"""

import importlib.util
import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from time import monotonic
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy import event, exc

from mcp_server.errors import StoreError
from mcp_server.store.events import LATER, catch_up
from mcp_server.store.schema import UNCHECKED, Newer
from mcp_server.store.tables import SCHEMA_VERSION

Agree = Callable[[datetime, float], None]
"""Is told the server's time, and how many seconds the answer took; see SystemClock.agree."""

CHANNEL = "build_orchestrator"
WRITERS = 0x626F7277  # the number of the writers' lock: any, but always the same
CONNECT_S = 5
IDLE_IN_TRANSACTION_S = 5  # a transaction does nothing between its statements but work out the next one
LOCK_WAIT_S = 20
STATEMENT_S = 60
UNKNOWN = "\ufffd"  # stands for what cannot be kept: were it left out, one text could be found by another
LONGEST_WORD = 7_000  # bytes of a NOTIFY; the server takes 8,000

_SETTINGS = (
    f"SET idle_in_transaction_session_timeout = '{IDLE_IN_TRANSACTION_S}s'; SET lock_timeout = '{LOCK_WAIT_S}s'; "
    f"SET statement_timeout = '{STATEMENT_S}s'; SET timezone = 'UTC'"
)
_KEEPALIVE = {
    "connect_timeout": CONNECT_S,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,  # ms
    "application_name": "build-orchestrator",
}
_TELL = "tell"  # in a connection's `info`: the words that its transaction has for others


def keep_own(theirs: datetime, trip_s: float) -> None:
    """Agree with nobody: no time is written."""


class Postgres:
    """How a Store uses such a server."""

    is_shared = True

    def __init__(self, url: sa.URL, agree: Agree) -> None:
        self._agree = agree
        self._place = f"{_arguments(url).get('host') or 'localhost'}/{url.database or ''}"

    def attach(self, engine: sa.Engine) -> None:
        """Have each connection of the engine prepared."""
        event.listen(engine, "connect", self._prepare)
        event.listen(engine, "begin", _begin)

    def _prepare(self, connection: Any, _: object) -> None:
        began = monotonic()
        now = _prepare(connection)
        self._agree(now, monotonic() - began)

    def options(self, writes: bool) -> dict[str, Any]:
        """Execution options of a transaction. Readers see one moment; a writer what was committed before its turn."""
        return {"writes": writes}

    def check(self, engine: sa.Engine) -> None:
        """Nothing: a server that is gone says so by itself."""

    def before_commit(self, c: sa.Connection) -> None:
        """Do what was put off, wake who listens (with words where the transaction has any), and commit, in one trip."""
        catch_up(c)
        words = c.info.pop(_TELL, ())
        said = json.dumps(sorted(words)) if words else ""
        said = said if len(said) <= LONGEST_WORD else "[]"
        c.exec_driver_sql(f"SELECT pg_notify('{CHANNEL}', {_quoted(said)}); COMMIT")

    def newer(self, found: int | str) -> StoreError:
        """What to say of a database of a newer version."""
        return Newer(f"the database {self._place}", found)

    def error(self, error: BaseException) -> StoreError:
        """What went wrong, and what would be right; without anything of the URL that may be secret."""
        if getattr(error, "sqlstate", None) == "22P02" and (found := _IS_NEWER.search(str(error))):
            return self.newer(found[1])
        return StoreError(self._sentence(error))

    def _sentence(self, error: BaseException) -> str:
        state = getattr(error, "sqlstate", None) or ""
        text = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        for begins, words, said in _SENTENCES:
            # Of a link that could not be made the driver tells no state, only the server's words.
            if state.startswith(begins) if state else words is not None and words in str(error):
                return f"the database {self._place} {said}"
        if not state or state.startswith("08"):
            return f"the database {self._place} cannot be reached ({_plain(text)}): what runs goes on, try again"
        return f"the database {self._place} refused: {text}"


# In the trip that begins a write: a statement that fails, and says why, where a newer version has changed the schema.
_KNOWN = (
    "; SELECT CASE WHEN value::int > $known THEN ('schema ' || value)::int END FROM meta WHERE key = 'schema'"
).replace("$known", str(SCHEMA_VERSION))
_IS_NEWER = re.compile(r"\bschema (\d+)\b")  # in whichever language the server says the rest
_TOO_MANY = "takes no more connections: raise max_connections, or run fewer workers and services"
_SENTENCES = (
    ("53100", None, "has no space left: free some, nothing was changed"),
    ("53300", "connection slots", _TOO_MANY),
    ("53300", "too many", _TOO_MANY),
    ("25006", None, "takes no writes (a standby?): connect to the one that does; what runs goes on"),
    ("55P03", None, f"was locked for {LOCK_WAIT_S} s by another process: try again"),
    ("57014", None, f"took longer than {STATEMENT_S} s for one question: try again"),
    ("57P", "the database system is", "is going down or coming up: what runs goes on, try again"),
    ("25P03", None, "ended a transaction that had stood still: nothing was changed, try again"),
    ("28", "authentication failed", "refuses this user or password: check BUILD_ORCHESTRATOR_DATABASE_URL"),
    ("28", "no password supplied", "refuses this user or password: check BUILD_ORCHESTRATOR_DATABASE_URL"),
    ("3D000", "does not exist", "does not exist: create it, or check BUILD_ORCHESTRATOR_DATABASE_URL"),
    ("42501", None, "does not let this user make or change its tables: make it the database's owner"),
)


def _plain(text: str) -> str:
    return re.sub(r"password=\S+", "password=…", text)


def tell(c: sa.Connection, word: str) -> None:
    """Have those who listen know `word` once this transaction is committed; nothing on a store of one machine."""
    if c.dialect.name == "postgresql":
        c.info.setdefault(_TELL, set()).add(word)


def usable(url: sa.URL) -> sa.URL:
    """The URL with our driver and patience. StoreError: the driver is not there, or another one is named."""
    if url.drivername in ("postgres", "postgresql"):
        url = url.set(drivername="postgresql+psycopg")
    if url.drivername != "postgresql+psycopg":
        raise StoreError("BUILD_ORCHESTRATOR_DATABASE_URL: only postgresql+psycopg:// or a SQLite file in HOME")
    if importlib.util.find_spec("psycopg") is None:
        raise StoreError(
            "BUILD_ORCHESTRATOR_DATABASE_URL names PostgreSQL: that needs `pip install 'build-orchestrator[team]'`"
        )
    return url.update_query_dict({k: str(v) for k, v in _KEEPALIVE.items() if k not in url.query})


def conninfo(url: sa.URL) -> str:
    """The same for the driver itself: what it takes to listen. It may hold a password."""
    from psycopg.conninfo import make_conninfo  # noqa: PLC0415 - of an extra

    return make_conninfo("", **_arguments(url))


def url_of(text: str) -> sa.URL:
    """A URL as it was written; also with several hosts, as libpq takes it: the first that will do is used.

    ArgumentError, ValueError: it is none.
    """
    if (found := _HOSTS.fullmatch(text)) is None or _NAMED.search(found["rest"] or ""):
        return sa.make_url(text)
    hosts = [_HOST.fullmatch(one) for one in found["hosts"].split(",")]
    if not all(hosts):
        raise ValueError("hosts")
    names, ports = zip(*((one["name"], one["port"] or "5432") for one in hosts if one), strict=True)
    url = sa.make_url(f"{found['scheme']}{found['user'] or ''}{found['rest'] or ''}")
    plain = ",".join(name.strip("[]") for name in names)
    return url.update_query_dict({"host": plain, "port": ",".join(ports)})


_HOSTS = re.compile(
    r"(?P<scheme>postgres\w*(\+\w+)?://)(?P<user>[^/?@]*@)?(?P<hosts>[^/?@]*,[^/?@]*)(?P<rest>[/?][^@]*)?"
)
_NAMED = re.compile(r"[?&](host|port)=")  # beside hosts in their place: nobody could say which are meant
_HOST = re.compile(r"(?P<name>\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(:(?P<port>\d+))?")


def _arguments(url: sa.URL) -> dict[str, Any]:
    """What the driver is given for a URL: SQLAlchemy has two ways of its own to write several hosts."""
    return dict(url.get_dialect()().create_connect_args(url)[1])


def as_json(value: Any) -> str:
    """JSON that PostgreSQL can look into: it keeps neither NUL nor halves of characters."""
    text = json.dumps(value)
    return json.dumps(_storable(value)) if "\\u0000" in text or "\\ud" in text else text


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", UNKNOWN).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, Mapping):
        items = cast("Mapping[Any, Any]", value).items()
        return {_storable(key): _storable(one) for key, one in items}
    if isinstance(value, (list, tuple)):
        return [_storable(one) for one in cast("Sequence[Any]", value)]
    return value


def is_lost(error: BaseException) -> bool:
    """Whether the link broke, and not only a statement."""
    return isinstance(error, exc.DBAPIError) and error.connection_invalidated


def _prepare(connection: Any) -> datetime:
    """Have a connection as it is used here; the server's time."""
    from psycopg.types.string import StrDumperUnknown  # noqa: PLC0415 - of an extra

    class Storable(StrDumperUnknown):
        """Text without what PostgreSQL cannot keep: NUL, and halves of characters."""

        def dump(self, obj: str) -> Any:
            try:
                return super().dump(obj.replace("\0", UNKNOWN) if "\0" in obj else obj)
            except UnicodeEncodeError:
                return super().dump(_storable(obj))

    connection.adapters.register_dumper(str, Storable)
    connection.autocommit = True  # BEGIN is ours: it goes together with what follows it
    cursor = connection.execute(f"{_SETTINGS}; SELECT clock_timestamp()")
    while cursor.nextset():
        pass
    return cursor.fetchone()[0]


def _begin(connection: sa.Connection) -> None:
    """Begin a transaction. What one that failed has left in `info` goes."""
    connection.info.pop(_TELL, None)
    connection.info.pop(LATER, None)
    if connection.get_execution_options().get("writes"):
        connection.info[LATER] = []
        known = "" if connection.get_execution_options().get(UNCHECKED) else _KNOWN
        connection.exec_driver_sql(f"BEGIN; SELECT pg_advisory_xact_lock({WRITERS}){known}")
    else:
        connection.exec_driver_sql("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")


def _quoted(text: str) -> str:
    """A literal of SQL; the driver has nothing to fill in in what it is sent without values."""
    return "'" + text.replace("'", "''") + "'"
