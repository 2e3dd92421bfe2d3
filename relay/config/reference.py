"""The table of all settings for the documentation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from relay.config import sources
from relay.config.sections import group_of, is_map
from relay.config.settings import Settings
from relay.config.sources import Where


@dataclass(frozen=True, slots=True)
class SettingLine:
    """One setting: its variable, its default as one would write it ("" where there is none), its meaning."""

    name: str
    default: str
    meaning: str


def setting_lines(tenant: str = "<TENANT>") -> Sequence[SettingLine]:
    """Every setting in the order of the documentation; those of a tenant with this id in their names."""
    config = SettingLine(sources.CONFIG, sources.TOML, "A TOML file with any of these settings.")
    return (config, *_lines(Settings, tenant, ()))


def _lines(model: type[BaseModel], tenant: str, where: Where) -> Iterator[SettingLine]:
    for attribute, field in model.model_fields.items():
        place, group = (*where, field.alias or attribute), group_of(field)
        if group is not None:
            yield from _lines(group, tenant, (*place, tenant) if is_map(field) else place)
        else:
            meaning = " ".join((field.description or "").split())
            yield SettingLine(sources.variable(place), _written(field.default), meaning)


def _written(default: object) -> str:
    if default is None or default is PydanticUndefined:
        return ""
    if isinstance(default, bool):
        return str(default).lower()
    return f"{default:g}" if isinstance(default, float) else str(default)
