"""What all tables of a sweep file are, and the numbers in them."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

MOST_KEYS = 1_000  # in a table: pydantic keeps an error for each that is unknown, 600 bytes of memory


class Table(BaseModel):
    """A table of the sweep file: unknown keys are refused, nothing is converted silently, nothing changes later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _has_few_keys(cls, data: Any) -> Any:
        if isinstance(data, dict) and len(data) > MOST_KEYS:
            raise ValueError(f"{len(data):,} keys in a table, of {MOST_KEYS:,} at most")
        return data


Count = Annotated[int, Field(ge=1, le=10_000_000)]
Width = Annotated[int, Field(ge=1, le=16_384)]  # two layers so wide have a gigabyte of weights between them
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, le=1e6)]
NonNegative = Annotated[float, Field(ge=0, le=1e6)]
