r"""A cross-setting test set, built as UFine3C was (UFineBench, CVPR 2024, Section 3).

  python -m tpr_jax.main --mode=build_cross --config=configs/cross.py --out=DIR
    rendered people of three settings, their own texts: nothing else is needed
  python -m tpr_jax.main --mode=build_cross --config=configs/cross.py:ufine3c \
    --config.root=DATA --out=DIR
    the paper's choice: 750 people from each of CUHK-PEDES, ICFG-PEDES and UFine6926
  python -m tpr_jax.main --mode=build_cross \
    --config=configs/cross.py:sources=rstpreid+folder --config.root=DATA \
    --config.sources.folder.root=MINE --out=DIR
    any datasets
  options after the name: sources=A+B+..., rewriters=2 (the paper had two models)

Rewriting by a language model:
  --config.rewrites=2 --config.rewriters.first.model=NAME \
  --config.rewriters.first.base_url=http://127.0.0.1:8000/v1
or by one that runs here: --config.rewriters.first.kind=local, model a folder or hub id.
A list of sources of one's own is a file like this one.
"""

from ml_collections import ConfigDict

from configs import common

NAMES = ("rendered", "ufine3c")
SOURCES = dict(
  rendered=("rendered", "rendered_synthetic", "rendered_target"),
  ufine3c=("cuhk_pedes", "icfg_pedes", "ufine6926"),
)
REWRITERS = ("first", "second", "third", "fourth")


def source(name: str, identities: int = 0, split: str = "test") -> ConfigDict:
  """People of one dataset; the key that it stands under is its name in the new set."""
  own = name.startswith("rendered")
  options = common.loader_options("rendered" if own else name)
  if own:
    options.seed = 2  # people that no recipe was chosen on
  return ConfigDict(
    dict(
      name=name,
      root="",  # "": config.root
      split=split,
      identities=identities,  # drawn by the seed; 0: all of the split
      options=options,
      licence="made by this program (Apache-2.0)" if own else "",  # for the card
    )
  )


def rewriter() -> ConfigDict:
  """One language model. Negative numbers of the sampling are left to its server."""
  return ConfigDict(
    dict(
      kind="endpoint",  # or "local": through transformers, with the torch extra
      model="",
      temperature=0.7,
      top_p=-1.0,
      max_tokens=400,
      seed=0,  # each question has its own, made from this one and its words
      extra="",  # JSON: more fields of each request; null takes one of ours out
      base_url="http://127.0.0.1:8000/v1",
      api_key_env="",  # the variable that holds the key; "": no key
      timeout=120.0,  # seconds for a whole answer
      max_retries=6,
      requests_per_minute=0.0,  # 0: no limit
      concurrency=4,  # requests on their way at once
      device="auto",  # local: "cpu", "cuda", "cuda:1", "mps"; auto: cuda if it is there
      batch=8,  # local: captions at once
      licence="",  # for the card
    )
  )


def get_config(arg=None):
  arg = common.parse(arg, NAMES, sources="", rewriters=1)
  if not 1 <= arg.rewriters <= len(REWRITERS):
    raise ValueError(
      f"config: rewriters={arg.rewriters}: expected 1 to {len(REWRITERS)}"
    )
  names = [n.strip() for n in arg.sources.split("+") if n.strip()] or SOURCES[arg.name]
  if len(set(names)) < len(names):
    raise ValueError(
      f"config: sources={arg.sources} names one twice; write a file with two keys"
    )
  rendered = not arg.sources and arg.name == "rendered"
  paper = not arg.sources and arg.name == "ufine3c"

  c = ConfigDict()
  c.name = "cross"
  c.seed = 0  # draws the people
  c.root = ""  # of every source that has no root of its own
  people = 100 if rendered else 750 if paper else 0
  c.sources = ConfigDict({name: source(name, people) for name in names})

  c.images = "copy"  # "link": hard links; "reference": symbolic links
  c.size, c.quality = (384, 128), 95  # of pictures that are no files: drawn ones

  c.rewrites = 0  # of every caption, by every rewriter
  c.styles = ("reorganised", "shorter", "longer")  # or "free"; taken in turn
  c.max_words = 0  # told to the model; 0: no limit is told
  c.rewriters = ConfigDict({name: rewriter() for name in REWRITERS[: arg.rewriters]})
  # A rewrite that does not fit is flagged.
  c.text = ConfigDict(dict(tokenizer="instant", length=168))
  if rendered:
    c.text.tokenizer, c.text.length = "people", 152
  return c
