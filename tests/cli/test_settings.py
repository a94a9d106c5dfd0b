"""Settings: where they come from, which wins, what is refused."""

from pathlib import Path
from typing import Any

import pytest

from cli import settings as config
from providers import registry
from providers.emulator.serve import Emulator
from providers.fal.endpoint import endpoint_scope
from tests.cli.running import Rentroll

ENVIRONMENT = (
    "RENTROLL_FAL_API_URL",
    "RENTROLL_FAL_KEY",
    "RENTROLL_FAL_SSH_PORT",
    "RENTROLL_FAL_WORK_ROOT",
    "RENTROLL_FAL_POLL_INTERVAL",
    "RENTROLL_RATES_GPU_1X_H100_SXM5",
    "RENTROLL_RATES_GPU_8X_H100_SXM5",
)
PLAN = ("warmup", "--dry-run", "--json")
PUBLIC_HTTP = "http://fal.example/v1"


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of ours in the environment."""
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def user_file(tmp_path: Path) -> Path:
    file = tmp_path / "config" / "rentroll" / "config.toml"
    file.parent.mkdir()
    return file


def shown(rentroll: Rentroll, **options: Any) -> dict[str, tuple[str, str]]:
    """Value and source of each setting."""
    ran = rentroll("config", "show", "--json", **options)
    assert ran.code == 0, ran.err
    return {setting["name"]: (setting["value"], setting["source"]) for setting in ran.json["settings"]}


@pytest.mark.holds("CFG-01")
@pytest.mark.parametrize("name", ["fal", "FAL", " fal-ai "])
def test_fal_and_its_one_alias_name_the_provider(rentroll: Rentroll, name: str) -> None:
    assert rentroll(*PLAN, "--provider", name).json["provider"] == "fal"


@pytest.mark.holds("CFG-01")
@pytest.mark.parametrize("name", ["", "falai", "lambda"])
def test_other_names_are_no_provider(rentroll: Rentroll, name: str) -> None:
    assert rentroll(*PLAN, "--provider", name).code == 2


@pytest.mark.holds("CFG-01")
def test_the_provider_declares_what_it_can_do(rentroll: Rentroll) -> None:
    assert rentroll("providers", "--json", env={"RENTROLL_FAL_KEY": None}).json == {
        "schema": "rentroll.providers/1",
        "providers": [
            {
                "name": "fal",
                "aliases": ["fal-ai"],
                "kind": "ssh-lease",
                "os": "linux",
                "features": ["ssh", "sync", "cleanup"],
                "instance_types": ["gpu_1x_h100_sxm5", "gpu_8x_h100_sxm5"],
            }
        ],
    }


@pytest.mark.holds("CFG-02")
@pytest.mark.usefixtures("bare")
def test_the_defaults_are_valid_without_a_key(rentroll: Rentroll, tmp_path: Path) -> None:
    ran = rentroll("config", "show", "--json")
    values = {
        "fal.api_url": "https://api.fal.ai/v1",
        "fal.instance_type": "gpu_1x_h100_sxm5",
        "fal.poll_interval": "3s",
        "fal.sector": "",
        "fal.ssh_port": "22",
        "fal.user": "ubuntu",
        "fal.work_root": "/home/ubuntu/rentroll",
        "idle_timeout": "30m",
        "ledger.url": "",
        "runs.log_bytes": "1048576",
        "ttl": "90m",
    }
    assert ran.json == {
        "schema": "rentroll.config/1",
        "settings": [
            {"name": name, "value": value, "source": "default", "origin": "built in"} for name, value in values.items()
        ],
        "state_dir": str(tmp_path / "state"),
        "auth": "missing",
    }


@pytest.mark.holds("CFG-03")
def test_only_an_explicit_type_selects_the_8x_machine(rentroll: Rentroll) -> None:
    plain = rentroll(*PLAN).json["request"]["instance_type"]
    explicit = rentroll(*PLAN, "--type", "gpu_8x_h100_sxm5").json["request"]["instance_type"]
    assert (plain, explicit) == ("gpu_1x_h100_sxm5", "gpu_8x_h100_sxm5")


FILE = """
ttl = "1h"
[fal]
api_url = "https://file.example/v1"
instance_type = "gpu_8x_h100_sxm5"
sector = "sector_1"
user = "file"
work_root = "/file"
ssh_port = 2222
[rates]
gpu_8x_h100_sxm5 = 20.5
"""


@pytest.mark.holds("CFG-04")
@pytest.mark.usefixtures("bare")
def test_the_environment_wins_over_a_file_on_each_setting(rentroll: Rentroll, user_file: Path) -> None:
    user_file.write_text(FILE)
    environment = {
        "RENTROLL_FAL_API_URL": "https://env.example/v1",
        "RENTROLL_FAL_INSTANCE_TYPE": "gpu_1x_h100_sxm5",
        "RENTROLL_FAL_SECTOR": "sector_2",
        "RENTROLL_FAL_USER": "env",
        "RENTROLL_FAL_WORK_ROOT": "/env",
        "RENTROLL_TTL": "2h",
    }
    from_file, both = shown(rentroll), shown(rentroll, env=environment)
    assert {name: value for name, (value, source) in from_file.items() if source == "user"} == {
        "fal.api_url": "https://file.example/v1",
        "fal.instance_type": "gpu_8x_h100_sxm5",
        "fal.sector": "sector_1",
        "fal.ssh_port": "2222",
        "fal.user": "file",
        "fal.work_root": "/file",
        "rates.gpu_8x_h100_sxm5": "20.5",
        "ttl": "1h",
    }
    assert {name: value for name, (value, source) in both.items() if source == "environment"} == {
        "fal.api_url": "https://env.example/v1",
        "fal.instance_type": "gpu_1x_h100_sxm5",
        "fal.sector": "sector_2",
        "fal.user": "env",
        "fal.work_root": "/env",
        "ttl": "2h",
    }


@pytest.mark.holds("CFG-04", "CFG-06")
def test_flags_environment_repository_user_and_defaults_win_in_this_order(
    rentroll: Rentroll, user_file: Path, repository: Path
) -> None:
    user_file.write_text('ttl = "10m"\nidle_timeout = "10m"\n[fal]\nuser = "user"\nsector = "sector_1"\n')
    (repository / "rentroll.toml").write_text('ttl = "20m"\nidle_timeout = "20m"\n[fal]\nuser = "repository"\n')
    sources = shown(rentroll, env={"RENTROLL_TTL": "30m"})
    assert {name: sources[name] for name in ("ttl", "idle_timeout", "fal.user", "fal.sector", "fal.ssh_port")} == {
        "ttl": ("30m", "environment"),
        "idle_timeout": ("20m", "repository"),
        "fal.user": ("repository", "repository"),
        "fal.sector": ("sector_1", "user"),
        "fal.ssh_port": (sources["fal.ssh_port"][0], "environment"),
    }
    plan = rentroll(*PLAN, "--ttl", "40m", env={"RENTROLL_TTL": "30m"}).json
    assert (plan["ttl_seconds"], plan["idle_timeout_seconds"]) == (2400, 1200)


@pytest.mark.holds("CFG-04")
def test_the_repositorys_file_is_found_from_a_folder_below(
    rentroll: Rentroll, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (repository / "rentroll.toml").write_text('ttl = "20m"\n')
    (repository / "deep" / "er").mkdir(parents=True)
    monkeypatch.chdir(repository / "deep" / "er")
    assert shown(rentroll)["ttl"] == ("20m", "repository")


@pytest.mark.holds("CFG-04")
def test_a_file_named_on_the_command_line_takes_the_place_of_the_users(
    rentroll: Rentroll, user_file: Path, tmp_path: Path
) -> None:
    user_file.write_text('ttl = "10m"\n')
    other = tmp_path / "other.toml"
    other.write_text('idle_timeout = "5m"\n')
    ran = rentroll("--config", str(other), "config", "show", "--json")
    found = {setting["name"]: (setting["value"], setting["origin"]) for setting in ran.json["settings"]}
    assert (found["ttl"], found["idle_timeout"]) == (("90m", "built in"), ("5m", str(other)))


@pytest.mark.holds("CFG-05")
@pytest.mark.parametrize("name", ["key", "api_key", "fal_key"])
def test_a_file_cannot_hold_the_key(rentroll: Rentroll, user_file: Path, name: str) -> None:
    user_file.write_text(f'[fal]\n{name} = "secret-value"\n')
    ran = rentroll("config", "show")
    assert (ran.code, "secret-value" in ran.err) == (2, False)
    assert "the API key is read from the environment only, never from a file" in ran.err


@pytest.mark.holds("CFG-05")
@pytest.mark.parametrize("flag", ["--key", "--api-key", "--fal-key", "--token"])
def test_no_flag_takes_the_key(rentroll: Rentroll, flag: str) -> None:
    assert rentroll("warmup", flag, "x").code == 2


@pytest.mark.holds("CFG-05")
def test_the_products_key_variable_wins_over_the_vendors_and_a_blank_one_is_missing(
    rentroll: Rentroll, emulator: Emulator
) -> None:
    ours, vendors = "RENTROLL_FAL_KEY", "FAL_KEY"
    assert rentroll("doctor", env={vendors: "wrong"}).code == 0
    assert rentroll("doctor", env={ours: "wrong", vendors: emulator.key}).code == 3
    assert rentroll("doctor", env={ours: "  ", vendors: emulator.key}).code == 0
    assert rentroll("doctor", env={ours: " ", vendors: ""}).code == 3


@pytest.mark.holds("CFG-06", "CFG-07", "CFG-08")
def test_every_flag_wins_over_an_explicit_value(rentroll: Rentroll, emulator: Emulator) -> None:
    environment = {
        "RENTROLL_FAL_API_URL": "https://env.example/v1",
        "RENTROLL_FAL_INSTANCE_TYPE": "gpu_1x_h100_sxm5",
        "RENTROLL_FAL_SECTOR": "sector_1",
        "RENTROLL_FAL_USER": "other",
        "RENTROLL_FAL_WORK_ROOT": "/other",
    }
    flags = (
        *("--api-url", emulator.url, "--type", " gpu_8x_h100_sxm5 ", "--sector", " sector_3 "),
        *("--user", "ubuntu", "--work-root", "~/elsewhere/"),
    )
    leased = rentroll("warmup", *flags, "--slug", "box", "--json", env=environment)
    assert leased.code == 0, leased.err
    assert (leased.json["instance_type"], leased.json["sector"]) == ("gpu_8x_h100_sxm5", "sector_3")
    assert leased.json["ssh"]["user"] == "ubuntu"
    folder = rentroll("run", "--id", "box", "--no-sync", "--", "sh", "-c", 'echo "${PWD#$HOME}"').out
    assert folder == f"/elsewhere/{leased.json['lease_id']}\n"


BLANKABLE = [name for name in config.DEFAULTS if name not in ("fal.sector", "ledger.url")]


@pytest.mark.holds("CFG-09")
@pytest.mark.parametrize("name", BLANKABLE)
def test_whitespace_only_is_an_error_that_names_the_setting(rentroll: Rentroll, name: str) -> None:
    variable = config.environment_name(name)
    in_words = rentroll("config", "show", env={variable: "  "})
    as_json = rentroll("config", "show", "--json", env={variable: "  "})
    message = f"{name} is blank (from {variable})"
    assert (in_words.code, in_words.err.splitlines()[0]) == (2, f"rentroll: usage: {message}")
    assert (as_json.code, as_json.error["message"]) == (2, message)


@pytest.mark.holds("CFG-10")
def test_outer_whitespace_is_trimmed_before_use(rentroll: Rentroll, emulator: Emulator) -> None:
    environment = {
        "RENTROLL_FAL_API_URL": f"  {emulator.url} ",
        "RENTROLL_FAL_USER": " ubuntu ",
        "RENTROLL_FAL_WORK_ROOT": " ~/padded ",
        "RENTROLL_FAL_KEY": f" {emulator.key}\n",
    }
    assert rentroll("warmup", "--slug", "box", env=environment).code == 0
    assert shown(rentroll, env=environment)["fal.work_root"] == ("~/padded", "environment")


@pytest.mark.holds("CFG-11")
@pytest.mark.parametrize("folder", ["rel/ative", "~", "~other/x", "/", ""])
def test_a_work_root_that_is_not_absolute_is_refused(rentroll: Rentroll, folder: str, emulator: Emulator) -> None:
    before = len(emulator.journal())
    assert rentroll("warmup", "--work-root", folder).code == 2
    assert rentroll("config", "show", env={"RENTROLL_FAL_WORK_ROOT": folder}).code == 2
    assert len(emulator.journal()) == before


@pytest.mark.holds("CFG-12")
@pytest.mark.parametrize("user", ["-oProxyCommand=x", "a@b", "a b", "a;b", "a" * 33, "9lives", "é"])
def test_a_login_that_could_be_an_option_or_a_shell_word_is_refused(
    rentroll: Rentroll, user: str, emulator: Emulator
) -> None:
    before = len(emulator.journal())
    ran = rentroll("warmup", "--json", f"--user={user}")
    assert (ran.code, ran.error["message"]) == (2, f"fal.user: not a login name: {user!r} (from the command line)")
    assert rentroll("config", "show", env={"RENTROLL_FAL_USER": user}).code == 2
    assert len(emulator.journal()) == before


@pytest.mark.holds("CFG-13")
@pytest.mark.parametrize("url", [PUBLIC_HTTP, "ftp://fal.example", "fal.example/v1", "https://"])
def test_a_url_that_is_no_endpoint_is_refused_before_any_client_exists(rentroll: Rentroll, url: str) -> None:
    environment = {"RENTROLL_FAL_API_URL": url, "RENTROLL_FAL_KEY": None}
    assert rentroll("config", "show", env=environment).code == 2
    assert rentroll("warmup", env=environment).code == 2
    assert rentroll("warmup", "--api-url", url, env={"RENTROLL_FAL_KEY": None}).code == 2
    assert rentroll("doctor", env=environment).code == 2


REDIRECT = '[fal]\napi_url = "{}"\n'


@pytest.mark.holds("CFG-14")
@pytest.mark.usefixtures("bare")
def test_a_repositorys_file_may_not_point_an_inherited_key_at_another_host(
    rentroll: Rentroll, repository: Path, emulator: Emulator
) -> None:
    (repository / "rentroll.toml").write_text(REDIRECT.format(emulator.url))
    key = {"RENTROLL_FAL_KEY": emulator.key}
    before = len(emulator.journal())
    for words in (("warmup",), ("doctor",)):
        ran = rentroll(*words, "--json", env=key)
        assert ran.code == 2
    assert "approve it with RENTROLL_FAL_API_URL or --api-url" in rentroll("warmup", env=key).err
    assert len(emulator.journal()) == before
    assert rentroll("doctor", "--api-url", emulator.url, env=key).code == 0
    assert rentroll("doctor", env={**key, "RENTROLL_FAL_API_URL": emulator.url}).code == 0


@pytest.mark.holds("CFG-14")
@pytest.mark.usefixtures("bare")
def test_a_repositorys_file_may_name_fals_own_endpoint(rentroll: Rentroll, repository: Path) -> None:
    (repository / "rentroll.toml").write_text(REDIRECT.format("https://API.fal.ai:443/v1/"))
    assert rentroll("warmup", "--dry-run", env={"RENTROLL_FAL_KEY": "some:key"}).code == 0
    from cli.app import App, GlobalOptions

    app = App(GlobalOptions(ledger=None, config=None, verbosity=0, log_format="console", color=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RENTROLL_FAL_KEY", "some:key")
        with app.provider() as provider:
            assert provider.scope == "endpoint:https://api.fal.ai/v1"


@pytest.mark.holds("CFG-15")
def test_config_show_shows_state_not_secrets(rentroll: Rentroll, emulator: Emulator) -> None:
    environment = {"RENTROLL_FAL_API_URL": "https://user:pass@host.example/v1?token=t#part"}
    for words in ((), ("--json",)):
        ran = rentroll("config", "show", *words, env=environment)
        assert ran.code == 0
        assert "https://[redacted]@host.example/v1" in ran.out
        for secret in ("user:pass", "token=t", "#part", emulator.key, "FAL_KEY"):
            assert secret not in ran.out + ran.err
    assert rentroll("config", "show", "--json").json["auth"] == "env"
    assert rentroll("config", "show", "--json", env={"RENTROLL_FAL_KEY": None}).json["auth"] == "missing"


@pytest.mark.holds("CFG-16")
def test_the_endpoint_of_a_lease_is_canonical() -> None:
    spellings = (
        "https://api.fal.ai/v1",
        "HTTPS://API.FAL.AI/v1/",
        "https://api.fal.ai:443/v1",
        "https://user:pass@api.fal.ai/v1?x=1#y",
    )
    others = ("https://api.fal.ai/v2", "https://api.fal.ai:444/v1", "https://api2.fal.ai/v1")
    assert {endpoint_scope(url) for url in spellings} == {"endpoint:https://api.fal.ai/v1"}
    assert len({endpoint_scope(url) for url in others}) == 3


@pytest.mark.holds("CFG-16")
def test_a_lease_is_found_again_under_another_spelling_of_its_endpoint(rentroll: Rentroll, emulator: Emulator) -> None:
    assert rentroll("warmup", "--slug", "box", "--api-url", emulator.url.upper().replace("/V1", "/v1/")).code == 0
    assert rentroll("stop", "box").code == 0


@pytest.mark.holds("CFG-18")
def test_a_configured_sector_is_not_sent_for_the_1x_type_and_a_note_says_so(
    rentroll: Rentroll, emulator: Emulator
) -> None:
    ran = rentroll("warmup", "--slug", "box", "--json", env={"RENTROLL_FAL_SECTOR": "sector_2"})
    assert (ran.code, ran.json["sector"]) == (0, None)
    assert "the sector of RENTROLL_FAL_SECTOR is ignored: gpu_1x_h100_sxm5 takes none" in ran.err
    (view,) = [view for view in emulator.instances() if view.id == ran.json["instance_id"]]
    assert view.sector is None


@pytest.mark.holds("CFG-18")
def test_the_8x_create_carries_the_trimmed_sector(rentroll: Rentroll, emulator: Emulator) -> None:
    leased = rentroll("warmup", "--type", "gpu_8x_h100_sxm5", "--json", env={"RENTROLL_FAL_SECTOR": " sector_2 "}).json
    (view,) = [view for view in emulator.instances() if view.id == leased["instance_id"]]
    assert (leased["sector"], view.sector) == ("sector_2", "sector_2")


@pytest.mark.holds("CFG-19")
@pytest.mark.parametrize("flag", ["--ttl", "--idle-timeout", "--timeout", "--wait"])
@pytest.mark.parametrize("value", ["0", "0s", "-5m", "", "90x", "1e3", "m", "99999999d"])
def test_a_lifetime_that_is_not_positive_is_refused_before_anything_is_written(
    rentroll: Rentroll, flag: str, value: str, tmp_path: Path, emulator: Emulator
) -> None:
    before = len(emulator.journal())
    assert rentroll("warmup", f"{flag}={value}").code == 2
    assert (len(emulator.journal()), list((tmp_path / "state").iterdir())) == (before, [])


@pytest.mark.holds("CFG-19")
def test_durations_are_read_alike_from_flags_environment_and_files(rentroll: Rentroll, repository: Path) -> None:
    (repository / "rentroll.toml").write_text("ttl = 90.5\n")
    assert rentroll(*PLAN).json["ttl_seconds"] == 90.5
    assert rentroll(*PLAN, env={"RENTROLL_TTL": "1h30m"}).json["ttl_seconds"] == 5400
    assert rentroll(*PLAN, "--ttl", "2d").json["ttl_seconds"] == 172_800


@pytest.mark.holds("CFG-02")
def test_the_types_and_sectors_are_fals() -> None:
    assert registry.FAL.instance_types == ("gpu_1x_h100_sxm5", "gpu_8x_h100_sxm5")
    assert registry.SECTORS == ("sector_1", "sector_2", "sector_3")
