"""The world of `tests/flows`."""

from tests.flows.conftest import world as world
