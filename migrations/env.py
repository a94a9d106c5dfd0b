"""Runs the migrations on the connection that the program hands over, or on the ledger that `-x url=` names."""

import sqlalchemy as sa
from alembic import context

from ledger.store.schema import metadata


def run(connection: sa.Connection) -> None:
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()


handed_over: sa.Connection | None = context.config.attributes.get("connection")
if handed_over is not None:
    run(handed_over)
else:
    url = context.get_x_argument(as_dictionary=True)["url"]
    with sa.create_engine(url, poolclass=sa.NullPool).begin() as opened:
        run(opened)
