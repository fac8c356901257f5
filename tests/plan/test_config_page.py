"""docs/config.md lists every field of the config with its default, and no other."""

import re
from pathlib import Path

import msgspec
import pytest

from fastgw.plan import config
from fastgw.plan.decode import Section

DOC = (Path(__file__).parents[2] / "docs" / "config.md").read_text()
SECTIONS = {
    kind.__name__: kind
    for kind in vars(config).values()
    if isinstance(kind, type) and issubclass(kind, Section) and kind is not Section
}
HEADINGS = {"Config": "The file", "StoredKey": "Stored key"} | {
    "AwsAuth": "Auth aws", "GoogleAuth": "Auth google", "AzureAdAuth": "Auth azure_ad", "IbmAuth": "Auth ibm"
}  # fmt: skip


def rows(kind):
    """{field: default} as the page has them."""
    part = re.split(rf"^## {HEADINGS.get(kind.__name__, kind.__name__)}$", DOC, flags=re.M)[1].split("\n## ")[0]
    found = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]*) \| [^|]+ \|$", part, re.M)
    assert len(dict(found)) == len(found)
    return dict(found)


def written(field, default):
    """Whether the page's default says the field's."""
    if field.required:
        return default == "required"
    if field.default is msgspec.NODEFAULT or field.default in (None, "") or isinstance(field.default, Section):
        return default != "required" and not default.startswith("`")
    if isinstance(field.default, tuple):
        return default == "`[" + ", ".join(map(str, field.default)) + "]`"
    return default == f"`{str(field.default).lower() if isinstance(field.default, bool) else field.default}`"


@pytest.mark.parametrize("kind", SECTIONS.values(), ids=SECTIONS)
def test_every_field_is_on_the_page_with_its_default(kind):
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    on_page = rows(kind)
    assert list(on_page) == list(fields)
    assert [name for name, field in fields.items() if not written(field, on_page[name])] == []


def test_every_part_of_the_page_is_a_part_of_the_config():
    headings = set(re.findall(r"^## (.+)$", DOC, re.M))
    assert headings == {HEADINGS.get(name, name) for name in SECTIONS}
    links = set(re.findall(r"\]\(#([\w-]+)\)", DOC))
    assert links == {heading.lower().replace(" ", "-") for heading in headings} - {"the-file"}


@pytest.mark.parametrize("kind", SECTIONS.values(), ids=SECTIONS)
def test_what_is_not_built_is_not_documented_as_if_it_were(kind):
    assert not kind.not_built & set(rows(kind))
