// What the page says to the server.

/** An address on the server, below that of the page, in which a name may have any character. */
export const address = (...parts) => parts.map(encodeURIComponent).join("/");

/** `1 clip`, `2 clips`. */
export const counted = (n, one) => `${n} ${one}${n === 1 ? "" : "s"}`;

/** Ask the server; what it refuses is an error with its words. */
export async function ask(method, path, body) {
  let answer;
  try {
    answer = await fetch(path, { method, body });
  } catch {
    throw new Error("The program that serves this page does not answer. Is it still running?");
  }
  const found = await answer.json().catch(() => ({ error: `The server answered ${answer.status}.` }));
  if (!answer.ok) throw new Error(found.error);
  return found;
}
