// Requests to the server.

async function ask(method, path, options = {}) {
  let answer;
  try {
    answer = await fetch(`/api/${path}`, { method, ...options });
  } catch {
    throw new Error("The app does not answer. Is it still running?");
  }
  const isJson = answer.headers.get("content-type")?.startsWith("application/json");
  const content = isJson ? await answer.json() : null;
  if (answer.ok) return content;
  throw new Error(content?.error ?? `The app refused this (status ${answer.status}).`);
}

export const get = (path) => ask("GET", path);
export const remove = (path) => ask("DELETE", path);
export const upload = (file) =>
  ask("POST", `images?name=${encodeURIComponent(file.name)}`, { body: file });
export const post = (path, content = {}) =>
  ask("POST", path, {
    body: JSON.stringify(content),
    headers: { "Content-Type": "application/json" },
  });
