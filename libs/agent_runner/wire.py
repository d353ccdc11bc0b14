"""The base of every value that crosses a process boundary of the runner. Does nothing else."""

from pydantic import BaseModel, ConfigDict


class Wire(BaseModel):
    """A frozen value. Unknown fields are ignored, so that old readers survive new writers."""

    model_config = ConfigDict(frozen=True, extra="ignore")
