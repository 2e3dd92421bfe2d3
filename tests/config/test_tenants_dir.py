"""A folder of tenants: thousands of them without thousands of variables, and a bad file is its own trouble."""

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
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "tenants"
    path.mkdir()
    return path


def read(folder: Path, **environ: str) -> Settings:
    return load({"RELAY_TENANTS_DIR": "tenants"} | environ, directory=folder.parent)


def broken(folder: Path, **environ: str) -> dict[str, str]:
    """What is broken, by the place in its file."""
    settings = read(folder, **environ)
    assert all(problem.hint for problem in settings.broken)
    return {problem.field.removeprefix(f"{folder}/"): problem.what for problem in settings.broken}


def put(folder: Path, **texts: str) -> None:
    for name, text in texts.items():
        (folder / f"{name}.toml").write_text(text)


# --- what it says -------------------------------------------------------------------------------------


def test_a_file_is_the_tenant_of_its_name_and_one_of_tables_is_several(folder: Path) -> None:
    put(folder, acme_prd=ACME, more=SEVERAL)
    (folder / "README.md").write_text("not a tenant")
    (folder / ".half.toml").write_text("= not yet")
    settings = read(folder)
    assert sorted(settings.tenants) == ["A", "ACME_PRD", "B"]
    assert settings.tenants["ACME_PRD"].ionapi_file == folder.parent / "acme.ionapi"
    assert settings.tenants["B"].max_in_flight == 3
    assert settings.broken == ()


def test_a_tenant_with_groups_alone_is_still_one_tenant(folder: Path) -> None:
    put(folder, GLOBEX='[oauth1]\nconsumer_key = "k"\n')
    assert set(broken(folder)) == {
        "GLOBEX.toml: logical_id",
        "GLOBEX.toml: ion_url",
        "GLOBEX.toml: oauth1.consumer_secret",
    }


def test_variables_count_before_the_file(folder: Path) -> None:
    put(folder, ACME=ACME)
    settings = read(folder, RELAY_TENANTS__ACME__ORDERING="none", RELAY_TENANTS__ACME__LOGICAL_ID="lid://env")
    assert (settings.tenants["ACME"].ordering, settings.tenants["ACME"].logical_id) == ("none", "lid://env")


def test_tenants_of_the_folder_and_of_variables_stand_side_by_side(folder: Path) -> None:
    put(folder, ACME=ACME)
    other = {"RELAY_TENANTS__B__LOGICAL_ID": "lid://b", "RELAY_TENANTS__B__IONAPI_FILE": "b"}
    assert set(read(folder, **other).tenants) == {"ACME", "B"}


def test_a_misspelt_key_is_pointed_out_and_the_rest_counts(folder: Path) -> None:
    put(folder, ACME=ACME + "max_inflight = 3\n")
    (problem,) = read(folder).unknown
    assert problem.field == f"{folder}/ACME.toml: max_inflight"
    assert problem.hint == "did you mean RELAY_TENANTS__ACME__MAX_IN_FLIGHT?"


def test_a_folder_that_is_not_there_is_a_problem_of_the_whole(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^RELAY_TENANTS_DIR: names a folder that cannot be read"):
        load({"RELAY_TENANTS_DIR": "none"}, directory=tmp_path)


# --- a bad file is its tenant's trouble alone ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        (f'secret = "{CANARY}\n', "", "is not TOML (at line 1"),
        ("", ": logical_id", "is missing"),
        (ACME + "max_in_flight = 65\n", ": max_in_flight", "is too large"),
        (ACME.replace("lid://", "lid:/"), ": logical_id", "does not begin with lid://"),
        (ACME + 'oauth1 = {consumer_key = "x"}\n', "", "has both an .ionapi file and OAuth 1"),
        (ACME + 'Ordering = "none"\nordering = "key"\n', ": ordering", "is there twice, in another case"),
        (ACME + f'ion_url = "https://u:{CANARY}@h/x"\n', ": ion_url", "has a user"),
    ],
)
def test_a_bad_file_says_where_and_why_and_the_others_run(
    folder: Path, text: str, where: str, what: str
) -> None:
    put(folder, BAD=text, ACME=ACME)
    assert set(read(folder).tenants) == {"ACME"}
    found = broken(folder)
    assert what in found[f"BAD.toml{where}"]
    assert CANARY not in str(read(folder).broken)


def test_a_file_that_is_not_utf8_is_broken(folder: Path) -> None:
    (folder / "BAD.toml").write_bytes(b'logical_id = "\xff"\n')
    assert broken(folder) == {"BAD.toml": "cannot be read (it is not UTF-8)"}


def test_one_bad_table_leaves_the_others_of_its_file_alone(folder: Path) -> None:
    put(folder, more=SEVERAL + '[C]\nlogical_id = "lid://c"\n')
    assert set(read(folder).tenants) == {"A", "B"}
    assert broken(folder) == {"more.toml: C": "has no credentials"}


def test_a_tenant_that_is_there_twice_is_carried_from_neither(folder: Path) -> None:
    put(folder, A=ACME, more=SEVERAL)
    assert set(read(folder).tenants) == {"B"}
    assert broken(folder) == {"more.toml: A": "A is there twice"}


def test_a_name_that_is_no_tenant_id_is_broken(folder: Path) -> None:
    put(folder, **{"ACME-1": ACME})
    assert "is not a tenant id" in broken(folder)["ACME-1.toml"]


def test_a_bad_variable_of_such_a_tenant_breaks_it_alone_and_is_named(folder: Path) -> None:
    put(folder, ACME=ACME, more=SEVERAL)
    name = "RELAY_TENANTS__ACME__ORDERING"
    assert broken(folder, **{name: "sideways"}) == {name: "is not one of its values"}
    assert set(read(folder, **{name: "sideways"}).tenants) == {"A", "B"}


def test_variables_of_a_tenant_whose_file_cannot_be_read_do_not_stop_the_rest(folder: Path) -> None:
    put(folder, ACME="= broken", more=SEVERAL)
    assert set(read(folder, RELAY_TENANTS__ACME__ORDERING="none").tenants) == {"A", "B"}


# --- while the relay runs ------------------------------------------------------------------------------------


def test_a_tenant_whose_file_broke_goes_on_as_it_was_and_one_whose_file_went_does_not(folder: Path) -> None:
    put(folder, ACME=ACME, GONE=ACME, more=SEVERAL)
    before = read(folder)
    put(folder, ACME="half a", more=SEVERAL.replace('lid://x"', 'x"', 1))
    (folder / "GONE.toml").unlink()
    after = read(folder)
    assert set(after.tenants) == {"B"}
    kept = after.with_broken_as_before(before)
    assert {name: kept.tenants[name] for name in kept.tenants} == {
        name: before.tenants[name] for name in ("ACME", "A", "B")
    }
    put(folder, more="half a")
    again = read(folder).with_broken_as_before(kept)
    assert set(again.tenants) == {"ACME", "A", "B"}


def test_a_change_of_the_folder_is_seen(folder: Path) -> None:
    put(folder, ACME=ACME)
    settings = read(folder)
    assert settings.directory_signature() == settings.signature
    (folder / "notes.txt").write_text("nobody's")
    assert settings.directory_signature() == settings.signature
    put(folder, B=ACME)
    assert settings.directory_signature() != settings.signature
    settings = read(folder)
    put(folder, B=ACME.replace("orders.1", "orders.2"))
    assert settings.directory_signature() != settings.signature
    settings = read(folder)
    os.utime(folder / "B.toml", (1, 1))
    assert settings.directory_signature() != settings.signature
    settings = read(folder)
    (folder / "B.toml").unlink()
    assert settings.directory_signature() != settings.signature
    settings = read(folder)
    (folder / "ACME.toml").unlink()
    folder.joinpath("notes.txt").unlink()
    folder.rmdir()
    assert settings.directory_signature() != settings.signature


def test_a_link_that_leads_nowhere_is_broken_and_its_mending_is_seen(folder: Path) -> None:
    (folder / "ACME.toml").symlink_to(folder / "later")
    settings = read(folder)
    assert "No such file" in settings.broken[0].what
    (folder / "later").write_text(ACME)
    assert settings.directory_signature() != settings.signature
    assert set(read(folder).tenants) == {"ACME"}


# --- thousands ------------------------------------------------------------------------------------------------


def test_a_thousand_files_cost_no_more_than_a_thousand_files(folder: Path) -> None:
    """No step of the reading looks at all tenants for each tenant."""
    for number in range(1000):
        (folder / f"T{number}.toml").write_text(ACME)
    assert len(read(folder).tenants) == 1000


# --- which of them this relay carries --------------------------------------------------------------------------


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
def test_patterns_say_which_tenants_this_relay_carries(
    folder: Path, only: str, without: str, owned: set[str]
) -> None:
    put(folder, more=SEVERAL, acme_prd=ACME, acme_tst=ACME)
    settings = read(folder, RELAY_ONLY_TENANTS=only, RELAY_NOT_TENANTS=without)
    assert {name for name in settings.tenants if settings.owns(name)} == owned
    assert settings.owns("acme_prd") == ("ACME_PRD" in owned)
    assert len(settings.tenants) == 4, "the others are configured all the same"


@pytest.mark.parametrize("name", ["RELAY_ONLY_TENANTS", "RELAY_NOT_TENANTS"])
def test_what_is_no_pattern_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match="is not a list of patterns"):
        load({name: '["ACME"]'}, directory=tmp_path)
