"""The emulated fal as pure state: requests and times in, answers out."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.emulator.accounts import Account, Permissions
from providers.emulator.faults import (
    DateSkew,
    Defer,
    Delay,
    DropAfter,
    DropBefore,
    Effect,
    Fault,
    Garbage,
    Hide,
    IgnoreDelete,
    LateVisible,
    Linger,
    Rewrite,
    Stale,
    Status,
    Truncate,
)
from providers.emulator.machines import InstanceView, Settings
from providers.emulator.messages import JournalEntry, Request, Response
from providers.emulator.state import FalState

T0 = datetime(2026, 8, 21, 12, tzinfo=UTC)
KEY = "key-id:key-secret"
ONE = "gpu_1x_h100_sxm5"
EIGHT = "gpu_8x_h100_sxm5"
INSTANCES = "/v1/compute/instances"
PUBLIC_KEY = "ssh-ed25519 AAAA lease"
SETTINGS = Settings(boot_s=10.0, delete_s=5.0, page_cap=3)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def fal(settings: Settings = SETTINGS) -> FalState:
    state = FalState(settings)
    state.add_account("team", KEY)
    return state


def request(method: str, target: str, *, key: str | None = KEY, body: bytes = b"", **headers: str) -> Request:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    authorization = {} if key is None else {"authorization": f"Key {key}"}
    return Request(method=method, target=target, headers={**authorization, **named}, body=body)


def create(
    instance_type: str = ONE, *, ssh_key: str = PUBLIC_KEY, idempotency_key: str | None = None, **fields: str
) -> Request:
    body = msgspec.json.encode({"instance_type": instance_type, "ssh_key": ssh_key, **fields})
    headers = {} if idempotency_key is None else {"idempotency_key": idempotency_key}
    return request("POST", INSTANCES, body=body, content_type="application/json", **headers)


def get(instance_id: str, **options: Any) -> Request:
    return request("GET", f"{INSTANCES}/{instance_id}", **options)


def delete(instance_id: str, **options: Any) -> Request:
    return request("DELETE", f"{INSTANCES}/{instance_id}", **options)


def listing(query: str = "", **options: Any) -> Request:
    return request("GET", INSTANCES + query, **options)


def answer(state: FalState, sent: Request, seconds: float = 0.0) -> tuple[int | None, Any]:
    response = state.handle(sent, at(seconds))
    return response.status, json.loads(response.body) if response.body else None


def made(state: FalState, seconds: float = 0.0, sent: Request | None = None) -> str:
    status, body = answer(state, sent or create(), seconds)
    assert status == 201
    return str(body["id"])


def listed(state: FalState, seconds: float = 0.0) -> list[str]:
    status, body = answer(state, listing(), seconds)
    assert status == 200
    return [instance["id"] for instance in body["instances"]]


def refusal(error_type: str, message: str, number: int = 1) -> dict[str, Any]:
    return {"error": {"type": error_type, "message": message, "request_id": f"req_{number:06d}"}}


NOT_FOUND = (404, refusal("not_found", "Resource not found"))


def without_request_id(found: tuple[int | None, Any]) -> tuple[int | None, Any]:
    status, body = found
    return status, {"error": {**body["error"], "request_id": "req_000001"}}


def test_a_created_instance_is_answered_201_as_fal_describes_it() -> None:
    """The provider's part of API-01."""
    state = fal()

    found = answer(state, create(EIGHT, sector="sector_2"))

    assert found == (
        201,
        {
            "id": state.instances(at(0))[0].id,
            "instance_type": EIGHT,
            "region": "us-west",
            "status": "provisioning",
            "creator_user_nickname": "team",
            "sector": "sector_2",
        },
    )


@pytest.mark.parametrize(
    ("seconds", "status", "ip"),
    [
        (0, "provisioning", None),
        (6.9, "provisioning", None),
        (7, "init", None),
        (9.9, "init", None),
        (10, "ready", "127.0.1.1"),
    ],
)
def test_an_instance_becomes_ready_with_time_and_only_then_has_an_address(
    seconds: float, status: str, ip: str | None
) -> None:
    state = fal(Settings(boot_s=10.0, init_s=3.0))
    instance_id = made(state)

    _, body = answer(state, get(instance_id), seconds)

    assert (body["status"], body.get("ip")) == (status, ip)


def test_a_deleted_instance_is_still_listed_for_a_while_and_then_absent() -> None:
    state = fal()
    instance_id = made(state)

    assert state.handle(delete(instance_id), at(20)) == Response(status=204, date=at(20))
    assert answer(state, get(instance_id), 24.9)[1]["status"] == "stopped"
    assert listed(state, 24.9) == [instance_id]
    assert without_request_id(answer(state, get(instance_id), 25)) == NOT_FOUND
    assert without_request_id(answer(state, delete(instance_id), 25)) == NOT_FOUND
    assert listed(state, 25) == []


@pytest.mark.parametrize(
    ("sent", "status", "error_type", "message"),
    [
        (listing(key=None), 401, "authorization_error", "Authentication required"),
        (listing(key="wrong"), 401, "authorization_error", "Authentication required"),
        (listing(key=None, authorization=f"Bearer {KEY}"), 401, "authorization_error", "Authentication required"),
        (listing("?limit=0"), 400, "validation_error", "limit must be an integer of at least 1"),
        (listing("?limit=x"), 400, "validation_error", "limit must be an integer of at least 1"),
        (listing("?limit=1&limit=2"), 400, "validation_error", "limit is given more than once"),
        (listing("?cursor=Mg"), 400, "validation_error", "cursor is not one of ours"),
        (listing("?cursor=MA%3D%3D"), 400, "validation_error", "cursor is not one of ours"),
        (get("inst_unknown"), 404, "not_found", "Resource not found"),
        (request("GET", "/v1/compute/instances/"), 404, "not_found", "Resource not found"),
        (request("GET", "/v1/other"), 404, "not_found", "Resource not found"),
        (request("GET", "/compute/instances"), 404, "not_found", "Resource not found"),
        (request("DELETE", INSTANCES), 405, "not_implemented", "Method not allowed"),
        (create("gpu_1x_a100"), 400, "validation_error", None),
        (create(ssh_key=""), 400, "validation_error", None),
        (create(ssh_key=" \n"), 400, "validation_error", "ssh_key is blank"),
        (create(sector="sector_1"), 400, "validation_error", "sector is only valid with gpu_8x_h100_sxm5"),
        (create(EIGHT, sector="sector_4"), 400, "validation_error", None),
        (create(ssh_key="k" * 65536), 400, "validation_error", "the body is longer than 65536 bytes"),
        (request("POST", INSTANCES, body=b"{}"), 400, "validation_error", "Content-Type must be application/json"),
        (
            request("POST", INSTANCES, body=b"\xff", content_type="application/json"),
            400,
            "validation_error",
            None,
        ),
    ],
)
def test_a_request_outside_the_document_is_refused_with_fals_error_object(
    sent: Request, status: int, error_type: str, message: str | None
) -> None:
    state = fal()

    found_status, body = answer(state, sent)

    assert (found_status, body) == (status, refusal(error_type, message or body["error"]["message"]))
    assert state.instances(at(0)) == ()


def test_a_wrong_method_is_told_which_methods_there_are() -> None:
    response = fal().handle(request("PATCH", INSTANCES), T0)

    assert (response.status, response.headers["allow"]) == (405, "GET, POST")


def test_a_key_without_a_permission_is_answered_403() -> None:
    state = fal()
    state.accounts.accept_key("billing-only", Permissions(account="team", compute=False))
    state.accounts.accept_key("compute-only", Permissions(account="team", billing=False))

    assert answer(state, listing(key="billing-only")) == (403, refusal("authorization_error", "Access denied", 1))
    assert answer(state, request("GET", "/v1/account/billing", key="compute-only")) == (
        403,
        refusal("authorization_error", "Access denied", 2),
    )


def test_a_rotated_key_sees_what_the_old_one_made_and_the_old_one_sees_nothing() -> None:
    state = fal()
    instance_id = made(state)
    state.accounts.accept_key("new", Permissions(account="team"))
    state.accounts.revoke_key(KEY)

    assert answer(state, get(instance_id, key="new"))[0] == 200
    assert answer(state, get(instance_id))[0] == 401


def test_another_accounts_key_sees_and_deletes_nothing_of_ours() -> None:
    state = fal()
    state.add_account("rival", "rival-key")
    instance_id = made(state)

    found = [
        answer(state, get(instance_id, key="rival-key"))[0],
        answer(state, delete(instance_id, key="rival-key"))[0],
        answer(state, listing(key="rival-key"))[1]["instances"],
        listed(state),
    ]

    assert found == [404, 404, [], [instance_id]]


def test_billing_shows_credits_only_when_asked() -> None:
    state = fal()
    state.accounts.add(Account(username="team", balance=Decimal("24.50")))

    assert answer(state, request("GET", "/v1/account/billing")) == (200, {"username": "team"})
    assert state.handle(request("GET", "/v1/account/billing?expand=credits"), T0).body == (
        b'{"username":"team","credits":{"current_balance":24.50,"currency":"USD"}}'
    )


@given(count=st.integers(0, 8), limit=st.integers(1, 10))
def test_a_walk_over_the_pages_shows_every_instance_once(count: int, limit: int) -> None:
    state = fal()
    ids = [made(state) for _ in range(count)]
    seen: list[str] = []
    query: str | None = f"?limit={limit}"

    while query is not None:
        _, body = answer(state, listing(query))
        assert len(body["instances"]) <= min(limit, SETTINGS.page_cap)
        assert body["has_more"] is (body["next_cursor"] is not None)
        seen += [instance["id"] for instance in body["instances"]]
        query = f"?limit={limit}&cursor={body['next_cursor']}" if body["has_more"] else None

    assert seen == ids


def test_the_same_idempotency_key_gets_the_same_answer_for_ten_minutes_and_then_a_second_instance() -> None:
    """CRE-08, CRE-17: past the cache the same POST makes a second, billed instance."""
    state = fal()
    sent = create(idempotency_key="lease-1")

    first = state.handle(sent, at(0)).body
    replayed = state.handle(sent, at(599.9)).body
    late = state.handle(sent, at(600)).body

    assert (replayed == first, late == first, len(state.instances(at(600)))) == (True, False, 2)


def test_a_refused_create_is_not_kept_under_its_idempotency_key() -> None:
    state = fal()
    state.add_fault(Fault(call="create", effects=(Status(status=500, error_type="server_error"),)))
    sent = create(idempotency_key="lease-1")

    assert [state.handle(sent, at(n)).status for n in range(3)] == [500, 201, 201]
    assert len(state.instances(at(3))) == 1


def test_an_idempotency_key_with_another_body_is_refused_and_makes_nothing() -> None:
    state = fal()
    made(state, sent=create(idempotency_key="lease-1"))

    found = answer(state, create(EIGHT, idempotency_key="lease-1"))

    assert found == (400, refusal("validation_error", "Idempotency-Key was used with another body", 2))
    assert len(state.instances(at(0))) == 1


def test_idempotency_keys_belong_to_an_account_and_a_blank_one_is_none() -> None:
    state = fal()
    state.add_account("rival", "rival-key")
    sent = create(idempotency_key="shared")
    blank = create(idempotency_key=" ")

    state.handle(sent, T0)
    state.handle(msgspec.structs.replace(sent, headers={**sent.headers, "authorization": "Key rival-key"}), T0)
    state.handle(blank, T0)
    state.handle(blank, T0)

    assert [instance.account for instance in state.instances(T0)] == ["team", "rival", "team", "team"]


def test_no_free_address_is_no_capacity() -> None:
    state = fal(Settings(delete_s=5.0, addresses=("127.0.0.1",)))
    instance_id = made(state)

    assert answer(state, create(), 1) == (429, refusal("rate_limited", "No capacity", 2))
    answer(state, delete(instance_id), 2)
    assert answer(state, create(), 6.9)[0] == 429
    assert answer(state, create(), 7)[0] == 201


def test_addresses_go_round_before_one_is_used_again() -> None:
    state = fal(Settings(delete_s=0.0, addresses=("127.0.1.1", "127.0.1.2")))

    for second in range(3):
        answer(state, delete(made(state, second)), second)

    assert [instance.address_index for instance in state.instances(at(3))] == [1, 2, 1]


def test_a_foreign_instance_can_appear_and_vanish() -> None:
    state = fal()
    instance_id = state.add_instance("team", at(50), instance_type=EIGHT, public_key="theirs", authorized_keys="none")

    assert state.instances(at(50)) == (
        InstanceView(
            id=instance_id,
            account="team",
            instance_type=EIGHT,
            public_key="theirs",
            created_at=at(40),
            deleted_at=None,
            status="ready",
            ip="127.0.1.1",
            address_index=1,
            sector=None,
            shown=True,
            ssh_policy="own-key",
            authorized_keys="none",
        ),
    )
    state.remove_instance(instance_id, at(60))
    assert listed(state, 60) == []
    with pytest.raises(ValueError, match="exists"):
        state.add_instance("team", at(60), instance_id=instance_id)


def test_whom_an_instance_lets_in_can_be_said_and_changed() -> None:
    state = fal()
    honeypot = state.add_instance("team", at(0), ssh_policy="every-key")
    made_by_request = made(state)

    state.set_ssh_policy(made_by_request, "no-key")

    policies = {instance.id: instance.ssh_policy for instance in state.instances(at(1))}
    assert policies == {honeypot: "every-key", made_by_request: "no-key"}
    with pytest.raises(KeyError):
        state.set_ssh_policy("inst_unknown", "no-key")


def test_a_forced_status_is_shown_until_time_is_let_go_on() -> None:
    """RDY-02: a status that is not listed."""
    state = fal()
    instance_id = made(state)
    state.force_status(instance_id, "booting")

    forced = answer(state, get(instance_id), 20)[1]
    state.force_status(instance_id, None)

    assert (forced["status"], forced.get("ip")) == ("booting", None)
    assert answer(state, get(instance_id), 20)[1]["status"] == "ready"


def test_ssh_answers_from_its_delay_after_ready_until_the_delete() -> None:
    state = fal(Settings(boot_s=10.0, ssh_delay_s=2.0))
    instance_id = made(state)

    assert (state.next_change(at(0)), state.answering_ssh(at(11.9))) == (at(12), ())
    assert [instance.id for instance in state.answering_ssh(at(12))] == [instance_id]
    answer(state, delete(instance_id), 20)
    assert (state.next_change(at(20)), state.answering_ssh(at(20))) == (None, ())


def test_equal_seeds_give_equal_ids_and_other_seeds_others() -> None:
    def first_id(seed: str) -> str:
        state = FalState(seed=seed)
        return state.add_instance("team", T0)

    assert (first_id("a") == first_id("a"), first_id("a") == first_id("b")) == (True, False)


def test_the_journal_holds_every_request_without_the_key() -> None:
    state = fal()
    state.handle(listing(f"?limit=2&note={KEY}"), at(1))
    state.handle(create(idempotency_key="lease-1"), at(2))
    state.handle(request("GET", "/v1/x", key=None), at(3))

    assert state.journal() == (
        JournalEntry(
            number=1,
            at=at(1),
            method="GET",
            path=INSTANCES,
            query="limit=2&note=***",
            call="list",
            idempotency_key=None,
            body="",
            account="team",
            status=200,
        ),
        JournalEntry(
            number=2,
            at=at(2),
            method="POST",
            path=INSTANCES,
            query="",
            call="create",
            idempotency_key="lease-1",
            body=f'{{"instance_type":"{ONE}","ssh_key":"{PUBLIC_KEY}"}}',
            account="team",
            status=201,
        ),
        JournalEntry(
            number=3,
            at=at(3),
            method="GET",
            path="/v1/x",
            query="",
            call="other",
            idempotency_key=None,
            body="",
            status=404,
        ),
    )
    assert KEY not in repr((state.journal(), listing(), vars(state.accounts)))


def fault(call: Any, *effects: Effect, **options: Any) -> Fault:
    return Fault(call=call, effects=effects, **options)


def test_a_create_dropped_before_makes_nothing_and_one_dropped_after_makes_an_instance() -> None:
    state = fal()
    state.add_fault(fault("create", DropBefore()))
    state.add_fault(fault("create", DropAfter()))

    before = state.handle(create(), T0)
    count_before = len(state.instances(T0))
    after = state.handle(create(), T0)

    assert (before, count_before) == (Response(connection="cut-before"), 0)
    assert (after.status, after.connection, len(state.instances(T0))) == (201, "cut-after", 1)
    assert [(entry.status, entry.connection) for entry in state.journal()] == [
        (None, "cut-before"),
        (201, "cut-after"),
    ]


def test_a_fault_skips_counts_and_then_lets_requests_pass() -> None:
    state = fal()
    state.add_fault(fault("list", Status(status=503), skip=1, count=2))

    assert [state.handle(listing(), at(n)).status for n in range(5)] == [200, 503, 503, 200, 200]
    assert state.script.pending() == ()


def test_faults_are_consumed_in_order_and_wait_for_their_call_and_instance() -> None:
    state = fal()
    one, two = made(state), made(state)
    state.add_fault(fault("get", Status(status=502), instance_id=two))
    state.add_fault(fault("any", Status(status=503)))
    state.add_fault(fault("delete", Status(status=504), count=None))

    found = [state.handle(sent, T0).status for sent in (get(one), get(two), delete(one), delete(one), listing())]

    assert found == [503, 502, 504, 504, 200]
    assert state.script.pending() == (fault("delete", Status(status=504), count=None),)


@pytest.mark.parametrize(
    ("effect", "expected"),
    [
        (
            Status(status=429, error_type="rate_limited", message="slow down", retry_after_s=7),
            Response(
                status=429,
                headers={"content-type": "application/json", "retry-after": "7"},
                body=b'{"error":{"type":"rate_limited","message":"slow down","request_id":"req_000001"}}',
                date=T0,
            ),
        ),
        (Status(status=503, body="busy"), Response(status=503, body=b"busy", date=T0)),
        (
            Status(status=307, headers={"Location": "/v1/elsewhere"}),
            Response(status=307, headers={"location": "/v1/elsewhere"}, date=T0),
        ),
    ],
)
def test_a_status_fault_answers_with_or_without_fals_error_object(effect: Status, expected: Response) -> None:
    """API-04, API-10, API-15 in the provider's part."""
    state = fal()
    state.add_fault(fault("create", effect))

    assert state.handle(create(), T0) == expected
    assert state.instances(T0) == ()


def test_a_delete_may_fail_after_removing_and_fail_without_removing() -> None:
    state = fal()
    one, two = made(state), made(state)
    state.add_fault(fault("delete", Status(status=500, handled=True), instance_id=one))
    state.add_fault(fault("delete", Status(status=500), instance_id=two))

    statuses = [state.handle(delete(one), at(20)).status, state.handle(delete(two), at(20)).status]

    assert (statuses, listed(state, 30)) == ([500, 500], [two])


def test_a_create_may_come_back_without_an_id_or_as_another_instance_or_as_garbage() -> None:
    """API-05, CRE: a 2xx without an id leaves a create in doubt."""
    state = fal()
    state.add_fault(fault("create", Rewrite(omit=("id",))))
    state.add_fault(fault("create", Rewrite(put={"id": "inst_other"})))
    state.add_fault(fault("create", Garbage()))

    without_id = answer(state, create())[1]
    other = answer(state, create())[1]["id"]
    garbage = state.handle(create(), T0)

    assert without_id == {
        "instance_type": ONE,
        "region": "us-west",
        "status": "provisioning",
        "creator_user_nickname": "team",
    }
    assert (other, garbage.status, garbage.body) == ("inst_other", 201, b"<html>bad gateway</html>")
    assert len(state.instances(T0)) == 3


def test_a_page_can_be_malformed() -> None:
    """The provider's part of API-19."""
    state = fal()
    state.add_fault(fault("list", Rewrite(put={"has_more": None}, omit=("next_cursor",))))

    assert answer(state, listing()) == (200, {"instances": [], "has_more": None})


def test_a_stale_read_answers_as_of_then() -> None:
    state = fal()
    instance_id = made(state, 0)
    state.add_fault(fault("get", Stale(15)))
    state.add_fault(fault("list", Stale(25)))

    assert answer(state, get(instance_id), 20)[1]["status"] == "provisioning"
    assert listed(state, 20) == []
    assert listed(state, 20) == [instance_id]


def test_get_and_list_can_contradict_each_other_both_ways() -> None:
    state = fal()
    one, two = made(state), made(state)
    state.add_fault(fault("get", Hide()))
    state.add_fault(fault("list", Hide(instance_id=one)))

    found = [answer(state, get(one))[0], listed(state), answer(state, get(one))[0], listed(state)]

    assert found == [404, [two], 200, [one, two]]


def test_an_instance_can_become_visible_late_but_exists_at_once() -> None:
    state = fal()
    state.add_fault(fault("create", DropAfter(), LateVisible(30)))
    sent = create(idempotency_key="lease-1")
    state.handle(sent, T0)
    instance_id = state.instances(T0)[0].id

    assert without_request_id(answer(state, get(instance_id), 29.9)) == NOT_FOUND
    assert (listed(state, 29.9), listed(state, 30)) == ([], [instance_id])
    assert made(state, 40, sent) == instance_id


def test_an_instance_that_no_read_shows_yet_can_be_deleted() -> None:
    state = fal()
    state.add_fault(fault("create", LateVisible(30)))
    instance_id = made(state)

    assert answer(state, delete(instance_id), 1) == (204, None)
    assert listed(state, 40) == []


def test_a_deleted_instance_can_linger_in_reads() -> None:
    state = fal()
    instance_id = made(state)
    state.add_fault(fault("delete", Linger(100)))
    answer(state, delete(instance_id), 20)

    assert (listed(state, 124.9), listed(state, 125)) == ([instance_id], [])


def test_a_delete_can_be_accepted_and_ignored() -> None:
    state = fal()
    instance_id = made(state)
    state.add_fault(fault("delete", IgnoreDelete()))

    assert answer(state, delete(instance_id), 20) == (204, None)
    assert answer(state, get(instance_id), 500)[1]["status"] == "ready"


def test_a_deferred_create_makes_nothing_until_it_is_resumed() -> None:
    """A POST that is still in flight after its client has given up."""
    state = fal()
    state.add_fault(fault("create", Defer(60), DropAfter()))

    deferred = state.handle(create(), at(0))
    waiting = (state.instances(at(59)), state.journal()[0].status, state.journal()[0].connection)
    resumed = state.resume(deferred.ticket or 0, at(60))

    assert deferred == Response(connection="defer", delay_s=60, ticket=1)
    assert waiting == ((), None, "defer")
    assert (resumed.status, resumed.connection, state.instances(at(60))[0].created_at) == (201, "cut-after", at(60))


@pytest.mark.parametrize(
    ("effect", "pick", "expected"),
    [
        (Delay(3), lambda r: r.delay_s, 3),
        (Truncate(5), lambda r: (r.connection, r.sent_bytes), ("truncate", 5)),
        (DateSkew(-90), lambda r: r.date, at(-90)),
        (DateSkew(None), lambda r: r.date, None),
    ],
)
def test_an_answer_can_be_late_torn_or_misdated(
    effect: Effect, pick: Callable[[Response], Any], expected: object
) -> None:
    state = fal()
    state.add_fault(fault("list", effect))

    response = state.handle(listing(), T0)

    assert (response.status, pick(response)) == (200, expected)


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["create", "replay", "delete", "list"]), st.floats(0.0, 400.0)), max_size=25
)


@given(ACTIONS)
def test_any_history_replayed_on_a_fresh_state_gives_the_same_answers_and_a_list_shows_what_exists(
    actions: list[tuple[str, float]],
) -> None:
    def play() -> tuple[list[tuple[int | None, bytes]], tuple[InstanceView, ...]]:
        state, seconds, answers = fal(Settings(page_cap=100)), 0.0, []
        for kind, wait_s in actions:
            seconds += wait_s
            ids = [instance.id for instance in state.instances(at(seconds))] or ["inst_none"]
            sent = {
                "create": create(),
                "replay": create(idempotency_key="lease-1"),
                "delete": delete(ids[-1]),
                "list": listing(),
            }[kind]
            response = state.handle(sent, at(seconds))
            answers.append((response.status, response.body))
        shown = [view.id for view in state.instances(at(seconds)) if view.shown]
        assert listed(state, seconds) == shown
        return answers, state.instances(at(seconds))

    assert play() == play()
