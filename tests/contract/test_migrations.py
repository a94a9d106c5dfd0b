"""What the migrations build is what the schema declares."""

import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from ledger.store import sqlite_text as sql
from ledger.store.migrate import migrations_folder, upgrade
from ledger.store.schema import metadata
from ledger.store.sqlite_connect import APPLICATION_ID, SCHEMA_VERSION

ROOT = Path(__file__).parents[2]


@pytest.fixture
def migrated(tmp_path: Path) -> Path:
    path = tmp_path / "migrated.db"
    path.touch()
    upgrade(path)
    return path


def objects(path: Path) -> dict[str, str]:
    """Everything in the file but Alembic's own table, with its statement, however it was broken into lines."""
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    return {name: normalised(text) for name, text in found if name != "alembic_version"}


def normalised(text: str) -> str:
    return re.sub(r" ?([(),]) ?", r"\1", " ".join(text.split())).strip()


def test_the_migrations_replayed_make_every_declared_table_index_and_trigger(migrated: Path) -> None:
    assert objects(migrated) == {name: normalised(text) for name, text in sql.SCHEMA.items()}


def test_alembic_sees_nothing_left_to_generate(migrated: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{migrated}", poolclass=sa.NullPool)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_the_newest_migration_has_the_number_that_the_program_compares(migrated: Path) -> None:
    with closing(sqlite3.connect(migrated)) as connection:
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
    scripts = ScriptDirectory(str(migrations_folder()))
    assert (application, version) == (APPLICATION_ID, SCHEMA_VERSION)
    assert scripts.get_current_head() == f"{SCHEMA_VERSION:04}"


def test_upgrading_twice_changes_nothing(migrated: Path) -> None:
    before = migrated.read_bytes()
    upgrade(migrated)
    assert migrated.read_bytes() == before


def test_the_checkouts_own_configuration_runs_them(tmp_path: Path, migrated: Path) -> None:
    """`[tool.alembic]` in pyproject.toml, for whoever writes the next migration."""
    config = Config(toml_file=str(ROOT / "pyproject.toml"))
    config.cmd_opts = type("Options", (), {"x": [f"url=sqlite:///{tmp_path / 'by-hand.db'}"]})()
    command.upgrade(config, "head")
    assert objects(tmp_path / "by-hand.db") == objects(migrated)


def test_a_migration_that_fails_leaves_the_ledger_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "migrations"
    shutil.copytree(migrations_folder(), folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "versions" / "0002_broken.py").write_text(
        "from alembic import op\n"
        "revision, down_revision, branch_labels, depends_on = '0002', '0001', None, None\n"
        "def upgrade():\n    op.execute('CREATE TABLE half (a)')\n    op.execute('no such statement')\n"
    )
    monkeypatch.setattr("ledger.store.migrate.migrations_folder", lambda: folder)
    path = tmp_path / "ledger.db"
    path.touch()
    with pytest.raises(sqlite3.OperationalError):
        upgrade(path)
    assert objects(path) == {}
