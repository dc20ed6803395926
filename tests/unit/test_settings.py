"""settings.ini: documented to the last key, and refused with a reason where it is wrong."""

import configparser
from pathlib import Path

import pytest

from majlis.errors import SettingsError
from majlis.settings import SECTIONS, Profile, Settings, find, load

ROOT = Path(__file__).parents[2]
INI = ROOT / "settings.ini"


def written() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(INI)
    return parser


def refusal(tmp_path: Path, text: str, **environ: str) -> str:
    """What `load` says against a file."""
    path = tmp_path / "settings.ini"
    path.write_text(text)
    with pytest.raises(SettingsError) as raised:
        load(path, environ)
    return str(raised.value)


def loaded(tmp_path: Path, text: str = "[workbench]\n", **environ: str) -> Settings:
    path = tmp_path / "settings.ini"
    path.write_text(text)
    return load(path, environ)


@pytest.mark.parametrize("section", SECTIONS)
def test_the_file_has_exactly_the_keys_of_the_model(section: str) -> None:
    assert set(written()[section]) == set(SECTIONS[section].model_fields)


def test_the_first_profile_shows_every_key_and_the_others_only_known_ones() -> None:
    profiles = [section for name, section in written().items() if name.startswith("profile:")]
    assert set(profiles[0]) == set(Profile.model_fields)
    assert all(set(profile) <= set(Profile.model_fields) for profile in profiles)


def test_the_file_has_no_other_section() -> None:
    assert {name for name in written().sections() if not name.startswith("profile:")} == set(SECTIONS)


def test_every_key_has_a_comment_above_it() -> None:
    lines = INI.read_text().splitlines()
    bare = [
        line
        for before, line in zip(lines, lines[1:], strict=False)
        if "=" in line[:40] and line[0] != "#" and before[:2] != "# "
    ]
    assert bare == []


def test_the_file_says_what_the_code_would_say_without_it(tmp_path: Path) -> None:
    shipped, bare = load(INI, {}), loaded(tmp_path)
    for name, section in SECTIONS.items():
        for key in section.model_fields:
            here, there = (str(getattr(getattr(one, name), key)) for one in (shipped, bare))
            assert here.replace(str(ROOT), "") == there.replace(str(tmp_path), ""), f"[{name}] {key}"


def test_places_start_at_the_file_and_follow_home(tmp_path: Path) -> None:
    settings = loaded(tmp_path, "[workbench]\nhome = data\n[lake]\nuri = ../lake\n")
    assert settings.home == tmp_path / "data"
    assert settings.release.folder == tmp_path / "data/releases"
    assert settings.lake.uri == str(tmp_path.parent / "lake")
    assert settings.policy.file == tmp_path / "hub_config/policy.yaml"
    assert settings.store.url == f"sqlite:///{tmp_path}/data/control/majlis.sqlite"


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("lake", "uri", "s3://bucket/lake"),
        ("tracking", "artifacts", "abfss://box@account/artifacts"),
        ("store", "url", "postgresql://majlis@database/majlis"),
    ],
)
def test_an_address_stays_as_it_is(tmp_path: Path, section: str, key: str, value: str) -> None:
    settings = loaded(tmp_path, f"[{section}]\n{key} = {value}\n")
    assert getattr(getattr(settings, section), key) == value


def test_a_relative_sqlite_file_starts_at_the_settings_file(tmp_path: Path) -> None:
    assert loaded(tmp_path, "[store]\nurl = sqlite:///x.db\n").store.url == f"sqlite:///{tmp_path}/x.db"


def test_the_environment_wins(tmp_path: Path) -> None:
    text = "[gateway]\nport = 9000\n[profile:cpu-small]\ntitle = Small\ngroups = a\n"
    settings = loaded(tmp_path, text, MAJLIS_GATEWAY_PORT="9001", MAJLIS_PROFILE_CPU_SMALL_GROUPS="a, b")
    assert settings.gateway.port == 9001
    assert settings.profiles["cpu-small"].groups == ("a", "b")


def test_the_longest_profile_name_wins(tmp_path: Path) -> None:
    text = "".join(f"[profile:{name}]\ntitle = x\ngroups = a\n" for name in ("gpu", "gpu-shared"))
    settings = loaded(tmp_path, text, MAJLIS_PROFILE_GPU_SHARED_TITLE="Shared")
    assert (settings.profiles["gpu"].title, settings.profiles["gpu-shared"].title) == ("x", "Shared")


def test_reserved_and_foreign_variables_are_left_alone(tmp_path: Path) -> None:
    loaded(tmp_path, MAJLIS_URL="http://x", MAJLIS_SETTINGS="elsewhere", MAJLIS_KILLS="200", PATH="/bin")


def test_percent_signs_and_semicolons_are_part_of_a_value(tmp_path: Path) -> None:
    url = "postgresql://majlis:p%40ss;#word@database/majlis"
    assert loaded(tmp_path, f"[store]\nurl = {url}\n").store.url == url


def test_lists_and_pairs(tmp_path: Path) -> None:
    profile = (
        "[profile:p]\ntitle = P\ngroups = a , b,\nnode_selector = x=1, y=2\ntolerations = gpu:NoExecute\n"
    )
    settings = loaded(tmp_path, "[notify]\nurls =\n  json://a/?x=1,2\n  mailto://b\n" + profile)
    assert settings.notify.urls == ("json://a/?x=1,2", "mailto://b")
    assert settings.profiles["p"].groups == ("a", "b")
    assert settings.profiles["p"].node_selector == {"x": "1", "y": "2"}
    assert settings.profiles["p"].tolerations == (
        {"key": "gpu", "effect": "NoExecute", "operator": "Exists"},
    )


PROFILE = "[profile:p]\ntitle = P\ngroups = a\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[gateway]\nport = eighty",
            ["[gateway] port = 'eighty'", "a whole number at least 1 and at most 65535"],
        ),
        ("[gateway]\nport = 70000", ["[gateway] port = '70000'", "at most 65535"]),
        ("[gateway]\nport =", ["[gateway] port = ''", "a whole number"]),
        ("[gateway]\nprot = 1", ["[gateway] prot is not known", "did you mean port?"]),
        ("[gateway]\nPort = 1", ["[gateway] Port is not known", "did you mean port?"]),
        ("[gatway]\nport = 1", ["section [gatway] is not known", "did you mean gateway?"]),
        ("[DEFAULT]\nport = 1", ["section [DEFAULT] is not known", "allowed: workbench"]),
        ("[features]\nonline = dynamo", ["[features] online = 'dynamo'", "one of sqlite, redis, postgres"]),
        ("[features]\nonline = redis", ["[features] online = redis needs online_url"]),
        ("[workbench]\ndemo_accounts = maybe", ["[workbench] demo_accounts = 'maybe'", "true or false"]),
        ("[workbench]\nbase_url = x", ["[workbench] base_url = 'x'", "a text like '/'"]),
        (
            "[gateway]\nlog_sample = 1.5",
            ["[gateway] log_sample = '1.5'", "a number at least 0 and at most 1"],
        ),
        ("[checks]\nconfidence = 1", ["[checks] confidence = '1'", "a number above 0 and below 1"]),
        ("[gateway]\nport = 8000", ["[workbench] port = 8000 is also [gateway] port"]),
        ("[lake]\nresidency = Dubai", ["[lake] residency = 'Dubai'"]),
        ("[gateway]\nport = 1\nport = 2", ["port", "already exists"]),
        ("port = 1", ["no section headers"]),
        ("[profile:p]\ngroups = a", ["[profile:p] title is missing"]),
        ("[profile:p]\ntitle = P\ngroups =", ["[profile:p] groups"]),
        (
            PROFILE + "cpu_guarantee = 4\ncpu_limit = 2",
            ["[profile:p] cpu_guarantee = 4 is above cpu_limit = 2"],
        ),
        ("[workbench]\nidle_seconds = 60", ["idle_warning_seconds = 300 is not below idle_seconds = 60"]),
        (PROFILE + "images = a/b", ["[profile:p] images = 'a/b'", "no image with a tag or a digest"]),
        (PROFILE + "images = a/b:1, A b", ["[profile:p] images", "'A b' is no image"]),
        (PROFILE + "kind = gpu", ["[profile:p] kind = gpu does not fit gpu = 0"]),
        (PROFILE + "tolerations = gpu:Never", ["[profile:p] tolerations = 'gpu:Never'", "NoExecute"]),
        (PROFILE + "node_selector = gpu", ["[profile:p] node_selector = 'gpu'", "label=value"]),
    ],
)
def test_a_fault_names_the_key_the_value_and_what_is_allowed(
    tmp_path: Path, text: str, said: list[str]
) -> None:
    message = refusal(tmp_path, text + "\n")
    assert all(part in message for part in [*said, str(tmp_path)])


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    message = refusal(tmp_path, "[gateway]\nport = x\nworkers = 0\n[lake]\nurl = y\n")
    assert all(part in message for part in ["[gateway] port", "[gateway] workers", "[lake] url"])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("MAJLIS_GATEWAY_PROT", ["MAJLIS_GATEWAY_PROT is not known", "did you mean port?"]),
        ("MAJLIS_GATEWAY_PORT", ["MAJLIS_GATEWAY_PORT = 'x' is not allowed", "a whole number"]),
        ("MAJLIS_PROFILE_NONE_TITLE", ["section [profile] is not known"]),
    ],
)
def test_a_fault_in_the_environment_names_the_variable(tmp_path: Path, name: str, said: list[str]) -> None:
    message = refusal(tmp_path, "[workbench]\n", **{name: "x"})
    assert all(part in message for part in said)


def test_a_value_that_may_hold_a_password_is_never_shown(tmp_path: Path) -> None:
    message = refusal(tmp_path, "[store]\nurl = majlis:hunter2@database\n")
    assert "[store] url" in message and "hunter2" not in message
    assert "hunter2" not in repr(loaded(tmp_path, "[store]\nurl = postgresql://m:hunter2@d/m\n"))


def test_a_missing_file_and_a_binary_one_are_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        load(tmp_path / "settings.ini", {})
    (tmp_path / "settings.ini").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="cannot read"):
        load(tmp_path / "settings.ini", {})


def test_the_file_is_found_upward_and_another_tools_is_passed_by(tmp_path: Path) -> None:
    inner = tmp_path / "notebooks" / "flights"
    inner.mkdir(parents=True)
    (tmp_path / "settings.ini").write_text("[workbench]\n")
    (inner / "settings.ini").write_text("[DEFAULT]\nlib_name = other\n")
    assert find({}, inner) == tmp_path / "settings.ini"
    assert find({"MAJLIS_SETTINGS": "/srv/settings.ini"}, inner) == Path("/srv/settings.ini")


def test_without_one_from_here_upward_the_one_beside_the_package_is_used(tmp_path: Path) -> None:
    assert find({}, tmp_path) == INI


def test_settings_are_frozen(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        loaded(tmp_path).gateway.port = 1  # type: ignore[misc]
