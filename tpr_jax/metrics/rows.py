"""Features and identities, checked, as the kernels take them: unit rows, numbers."""

import numpy as np

_ROWS = 65_536  # rows that are looked at together: no second copy of a large gallery


def norms(x, name):
  """[N, D] of any float type -> float64 [N] lengths of the rows, checked."""
  if x.ndim != 2 or not x.size:
    raise ValueError(
      f"{name} features have shape {x.shape}; expected [rows, dimensions], not empty"
    )
  norm = np.empty(len(x))
  for at in range(0, len(x), _ROWS):
    part = np.asarray(x[at : at + _ROWS], np.float32)
    norm[at : at + _ROWS] = np.sqrt(np.einsum("ij,ij->i", part, part, dtype=np.float64))
  bad = ~np.isfinite(norm)
  if bad.any():
    row = int(np.flatnonzero(bad)[0])
    kind = "NaN" if np.isnan(x[row]).any() else "infinity"
    raise ValueError(
      f"{name} features: row {row} holds {kind} ({int(bad.sum())} bad rows of"
      f" {len(x)}); the model or its input is broken, no metric can be computed"
    )
  if (norm == 0).any():
    row = int(np.flatnonzero(norm == 0)[0])
    raise ValueError(
      f"{name} features: row {row} is all zero, so it has no cosine; leave out rows"
      " that were never encoded (unreadable pictures, padding)"
    )
  return norm


def unit_rows(x, norm, extra=0):
  """float32 [N + extra, D]: rows of length 1, then rows of zeros.

  It begins at a multiple of 64 bytes, so that a CPU device takes it without a copy.
  """
  bytes_ = 4 * (len(x) + extra) * x.shape[1]
  raw = np.empty(bytes_ + 64, np.uint8)
  start = -raw.ctypes.data % 64
  out = raw[start : start + bytes_].view(np.float32).reshape(-1, x.shape[1])
  for at in range(0, len(x), _ROWS):
    part = np.asarray(x[at : at + _ROWS], np.float32)
    length = norm[at : at + _ROWS, None].astype(np.float32)
    np.divide(part, length, out=out[at : at + len(part)])
  out[len(x) :] = 0
  return out


def dense_ids(query_ids, gallery_ids, queries, size):
  """Any identities -> int32 numbers of the same equality, 0 and up."""
  query_ids, gallery_ids = np.asarray(query_ids), np.asarray(gallery_ids)
  for name, ids, rows in (
    ("query", query_ids, queries),
    ("gallery", gallery_ids, size),
  ):
    if ids.shape != (rows,):
      raise ValueError(
        f"{name}_ids has shape {ids.shape}; expected one identity for each of the"
        f" {rows} rows of features"
      )
  _, dense = np.unique(np.concatenate([query_ids, gallery_ids]), return_inverse=True)
  dense = dense.astype(np.int32)
  return dense[:queries], dense[queries:]


def match_lists(query_ids, gallery_ids):
  """Matches of query i: gallery rows by_id[starts[i] : starts[i] + matches[i]]."""
  by_id = np.argsort(gallery_ids, kind="stable").astype(np.int32)
  ordered = gallery_ids[by_id]
  starts = np.searchsorted(ordered, query_ids, side="left")
  return np.searchsorted(ordered, query_ids, side="right") - starts, starts, by_id
