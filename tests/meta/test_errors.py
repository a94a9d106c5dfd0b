"""The error table is the contract of the command line: its names and codes never change their meaning."""

import signal

import pytest

from ledger.domain.errors import ERRORS, Interrupted, RentrollError
from ledger.domain.refusals import REFUSALS

TABLE = {
    "internal": 1,
    "usage": 2,
    "credentials": 3,
    "not-found": 4,
    "provider": 5,
    "sync": 6,
    "ssh": 7,
    "budget": 8,
    "integrity": 9,
    "differences": 10,
    "conflict": 11,
    "in-doubt": 75,
}


def every_error(kind: type[RentrollError] = RentrollError) -> set[type[RentrollError]]:
    return {kind}.union(*map(every_error, kind.__subclasses__()))


def test_the_table_is_the_contracts_in_its_order() -> None:
    assert [(error.code, error.exit_code) for error in ERRORS] == list(TABLE.items())


def test_no_two_classes_of_the_table_share_a_name_a_code_or_a_remedy() -> None:
    for values in zip(*((error.code, error.exit_code, error.remedy) for error in ERRORS), strict=True):
        assert len(set(values)) == len(ERRORS)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_has_a_row_of_its_own_and_a_code_for_each_signal(number: signal.Signals, code: int) -> None:
    interrupted = Interrupted(number)
    assert (interrupted.code, interrupted.exit_code) == ("interrupted", code)
    assert code in Interrupted.exit_codes
    assert len(Interrupted.exit_codes) == 3
    others = {text for error in ERRORS for text in (error.code, error.remedy)}
    assert not others & {Interrupted.code, Interrupted.remedy}


def test_every_remedy_is_a_sentence() -> None:
    remedies = [*(error.remedy for error in ERRORS), Interrupted.remedy]
    assert [remedy for remedy in remedies if not remedy.endswith(".") or len(remedy.split()) < 4] == []


def test_every_other_error_of_the_program_is_one_of_the_table() -> None:
    import cli.dispatch
    import ledger.flows.acquire
    import providers.fal.client
    import providers.ssh.box

    assert {cli.dispatch, ledger.flows.acquire, providers.fal.client, providers.ssh.box}
    found = {(error.code, error.exit_code) for error in every_error()}
    assert found == set(TABLE.items())


def test_every_refusal_of_the_domain_is_one_of_the_table() -> None:
    assert set(REFUSALS.values()) <= set(ERRORS)
