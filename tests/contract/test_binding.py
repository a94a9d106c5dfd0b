"""No lease is without the binding of the key that made it."""

import json

import pytest

from ledger.domain.errors import IntegrityFailure
from ledger.store.codec import decode, encode
from tests.contract.facts import requested


@pytest.mark.holds("CRD-06")
@pytest.mark.parametrize("changes", [{}, {"credential_binding": None}], ids=["left out", "null"])
def test_a_request_without_a_binding_is_no_fact(changes: dict[str, None]) -> None:
    fields = json.loads(encode(requested())[0])
    del fields["credential_binding"]

    with pytest.raises(IntegrityFailure, match="the payload of create-requested version 1 cannot be read"):
        decode("create-requested", 1, json.dumps(fields | changes))
