"""Rendered people: everything about identities and views, under one name.

`Person` (fields and their values: `VALUES`, grouped in `REGIONS`), `sample_person`,
`alternatives`, `make_twins` (near twins, told apart by `FINE` attributes); `View`,
`DOMAINS`, `sample_view`; `visible`, what of a person a view shows; `COLOURS`.
"""

from tpr_jax.data.rendered import person, sampling, tables, twins, views, visibility

Person = person.Person
REGIONS = person.REGIONS
COLOURS = tables.COLOURS
HAIR_COLOURS = tables.HAIR_COLOURS
SKIN_TONES = tables.SKIN_TONES
VALUES = tables.VALUES
GARMENTS = tables.GARMENTS
LOWER_GARMENTS = tables.LOWER_GARMENTS
sample_person = sampling.sample_person
alternatives = twins.alternatives
make_twins = twins.make_twins
FINE = twins.FINE
OPTIONAL = twins.OPTIONAL
View = views.View
Domain = views.Domain
DOMAINS = views.DOMAINS
DIRECTIONS = views.DIRECTIONS
BACKGROUNDS = views.BACKGROUNDS
sample_view = views.sample_view
visible = visibility.visible
