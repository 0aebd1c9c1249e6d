"""The flags of --mode=index, search and serve, and what they ask for."""

from absl import flags

from tpr_jax import config as configs
from tpr_jax.detect import wanted
from tpr_jax.search import settings
from tpr_jax.serve import settings as serve_settings

INDEX = flags.DEFINE_string(
  "index", None, "index, search, serve: the folder that holds the index."
)
IMAGES = flags.DEFINE_string(
  "images",
  None,
  "index: the folder of pictures, one person each (or --detect); subfolders too.",
)
METADATA = flags.DEFINE_string(
  "metadata",
  None,
  "index: FILE.csv, .tsv, .json or .jsonl with a column `path` and any others.",
)
IMAGE_SIZE = flags.DEFINE_string(
  "image_size", None, "index: HEIGHTxWIDTH of the towers. Default: their own."
)
TOKENIZER = flags.DEFINE_string(
  "tokenizer", None, "index: of towers that bring none (tpr_jax/data/tokenizer.py)."
)
ACTIVATION = flags.DEFINE_string(
  "activation", None, "index: of weights that do not say, quick_gelu or gelu."
)
DETECT = flags.DEFINE_string(
  "detect",
  None,
  "index: pictures are scenes, of which people are cut out by this detector: a folder"
  " of transformers, or an .onnx file.",
)
DETECT_SCORE = flags.DEFINE_float(
  "detect_score", wanted.SCORE, "index: the least score of a person."
)
DETECT_HEIGHT = flags.DEFINE_integer(
  "detect_height", wanted.HEIGHT, "index: the least height of a person, in pixels."
)
DETECT_MARGIN = flags.DEFINE_float(
  "detect_margin",
  wanted.MARGIN,
  "index: what is cut out more on each side, as a share of the box's sides.",
)
DETECT_CLASS = flags.DEFINE_string(
  "detect_class", wanted.PERSON, "index: the name of the class, or its number."
)
DETECT_SIZE = flags.DEFINE_string(
  "detect_size",
  None,
  "index: HEIGHTxWIDTH that an .onnx file sees, where it leaves that open.",
)
SECOND_STAGE = flags.DEFINE_string(
  "second_stage",
  None,
  "index: also keeps what --rerank needs of each picture: local, matcher, local+matcher"
  " (CFAM) or itm (Swin + BERT), of a run that trained it.",
)
QUERY = flags.DEFINE_string("query", None, "search: a sentence about a person.")
IMAGE = flags.DEFINE_string(
  "image", None, "search: a picture to search by; with --query, both count."
)
IMAGE_WEIGHT = flags.DEFINE_float(
  "image_weight", None, "search: of both, the share of the picture. Default: 0.5."
)
TOP = flags.DEFINE_integer("top", 20, "search: how many pictures.")
WHERE = flags.DEFINE_string(
  "where", None, "search: a condition, camera = 'gate' and time > '2026-01-01'."
)
FALSE_ALARMS = flags.DEFINE_float(
  "false_alarms",
  settings.FALSE_ALARMS,
  "search: of sentences about people who are not there, the share that may be told that"
  " somebody matches.",
)
RERANK = flags.DEFINE_integer(
  "rerank",
  0,
  "search: so many of the first pictures are ordered again by the index's second stage,"
  " for example 100.",
)
EXACT = flags.DEFINE_bool(
  "exact", False, "search: of a large index, too, every picture is compared with."
)
JSON = flags.DEFINE_bool("json", False, "search: JSON instead of a table.")
SHEET = flags.DEFINE_string(
  "sheet", None, "search: also writes the pictures to FILE.html or FILE.png."
)
HOST = flags.DEFINE_string(
  "host",
  serve_settings.HOST,
  "serve: the address to listen on. Beyond this machine, a token is asked for.",
)
PORT = flags.DEFINE_integer("port", serve_settings.PORT, "serve: the port; 0: any.")
ALLOWED_HOSTS = flags.DEFINE_list(
  "allowed_hosts", [], "serve: names that browsers know it by: search.example.org."
)
TOKEN_FILE = flags.DEFINE_string(
  "token_file",
  None,
  "serve: FILE with a line, TOKEN or NAME TOKEN, for each client.",
)
AUDIT = flags.DEFINE_string(
  "audit", None, "serve: FILE that says who searched for what, a JSON line each."
)
TLS_CERT = flags.DEFINE_string("tls_cert", None, "serve: a certificate, PEM; HTTPS.")
TLS_KEY = flags.DEFINE_string("tls_key", None, "serve: its key, PEM.")
_DETECT = tuple(f"detect_{name}" for name in ("score", "height", "margin"))
_DETECT += ("detect_class", "detect_size")
_INDEX = (
  "images",
  "metadata",
  "image_size",
  "tokenizer",
  "activation",
  "second_stage",
  "detect",
  *_DETECT,
)
_SEARCH = (
  "query",
  "image",
  "image_weight",
  "false_alarms",
  "rerank",
  "exact",
  "top",
  "where",
  "json",
  "sheet",
)
_SERVE = ("host", "port", "allowed_hosts", "token_file", "audit", "tls_cert", "tls_key")


def check(mode: str) -> None:
  """Raises ConfigError for a flag that would do nothing in this mode."""
  for names, modes in (
    (("index",), ("index", "search", "serve")),
    (_INDEX, ("index",)),
    (_SEARCH, ("search",)),
    (_SERVE, ("serve",)),
  ):
    for name in names:
      if flags.FLAGS[name].present and mode not in modes:
        raise configs.ConfigError(
          f"--{name} is for {' and '.join(f'--mode={each}' for each in modes)}"
        )


def indexing(model: str | None) -> settings.Indexing:
  """What is asked for; model: --run. Raises SearchError: `settings.indexing`;
  DetectorError, ConfigError: of --detect and its flags."""
  return settings.indexing(
    model=model,
    images=IMAGES.value,
    index=INDEX.value,
    metadata=METADATA.value,
    image_size=IMAGE_SIZE.value,
    tokenizer=TOKENIZER.value,
    activation=ACTIVATION.value,
    second_stage=SECOND_STAGE.value,
    detect=_detecting(),
  )


def _detecting() -> wanted.Wanted | None:
  """Raises DetectorError: `wanted.wanted`; ConfigError: flags of no detector."""
  if DETECT.value is None:
    if idle := [name for name in _DETECT if flags.FLAGS[name].present]:
      raise configs.ConfigError(
        f"--{idle[0]} is for --detect=DETECTOR, which is missing"
      )
    return None
  return wanted.wanted(
    DETECT.value,
    score=DETECT_SCORE.value,
    height=DETECT_HEIGHT.value,
    margin=DETECT_MARGIN.value,
    person=DETECT_CLASS.value,
    size=DETECT_SIZE.value,
  )


def searching(model: str | None) -> settings.Searching:
  """What is asked for; model: --run. Raises SearchError: `settings.searching`."""
  return settings.searching(
    index=INDEX.value,
    query=QUERY.value,
    image=IMAGE.value,
    top=TOP.value,
    where=WHERE.value,
    image_weight=IMAGE_WEIGHT.value,
    false_alarms=FALSE_ALARMS.value,
    rerank=RERANK.value,
    exact=EXACT.value,
    model=model,
    sheet=SHEET.value,
    json=JSON.value,
  )


def serving(model: str | None) -> serve_settings.Serving:
  """What is asked for; model: --run. Raises ServeError: `serve.settings.serving`."""
  return serve_settings.serving(
    index=INDEX.value,
    model=model,
    host=HOST.value,
    port=PORT.value,
    allowed_hosts=ALLOWED_HOSTS.value,
    token_file=TOKEN_FILE.value,
    audit=AUDIT.value,
    tls_cert=TLS_CERT.value,
    tls_key=TLS_KEY.value,
  )
