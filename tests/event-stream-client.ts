/** A client of server-sent events, as a browser's is: it knows the id to resume from, and drops what is cut in half. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';

export type Received = { readonly id: string; readonly event: string; readonly data: any };

export type EventStream = {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  /** What has come so far; `data` is parsed. */
  readonly events: Received[];
  /** Lines that only show that the stream is alive. */
  comments: number;
  /** What a reconnecting client sends. */
  lastEventId: string;
  retryMs: number;
  /** What came instead of a stream. */
  body: string;
  ended: boolean;
  /** Told of each event as it comes. */
  onEvent: ((event: Received) => void) | null;
  /** Resolves once `isSo`; rejects after `timeoutMs`. */
  until(isSo: () => boolean, timeoutMs?: number): Promise<void>;
  close(): void;
  readonly response: IncomingMessage;
};

/** Opens a stream; resolves when its head is there, or the whole of an answer that is none. */
export async function openEventStream(
  url: string,
  headers: Readonly<Record<string, string>> = {},
): Promise<EventStream> {
  const sent = request(url, { headers: { accept: 'text/event-stream', ...headers }, agent: false });
  sent.end();
  const [response] = (await once(sent, 'response')) as [IncomingMessage];
  sent.on('error', () => {});
  const waiting = new Set<() => void>();
  const wake = (): void => {
    for (const look of waiting) look();
  };
  const stream: EventStream = {
    status: response.statusCode ?? 0,
    headers: response.headers,
    events: [],
    comments: 0,
    lastEventId: headers['last-event-id'] ?? '',
    retryMs: 0,
    body: '',
    ended: false,
    onEvent: null,
    async until(isSo, timeoutMs = 30_000) {
      if (isSo()) return;
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      const look = (): void => {
        if (isSo()) resolve();
        else if (stream.ended) reject(new Error(`the stream has ended: ${JSON.stringify(stream.events.at(-1))}`));
      };
      const timer = setTimeout(reject, timeoutMs, new Error(`not within ${timeoutMs} ms: ${isSo.toString()}`));
      waiting.add(look);
      look();
      await promise.finally(() => {
        clearTimeout(timer);
        waiting.delete(look);
      });
    },
    close: () => sent.destroy(),
    response,
  };
  response.setEncoding('utf8');
  const end = (): void => {
    stream.ended = true;
    wake();
  };
  response.on('end', end).on('close', end).on('error', end);
  if (response.headers['content-type'] !== 'text/event-stream') {
    for await (const chunk of response) stream.body += String(chunk);
    return stream;
  }
  let rest = '';
  response.on('data', (chunk: string) => {
    const parts = (rest + chunk).split('\n\n');
    rest = parts.pop()!;
    for (const part of parts) take(stream, part);
    wake();
  });
  return stream;
}

function take(stream: EventStream, part: string): void {
  let event = 'message';
  let data: string | null = null;
  for (const line of part.split('\n')) {
    const colon = line.indexOf(':');
    const [field, value] = [line.slice(0, colon), line.slice(colon + 1).replace(/^ /, '')];
    if (field === '') stream.comments += 1;
    else if (field === 'id') stream.lastEventId = value;
    else if (field === 'event') event = value;
    else if (field === 'data') data = data === null ? value : `${data}\n${value}`;
    else if (field === 'retry') stream.retryMs = Number(value);
    else assert.fail(`an unknown field: ${line}`);
  }
  if (data === null) return;
  const received = { id: stream.lastEventId, event, data: JSON.parse(data) as unknown };
  stream.events.push(received);
  stream.onEvent?.(received);
}
