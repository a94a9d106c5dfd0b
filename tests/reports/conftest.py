"""The world of `tests/flows`."""

from tests.flows.conftest import program as program
from tests.flows.conftest import world as world
