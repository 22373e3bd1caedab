/** HTTP/1.1 answers out of the bytes of one connection, one request at a time: what a generator needs, and no more. */

export type Answer = {
  readonly status: number;
  /** The head as it came, up to its last line end. `headerOf` reads it. */
  readonly head: string;
  /** Good until the next bytes arrive. */
  readonly body: Buffer;
  /** Whether the connection may be used again. */
  readonly keepAlive: boolean;
};

/** What came is not HTTP, or not an answer to one request. */
export class NotHttp extends Error {
  override readonly name = 'NotHttp';
}

const headBytesMax = 65_536;
const headEnd = Buffer.from('\r\n\r\n');
const empty = Buffer.alloc(0);

export class AnswerReader {
  #arrived: Buffer = empty;

  /** Whether some of an answer has come, but not all. */
  get begun(): boolean {
    return this.#arrived.length > 0;
  }

  /** The answer, once all of it is there; else null. `chunk` may be written over afterwards. Throws NotHttp. */
  take(chunk: Buffer): Answer | null {
    return this.#read(this.#arrived.length === 0 ? chunk : Buffer.concat([this.#arrived, chunk]), chunk, false);
  }

  /** The connection was closed: the answer that was to end with it, or null. */
  close(): Answer | null {
    return this.#arrived.length === 0 ? null : this.#read(this.#arrived, null, true);
  }

  #read(bytes: Buffer, shared: Buffer | null, closed: boolean): Answer | null {
    const answer = answerIn(bytes, closed);
    // What is kept must not lie in memory that the next read writes over.
    if (answer === null) this.#arrived = bytes === shared ? Buffer.from(bytes) : bytes;
    else this.#arrived = empty;
    return answer;
  }
}

function answerIn(bytes: Buffer, closed: boolean): Answer | null {
  const end = bytes.indexOf(headEnd);
  if (end < 0) {
    if (bytes.length > headBytesMax) throw new NotHttp(`no end of a head within ${headBytesMax} bytes`);
    return null;
  }
  const head = bytes.toString('latin1', 0, end + 2);
  const status = Number(/^HTTP\/1\.[01] (\d{3})[ \r]/.exec(head)?.[1]);
  if (!(status >= 100)) throw new NotHttp(`an answer that begins with ${JSON.stringify(head.slice(0, 40))}`);
  const rest = bytes.subarray(end + headEnd.length);
  // What is only told on the way: the answer follows.
  if (status < 200) return answerIn(rest, closed);
  const body = bodyIn(rest, head, status, closed);
  if (body === null) return null;
  return { status, head, body, keepAlive: !closed && !/\r\nconnection:[ \t]*close/i.test(head) };
}

function bodyIn(rest: Buffer, head: string, status: number, closed: boolean): Buffer | null {
  if (status === 304 || status === 204) return exactly(rest, 0);
  const length = /\r\ncontent-length:[ \t]*(\d+)/i.exec(head)?.[1];
  if (length !== undefined) return exactly(rest, Number(length));
  if (/\r\ntransfer-encoding:.*\bchunked/i.test(head)) return joinChunks(rest);
  return closed ? rest : null;
}

function exactly(rest: Buffer, length: number): Buffer | null {
  if (rest.length > length) throw new NotHttp(`${rest.length - length} bytes more than an answer has`);
  return rest.length === length ? rest : null;
}

function joinChunks(rest: Buffer): Buffer | null {
  const chunks: Buffer[] = [];
  for (let at = 0; ;) {
    const lineEnd = rest.indexOf('\r\n', at);
    if (lineEnd < 0) return null;
    const size = /^[0-9a-f]+(?=$|[ \t;])/i.exec(rest.toString('latin1', at, lineEnd))?.[0];
    if (size === undefined) throw new NotHttp('a chunk without a size');
    const from = lineEnd + 2;
    const to = from + Number.parseInt(size, 16);
    if (to === from) {
      // Fields may follow the last chunk; an empty line ends them.
      const last = rest.indexOf(headEnd, lineEnd);
      if (last < 0) return null;
      exactly(rest, last + headEnd.length);
      return Buffer.concat(chunks);
    }
    if (rest.length < to + 2) return null;
    if (rest.toString('latin1', to, to + 2) !== '\r\n') throw new NotHttp('a chunk longer than its size');
    chunks.push(rest.subarray(from, to));
    at = to + 2;
  }
}

const patterns = new Map<string, RegExp>();

/** The value of a header, or undefined. */
export function headerOf(head: string, name: string): string | undefined {
  let pattern = patterns.get(name);
  if (pattern === undefined) patterns.set(name, (pattern = new RegExp(`\r\n${name}:[ \t]*([^\r]*)`, 'i')));
  return pattern.exec(head)?.[1];
}
