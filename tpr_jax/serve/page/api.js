// The API, as functions. Each gives the answer, or throws a Problem in words.

export class Problem extends Error {
  constructor(status, detail, at) {
    super(detail);
    this.status = status;
    this.at = at ?? null;
  }
}

const BUSY_TRIES = 4;

// Tries again where the server is busy: it says when. The body can be sent twice.
async function ask(path, options = {}, left = BUSY_TRIES) {
  let answer;
  try {
    answer = await fetch(path, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "The server cannot be reached. Is it still running?");
  }
  if (answer.ok) return answer;
  if (answer.status === 401) {
    location.assign("/login");
    throw new Problem(401, "Log in to go on.");
  }
  if (answer.status === 503 && left > 0) {
    const seconds = Math.min(Number(answer.headers.get("Retry-After")) || 1, 5);
    await new Promise((done) => setTimeout(done, 1000 * seconds));
    if (options.signal?.aborted) throw new DOMException("", "AbortError");
    return ask(path, options, left - 1);
  }
  let told = {};
  try {
    told = await answer.json();
  } catch {
    told = { detail: `The server answered ${answer.status}.` };
  }
  throw new Problem(answer.status, told.detail, told.at);
}

const json = (body, signal) => ({
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(body),
  signal,
});

export const about = async () => (await ask("/api/index")).json();
export const search = async (asked, signal) => (await ask("/api/search", json(asked, signal))).json();
export const explain = async (query, key) =>
  (await ask("/api/explain", json({ query, key }))).json();
export const sheet = async (asked) => (await ask("/api/sheet", json(asked))).blob();
export const logout = () => fetch("/logout", { method: "POST", redirect: "manual" });

export async function give(file) {
  const headers = { "Content-Type": "application/octet-stream" };
  return (await ask("/api/pictures", { method: "POST", headers, body: file })).json();
}

export const thumbnail = (key) => `/api/pictures/${key}/thumbnail`;
export const view = (key) => `/api/pictures/${key}/view`;
export const frame = (key) => `/api/pictures/${key}/frame`;
