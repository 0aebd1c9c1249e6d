"""What a client may ask for, and how long it may take: every limit of the server."""

from tpr_jax.search import settings

TOP = 48  # results of a page, where a request does not say
TOP_MOST = 200  # results of a page
DEEPEST = settings.MOST  # results of all pages
QUERY = settings.LONGEST  # characters
WHERE = 2_000  # characters
JSON_BYTES = 64 << 10  # of a request; a query and a condition fit several times
FORM_BYTES = 4 << 10
PICTURE_BYTES = 16 << 20
HEAD_BYTES = 16 << 10  # of a request's line and headers

WAITING = 128  # searches; more get 503
SENDING = 16  # pictures that are being sent; more get 503
PICTURES = 2  # pictures that are decoded at once: 150 MB each, at most...
PICTURES_WAITING = 32  # ...and that wait for it; more get 503
REQUESTS = 256  # under way at once; more get 503
CONNECTIONS = 512  # more get 503 and are closed
RETRY_AFTER = 1  # seconds, of a 503

EXPLAINED_CELLS = 12  # parts along the longer side of a picture
EXPLAINED_WORDS = 32
EXPLAINING, EXPLAINING_WAITING = 1, 4  # at once, and that wait; more get 503

HEAD_SECONDS = 15  # from a connection, or the last answer, to the end of the headers
BODY_SECONDS = 30
ANSWER_SECONDS = 60  # until the client has taken it

UPLOADS, UPLOAD_SECONDS = 256, 1_800  # pictures that were given; rows alone are kept
SESSIONS, SESSION_SECONDS = 1_000, 12 * 3_600
TOKEN = 32  # characters, at least

VIEW = 1_280  # pixels, the longer side of a picture that is shown large
REFRESH_SECONDS = 5.0  # how often a new version is looked for
