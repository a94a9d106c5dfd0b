"""Brings a ledger to this program's schema with Alembic; the only place that imports it, and SQLAlchemy with it."""

import importlib.util
from pathlib import Path

from ledger.store.sqlite_connect import connect_unchecked


def migrations_folder() -> Path:
    """Where the migrations are: inside the installed `ledger` package, or beside it in a checkout."""
    installed = importlib.util.find_spec("ledger._migrations")
    if installed is not None and installed.origin is not None:
        return Path(installed.origin).parent
    return Path(__file__).resolve().parents[2] / "migrations"


def upgrade(path: Path) -> None:
    """Applies every migration that the SQLite ledger at `path` has not had, all in one transaction.

    Raises `sqlite3.Error` where SQLite refuses, as every other statement of the store does.
    """
    import sqlalchemy as sa
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    # Ours to close: a BEGIN that fails leaves it open in the engine's hands.
    connection = connect_unchecked(str(path))
    engine = sa.create_engine("sqlite://", creator=lambda: connection, poolclass=sa.StaticPool)

    @sa.event.listens_for(engine, "begin")
    def _begin(opened: sa.Connection) -> None:
        # The driver would commit before each change of schema; an upgrade is all or nothing.
        opened.exec_driver_sql("BEGIN IMMEDIATE")

    try:
        with engine.begin() as opened:
            config.attributes["connection"] = opened
            command.upgrade(config, "head")
    except sa.exc.DBAPIError as error:
        raise error.orig or error from None
    finally:
        connection.close()
