"""The description of the API, OpenAPI 3.1: what is served at /openapi.json."""

from importlib import metadata
from typing import Any

from tpr_jax.search.where import KINDS
from tpr_jax.serve import fields, limits, problems

PICTURES = ("image/jpeg", "image/png", "image/webp", "image/bmp", "image/gif")
PICTURES += ("image/tiff", "image/x-portable-pixmap", "application/octet-stream")
_TEXT, _WHOLE, _NUMBER = dict(type="string"), dict(type="integer"), dict(type="number")
_KEY = dict(type="string", pattern=f"^{fields.KEY}$")
_WORDS = {
  400: "It cannot be read: no JSON, no HTTP, or no Host.",
  401: "A token is needed: Authorization: Bearer TOKEN, or the cookie of /login.",
  403: "It comes from another site's page.",
  404: "There is no such picture.",
  408: f"The request took more than {limits.BODY_SECONDS} seconds to arrive.",
  409: "The index has changed since `version`.",
  413: "The request is too large.",
  415: "The media type is another.",
  421: "The Host is not one of this server.",
  422: "It was understood and cannot be done; `detail` says why.",
  431: "The address or the headers are too large.",
  503: "Too many others are being answered; Retry-After says when to ask again.",
}
_EVERY = (400, 401, 421, 431, 503)


def document(needs_token: bool) -> dict[str, Any]:
  """The whole description, as JSON values."""
  found = dict(
    openapi="3.1.0",
    info=dict(
      title="tpr_jax person search",
      version=metadata.version("tpr_jax"),
      summary="Pictures of people by a sentence, by a picture, or by both.",
      description="The best results are the nearest pictures, whether or not any fits;"
      " `matches` says whether somebody seems to, where the model is calibrated.",
      license=dict(name="Apache-2.0", identifier="Apache-2.0"),
    ),
    paths=_paths(),
    components=dict(
      schemas=_schemas(),
      responses={str(status): _problem(status) for status in _WORDS},
      securitySchemes=dict(
        token=dict(type="http", scheme="bearer"),
        session={"type": "apiKey", "in": "cookie", "name": "tpr_session"},
      ),
    ),
  )
  if needs_token:
    found["security"] = [dict(token=[]), dict(session=[])]
  return found


def _paths() -> dict[str, Any]:
  key = {"name": "key", "in": "path", "required": True, "schema": _KEY}
  search = dict(required=True, content=_json("Search"))
  jpeg = {"image/jpeg": {}}
  tag = dict(description="Names this content.", schema=_TEXT)
  kept = {"ETag": tag, "Cache-Control": dict(schema=_TEXT)}
  return {
    "/api/index": dict(
      get=_operation("index", "What can be searched.", _json("Index"))
    ),
    "/api/search": dict(
      post=_operation(
        *("search", "The best pictures, best first.", _json("Answer")),
        *(403, 404, 408, 409, 413, 415, 422),
        requestBody=search,
      )
    ),
    "/api/explain": dict(
      post=_operation(
        *("explain", "Where words fit on a picture: what their cosine loses without."),
        _json("Explained"),
        *(403, 404, 408, 413, 415, 422),
        requestBody=dict(required=True, content=_json("Explain")),
      )
    ),
    "/api/sheet": dict(
      post=_operation(
        *("sheet", "The same results as a page to keep.", {"text/html": {}}),
        *(403, 404, 408, 409, 413, 415, 422),
        requestBody=search,
      )
    ),
    "/api/pictures": dict(
      post=_operation(
        *("give", "A picture to search by; its numbers are kept for half an hour."),
        _json("Given"),
        *(403, 408, 413, 415, 422),
        status=201,
        requestBody=dict(required=True, content={kind: {} for kind in PICTURES}),
      )
    ),
    "/api/pictures/{key}/thumbnail": dict(
      parameters=[key],
      get=_operation(
        *("thumbnail", "A small copy.", jpeg, 404), headers=kept, unchanged=True
      ),
    ),
    "/api/pictures/{key}/view": dict(
      parameters=[key],
      get=_operation(
        "view",
        f"A copy of up to {limits.VIEW:,} pixels, without the file's metadata; of a"
        " person in a frame, of what was cut out.",
        *(jpeg, 404),
        headers=kept,
        unchanged=True,
      ),
    ),
    "/api/pictures/{key}/frame": dict(
      parameters=[key],
      get=_operation(
        "frame",
        f"The frame of a person with a box, of up to {limits.VIEW:,} pixels, without"
        " the file's metadata; 404 of whole pictures.",
        *(jpeg, 404),
        headers=kept,
        unchanged=True,
      ),
    ),
    "/health": dict(
      get=_operation("health", "Is it there?", _json("Health"), open_to_all=True)
    ),
    "/openapi.json": dict(
      get=_operation("description", "This.", {"application/json": {}}, open_to_all=True)
    ),
  }


def _operation(
  name: str,
  summary: str,
  content: dict[str, Any],
  *refusals: int,
  status: int = 200,
  headers: dict[str, Any] | None = None,
  unchanged: bool = False,
  open_to_all: bool = False,
  **more: Any,
) -> dict[str, Any]:
  done = dict(description=summary, content=content)
  if headers:
    done["headers"] = headers
  responses: dict[str, Any] = {str(status): done}
  if unchanged:
    responses["304"] = dict(description="If-None-Match names it: nothing has changed.")
  usual = [each for each in _EVERY if not (open_to_all and each == 401)]
  for each in sorted({*usual, *refusals}):
    responses[str(each)] = {"$ref": f"#/components/responses/{each}"}
  found = dict(operationId=name, summary=summary, responses=responses, **more)
  if open_to_all:
    found["security"] = []
  return found


def _problem(status: int) -> dict[str, Any]:
  content = {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
  found: dict[str, Any] = dict(description=_WORDS[status], content=content)
  if status == 503:
    found["headers"] = {"Retry-After": dict(description="Seconds.", schema=_WHOLE)}
  if status == 401:
    found["headers"] = {"WWW-Authenticate": dict(schema=_TEXT)}
  return found


def _json(schema: str) -> dict[str, Any]:
  return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


def _object(optional: tuple[str, ...] = (), **fields_: Any) -> dict[str, Any]:
  """Every field is there but the optional ones, and there are no others."""
  required = [name for name in fields_ if name not in optional]
  return dict(
    type="object", properties=fields_, required=required, additionalProperties=False
  )


def _schemas() -> dict[str, Any]:
  value = dict(type=["string", "number", "boolean", "null"])
  search = dict(
    type="object",
    properties=fields.SEARCH,
    additionalProperties=False,
    anyOf=[dict(required=[name]) for name in ("query", "like", "upload")],
  )
  search["not"] = dict(required=["like", "upload"])
  hit = _object(
    rank=dict(type="integer", minimum=1),
    score=dict(
      type="number",
      description="The cosine; of words with a picture, the weighted sum of standard"
      " scores over the index.",
    ),
    probability=dict(
      type=["number", "null"],
      minimum=0,
      maximum=1,
      description="Of being a picture of the person that the words describe; null where"
      " it is not known.",
    ),
    second=dict(
      type=["number", "null"],
      description="The second stage's score: such hits are in the order of second +"
      " score, before all others; null where it was not asked for.",
    ),
    path=dict(
      type="string",
      description="Of the picture or the frame, below the folder of pictures.",
    ),
    box=dict(
      type=["array", "null"],
      items=dict(type="integer", minimum=0),
      minItems=4,
      maxItems=4,
      description="Of a person in a frame: x, y, width and height in pixels of the"
      " upright frame, whose sides are in `values`; null of whole pictures.",
    ),
    key=dict(_KEY, description="Names the content, in every version."),
    cosines=_object(("text", "image"), text=_NUMBER, image=_NUMBER),
    values=dict(
      type="object",
      additionalProperties=value,
      description="Columns: size, width, height, time, of a person detection_score,"
      " and those of the table.",
    ),
  )
  return dict(
    Search=search,
    Answer=_object(
      version=_WHOLE,
      searched=dict(type="integer", description="Pictures that meet the condition."),
      total=dict(type="integer", description="Pictures of the index."),
      matches=dict(
        type=["boolean", "null"],
        description="Whether the person seems to be among the pictures searched; null"
        " where the model has no calibration, or a picture was searched by.",
      ),
      recall=dict(
        type=["number", "null"],
        minimum=0,
        maximum=1,
        description="Of a large index, searched approximately: the share of the nearest"
        " that was found when this was measured; null: every picture was compared.",
      ),
      more=dict(type="boolean", description="Whether there is a next page."),
      hits=dict(type="array", items=hit, maxItems=limits.TOP_MOST),
    ),
    Explain=_object(**fields.EXPLAIN),
    Explained=_object(
      cosine=_NUMBER,
      rows=dict(type="integer", minimum=1),
      columns=dict(type="integer", minimum=1),
      patch=dict(
        type="array",
        items=_NUMBER,
        description="Row by row: what the cosine loses where this part is covered.",
      ),
      words=dict(
        type="array",
        items=_object(
          word=_TEXT,
          weight=dict(type="number", description="What it loses without this word."),
        ),
      ),
    ),
    Given=_object(
      upload=fields.SEARCH["upload"],
      seconds=dict(type="integer", description="For how long it is kept."),
    ),
    Index=_object(
      images=dict(type="string", description="The folder's name."),
      model=dict(type="string", description="Its name."),
      second_stage=dict(
        type="string", description="What `rerank` orders by; empty: there is none."
      ),
      version=_WHOLE,
      total=_WHOLE,
      people=dict(
        type="boolean", description="Whether hits are people in frames, with boxes."
      ),
      columns=dict(
        type="object",
        additionalProperties=dict(enum=list(KINDS)),
        description="What conditions may name.",
      ),
      limits=_object(
        query=_WHOLE, where=_WHOLE, top=_WHOLE, deepest=_WHOLE, picture_bytes=_WHOLE
      ),
      audited=dict(type="boolean", description="Whether searches are written down."),
      who=dict(type="string", description="Whose token was shown; local: no token."),
      problem=dict(type="string", description="Why a newer version is not served."),
    ),
    Health=_object(status=dict(const="ok")),
    Problem=_object(
      ("at",),
      title=_TEXT,
      status=_WHOLE,
      detail=_TEXT,
      at=dict(type="integer", description="The character of a condition, from 1."),
    ),
  )
