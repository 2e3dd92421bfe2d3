"""Settings: every source, all problems at once with hints, and never a secret."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config.reference import setting_lines
from relay.config.settings import SHAPE, Settings, SettingsError, load
from relay.config.sources import names

ROOT = Path(__file__).resolve().parents[2]
CANARY = "canary-7f3a9"

ACME = {
    "RELAY_TENANTS__ACME_PRD__LOGICAL_ID": "lid://acme.orders.1",
    "RELAY_TENANTS__ACME_PRD__IONAPI_FILE": "acme.ionapi",
}
GLOBEX = {
    "RELAY_TENANTS__GLOBEX__LOGICAL_ID": "lid://globex.orders.1",
    "RELAY_TENANTS__GLOBEX__ION_URL": "https://ion.example:28090/api/ion/messaging/service",
    "RELAY_TENANTS__GLOBEX__OAUTH1__CONSUMER_KEY": "key",
    "RELAY_TENANTS__GLOBEX__OAUTH1__CONSUMER_SECRET": CANARY,
}


def without(environ: dict[str, str], *endings: str) -> dict[str, str]:
    return {name: text for name, text in environ.items() if not name.endswith(endings)}


def problems(directory: Path, environ: dict[str, str]) -> dict[str, str]:
    with pytest.raises(SettingsError) as caught:
        load(environ, directory=directory)
    assert all(problem.what and problem.hint for problem in caught.value.problems)
    return {problem.field: f"{problem.what}; {problem.hint}" for problem in caught.value.problems}


def unknown(directory: Path, environ: dict[str, str]) -> dict[str, str]:
    return {problem.field: problem.hint for problem in load(environ, directory=directory).unknown}


# --- sources ------------------------------------------------------------------------------------------


def test_without_any_source_the_defaults_hold(tmp_path: Path) -> None:
    settings = load({}, directory=tmp_path)
    assert settings == Settings()
    assert settings.outbox.url == "sqlite:///relay.db"
    assert (settings.retry.initial_seconds, settings.retry.max_seconds) == (1, 300)
    assert settings.tenants == {}
    assert settings.unknown == ()


def test_both_kinds_of_tenants_are_read_from_the_environment(tmp_path: Path) -> None:
    settings = load(ACME | GLOBEX, directory=tmp_path)
    acme, globex = settings.tenants["ACME_PRD"], settings.tenants["GLOBEX"]
    assert acme.logical_id == "lid://acme.orders.1"
    assert acme.ionapi_file == tmp_path / "acme.ionapi"
    assert acme.max_in_flight == 8
    assert globex.ion_url == "https://ion.example:28090/api/ion/messaging/service"
    assert globex.oauth1 is not None
    assert globex.oauth1.consumer_secret is not None
    assert globex.oauth1.consumer_secret.get_secret_value() == CANARY
    assert globex.oauth1.signature_method == "HMAC-SHA256"


def test_the_environment_takes_precedence_over_dotenv_over_toml_over_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "relay.toml").write_text(
        '[log]\nlevel = "error"\nformat = "json"\nsummary_seconds = 5\n[tenants.acme_prd]\n'
        'logical_id = "lid://from.toml"\nionapi_file = "x.ionapi"\nordering = "none"\n'
    )
    (tmp_path / ".env").write_text(
        "RELAY_LOG__LEVEL=warning\nRELAY_LOG__FORMAT=console\n"
        "RELAY_TENANTS__ACME_PRD__LOGICAL_ID=lid://from.dotenv\n"
    )
    settings = load({"RELAY_LOG__LEVEL": "debug"}, directory=tmp_path)
    assert (settings.log.level, settings.log.format, settings.log.summary_seconds) == ("debug", "console", 5)
    assert settings.tenants["ACME_PRD"].logical_id == "lid://from.dotenv"
    assert settings.tenants["ACME_PRD"].ordering == "none"


@pytest.mark.parametrize("source", ["environment", "dotenv"])
def test_relay_config_names_another_toml_file(tmp_path: Path, source: str) -> None:
    (tmp_path / "other.toml").write_text('outbox = {url = "sqlite:///other.db"}\n')
    if source == "dotenv":
        (tmp_path / ".env").write_text("RELAY_CONFIG=other.toml\n")
    settings = load({"RELAY_CONFIG": "other.toml"} if source == "environment" else {}, directory=tmp_path)
    assert settings.outbox.url == "sqlite:///other.db"


def test_a_toml_file_that_is_named_and_missing_is_a_problem(tmp_path: Path) -> None:
    assert "does not exist" in problems(tmp_path, {"RELAY_CONFIG": "none.toml"})["RELAY_CONFIG"]


def test_invalid_toml_is_reported_with_its_line_and_without_its_text(tmp_path: Path) -> None:
    (tmp_path / "relay.toml").write_text(f'a = 1\nsecret = "{CANARY}\n')
    (text,) = problems(tmp_path, {}).values()
    assert "line 2" in text
    assert CANARY not in text


@pytest.mark.parametrize("name", [".env", "relay.toml"])
def test_a_file_that_is_not_utf8_or_cannot_be_read_is_a_problem(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b'RELAY_OUTBOX__URL="\xff"\n')
    assert "not UTF-8" in str(problems(tmp_path, {}))


def test_groups_may_be_json_and_single_variables_take_precedence(tmp_path: Path) -> None:
    settings = load(
        {
            "RELAY_TENANTS": '{"acme": {"logical_id": "lid://a", "ionapi_file": "a", "max_in_flight": 3}}',
            "RELAY_TENANTS__ACME__MAX_IN_FLIGHT": "5",
            "RELAY_LOG": '{"level": "error"}',
        },
        directory=tmp_path,
    )
    assert settings.tenants["ACME"].max_in_flight == 5
    assert settings.log.level == "error"


def test_names_and_choices_are_read_in_any_case(tmp_path: Path) -> None:
    environ = {"relay_log__level": "DEBUG", "RELAY_LOG__FORMAT": "Json"}
    environ |= {name.lower(): text for name, text in GLOBEX.items()}
    environ["RELAY_TENANTS__GLOBEX__OAUTH1__SIGNATURE_METHOD".lower()] = "hmac-sha1"
    settings = load(environ, directory=tmp_path)
    assert (settings.log.level, settings.log.format) == ("debug", "json")
    assert settings.tenants["GLOBEX"].oauth1 is not None
    assert settings.tenants["GLOBEX"].oauth1.signature_method == "HMAC-SHA1"


def test_an_empty_variable_is_not_set(tmp_path: Path) -> None:
    empty = dict.fromkeys(names(SHAPE, "ACME_PRD"), "")
    assert load(empty, directory=tmp_path) == Settings()
    (tmp_path / "relay.toml").write_text('[outbox]\nurl = ""\n')
    assert load({}, directory=tmp_path) == Settings()


@pytest.mark.parametrize(
    "secret", ["123", "true", "null", '{"a": 1}', "[1]", "a$b${HOME}c", "#x", " y ", 'q"', '"']
)
def test_a_secret_is_taken_literally_whatever_it_looks_like(tmp_path: Path, secret: str) -> None:
    name = "RELAY_TENANTS__GLOBEX__OAUTH1__CONSUMER_SECRET"
    settings = load(GLOBEX | {name: secret}, directory=tmp_path)
    assert settings.tenants["GLOBEX"].oauth1 is not None
    assert settings.tenants["GLOBEX"].oauth1.consumer_secret is not None
    assert settings.tenants["GLOBEX"].oauth1.consumer_secret.get_secret_value() == secret


@pytest.mark.parametrize("quote", ['"', "'"])
@pytest.mark.parametrize("name", sorted(ACME | GLOBEX))
def test_quotes_that_a_file_of_variables_left_around_a_value_are_named(
    tmp_path: Path, name: str, quote: str
) -> None:
    environ = ACME | GLOBEX
    (text,) = problems(tmp_path, environ | {name: f"{quote}{environ[name]}{quote}"}).items()
    assert text[0] == name
    assert text[1].startswith("has quotes around its value; remove them")
    assert ("_FILE" in text[1]) == name.endswith("SECRET")


def test_the_end_of_a_line_of_windows_is_named(tmp_path: Path) -> None:
    environ = {name: f"{text}\r" for name, text in (ACME | GLOBEX).items()}
    found = problems(tmp_path, environ)
    assert set(found) == set(environ)
    assert all(text.startswith("ends with a carriage return") for text in found.values())
    lines = [f"{name}={text}" for name, text in environ.items()]
    (tmp_path / ".env").write_bytes("\n".join(lines).encode())
    assert set(load({}, directory=tmp_path).tenants) == {"ACME_PRD", "GLOBEX"}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("\n\nRELAY_LOG__LEVEL\n\n\n RELAY_X Y\n", 6),
        ('A=b\nRELAY_LOG__LEVEL="debug\nB=c\n', 2),
        ("export RELAY_OUTBOX__URL 'x'", 1),
    ],
)
def test_a_line_of_dotenv_that_cannot_be_read_is_a_problem(tmp_path: Path, text: str, line: int) -> None:
    (tmp_path / ".env").write_text(text)
    found = problems(tmp_path, {})
    assert list(found) == [f".env: line {line}"]
    assert "is not used; write NAME=VALUE" in found[f".env: line {line}"]


def test_such_a_line_of_another_program_is_only_pointed_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / ".env").write_text(f"RELAY_LOG__LEVEL=debug\nfoo bar=={CANARY}\n")
    settings = load({}, directory=tmp_path)
    assert settings.log.level == "debug"
    assert [problem.field for problem in settings.unknown] == [".env: line 2"]
    assert CANARY not in f"{settings.unknown}"
    assert caplog.text == ""


def test_nothing_in_dotenv_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "expanded")
    (tmp_path / ".env").write_text("RELAY_OUTBOX__URL=sqlite:///${HOME}.db\n")
    assert load({}, directory=tmp_path).outbox.url == "sqlite:///${HOME}.db"


def test_the_process_own_environment_is_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELAY_OUTBOX__URL", "sqlite:///mine.db")
    assert load({}, directory=tmp_path).outbox.url == "sqlite:///relay.db"
    assert Settings().outbox.url == "sqlite:///relay.db"


def test_files_of_secrets_are_kept_as_paths_and_need_not_exist(tmp_path: Path) -> None:
    environ = without(GLOBEX, "SECRET") | {
        "RELAY_TENANTS__GLOBEX__OAUTH1__CONSUMER_SECRET_FILE": "secrets/globex",
        **ACME,
    }
    settings = load(environ, directory=tmp_path)
    assert settings.tenants["GLOBEX"].oauth1 is not None
    assert settings.tenants["GLOBEX"].oauth1.consumer_secret_file == tmp_path / "secrets/globex"
    assert settings.tenants["ACME_PRD"].ionapi_file == tmp_path / "acme.ionapi"


def test_an_ion_url_beside_an_ionapi_file_is_allowed_and_loses_its_last_slash(tmp_path: Path) -> None:
    environ = ACME | {"RELAY_TENANTS__ACME_PRD__ION_URL": "https://gateway.example/service/"}
    assert load(environ, directory=tmp_path).tenants["ACME_PRD"].ion_url == "https://gateway.example/service"


# --- relations -----------------------------------------------------------------------------------------


def test_a_logical_id_without_lid_is_a_problem(tmp_path: Path) -> None:
    text = problems(tmp_path, ACME | {"RELAY_TENANTS__ACME_PRD__LOGICAL_ID": "acme.orders.1"})
    assert "write lid:// before it" in text["RELAY_TENANTS__ACME_PRD__LOGICAL_ID"]


def test_a_tenant_without_a_logical_id_is_a_problem(tmp_path: Path) -> None:
    text = problems(tmp_path, without(ACME, "LOGICAL_ID"))
    assert text["RELAY_TENANTS__ACME_PRD__LOGICAL_ID"].startswith("is missing")


def test_both_credentials_are_a_problem(tmp_path: Path) -> None:
    text = problems(tmp_path, GLOBEX | {"RELAY_TENANTS__GLOBEX__IONAPI_FILE": "x.ionapi"})
    assert "both an .ionapi file and OAuth 1" in text["RELAY_TENANTS__GLOBEX"]


def test_no_credentials_are_a_problem(tmp_path: Path) -> None:
    assert "has no credentials" in problems(tmp_path, without(ACME, "FILE"))["RELAY_TENANTS__ACME_PRD"]


def test_half_of_oauth1_is_a_problem(tmp_path: Path) -> None:
    at = "RELAY_TENANTS__GLOBEX__OAUTH1__CONSUMER_"
    assert problems(tmp_path, without(GLOBEX, "_KEY"))[at + "KEY"].startswith("is missing")
    assert problems(tmp_path, without(GLOBEX, "_SECRET"))[at + "SECRET"].startswith("is missing")
    twice = problems(tmp_path, GLOBEX | {at + "SECRET_FILE": "x"})
    assert "itself and as a file" in twice[at + "SECRET"]


def test_oauth1_without_an_ion_url_is_a_problem(tmp_path: Path) -> None:
    text = problems(tmp_path, without(GLOBEX, "ION_URL"))
    assert text["RELAY_TENANTS__GLOBEX__ION_URL"].startswith("is missing")


def test_oauth2_details_beside_oauth1_are_a_problem(tmp_path: Path) -> None:
    text = problems(tmp_path, GLOBEX | {"RELAY_TENANTS__GLOBEX__OAUTH2__SCOPE": "x"})
    assert "cannot be used with OAuth 1" in text["RELAY_TENANTS__GLOBEX__OAUTH2"]


INBOUND = "RELAY_TENANTS__ACME_PRD__INBOUND__CONSUMER_"


def test_a_key_for_ions_calls_has_a_secret_in_one_of_its_forms(tmp_path: Path) -> None:
    assert problems(tmp_path, ACME | {INBOUND + "KEY": "k"})[INBOUND + "SECRET"].startswith("is missing")
    assert problems(tmp_path, ACME | {INBOUND + "SECRET": CANARY})[INBOUND + "KEY"].startswith("is missing")
    both = ACME | {INBOUND + "KEY": "k", INBOUND + "SECRET": CANARY, INBOUND + "SECRET_FILE": "x"}
    assert "itself and as a file" in problems(tmp_path, both)[INBOUND + "SECRET"]
    settings = load(ACME | {INBOUND + "KEY": "k", INBOUND + "SECRET_FILE": "x"}, directory=tmp_path)
    inbound = settings.tenants["ACME_PRD"].inbound
    assert inbound is not None
    assert inbound.consumer_secret_file == tmp_path / "x"


def test_a_key_for_ions_calls_belongs_to_one_tenant(tmp_path: Path) -> None:
    given: dict[str, str] = {}
    for tenant in ("ACME_PRD", "GLOBEX"):
        at = f"RELAY_TENANTS__{tenant}__INBOUND__CONSUMER_"
        given |= {at + "KEY": "same", at + "SECRET": CANARY}
    text = problems(tmp_path, ACME | GLOBEX | given)
    assert text == {
        "RELAY_TENANTS__GLOBEX__INBOUND__CONSUMER_KEY": "is also that of ACME_PRD; issue a key of its own for each tenant"
    }


@pytest.mark.parametrize(
    "listen", ["off", "OFF", "127.0.0.1:8482", "0.0.0.0:0", "[::1]:8482", "relay.local:80"]
)
def test_where_to_listen_is_off_or_an_address_with_a_port(tmp_path: Path, listen: str) -> None:
    assert load({"RELAY_INBOUND__LISTEN": listen}, directory=tmp_path).inbound.listen == listen.lower()


@pytest.mark.parametrize(
    "listen", ["8482", ":8482", "127.0.0.1", "127.0.0.1:", "h:99999", "h:1/x", "u@h:1", "h h:1"]
)
def test_anything_else_is_not_an_address_to_listen_on(tmp_path: Path, listen: str) -> None:
    text = problems(tmp_path, {"RELAY_INBOUND__LISTEN": listen})
    assert "127.0.0.1:8480" in text["RELAY_INBOUND__LISTEN"]


def test_an_initial_delay_beyond_the_longest_is_a_problem(tmp_path: Path) -> None:
    text = problems(tmp_path, {"RELAY_RETRY__INITIAL_SECONDS": "301"})
    assert "lower RELAY_RETRY__INITIAL_SECONDS" in text["RELAY_RETRY__MAX_SECONDS"]


def test_calls_that_a_wrapper_suite_does_not_forward_may_be_skipped(tmp_path: Path) -> None:
    calls, documents = "RELAY_TENANTS__GLOBEX__SKIPPED_CALLS", "RELAY_TENANTS__GLOBEX__DOCUMENTS"
    fine = {calls: " ping , acceptedDocuments,", documents: "Sync.SalesOrder, My_Order"}
    load(GLOBEX | fine, directory=tmp_path)
    load(GLOBEX | {calls: "ping,versions"}, directory=tmp_path)
    assert "names a call that cannot be skipped" in problems(tmp_path, GLOBEX | {calls: "ping,post"})[calls]
    assert "is missing, since" in problems(tmp_path, GLOBEX | {calls: "acceptedDocuments"})[documents]
    assert "is not used, since" in problems(tmp_path, GLOBEX | {documents: "Sync.SalesOrder"})[documents]
    text = problems(tmp_path, GLOBEX | {calls: "acceptedDocuments", documents: "x" * 101})[documents]
    assert "100" in text


@pytest.mark.parametrize("name", ["RELAY_TENANTS__GLOBEX__ION_URL", "RELAY_INBOUND__BASE_URL"])
@pytest.mark.parametrize(
    "url", ["https://b\u00fccher.invalid/service", "https://ion\u2011acme.invalid/service"]
)
def test_a_host_that_is_not_ascii_is_a_problem_of_the_settings(tmp_path: Path, name: str, url: str) -> None:
    assert "in its host" in problems(tmp_path, GLOBEX | {name: url})[name]


def test_an_invalid_tenant_id_is_a_problem(tmp_path: Path) -> None:
    environ = {name.replace("GLOBEX", "GLOBEX-1"): text for name, text in GLOBEX.items()}
    assert "not a tenant id" in problems(tmp_path, environ)["RELAY_TENANTS__GLOBEX-1"]


def test_a_tenant_spelled_in_two_cases_is_a_problem(tmp_path: Path) -> None:
    environ = ACME | {"RELAY_TENANTS__acme_prd__ORDERING": "none"}
    assert any("another case" in text for text in problems(tmp_path, environ).values())
    toml = '[tenants.a]\nlogical_id = "lid://a"\n[tenants.A]\nionapi_file = "x"\n'
    (tmp_path / "relay.toml").write_text(toml)
    assert "another case" in problems(tmp_path, {})["relay.toml: tenants.A"]
    (tmp_path / "relay.toml").unlink()
    text = problems(
        tmp_path, {"RELAY_TENANTS": '{"a": {"logical_id": "lid://a"}, "A": {"ionapi_file": "x"}}'}
    )
    assert "another case" in text["RELAY_TENANTS: A"]


# --- single values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("RELAY_RETRY__MAX_SECONDS", "soon", "is not a number"),
        ("RELAY_RETRY__MAX_SECONDS", "inf", "is not a number"),
        ("RELAY_RETRY__MAX_SECONDS", "nan", "is not a number"),
        ("RELAY_RETRY__MAX_SECONDS", "0", "give more than 0"),
        ("RELAY_RETRY__MAX_SECONDS", "1e30", "give at most"),
        ("RELAY_RETRY__MAX_ATTEMPTS", "2.5", "is not a whole number"),
        ("RELAY_RETRY__MAX_ATTEMPTS", "9" * 5000, "is not a whole number"),
        ("RELAY_PARK_NOTHING", "perhaps", "write true or false"),
        ("RELAY_LOG__LEVEL", "loud", "use 'debug', 'info', 'warning' or 'error'"),
        ("RELAY_TENANTS__ACME_PRD__MAX_IN_FLIGHT", "0", "give at least 1"),
        ("RELAY_TENANTS__ACME_PRD__MAX_IN_FLIGHT", "65", "give at most 64"),
        ("RELAY_TENANTS__ACME_PRD__ON_REJECTED", "skip", "use 'park' or 'stop'"),
        ("RELAY_TENANTS__ACME_PRD__RATE_LIMIT", "-1", "give more than 0"),
        ("RELAY_TENANTS__ACME_PRD__ION_URL", "http://ion.example", "is plain http"),
        ("RELAY_LOG", "debug", "is not a JSON object"),
        ("RELAY_TENANTS", "[1]", "is not a JSON object"),
        ("RELAY_TENANTS__ACME_PRD", "x", "is not a JSON object"),
        ("RELAY_TENANTS__ACME_PRD__OAUTH2", "x", "is not a JSON object"),
        ("RELAY_TENANTS", '{"ACME_PRD": 1}', "is not a group of settings"),
    ],
)
def test_an_invalid_value_is_reported_with_what_would_be_valid(
    tmp_path: Path, name: str, text: str, what: str
) -> None:
    environ = ({} if name == "RELAY_TENANTS" else ACME) | {name: text}
    found = problems(tmp_path, environ)
    reported = next(iter(found.items())) if name == "RELAY_TENANTS" else (name, found[name])
    assert what in reported[1]
    assert reported[0].startswith(name)


@pytest.mark.parametrize(
    ("name", "text", "shown"),
    [
        ("RELAY_LOG__LEVEL", "verbose", "verbose is not one of its values"),
        ("RELAY_LOG__LEVEL", " info", "' info' is not one of its values"),
        ("RELAY_RETRY__MAX_SECONDS", "-5", "-5 is too small"),
        ("RELAY_RETRY__MAX_ATTEMPTS", "9" * 5000, "9" * 60 + "… is not a whole number"),
        ("RELAY_WEB__LISTEN", "127.0.0.1:99999", "127.0.0.1:99999 has the port 99999"),
        ("RELAY_WEB__LISTEN", "127.0.0.1", "127.0.0.1 has no port"),
        ("RELAY_WEB__LISTEN", "http://h:1", "'http://h:1' is not an address to listen on"),
        ("RELAY_ONLY_TENANTS", "A B", "'A B' is not a list of patterns"),
        ("RELAY_TENANTS__ACME_PRD__ORDERING", "fifo", "fifo is not one of its values"),
    ],
)
def test_an_invalid_value_is_shown_where_it_is_no_secret(
    tmp_path: Path, name: str, text: str, shown: str
) -> None:
    assert shown in problems(tmp_path, ACME | {name: text})[name]


def test_a_number_in_the_place_of_a_string_is_reported(tmp_path: Path) -> None:
    (tmp_path / "relay.toml").write_text("[outbox]\nurl = 5\n")
    assert problems(tmp_path, {}) == {"relay.toml: outbox.url": "is not a string; put it in quotes"}


def test_a_problem_in_a_toml_file_is_named_as_it_stands_there(tmp_path: Path) -> None:
    (tmp_path / "relay.toml").write_text('[tenants.acme]\nlogical_id = "x"\nionapi_file = "y"\n')
    assert list(problems(tmp_path, {})) == ["relay.toml: tenants.ACME.logical_id"]


def test_all_problems_are_reported_at_once_the_misspelt_names_last(tmp_path: Path) -> None:
    environ = without(GLOBEX, "LOGICAL_ID", "_KEY") | ACME
    environ |= {
        "RELAY_LOG__LEVEL": "loud",
        "RELAY_RETRY__MAX_SECONDS": "x",
        "RELAY_TENANTS__ACME_PRD__LOGICAL_ID": "acme",
        "RELAY_TENANTS__GLOBEX__LOGICALID": "lid://globex",
        "RELAY_CONFIG": "none.toml",
    }
    found = list(problems(tmp_path, environ))
    assert set(found) == {
        "RELAY_CONFIG",
        "RELAY_LOG__LEVEL",
        "RELAY_RETRY__MAX_SECONDS",
        "RELAY_TENANTS__ACME_PRD__LOGICAL_ID",
        "RELAY_TENANTS__GLOBEX__LOGICAL_ID",
        "RELAY_TENANTS__GLOBEX__OAUTH1__CONSUMER_KEY",
        "RELAY_TENANTS__GLOBEX__LOGICALID",
    }
    assert found[-1] == "RELAY_TENANTS__GLOBEX__LOGICALID"


# --- unknown names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("RELAY_OUTBOX_URL", "RELAY_OUTBOX__URL"),
        ("RELAY_LOG__LEVL", "RELAY_LOG__LEVEL"),
        ("RELAY_TENANT__ACME_PRD__LOGICAL_ID", "RELAY_TENANTS__ACME_PRD__LOGICAL_ID"),
        ("RELAY_TENANTS__ACME_PRD__LOGICALID", "RELAY_TENANTS__ACME_PRD__LOGICAL_ID"),
        ("RELAY_TENANTS__ACME_PRD__OAUTH_1__CONSUMER_KEY", "RELAY_TENANTS__ACME_PRD__OAUTH1__CONSUMER_KEY"),
        ("RELAY_TENANTS__ACME_PRD__IONAPI", "RELAY_TENANTS__ACME_PRD__IONAPI_FILE"),
        ("RELAY_PARK_NOTHINK", "RELAY_PARK_NOTHING"),
    ],
)
def test_a_misspelt_name_is_pointed_out_with_the_likely_right_one(
    tmp_path: Path, wrong: str, right: str
) -> None:
    assert unknown(tmp_path, ACME | {wrong: "x"}) == {wrong: f"did you mean {right}?"}


def test_a_name_without_a_similar_one_is_to_be_removed(tmp_path: Path) -> None:
    assert unknown(tmp_path, {"RELAY_ZZZ": "x"}) == {"RELAY_ZZZ": "remove it"}


def test_unknown_keys_in_a_toml_file_and_in_json_are_pointed_out_too(tmp_path: Path) -> None:
    (tmp_path / "relay.toml").write_text('[log]\nlevle = "debug"\n[sender]\nx = 1\n')
    found = unknown(tmp_path, {"RELAY_HTTP": '{"conect_seconds": 1}'})
    assert found == {
        "relay.toml: log.levle": "did you mean RELAY_LOG__LEVEL?",
        "relay.toml: sender": "remove it",
        "RELAY_HTTP__CONECT_SECONDS": "did you mean RELAY_HTTP__CONNECT_SECONDS?",
    }


def test_what_kubernetes_injects_for_a_service_called_relay_is_not_ours(tmp_path: Path) -> None:
    injected = {
        "RELAY_PORT": "tcp://10.0.0.1:8480",
        "RELAY_PORT_8480_TCP_ADDR": "10.0.0.1",
        "RELAY_SERVICE_HOST": "10.0.0.1",
        "RELAY_SERVICE_PORT_HTTP": "8480",
        "PATH": "/bin",
    }
    assert load(injected, directory=tmp_path) == Settings()


# --- secrets --------------------------------------------------------------------------------------------------


HOLDS_NO_SECRET = (
    *(
        "SECONDS",
        "BYTES_PER_SECOND",
        "LEVEL",
        "FORMAT",
        "DAYS",
        "BYTES",
        "MAX_ATTEMPTS",
        "MAX_IN_FLIGHT",
        "RATE_LIMIT",
        "LISTEN",
    ),
    *(
        "TENANT_LABELS",
        "CHECK_DOCUMENTS",
        "ORDERING",
        "ON_REJECTED",
        "PARK_NOTHING",
        "NOTIFY",
        "SIGNATURE_METHOD",
        "BYTES_IN_MEMORY",
    ),
    *("CLIENT_AUTHENTICATION", "TOKENS_A_DAY", "ONLY_TENANTS", "NOT_TENANTS"),
)
"""The ends of the names of numbers, choices, addresses to listen on, and patterns."""


def everything_wrong() -> Iterator[dict[str, str]]:
    """Every setting in turn, and every group, set to a secret."""
    for name in names(SHAPE, "GLOBEX"):
        if not name.endswith("LOGICAL_ID"):  # it is no secret, and shown to the operator who mistyped it
            if name.endswith(HOLDS_NO_SECRET):
                continue  # shown, too: test_an_invalid_value_is_shown_where_it_is_no_secret
            yield GLOBEX | {name: CANARY}
            yield GLOBEX | {name: f'{{"x": "{CANARY}"}}'}
            yield GLOBEX | {name: f'["{CANARY}"'}
    for ending in ("LOGICAL_ID", "ION_URL", "_KEY"):
        yield without(GLOBEX, ending)
    yield GLOBEX | {"RELAY_CONFIG": CANARY}
    yield GLOBEX | {"RELAY_UNKNOWN": CANARY}
    yield GLOBEX | {"RELAY_TENANTS__GLOBEX__OAUTH1__CONSUMER_SECRET__X": CANARY}
    yield GLOBEX | {"RELAY_TENANTS__GLOBEX__ION_URL": f"http://u:{CANARY}@h"}


@pytest.mark.parametrize("environ", list(everything_wrong()))
@pytest.mark.parametrize("source", ["environment", "dotenv"])
def test_no_error_and_no_log_line_ever_shows_a_value(
    tmp_path: Path, environ: dict[str, str], source: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    if source == "dotenv":
        (tmp_path / ".env").write_text("".join(f"{name}='{text}'\n" for name, text in environ.items()))
        environ = {}
    try:
        settings = load(environ, directory=tmp_path)
    except SettingsError as error:
        chain: list[BaseException | None] = [error, error.__cause__, error.__context__]
        assert CANARY not in "".join(f"{one} {one!r} {getattr(one, 'problems', '')!r}" for one in chain)
    else:
        assert CANARY not in f"{settings.unknown}"
    assert CANARY not in caplog.text


def test_a_secret_cannot_be_printed_from_the_settings(tmp_path: Path) -> None:
    settings = load(GLOBEX, directory=tmp_path)
    assert CANARY not in f"{settings} {settings!r} {settings.model_dump()} {settings.model_dump_json()}"


# --- the outbox' URL -------------------------------------------------------------------------------------------

DATABASE = f"postgresql://relay:{CANARY}@db-1:5432,db-2/orders?sslmode=require"


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///relay.db",
        "sqlite:////var/lib/relay/relay.db",
        DATABASE,
        "postgresql:///orders?host=/run/postgresql",
        "postgres://h/d",
    ],
)
def test_an_outbox_is_named_by_its_url_as_libpq_writes_it(tmp_path: Path, url: str) -> None:
    assert load({"RELAY_OUTBOX__URL": url}, directory=tmp_path).outbox.url == url


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        (f"postgresql+asyncpg://u:{CANARY}@h/d", "write postgresql:// without it"),
        (f"mysql://u:{CANARY}@h/d", "write sqlite:///relay.db, or postgresql://"),
        (CANARY, "write sqlite:///relay.db, or postgresql://"),
    ],
)
def test_any_other_outbox_is_reported_with_a_hint(tmp_path: Path, url: str, hint: str) -> None:
    text = problems(tmp_path, {"RELAY_OUTBOX__URL": url})["RELAY_OUTBOX__URL"]
    assert hint in text
    assert CANARY not in text


@pytest.mark.parametrize(
    ("place", "what"),
    [
        (f"u:{CANARY}@x/y@h:5432/d", "is not escaped"),
        (f"u:{CANARY}/y@h:5432/d", "is not escaped"),
        (f"u:{CANARY}#y@h:5432/d", "is not escaped"),
        (f"u:{CANARY}?y@h:5432/d", "is not escaped"),
        (f"u:5432?{CANARY}@h:5432/d", "is not escaped"),
        (f"u:{CANARY}@h:99999/d", "has the port 99999"),
        (f"u:{CANARY}@h,[::1]:0/d", "has the port 0"),
        (f"u:{CANARY}@/d?host=/run/pg&port=5432,65536", "has the port 65536"),
        (f"u:{CANARY}", "has a port that is not a number"),
        (f"u:{CANARY}@[h/d", "is no URL of a database"),
    ],
)
def test_a_url_that_a_driver_would_misread_is_a_problem(tmp_path: Path, place: str, what: str) -> None:
    for source in ("RELAY_OUTBOX__URL", "RELAY_OUTBOX__URL_FILE"):
        (tmp_path / "url").write_text(f"postgresql://{place}\n")
        given = f"postgresql://{place}" if source == "RELAY_OUTBOX__URL" else "url"
        text = problems(tmp_path, {source: given})["RELAY_OUTBOX__URL"]
        assert what in text
        assert CANARY not in text


@pytest.mark.parametrize(
    "place",
    [
        "u:p%40w%2F%3F%23@h:5432/d", "u@h1:1,h2,[::1]:65535/d", "%2Frun%2Fpg/d", "/d?host=/run&port=5432",
        "h/d?user=u&password=a@b", "u:p@w@h/d", "h:/d",
    ],
)  # fmt: skip
def test_a_url_that_can_be_read_is_none(tmp_path: Path, place: str) -> None:
    url = f"postgresql://{place}"
    assert load({"RELAY_OUTBOX__URL": url}, directory=tmp_path).outbox.url == url


def test_the_port_of_a_url_without_one_is_that_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "99999")
    load({"RELAY_OUTBOX__URL": "postgresql://h:5432/d"}, directory=tmp_path)
    text = problems(tmp_path, {"RELAY_OUTBOX__URL": "postgresql://h/d"})["RELAY_OUTBOX__URL"]
    assert "PGPORT has the port 99999" in text


def test_the_password_of_the_outbox_is_never_shown(tmp_path: Path) -> None:
    settings = load({"RELAY_OUTBOX__URL": DATABASE}, directory=tmp_path)
    assert settings.outbox.location.shown == "postgresql://db-1:5432,db-2/orders?sslmode=require"
    assert CANARY not in f"{settings} {settings!r} {settings.model_dump()} {settings.model_dump_json()}"


def test_the_outbox_url_may_be_in_a_file_which_takes_precedence(tmp_path: Path) -> None:
    (tmp_path / "url").write_text(DATABASE + "\n")
    environ = {"RELAY_OUTBOX__URL": "sqlite:///of.the.image.db", "RELAY_OUTBOX__URL_FILE": "url"}
    assert load(environ, directory=tmp_path).outbox.url == DATABASE
    (tmp_path / "url").write_bytes(b"\xff")
    assert "not UTF-8" in problems(tmp_path, environ)["RELAY_OUTBOX__URL_FILE"]
    (tmp_path / "url").unlink()
    assert "No such file" in problems(tmp_path, environ)["RELAY_OUTBOX__URL_FILE"]


def test_the_schema_of_the_outbox_is_a_setting_of_that_name(tmp_path: Path) -> None:
    settings = load({"RELAY_OUTBOX__SCHEMA": "relay", "RELAY_OUTBOX__NOTIFY": "false"}, directory=tmp_path)
    assert (settings.outbox.schema_name, settings.outbox.notify) == ("relay", False)
    (tmp_path / "relay.toml").write_text('[outbox]\nschema = "x"\n')
    assert load({}, directory=tmp_path).outbox.schema_name == "x"
    assert "characters" in problems(tmp_path, {"RELAY_OUTBOX__SCHEMA": "x" * 64})["RELAY_OUTBOX__SCHEMA"]
    assert "a-z, 0-9 and _" in problems(tmp_path, {"RELAY_OUTBOX__PREFIX": "my-"})["RELAY_OUTBOX__PREFIX"]


# --- the reference and .env.example -----------------------------------------------------------------------------


def example(*, commented: bool) -> dict[str, str]:
    """The assignments of .env.example, as they stand or with their comment sign taken away."""
    lines = (ROOT / ".env.example").read_text().splitlines()
    prefix = "# RELAY_" if commented else "RELAY_"
    pairs = (line.removeprefix("# ").partition("=") for line in lines if line.startswith(prefix))
    return {name: text for name, _, text in pairs}


def test_the_reference_lists_every_setting_once_with_its_meaning() -> None:
    lines = setting_lines("ACME_PRD")
    groups = {
        name
        for name in names(SHAPE, "ACME_PRD")
        if any(n.startswith(name + "__") for n in names(SHAPE, "ACME_PRD"))
    }
    assert {line.name for line in lines} == {"RELAY_CONFIG", *names(SHAPE, "ACME_PRD")} - groups
    assert len({line.name for line in lines}) == len(lines)
    assert all(line.meaning.endswith((".", "limit.", "parks.")) for line in lines)


def test_the_defaults_of_the_reference_are_those_that_hold(tmp_path: Path) -> None:
    (tmp_path / "relay.toml").touch()
    defaults = {line.name: line.default for line in setting_lines("ACME_PRD") if line.default}
    environ = {name: text for name, text in defaults.items() if "__OAUTH1__" not in name}
    assert load(ACME | environ, directory=tmp_path) == load(ACME, directory=tmp_path)


def test_every_setting_appears_in_env_example_with_its_default() -> None:
    written = example(commented=True)
    generic = {
        name.replace("ACME_PRD", "<TENANT>").replace("GLOBEX_TST", "<TENANT>"): text
        for name, text in written.items()
    }
    assert set(generic) == {line.name for line in setting_lines()}
    for line in setting_lines():
        if line.default:
            assert generic[line.name] == line.default, line.name


def test_env_example_as_it_stands_sets_nothing() -> None:
    assert example(commented=False) == {}


def test_env_example_is_valid_once_it_is_uncommented(tmp_path: Path) -> None:
    text = (ROOT / ".env.example").read_text()
    (tmp_path / ".env").write_text(text.replace("# RELAY_", "RELAY_"))
    (tmp_path / "relay.toml").touch()
    with pytest.raises(SettingsError) as raised:
        load({}, directory=tmp_path)
    names = {problem.field for problem in raised.value.problems}
    assert all(name.endswith(("CA_FILE", "CLIENT_CERT_FILE", "CLIENT_KEY_FILE")) for name in names), names
    lines = [line for line in (tmp_path / ".env").read_text().splitlines() if line.split("=")[0] not in names]
    (tmp_path / ".env").write_text("\n".join(lines))
    settings = load({}, directory=tmp_path)
    assert set(settings.tenants) == {"ACME_PRD", "GLOBEX_TST"}
    assert settings.unknown == ()


# --- anything at all -----------------------------------------------------------------------------------------------

NAMES = st.sampled_from(
    [*names(SHAPE, "A"), *names(SHAPE, "b"), "RELAY_CONFIG", "RELAY__", "RELAY_TENANTS____X", "RELAY_"]
)
TEXTS = st.one_of(
    st.text(max_size=20), st.sampled_from(["{}", "[]", "null", '{"a": {}}', '{"tenants": {}}', "1", "true"])
)


@given(st.dictionaries(NAMES, TEXTS, max_size=6))
def test_whatever_the_environment_holds_the_answer_is_settings_or_problems(environ: dict[str, str]) -> None:
    try:
        load(environ, directory=Path("/nonexistent"))
    except SettingsError as error:
        problems = error.problems
    else:
        return
    assert problems
