r"""A matrix, models x test sets: UFineBench's Tables 2 and 3 from runs that are there.

  python -m tpr_jax.main --mode=matrix --out=DIR \
    --config=configs/matrix.py:rendered,fine=runs/a+runs/b,coarse=runs/c
    rows: a label and its models, seeds of one recipe joined by +, or a pattern:
    "fine=runs/fine-seed*". A model is whatever tpr_jax.load takes: a run, an export, a
    published CLIP. The columns are fine, medium, coarse and mixed texts of rendered
    people that no training has seen
  python -m tpr_jax.main --mode=matrix --out=DIR --config.root=DATA \
    --config=configs/matrix.py:published,cuhk_pedes=runs/cuhk,ufine6926=runs/ufine
    columns: CUHK-PEDES, ICFG-PEDES, RSTPReid, UFine6926, UFine3C (by source)
  after the name, in any order:
    LABEL=PLACE+PLACE+...  a row
    LABEL@DATASET=ROOT     one more column: the test split of a dataset (folder, ...)
    cross=DIR              one more column: what --mode=build_cross wrote, by source
    columns=A+B            these columns alone

Rows named by an argument or by the config are set by fields too, which take commas:
--config.rows.fine="runs/a,runs/b". A column's fields are those of an entry of `evals`
(configs/common.evaluation): --config.columns.fine.group_by=twin_group. The row's own
column, which is marked, is the one with its name: --config.own.ROW=COLUMN.

The same command again does what is missing or has changed, and nothing else. A list of
one's own is a file like this one.
"""

from ml_collections import ConfigDict

from configs import cfam, common

NAMES = ("rendered", "published")
TEXTS = ("fine", "medium", "coarse")
PUBLISHED = ("cuhk_pedes", "icfg_pedes", "rstpreid", "ufine6926", "ufine3c")


def column(name, root="", split="test", **fields):
  """A test set: `name` of tpr_jax/data/build.py; fields of common.evaluation."""
  entry = common.evaluation(split, name=name, root=root, **fields)
  kind = "rendered" if name.startswith("rendered") else name
  entry.options = ConfigDict({**common.loader_options(kind), **entry.options})
  return entry


def _rendered():
  """The tests that configs/cfam.py:rendered,texts=... asks, option for option."""
  asked = cfam.get_config("rendered,texts=fine")
  return {
    text: column(
      "rendered", **{**asked.data.options, **asked.evals[f"test_{text}"].options}
    )
    for text in (*TEXTS, "mixed")
  }


def _published():
  group = lambda name: "source" if name == "ufine3c" else ""
  return {name: column(name, group_by=group(name)) for name in PUBLISHED}


def _label(text):
  if not text or "." in text:
    raise ValueError(f"config: {text!r} is no label: expected a name without a dot")
  return text


def _split(arg):
  """(rest for common.parse, {row: places}, {column: (dataset, root)})."""
  rest, rows, columns = [], {}, {}
  for part in filter(None, (arg or "").split(",")):
    key, equals, value = (piece.strip() for piece in part.partition("="))
    if "@" in key:
      label, _, dataset = key.partition("@")
      columns[_label(label)] = (dataset, value)
    elif not equals or key in ("columns", "cross"):
      rest.append(part)
    else:
      rows[_label(key)] = ",".join(value.split("+"))
  return ",".join(rest), rows, columns


def get_config(arg=None):
  rest, rows, more = _split(arg)
  arg = common.parse(rest, NAMES, columns="", cross="")
  columns = _rendered() if arg.name == "rendered" else _published()
  own = TEXTS if arg.name == "rendered" else PUBLISHED[:-1]  # UFine3C trains nobody
  columns |= {label: column(name, root) for label, (name, root) in more.items()}
  if arg.cross:
    columns["cross"] = column("folder", arg.cross, group_by="source")
  chosen = [name for name in arg.columns.split("+") if name] or list(columns)
  unknown = [name for name in chosen if name not in columns]
  if unknown:
    near = common.nearest(unknown[0], tuple(columns))
    raise ValueError(f"config: unknown column {unknown[0]!r}.{near}")

  c = ConfigDict()
  c.name = arg.name
  c.title = "trained on"  # of the rows
  c.root = ""  # of every column that has no root of its own
  # Label -> models, joined by commas; "": no such row. Several are seeds of one recipe.
  places = {**dict.fromkeys(own, ""), **rows}
  c.rows = ConfigDict(places, sort_keys=False)  # in this order
  c.columns = ConfigDict({n: columns[n] for n in chosen}, sort_keys=False)
  # Row -> the column it was trained for; "": none.
  c.own = ConfigDict({row: row if row in chosen else "" for row in c.rows})

  c.scores = ("R1", "mAP")  # of tables and pictures; CSV and JSON have all
  c.decimals = 1
  c.eval = ConfigDict(dict(batch=128, msd_variant="paper"))
  c.eval.ci_level, c.eval.ci_resamples = 0.95, 2000  # 0: no intervals
  c.eval.flip = False  # features of images: the mean with those of mirror images
  c.mesh = ConfigDict(dict(data=-1, fsdp=1, tensor=1))
  c.threads = 4  # that decode pictures
  # Of every model; 0, () and "": its own. See tpr_jax/loading.py.
  c.load = ConfigDict(dict(image_size=(), text_length=0, tokenizer="", activation=""))
  c.load.dtype = "float32"  # of the computation; or "bfloat16"
  return c
