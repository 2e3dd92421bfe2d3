"""A directory of tenants: thousands of them without thousands of variables; a bad file affects its tenant only."""

import os
from pathlib import Path

import pytest

from relay.config.settings import Settings, SettingsError, load

CANARY = "canary-7f3a9"
ACME = 'logical_id = "lid://acme.orders.1"\nionapi_file = "acme.ionapi"\n'
SEVERAL = "".join(
    f'[{name}]\nlogical_id = "lid://x"\nionapi_file = "x"\nmax_in_flight = 3\n' for name in "AB"
)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "tenants"
    path.mkdir()
    return path


def read(directory: Path, **environ: str) -> Settings:
    return load({"RELAY_TENANTS_DIR": "tenants"} | environ, directory=directory.parent)


def broken(directory: Path, **environ: str) -> dict[str, str]:
    """What is broken, by the place in its file."""
    settings = read(directory, **environ)
    assert all(problem.hint for problem in settings.broken)
    return {problem.field.removeprefix(f"{directory}/"): problem.what for problem in settings.broken}


def put(directory: Path, **texts: str) -> None:
    for name, text in texts.items():
        (directory / f"{name}.toml").write_text(text)


# --- contents ----------------------------------------------------------------------------------------


def test_a_file_is_the_tenant_of_its_name_and_one_of_tables_is_several(directory: Path) -> None:
    put(directory, acme_prd=ACME, more=SEVERAL)
    (directory / "README.md").write_text("not a tenant")
    (directory / ".half.toml").write_text("= not yet")
    settings = read(directory)
    assert sorted(settings.tenants) == ["A", "ACME_PRD", "B"]
    assert settings.tenants["ACME_PRD"].ionapi_file == directory.parent / "acme.ionapi"
    assert settings.tenants["B"].max_in_flight == 3
    assert settings.broken == ()


def test_a_tenant_with_groups_alone_is_still_one_tenant(directory: Path) -> None:
    put(directory, GLOBEX='[oauth1]\nconsumer_key = "k"\n')
    assert set(broken(directory)) == {
        "GLOBEX.toml: logical_id",
        "GLOBEX.toml: ion_url",
        "GLOBEX.toml: oauth1.consumer_secret",
    }


def test_variables_take_precedence_over_the_file(directory: Path) -> None:
    put(directory, ACME=ACME)
    settings = read(
        directory, RELAY_TENANTS__ACME__ORDERING="none", RELAY_TENANTS__ACME__LOGICAL_ID="lid://env"
    )
    assert (settings.tenants["ACME"].ordering, settings.tenants["ACME"].logical_id) == ("none", "lid://env")


def test_tenants_of_the_directory_and_of_variables_are_combined(directory: Path) -> None:
    put(directory, ACME=ACME)
    other = {"RELAY_TENANTS__B__LOGICAL_ID": "lid://b", "RELAY_TENANTS__B__IONAPI_FILE": "b"}
    assert set(read(directory, **other).tenants) == {"ACME", "B"}


def test_a_misspelt_key_is_pointed_out_and_the_rest_is_used(directory: Path) -> None:
    put(directory, ACME=ACME + "max_inflight = 3\n")
    (problem,) = read(directory).unknown
    assert problem.field == f"{directory}/ACME.toml: max_inflight"
    assert problem.hint == "did you mean RELAY_TENANTS__ACME__MAX_IN_FLIGHT?"


def test_a_directory_that_does_not_exist_is_a_problem_of_all(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^RELAY_TENANTS_DIR: names a directory that cannot be read"):
        load({"RELAY_TENANTS_DIR": "none"}, directory=tmp_path)


# --- a bad file affects its tenant only ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        (f'secret = "{CANARY}\n', "", "is not TOML (at line 1"),
        ("", ": logical_id", "is missing"),
        (ACME + "max_in_flight = 65\n", ": max_in_flight", "is too large"),
        (ACME.replace("lid://", "lid:/"), ": logical_id", "does not begin with lid://"),
        (ACME + 'oauth1 = {consumer_key = "x"}\n', "", "has both an .ionapi file and OAuth 1"),
        (ACME + 'Ordering = "none"\nordering = "key"\n', ": ordering", "is set twice, once in another case"),
        (ACME + f'ion_url = "https://u:{CANARY}@h/x"\n', ": ion_url", "has a user"),
    ],
)
def test_a_bad_file_says_where_and_why_and_the_others_run(
    directory: Path, text: str, where: str, what: str
) -> None:
    put(directory, BAD=text, ACME=ACME)
    assert set(read(directory).tenants) == {"ACME"}
    found = broken(directory)
    assert what in found[f"BAD.toml{where}"]
    assert CANARY not in str(read(directory).broken)


def test_a_file_that_is_not_utf8_is_broken(directory: Path) -> None:
    (directory / "BAD.toml").write_bytes(b'logical_id = "\xff"\n')
    assert broken(directory) == {"BAD.toml": "cannot be read (it is not UTF-8)"}


def test_one_bad_table_leaves_the_others_of_its_file_alone(directory: Path) -> None:
    put(directory, more=SEVERAL + '[C]\nlogical_id = "lid://c"\n')
    assert set(read(directory).tenants) == {"A", "B"}
    assert broken(directory) == {"more.toml: C": "has no credentials"}


def test_a_tenant_that_is_defined_twice_is_taken_from_neither(directory: Path) -> None:
    put(directory, A=ACME, more=SEVERAL)
    assert set(read(directory).tenants) == {"B"}
    assert broken(directory) == {"more.toml: A": "A is defined twice"}


def test_a_name_that_is_no_tenant_id_is_broken(directory: Path) -> None:
    put(directory, **{"ACME-1": ACME})
    assert "is not a tenant id" in broken(directory)["ACME-1.toml"]


def test_a_bad_variable_of_such_a_tenant_breaks_it_only_and_is_named(directory: Path) -> None:
    put(directory, ACME=ACME, more=SEVERAL)
    name = "RELAY_TENANTS__ACME__ORDERING"
    assert broken(directory, **{name: "sideways"}) == {name: "sideways is not one of its values"}
    assert set(read(directory, **{name: "sideways"}).tenants) == {"A", "B"}


def test_variables_of_a_tenant_whose_file_cannot_be_read_do_not_stop_the_rest(directory: Path) -> None:
    put(directory, ACME="= broken", more=SEVERAL)
    assert set(read(directory, RELAY_TENANTS__ACME__ORDERING="none").tenants) == {"A", "B"}


# --- while the relay runs ------------------------------------------------------------------------------------


def test_a_tenant_whose_file_broke_keeps_its_settings_and_one_whose_file_is_deleted_does_not(
    directory: Path,
) -> None:
    put(directory, ACME=ACME, GONE=ACME, more=SEVERAL)
    before = read(directory)
    put(directory, ACME="half a", more=SEVERAL.replace('lid://x"', 'x"', 1))
    (directory / "GONE.toml").unlink()
    after = read(directory)
    assert set(after.tenants) == {"B"}
    kept = after.with_broken_as_before(before)
    assert {name: kept.tenants[name] for name in kept.tenants} == {
        name: before.tenants[name] for name in ("ACME", "A", "B")
    }
    put(directory, more="half a")
    again = read(directory).with_broken_as_before(kept)
    assert set(again.tenants) == {"ACME", "A", "B"}


def test_a_change_of_the_directory_is_noticed(directory: Path) -> None:
    put(directory, ACME=ACME)
    settings = read(directory)
    assert settings.directory_signature() == settings.signature
    (directory / "notes.txt").write_text("ignored")
    assert settings.directory_signature() == settings.signature
    put(directory, B=ACME)
    assert settings.directory_signature() != settings.signature
    settings = read(directory)
    put(directory, B=ACME.replace("orders.1", "orders.2"))
    assert settings.directory_signature() != settings.signature
    settings = read(directory)
    os.utime(directory / "B.toml", (1, 1))
    assert settings.directory_signature() != settings.signature
    settings = read(directory)
    (directory / "B.toml").unlink()
    assert settings.directory_signature() != settings.signature
    settings = read(directory)
    (directory / "ACME.toml").unlink()
    directory.joinpath("notes.txt").unlink()
    directory.rmdir()
    assert settings.directory_signature() != settings.signature


def test_a_dangling_link_is_broken_and_its_repair_is_noticed(directory: Path) -> None:
    (directory / "ACME.toml").symlink_to(directory / "later")
    settings = read(directory)
    assert "No such file" in settings.broken[0].what
    (directory / "later").write_text(ACME)
    assert settings.directory_signature() != settings.signature
    assert set(read(directory).tenants) == {"ACME"}


# --- thousands ------------------------------------------------------------------------------------------------


def test_a_thousand_files_cost_no_more_than_a_thousand_files(directory: Path) -> None:
    """No step of the reading is quadratic."""
    for number in range(1000):
        (directory / f"T{number}.toml").write_text(ACME)
    assert len(read(directory).tenants) == 1000


# --- which of them this relay owns ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("only", "without", "owned"),
    [
        ("", "", {"A", "B", "ACME_PRD", "ACME_TST"}),
        ("acme_*", "", {"ACME_PRD", "ACME_TST"}),
        ("", "*_tst, b", {"A", "ACME_PRD"}),
        ("ACME_*,?", "ACME_TST", {"A", "B", "ACME_PRD"}),
        ("[AB]", "", {"A", "B"}),
    ],
)
def test_patterns_select_the_tenants_that_this_relay_owns(
    directory: Path, only: str, without: str, owned: set[str]
) -> None:
    put(directory, more=SEVERAL, acme_prd=ACME, acme_tst=ACME)
    settings = read(directory, RELAY_ONLY_TENANTS=only, RELAY_NOT_TENANTS=without)
    assert {name for name in settings.tenants if settings.owns(name)} == owned
    assert settings.owns("acme_prd") == ("ACME_PRD" in owned)
    assert len(settings.tenants) == 4, "the others are configured all the same"


@pytest.mark.parametrize("name", ["RELAY_ONLY_TENANTS", "RELAY_NOT_TENANTS"])
def test_an_invalid_pattern_is_reported(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match="is not a list of patterns"):
        load({name: '["ACME"]'}, directory=tmp_path)
