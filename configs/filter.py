r"""Which image-text pairs to keep: ranked against random captions (Filtering-WoRA).

  python -m tpr_jax.main --mode=filter --config=configs/filter.py:pedes_json,k=1800 \
    --config.data.root=DATA --config.scorer.place=runs/mine --out=DIR
  python -m tpr_jax.main --mode=filter --out=DIR \
    --config=configs/filter.py:mals,preset=published \
    --config.data.root=DATA \
    --config.scorer.kind=blip2_itc --config.scorer.place=Salesforce/blip2-itm-vit-g
  after the name of the dataset (tpr_jax/data/build.py), in any order:
    k=49                a pair stays if fewer than k captions of the pool fit as well
    quantile=0.0049     the same as a share of the pool
    keep_ratio=0.9      the share of the pairs that stays, best first
    preset=published    the published rule: k=49 for sets to pre-train on, else 1800;
                        nothing is excluded; a set to pre-train on is compared with one
                        caption of each image of CUHK-PEDES
    pool=NAME           the dataset whose captions are drawn; default: the same. It lies
                        below data.root, or pool.root
One of k, quantile, keep_ratio and preset is needed. Paper: arXiv:2404.10292. The same
command with another of them cuts again, without encoding; --mode=report --run=DIR shows
what was cut; --config.data.filter=DIR trains on what is left.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs import common

PRETRAINING = (
  "mals",
  "webperson",
  "luperson_mllm",
  "synth_pedes",
  "luperson_t",
  "sda",
)
NAMES = (
  "rendered",
  "rendered_synthetic",
  "rendered_target",
  "cuhk_pedes",
  "icfg_pedes",
  "rstpreid",
  "ufine6926",
  "pedes_json",
  *PRETRAINING,
  "folder",
  "lines",
  "archive",
  "shards",
)
PRESETS = ("", "published")
PUBLISHED = dict(pretraining=49, finetuning=1800)  # k
HUMAN = "cuhk_pedes"  # whose captions made ones are compared with


def source(name, split="train"):
  """One split of a dataset; the options are those of its loader."""
  kind = "rendered" if name.startswith("rendered") else name
  options = common.loader_options(kind)
  if "default_split" in options:
    options.default_split = split
  return ConfigDict(dict(name=name, root="", split=split, options=options))


def get_config(arg=None):
  arg = common.parse(arg, NAMES, k=0, quantile=0.0, keep_ratio=0.0, preset="", pool="")
  if arg.preset not in PRESETS:
    near = common.nearest(arg.preset, PRESETS[1:])
    raise ValueError(f"config: unknown preset {arg.preset!r}.{near}")
  made, published = arg.name in PRETRAINING, arg.preset == "published"
  drawn = arg.pool or (HUMAN if published and made else "")
  if drawn and drawn not in NAMES:
    near = common.nearest(drawn, NAMES)
    raise ValueError(f"config: unknown pool {drawn!r}.{near}")

  c = ConfigDict()
  c.name = "filter"
  c.data = source(arg.name)

  c.pool = source(drawn or arg.name)  # name "": the captions of `data`
  if not drawn:
    c.pool.name, c.pool.options = "", ConfigDict()
  c.pool.size, c.pool.seed = 10_000, 0
  c.pool.replace = True  # a caption may be drawn twice, and then counts twice
  c.pool.one_caption_per_image = False  # draw from the last caption of each image
  # A pair's own caption, and all of its person, do not count against it. None: where
  # the pool is drawn from the data itself.
  c.pool.exclude_self = placeholder(bool)
  c.pool.exclude_same_id = placeholder(bool)

  # Exactly one of the first three.
  c.cut = ConfigDict()
  c.cut.k, c.cut.quantile = placeholder(int), placeholder(float)
  c.cut.keep_ratio = placeholder(float)
  c.cut.min_pairs_per_id = 0  # the best so many of a person stay, whatever k says
  for name in ("k", "quantile", "keep_ratio"):
    if getattr(arg, name):
      c.cut[name] = getattr(arg, name)
  if published:
    c.cut.k = PUBLISHED["pretraining" if made else "finetuning"]
    c.pool.exclude_self = c.pool.exclude_same_id = False
    c.pool.one_caption_per_image = made

  # "towers": whatever tpr_jax.load takes. "blip2_itc": BLIP-2's contrastive head, a
  # folder or hub id of transformers, with the torch extra.
  c.scorer = ConfigDict(dict(kind="towers", place="", batch=64, dtype="float32"))
  # Of towers; 0, () and "": their own.
  c.scorer.image_size, c.scorer.text_length = (), 0
  c.scorer.tokenizer, c.scorer.activation = "", ""
  c.threads = 4  # that decode pictures
  c.max_broken = common.MAX_BROKEN  # share of the pictures that may be unreadable
  return c
