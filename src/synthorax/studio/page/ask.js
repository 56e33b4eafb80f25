// Asking the studio's server. Long work answers with lines that tell how far it is.

/** An error of the server, as one sentence for the user. */
export class Refusal extends Error {}

async function checked(answer) {
  if (answer.ok) return answer;
  let text = `the studio answered ${answer.status}`;
  try { text = (await answer.json()).error || text; } catch { /* no JSON: the status has to do */ }
  throw new Refusal(text);
}

async function reached(path, options) {
  try {
    return await fetch(path, options);
  } catch {
    throw new Refusal("the studio does not answer; is it still running in the terminal?");
  }
}

const json = (body) => ({ method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });

export const get = async (path) => (await checked(await reached(path))).json();
export const bytes = async (path) => (await checked(await reached(path))).arrayBuffer();
export const post = async (path, body = {}) => (await checked(await reached(path, json(body)))).json();
export const remove = async (path) => { await reached(path, { method: "DELETE" }); };

export async function upload(path, file) {
  await checked(await reached(path, { method: "PUT", body: file }));
}

/** Ask for long work: `tell(text, share)` hears how far it is, `part(content)` each of several results. */
export async function work(path, body, { tell = () => {}, part = () => {}, signal } = {}) {
  const answer = await checked(await reached(path, { ...json(body), signal }));
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    rest += value || "";
    const lines = rest.split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (!line.trim()) continue;
      const said = JSON.parse(line);
      if ("error" in said) throw new Refusal(said.error);
      if ("done" in said) return said.done;
      if ("part" in said) part(said.part);
      else tell(said.tell, said.share);
    }
    if (done) throw new Refusal("the studio stopped in the middle of its work; see the terminal");
  }
}

const raw = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

/** Base64 of the server as whole HU or as labels. */
export const decodeHu = (text) => new Int16Array(raw(text).buffer);
export const decodeBytes = raw;
