"""`docs/reference/settings.md` says of each setting what the class says, in its order."""

from pathlib import Path

import annotated_types
from pydantic.fields import FieldInfo

from sayso.settings import Settings, variable_of

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"


def default_of(field: FieldInfo) -> str:
    match field.default:
        case None:
            return "not set"
        case ():
            return "none"
        case value:
            return f"`{value}`"


def bounds_of(field: FieldInfo) -> str:
    words = []
    for rule in field.metadata:
        match rule:
            case annotated_types.Ge(ge=least):
                words.append(f"at least {least}")
            case annotated_types.Gt(gt=least):
                words.append(f"more than {least}")
            case annotated_types.Le(le=most):
                words.append(f"at most {most}")
            case _:
                pass  # A check with a sentence of its own.
    return ", ".join(words) or "-"


def row_of(name: str, field: FieldInfo) -> str:
    cells = (f"`{variable_of(name)}`", default_of(field), bounds_of(field), field.description)
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def test_each_setting_has_its_row_on_the_page() -> None:
    rows = [
        line
        for line in PAGE.read_text(encoding="utf-8").splitlines()
        if line.startswith(("| `SAYSO_", "| `REPLICATE_"))
    ]

    assert rows == [row_of(name, field) for name, field in Settings.model_fields.items()]


def test_each_setting_has_a_description_of_one_sentence() -> None:
    for name, field in Settings.model_fields.items():
        description = field.description or ""
        assert description.endswith("."), name
        assert ". " not in description, name


def test_each_number_has_a_lower_and_an_upper_bound() -> None:
    for name, field in Settings.model_fields.items():
        if field.annotation in {int, float}:
            assert len(bounds_of(field).split(",")) == 2, name
