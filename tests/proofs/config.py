"""A small run with everything that draws random numbers, for whole processes.

Captions are chosen, masked and bucketed, pictures are cropped and erased, the best of
several validations is kept. Seconds of training, tens of saves.
"""

from tests import small_run


def get_config(arg=None):
  c = small_run.config().copy_and_resolve_references().unlock()
  c.losses.update(sdm_local=0.0, matching=0.0, identity=0.0, mlm=0.1)
  c.text.update(buckets=(16,), short_first=2)
  c.optim.muon = "kernel$"
  c.text.mask_share, c.objective.mlm_in_place = 0.15, True
  c.objective.negatives = "global"
  c.data.image = "resize(32,16)|flip(0.5)|pad_crop(2)|erase(0.3)"
  c.data.options.granularity = ("fine", "coarse")
  c.data.options.identities, c.data.batch = 16, 16
  c.train.steps, c.train.eval_every, c.train.log_every = 600, 7.5, 7
  del c.evals["test_coarse"]
  c.eval.saliency, c.eval.ci_resamples = 0, 0
  return c
