"""Times as people read them."""


def duration(seconds: float) -> str:
  """75 -> "1:15"; 3675 -> "1:01:15"."""
  whole = max(round(seconds), 0)
  hours, rest = divmod(whole, 3600)
  minutes, secs = divmod(rest, 60)
  return f"{hours}:{minutes:02d}:{secs:02d}" if hours else f"{minutes}:{secs:02d}"
