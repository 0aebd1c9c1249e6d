"""Rendered people: how each style puts noun phrases into sentences.

Every function takes a `nouns.Teller` and returns marked text. `tell` is the long form
(medium and fine texts), `sketch` the one sentence of a coarse text. Templates avoid
verbs that would have to agree with what is filled in.
"""

from tpr_jax.data.rendered import nouns, words

# Style -> part -> sentences; x is a noun phrase. Parts: `head` and `hair` about the
# head, `feet` shoes and socks, `have` things that are not there.
TEMPLATES = {
  "flowing": {
    "shown": (
      "The picture shows {x}.",
      "This is {x}.",
      "The image captures {x}.",
      "We see {x}.",
    ),
    "hair": ("{He} has {x}.", "{His} look includes {x}."),
    "head": ("{He} wears {x}.", "{He} has {x} on.", "{He} can be seen with {x}."),
    "upper": (
      "{He} wears {x}.",
      "{He} is dressed in {x}.",
      "{He} has on {x}.",
      "{His} upper body is clothed in {x}.",
    ),
    "neck": ("Added to this {he} wears {x}.", "{He} also wears {x}."),
    "lower": (
      "Below, {he} wears {x}.",
      "{His} lower body is covered by {x}.",
      "{He} has {x} on the lower body.",
    ),
    "feet": (
      "{His} feet are in {x}.",
      "On {his} feet {he} has {x}.",
      "{x} complete the outfit.",
      "The footwear consists of {x}.",
    ),
    "bag": ("{He} carries {x}.", "{He} is seen with {x}.", "{He} is carrying {x}."),
    "carried": ("{He} holds {x}.", "{He} is holding {x}."),
    "have": ("{He} has {x}.", "One can see that {he} has {x}."),
  },
  "witness": {
    "shown": (
      "I saw {x}.",
      "The one I saw was {x}.",
      "I remember {x}.",
      "I am looking for {x}.",
      "Officer, it was {x}.",
    ),
    "hair": ("{He} had {x}.", "I noticed {x}.", "I recall {x}."),
    "head": ("{He} was wearing {x}.", "I noticed {x}.", "{He} had {x} on."),
    "upper": (
      "{He} was wearing {x}.",
      "{He} had on {x}.",
      "I clearly remember {x}.",
      "What struck me was {x}.",
    ),
    "neck": ("There was also {x}.", "I also spotted {x}."),
    "lower": (
      "{He} wore {x}.",
      "Further down I saw {x}.",
      "I noted {x}.",
      "{He} was in {x}.",
    ),
    "feet": (
      "On {his} feet {he} wore {x}.",
      "I glimpsed {x}.",
      "{His} shoes were {x}.",
    ),
    "bag": ("{He} was carrying {x}.", "{He} had {x}.", "I noticed {x}."),
    "carried": ("{He} was holding {x}.", "{He} held {x}."),
    "have": ("I believe {he} had {x}.", "{He} had {x}.", "As I recall, {he} had {x}."),
  },
  "paraphrase": {
    "shown": (
      "The person in question is {x}.",
      "The description fits {x}.",
      "The pedestrian is {x}.",
    ),
    "hair": ("{x} can be made out.", "{He} sports {x}."),
    "head": ("{x} can be made out.", "{He} sports {x}.", "{x} may be noted."),
    "upper": (
      "The torso is clad in {x}.",
      "Up top {he} has chosen {x}.",
      "Covering the torso, there is {x}.",
    ),
    "neck": ("{x} can be spotted as well.", "{x} should be mentioned too."),
    "lower": (
      "The legs are clad in {x}.",
      "Further down {he} sports {x}.",
      "As for the lower half, {he} has picked {x}.",
    ),
    "feet": (
      "{x} can be observed on {his} feet.",
      "{His} feet are clad in {x}.",
      "{x} are worn on the feet.",
    ),
    "bag": ("{He} is equipped with {x}.", "{He} brings along {x}."),
    "carried": ("{He} grips {x}.", "{He} clutches {x}."),
    "have": ("Note that {he} has {x}.", "Besides, {he} has {x}."),
  },
}
LABELS = {
  "hair": "Hair",
  "head": "Head",
  "upper": "Top",
  "neck": "Also",
  "lower": "Bottom",
  "feet": "Feet",
  "bag": "Bag",
  "carried": "Hand",
  "have": "Else",
}


def _capital(marked):
  """Upper case for the first letter, wherever the marks put it."""
  at = marked.index(nouns.END) + 1 if marked.startswith(nouns.MARK) else 0
  return marked[:at] + marked[at : at + 1].upper() + marked[at + 1 :]


def _parts(t):
  """Part of a text -> its noun phrase, for the parts that are told, top to bottom."""
  hair, beard = nouns.hair(t), nouns.beard(t)
  worn = nouns.headwear(t) + nouns.face(t)
  shoes, socks = nouns.shoes(t), nouns.socks(t)
  lower = nouns.lower(t)
  extra = nouns.neck(t) + nouns.watch(t)
  if not lower and t.tells("belt_colour"):
    extra.append(nouns.belt(t))
  absent = [
    t.absent(name)
    for name, values in words.ABSENT.items()
    if name in t.told and getattr(t.person, name) in values
  ]
  parts = {
    "hair": nouns.join(([hair] if hair else []) + beard),
    "head": nouns.join(worn),
    "upper": nouns.upper(t),
    "neck": nouns.join(extra),
    "lower": lower,
    "feet": nouns.join(([shoes] if shoes else []) + socks),
    "bag": nouns.bag(t),
    "carried": nouns.carried(t),
    "have": nouns.join(absent),
  }
  return {part: text for part, text in parts.items() if text}


def action(t) -> str:
  """ "walking on a street, seen from behind"; "" where nothing is told."""
  parts = []
  if "pose" in t.told:
    parts.append(t.pick(words.POSE[t.view.pose]))
  if "place" in t.told:
    parts.append(t.pick(words.PLACE[t.view.background]))
  if "light" in t.told:
    parts.append(t.pick(words.LIGHT[t.view.domain]))
  parts = [" ".join(parts)] if parts else []
  if "direction" in t.told:
    parts.append(t.pick(words.DIRECTION[t.view.direction]))
  if "company" in t.told:
    parts.append(t.pick(words.COMPANY[t.view.neighbour]))
  return ", ".join(parts)


def _sentence(t, part, text):
  template = t.fresh(TEMPLATES[t.style][part])
  noun = f"the {t.mark('gender', f'gender.{t.person.age}')}"
  he = noun if t.chance() < 0.2 else t.he
  return template.format(
    x=_capital(text) if template.startswith("{x}") else text,
    He=_capital(he),
    he=he,
    His=t.his.capitalize(),
    his=t.his,
  )


def tell(t) -> str:
  """The whole marked text of a medium or fine description."""
  parts = _parts(t)
  if t.style == "list":
    return _listed(t, parts)
  who, doing = nouns.who(t), action(t)
  if "hair" in parts and t.chance() < 0.5:
    who += f" with {parts.pop('hair')}"
    doing = f", {doing}" if doing else ""
  elif doing:
    doing = f" {doing}"
  intro = _intro(t, who, doing)
  _merge(t, parts)
  names = list(parts)
  if t.style == "paraphrase":
    names = _reordered(t, names)
  told = [_sentence(t, name, parts[name]) for name in names]
  return " ".join([intro, *told, *_closing(t)])


def _closing(t):
  return [t.pick(options) for name, options in words.CLOSING.items() if name in t.told]


def _intro(t, who, doing):
  if t.style == "flowing" and "pose" in t.told and t.chance() < 0.5:
    return f"{_capital(who)} is{doing.removeprefix(',')}."
  return t.pick(TEMPLATES[t.style]["shown"]).format(x=who + doing)


def _merge(t, parts):
  """Puts neighbouring parts into one sentence at times."""
  if "neck" in parts and t.chance() < 0.6:
    parts["upper"] += f", together with {parts.pop('neck')}"
  if "carried" in parts and "bag" in parts and t.chance() < 0.5:
    parts["bag"] = _and(parts["bag"], parts.pop("carried"))
  if "feet" in parts and "lower" in parts and t.chance() < 0.35:
    parts["lower"] = _and(parts["lower"], parts.pop("feet"))


def _and(first, second):
  long = "," in first or " with " in first
  return f"{first}{',' if long else ''} and {second}"


def _reordered(t, names):
  keys = {name: t.chance() for name in names}
  return sorted(names, key=keys.__getitem__)


def _listed(t, parts):
  labelled = t.chance() < 0.4
  stop = "." if labelled else t.pick((".", ";", ","))
  segments = [_capital(nouns.who(t))]
  doing = action(t)
  if doing:
    segments.append(_capital(doing) if stop == "." else doing)
  for name, text in parts.items():
    if labelled:
      text = f"{LABELS[name]}: {text}"
    segments.append(_capital(text) if stop == "." else text)
  return " ".join([f"{stop} ".join(segments) + ".", *_closing(t)])


def sketch(t) -> str:
  """The one marked sentence of a coarse description."""
  who, hair, bag = nouns.who(t), nouns.hair(t), nouns.bag(t)
  things = [nouns.upper(t), nouns.lower(t), nouns.shoes(t), *nouns.headwear(t)]
  outfit = nouns.join([thing for thing in things if thing])
  doing = action(t)
  if t.style == "list":
    parts = [who, hair, *(x for x in things if x), bag, doing]
    return _capital(f"{t.pick((', ', '; ')).join(p for p in parts if p)}.")
  if hair:
    who += f" with {hair}"
  verb = "pulling" if t.person.bag == "suitcase" else t.pick(("carrying", "with"))
  carrying = f"{verb} {bag}" if bag else ""
  return _capital(_SKETCHES[t.style](t, who, outfit, carrying, doing))


def _clauses(*clauses):
  return ", ".join(clause for clause in clauses if clause) + "."


def _sketch_flowing(t, who, outfit, carrying, doing):
  if "pose" in t.told and t.chance() < 0.6:
    return _clauses(f"{who} in {outfit} is {doing}", carrying)
  return _clauses(f"{who} {t.pick(('wears', 'is wearing'))} {outfit}", carrying, doing)


def _sketch_witness(t, who, outfit, carrying, doing):
  saw = t.pick(("I saw", "I noticed", "I remember", "I spotted"))
  dressed = t.pick(("wearing", "dressed in", "in"))
  return _clauses(f"{saw} {who} {dressed} {outfit}", carrying, doing)


def _sketch_paraphrase(t, who, outfit, carrying, doing):
  dressed = t.pick(("Dressed in", "Clad in", "Wearing"))
  if "pose" in t.told:
    return _clauses(f"{dressed} {outfit}", f"{who} is {doing}", carrying)
  return _clauses(f"{dressed} {outfit}", f"there is {who}", carrying, doing)


_SKETCHES = {
  "flowing": _sketch_flowing,
  "witness": _sketch_witness,
  "paraphrase": _sketch_paraphrase,
}
