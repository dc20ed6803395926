"""Who may start which profile. Every spawner asks here at every start; pure: settings and groups in."""

import json
import reprlib
from collections.abc import Callable, Collection, Mapping, Sequence
from html import escape
from typing import Any

from tornado import web

from majlis.errors import Forbidden, Invalid, MajlisError
from majlis.settings import Profile, Settings

OPTION = "profile"  # the spawn form's field, and the key in the options of a start through the API
CAPACITY, IMAGE = "capacity", "image"  # the options that a profile can have on Kubernetes
SHOWN_CHARACTERS = 200  # of what somebody asked for, in the refusal

shown = reprlib.Repr()
shown.maxstring = shown.maxother = shown.maxlong = SHOWN_CHARACTERS


def entitled(
    profiles: Mapping[str, Profile],
    groups: Collection[str],  # the groups of the person who asks
) -> dict[str, Profile]:
    """The profiles that a member of `groups` may start, in the order of the settings file."""
    return {name: profile for name, profile in profiles.items() if not set(groups).isdisjoint(profile.groups)}


def choose(
    profiles: Mapping[str, Profile],
    groups: Collection[str],
    options: Mapping[str, Any],  # what the form or the API call says
) -> tuple[str, Profile]:
    """The profile asked for, else the first allowed one; `Forbidden` or `Invalid` otherwise."""
    allowed = entitled(profiles, groups)
    names = ", ".join(allowed) or "none"
    wanted = options.get(OPTION) or next(iter(allowed), None)
    if wanted is None:
        raise Forbidden(
            f"No profile is open to your groups ({', '.join(sorted(groups)) or 'you are in none'})",
            remedy="Ask an administrator to add you to a group that may start servers.",
        )
    if not isinstance(wanted, str) or wanted not in profiles:
        raise Invalid(f"There is no profile {shown.repr(wanted)}", remedy=f"Yours are: {names}.")
    if wanted not in allowed:
        raise Forbidden(
            f"The profile {wanted!r} is for the groups {', '.join(profiles[wanted].groups)}",
            remedy=f"Choose one of yours: {names}.",
        )
    return wanted, allowed[wanted]


def on_this_machine(name: str, options: Mapping[str, Any]) -> None:
    """`Invalid` when a start of the profile `name` asks for what only pods have, or for what nothing has."""
    for option in options:
        if option in (CAPACITY, IMAGE):
            raise Invalid(
                f"{option} does not apply here: servers are processes of this machine, not pods",
                remedy=f"Leave {option} out; it is for servers on Kubernetes ([workbench] spawner).",
            )
        if option != OPTION:
            raise Invalid(
                f"The profile {name!r} has no option {shown.repr(option)}", remedy=f"Options are: {OPTION}."
            )


def forget(spawner: Any) -> None:
    """Let a refused choice go: the hub has kept it, and a start without a choice would make it again."""
    if spawner.orm_spawner is not None:
        spawner.orm_spawner.user_options = None


def refusal(error: MajlisError) -> web.HTTPError:
    """An error of ours as the hub answers it: with its status, and its message on the page."""
    answer = web.HTTPError(int(error.status), str(error))
    answer.jupyterhub_message = str(error)  # type: ignore[attr-defined]
    return answer


def size(profile: Profile) -> str:
    """What a profile offers, in a few words."""
    parts = [f"{profile.cpu_limit:g} cores", f"{profile.memory_limit_gib:g} GiB"]
    return ", ".join([*parts, *([f"{profile.gpu} GPU"] if profile.gpu else [])])


def offer(
    settings: Settings,
    shared: bool = True,  # whether servers on different machines can have the same home
) -> Callable[[Any], str]:
    """What a server is told of the profiles that its person's runs may have, as JSON; starts check again."""
    offered = settings.profiles if shared and settings.workbench.run_servers else {}

    def told(spawner: Any) -> str:
        groups = [str(group.name) for group in spawner.user.groups]
        return json.dumps(
            [
                {"name": name, "title": one.title, "size": size(one), "description": one.description}
                for name, one in entitled(offered, groups).items()
            ]
        )

    return told


def form(
    profiles: Mapping[str, Profile],
    unenforced: Callable[[Profile], Sequence[str]],  # what of a profile nothing sees to on this machine
) -> str:
    """The spawn page's choice, as HTML; empty where there is nothing to choose."""
    if len(profiles) < 2:
        return ""
    rows = "".join(
        row(name, profile, unenforced(profile), first=not at)
        for at, (name, profile) in enumerate(profiles.items())
    )
    return f'<fieldset class="majlis-profiles"><legend>Size of the server</legend>{rows}</fieldset>'


def row(name: str, profile: Profile, unenforced: Sequence[str], first: bool) -> str:
    """One profile of the form."""
    held = f"Here: {'; '.join(unenforced)}." if unenforced else ""
    checked = " checked" if first else ""
    return (
        f'<label class="majlis-profile"><input type="radio" name="{OPTION}" value="{escape(name)}"{checked}>'
        f'<span class="title">{escape(profile.title)}</span> '
        f'<span class="size">{escape(size(profile))}</span>'
        f'<span class="description">{escape(profile.description)}</span>'
        f'<span class="unenforced">{escape(held)}</span></label>'
    )


def options_of(form_data: Mapping[str, list[str]]) -> dict[str, str]:
    """What the submitted form says, as the options of a start."""
    chosen = form_data.get(OPTION, [])
    return {OPTION: chosen[0]} if chosen else {}
