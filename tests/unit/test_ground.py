"""Errors, the clock and access: the small things that everything stands on."""

import pickle
from datetime import UTC, datetime, timedelta, timezone

import pytest

from majlis import access, clock, errors
from majlis.access import DECIDING_SCOPES, KERNEL_SCOPES, ROLE_SCOPES, Principal, Role, Scope

FAMILY = [
    kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.MajlisError)
]


@pytest.mark.parametrize("kind", FAMILY)
def test_every_error_says_what_to_do_and_crosses_processes(kind: type[errors.MajlisError]) -> None:
    raised = kind("it is so", remedy="Do this.")
    assert str(raised) == "it is so\nDo this."
    assert repr(raised) == f"{kind.__name__}('it is so', remedy='Do this.')"
    copy = pickle.loads(pickle.dumps(raised))
    assert (type(copy), copy.message, copy.remedy) == (kind, "it is so", "Do this.")
    assert 400 <= kind.status < 600 and kind.title


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (errors.Unauthenticated, 401),
        (errors.Forbidden, 403),
        (errors.NotFound, 404),
        (errors.Conflict, 409),
        (errors.Tampered, 409),
        (errors.Invalid, 422),
        (errors.SchemaMismatch, 400),
        (errors.Unavailable, 503),
        (errors.SettingsError, 500),
        (errors.StepFailed, 500),
    ],
)
def test_the_status_of_an_error(kind: type[errors.MajlisError], status: int) -> None:
    assert kind.status == status


def test_the_clock_is_set_and_comes_back_when_the_block_raises() -> None:
    noon = datetime(2026, 3, 1, 12, tzinfo=timezone(timedelta(hours=4)))
    with pytest.raises(ZeroDivisionError), clock.frozen(noon) as stopped:
        assert clock.now() == noon and clock.now().tzinfo is UTC
        stopped.advance(days=5, hours=1)
        assert clock.now() == noon + timedelta(days=5, hours=1)
        1 / 0  # noqa: B018
    assert abs(clock.now() - datetime.now(UTC)) < timedelta(minutes=1)


def test_clocks_nest() -> None:
    first, second = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
    with clock.frozen(first):
        with clock.frozen(second):
            assert clock.now() == second
        assert clock.now() == first


def test_a_moment_without_zone_is_refused() -> None:
    for use in (clock.utc, clock.isoformat, lambda moment: clock.frozen(moment).__enter__()):
        with pytest.raises(ValueError, match="no time zone"):
            use(datetime(2026, 1, 1))


def test_texts_sort_as_moments_do() -> None:
    moments = [
        datetime(2026, 1, 1, second=second, microsecond=micro, tzinfo=UTC)
        for second in (0, 9, 10)
        for micro in (0, 5)
    ]
    texts = [clock.isoformat(moment) for moment in moments]
    assert texts == sorted(texts) and [clock.parsed(text) for text in texts] == moments


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("scope", Scope)
def test_a_principal_may_what_its_role_gives_and_nothing_else(role: Role, scope: Scope) -> None:
    someone = Principal(
        "x", scopes=access.role_scopes(frozenset({role.value})), groups=frozenset({role.value})
    )
    if scope in ROLE_SCOPES[role]:
        someone.require(scope)
    else:
        with pytest.raises(errors.Forbidden, match=f"x may not do this: it needs the scope {scope.value}"):
            someone.require(scope)


def test_a_refusal_says_who_may() -> None:
    with pytest.raises(errors.Forbidden) as raised:
        Principal("x").require(Scope.DEVELOP)
    assert "Ask someone who is scientist or engineer" in raised.value.remedy


def test_no_role_decides_in_two_chairs_and_a_kernel_in_none() -> None:
    assert all(len(scopes & DECIDING_SCOPES) <= 1 for scopes in ROLE_SCOPES.values())
    assert not KERNEL_SCOPES & (DECIDING_SCOPES | {Scope.ADMINISTER})


def test_groups_that_are_no_role_give_nothing() -> None:
    assert access.role_scopes(frozenset({"fraud-team", "Admin", ""})) == frozenset()
