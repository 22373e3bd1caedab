/**
 * A payment provider to develop and test against: an HTTP server of its own with a ledger of its own.
 * What it has answered is on disk, so it may be killed at any time; how it behaves is scripted by the
 * payment method of each charge.
 *
 *   PUT  /charges/{key}         {amount, currency, method, orderId}: 201 new, 200 again; 409 voided; 422 reused
 *   GET  /charges/{key}         200 captured, declined, refunded or voided; 404 absent
 *   POST /charges/{key}/void    200 voided or declined; 409 captured or refunded: too late
 *   PUT  /refunds/{key}         {charge, amount, currency?}: 201 new, 200 again; 404 no such charge; 422 too much
 *   GET  /ledger?after=&limit=  entries in order, without holes; `next` is the `after` of the next page
 *   GET  /ledger/summary · GET /healthz
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Compile, type Validator } from 'typebox/compile';
import {
  ChargeRequest,
  KEY_PATTERN,
  type Ledger,
  openLedger,
  RefundRequest,
  type Reply,
  scripts,
} from './sandbox-ledger.ts';
import { systemPorts } from '#platform/ports.ts';

type SandboxProviderOptions = {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  /** Created, with its folder, when it does not exist. */
  readonly ledgerFile: string;
  /** How late `pm_slow` answers. */
  readonly slowMs?: number;
  /** How long a request that is never answered is held before its connection is cut. */
  readonly holdMs?: number;
  /** Requests being worked on, late or held; a further one is answered 503. */
  readonly openRequestsMax?: number;
};

/**
 * Starts the provider; rejects when the ledger cannot be opened or the port is taken. `stop` cuts every
 * connection at once, those of held requests too.
 */
export async function startSandboxProvider(
  options: SandboxProviderOptions,
): Promise<{ url: string; stop(): Promise<void> }> {
  const { slowMs = 2_000, holdMs = 60_000, openRequestsMax = 10_000 } = options;
  const ledger = openLedger(options.ledgerFile);
  let openRequests = 0;

  const server = createServer({ requestTimeout: 10_000, headersTimeout: 10_000, keepAliveTimeout: 30_000 });
  server.maxConnections = connectionsMax;
  server.on('request', (request, response) => {
    if (openRequests >= openRequestsMax) {
      return send(response, { status: 503, body: { error: `more than ${openRequestsMax} requests are open` } });
    }
    openRequests += 1;
    response.once('close', () => {
      openRequests -= 1;
    });
    if (request.method === 'GET') return send(response, answerQuery(ledger, request.url ?? ''));
    receive(request, response, (body) => {
      const asked = understand(ledger, request, body);
      if ('status' in asked) return send(response, asked);
      ledger.submit(asked.work, (reply) => deliver(response, reply, slowMs, holdMs));
    });
  });

  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(options.port, options.host, resolve);
  }).catch((error: unknown) => {
    ledger.close();
    throw error;
  });
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://${options.host.includes(':') ? `[${options.host}]` : options.host}:${port}`,
    async stop() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      await closed;
      ledger.close();
    },
  };
}

const connectionsMax = 20_000;
const bodyBytesMax = 16 * 1_024;
const pageSizeMax = 1_000;

const chargeRequest = Compile(ChargeRequest);
const refundRequest = Compile(RefundRequest);

const path = new RegExp(`^/(charges|refunds)/(${KEY_PATTERN})(/void)?$`);

/** What a PUT or POST asks of the ledger, or why it asks for nothing. */
function understand(ledger: Ledger, request: IncomingMessage, text: string): Reply | { readonly work: () => Reply } {
  const [, book, key, action] = path.exec(request.url ?? '') ?? [];
  if (key === undefined || (book === 'refunds' && action !== undefined)) return noSuchAddress;
  if (request.method !== (action === undefined ? 'PUT' : 'POST')) {
    return { status: 405, body: { error: `${request.method} is not possible here` } };
  }
  if (action !== undefined) return { work: () => ledger.void(key) };

  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    return { status: 400, body: { error: 'the body is not JSON' } };
  }
  if (book === 'refunds') {
    if (!refundRequest.Check(body)) return invalid(refundRequest, body);
    return { work: () => ledger.refund(key, body) };
  }
  if (!chargeRequest.Check(body)) return invalid(chargeRequest, body);
  const script = scripts.get(body.method);
  if (script === undefined) return { status: 422, body: { error: `unknown method ${JSON.stringify(body.method)}` } };
  return { work: () => ledger.charge(key, body, script) };
}

const noSuchAddress: Reply = { status: 404, body: { error: 'there is nothing at this address' } };

function invalid(schema: Validator, body: unknown): Reply {
  const [first] = schema.Errors(body);
  return { status: 400, body: { error: `body${first?.instancePath ?? ''} ${first?.message ?? 'is invalid'}` } };
}

function answerQuery(ledger: Ledger, url: string): Reply {
  try {
    return query(ledger, url);
  } catch (error) {
    return { status: 500, body: { error: `the ledger cannot be read: ${(error as Error).message}` } };
  }
}

function query(ledger: Ledger, url: string): Reply {
  const [address = '', parameters] = url.split('?', 2);
  if (address === '/healthz') return { status: 200, body: { status: 'ok' } };
  if (address === '/ledger/summary') return { status: 200, body: ledger.summary() };
  if (address === '/ledger') {
    const asked = new URLSearchParams(parameters);
    const after = Number(asked.get('after') ?? 0);
    const limit = Number(asked.get('limit') ?? pageSizeMax);
    if (!Number.isSafeInteger(after) || after < 0)
      return { status: 400, body: { error: 'after is not a sequence number' } };
    if (!Number.isInteger(limit) || limit < 1 || limit > pageSizeMax) {
      return { status: 400, body: { error: `limit is not between 1 and ${pageSizeMax}` } };
    }
    return { status: 200, body: ledger.page(after, limit) };
  }
  const [, book, key, action] = path.exec(address) ?? [];
  return book === 'charges' && key !== undefined && action === undefined ? ledger.lookUp(key) : noSuchAddress;
}

/** Hands over the whole body; answers 413 itself, and a request that breaks off is forgotten. */
function receive(request: IncomingMessage, response: ServerResponse, whole: (body: string) => void): void {
  const chunks: Buffer[] = [];
  let bytes = 0;
  request.on('data', (chunk: Buffer) => {
    if (bytes > bodyBytesMax) return;
    bytes += chunk.length;
    chunks.push(chunk);
    if (bytes > bodyBytesMax)
      send(response, { status: 413, body: { error: `a body has at most ${bodyBytesMax} bytes` } });
  });
  request.on('end', () => {
    if (bytes <= bodyBytesMax) whole(chunks.length === 1 ? chunks[0]!.toString() : Buffer.concat(chunks).toString());
  });
  // Broken off: the socket is gone, and nobody is there to answer.
  request.on('error', () => {});
}

function deliver(response: ServerResponse, reply: Reply, slowMs: number, holdMs: number): void {
  // A caller who has given up meanwhile needs no timer, and its close event has been.
  if (response.destroyed) return;
  if (reply.sent === undefined) return send(response, reply);
  const cancel =
    reply.sent === 'late'
      ? systemPorts.after(slowMs, () => send(response, reply))
      : systemPorts.after(holdMs, () => response.destroy());
  response.once('close', cancel);
}

function send(response: ServerResponse, { status, body }: Reply): void {
  const text = JSON.stringify(body);
  const headers: Record<string, string | number> = {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(text),
  };
  // The rest of the body is still on its way; without it the connection is of no further use.
  if (!response.req.complete && response.req.method !== 'GET') headers.connection = 'close';
  response.writeHead(status, headers).end(text);
}
