"""What a cell is made from: what is new in the settings leaves finished cells alone."""

from tpr_jax.matrix import cells


def key(**how):
  entry = dict(name="rendered", root="", split="test", options={}, note="")
  how = dict(batch=16, msd_variant="paper", **how)
  return cells.key(digest="w", load={}, entry=entry, data="d", how=how)


def test_mirror_images_count_and_their_absence_is_what_was_before_the_field():
  assert key(flip=False) == key()
  assert key(flip=True) != key()
  assert key(flip=True)["eval"] == dict(msd_variant="paper", flip=True)
