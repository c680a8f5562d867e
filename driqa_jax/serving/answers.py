"""What the server says: the forms of its JSON, which OpenAPI shows, and how outcomes become it."""

from __future__ import annotations

import base64
import io
import json
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image
from pydantic import BaseModel, Field
from starlette.responses import Response

from driqa_jax.reports.colormap import overlay

if TYPE_CHECKING:
    from driqa_jax.inference.explain import Explanation
    from driqa_jax.inference.scorer import Result

ImageFormat = Literal["webp", "png"]
_WEBP_SIDE = 16383
# Near lossless to the eye; method 2 takes a third of the time of the default 4 for a few per cent more bytes.
_SAVING = {"webp": {"quality": 92, "method": 2}, "png": {"compress_level": 3}}


class Model(BaseModel):
    """Which model answered."""

    name: str
    sha256: str


class Scored(BaseModel):
    """One picture: its score, or why it has none."""

    name: str = Field(description="as the client called it")
    score: float | None = Field(description="0 to 100, higher is better; null where there is an error")
    uncertainty: float | None = Field(None, description="half of the 90 % interval around the score, points")
    error: str | None = None


class Scores(BaseModel):
    """The answer of /v1/score, in the order of the pictures."""

    model: Model
    results: list[Scored]


class Degradation(BaseModel):
    """One type of degradation; a severity means nothing where the probability is small."""

    name: str
    label: str = Field(description="in plain words")
    probability: float
    severity: float


class Images(BaseModel):
    """data: URLs."""

    picture: str = Field(description="the picture as the model saw it, reduced where it is large")
    restored: str = Field(description="what the restorer makes of it, same size")
    quality_map: str = Field(description="the quality map in colours, over the picture in grey, same size")


class Explained(Scored):
    """One picture and why it has its score; all of it null where there is an error."""

    width: int | None = None
    height: int | None = None
    named: list[str] | None = Field(None, description="names of the degradations that stand out")
    degradations: list[Degradation] | None = Field(None, description="all types, the most probable first")
    quality_map: list[list[float]] | None = Field(None, description="0 to 100, a row of cells at a time, from the top")
    weights: list[list[float]] | None = Field(None, description="how much each cell counts; the sum is 1")
    images: Images | None = None


class Explanations(BaseModel):
    """The answer of /v1/explain, in the order of the pictures."""

    model: Model
    results: list[Explained]


class Health(BaseModel):
    """Whether the server can answer, and the limits that it keeps."""

    status: Literal["ok", "starting", "failed"]
    version: str
    model: Model
    limits: dict[str, float]


class Problem(BaseModel):
    """Why a request was not served."""

    error: str


class JSON(Response):
    """JSON that holds no character of HTML, so that no reader takes a file name for a tag."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        text = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
        return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026").encode()


def failure(name: str, reason: str) -> dict[str, Any]:
    """The entry of a picture that has no score."""
    return {"name": name, "score": None, "uncertainty": None, "error": reason}


def score(name: str, result: Result) -> dict[str, Any]:
    """The entry of a picture that was scored."""
    return {"name": name, "score": result.score, "uncertainty": result.uncertainty, "error": None}


def explanation(name: str, found: Explanation, kind: ImageFormat) -> dict[str, Any]:
    """The entry of a picture that was explained, its images encoded; takes a while."""
    said = found.to_dict()
    keys = ("width", "height", "named", "degradations", "quality_map", "weights")
    return {
        "name": name,
        "score": found.score,
        "uncertainty": found.uncertainty,
        "error": None,
        **{key: said[key] for key in keys},
        "images": {
            "picture": data_url(found.picture, kind),
            "restored": data_url(found.restored, kind),
            "quality_map": data_url(overlay(found), kind),
        },
    }


def data_url(image: np.ndarray, kind: ImageFormat) -> str:
    """An image, uint8 (H, W, 3), as a data: URL; PNG where a side is too long for WebP."""
    kind = "png" if max(image.shape[:2]) > _WEBP_SIDE else kind
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind, **_SAVING[kind])
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
