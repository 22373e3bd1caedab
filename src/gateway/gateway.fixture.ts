/** A gateway on a free port with a small service behind it: things, kept in memory, with versions and positions. */
import { once } from 'node:events';
import { connect } from 'node:net';
import { Writable } from 'node:stream';
import type { TestContext } from 'node:test';
import { pino } from 'pino';
import Type from 'typebox';
import type { Positions } from '#cqrs/consistency-token.ts';
import { type ClientAnswer, staleVersion } from '#cqrs/command-request.ts';
import { EngineError } from '#cqrs/errors.ts';
import type { CommandRequest, QueryRequest, Route, Shown } from '#contracts/routes.ts';
import { Closed, ID_PATTERN } from '#contracts/values.ts';
import { createLiveStreams } from './live-streams.ts';
import { systemPorts } from '#platform/ports.ts';
import { createOverload } from './overload.ts';
import { createRequestFigures } from './request-figures.ts';
import { createSearches } from './searches.ts';
import { type GatewayOptions, startGateway } from './server.ts';

export const jwt = {
  secret: 'a-secret-of-the-test-with-enough-bytes',
  issuer: 'https://issuer.test',
  audience: 'twofold',
};

const thingId = Type.String({ pattern: ID_PATTERN });
const ThingParams = Closed({ thingId });
const ThingBody = Closed({
  name: Type.String({ minLength: 1, maxLength: 300 }),
  size: Type.Optional(Type.Integer({ minimum: 1, maximum: 100 })),
  kind: Type.Optional(Type.Unsafe<'big' | 'small'>(Type.String({ enum: ['big', 'small'] }))),
  at: Type.Optional(Type.String({ format: 'date-time' })),
  email: Type.Optional(Type.String({ format: 'email' })),
  parts: Type.Optional(Type.Array(Closed({ 'a/b': Type.Integer() }), { maxItems: 10_000 })),
});
const ThingVersion = Closed({ thingId, version: Type.Integer() });
const anything = Type.Object({});

type Thing = { readonly name: string; readonly version: number };

const shownAs = (thing: Thing): Shown => ({ bytes: Buffer.from(JSON.stringify(thing)), etag: `${thing.version}.7` });

export class Things {
  readonly stored = new Map<string, Thing>();
  /** Whether what is stored is in memory as well, to be answered without a handler. */
  isKept = false;
  /** Every request that came as far as a handler. */
  readonly reached: (CommandRequest | QueryRequest)[] = [];
  readonly #answers = new Map<string, ClientAnswer>();
  readonly #waiting = new Set<() => void>();
  #head = 0;
  #open = Promise.withResolvers<void>();
  #waited = Promise.withResolvers<void>();

  /** Lets the requests to /v1/slow go on. */
  open(): void {
    this.#open.resolve();
  }

  /** Resolves once a request to /v1/slow is under way. */
  get waited(): Promise<void> {
    return this.#waited.promise;
  }

  /** Moves the read side on, as a projection does. */
  advance(): void {
    this.#head += 1;
    for (const wake of this.#waiting) wake();
  }

  readonly routes: readonly Route[] = [
    this.#query('/v1/things/:thingId', { params: ThingParams, kept: (id: string) => this.#kept(id) }, ({ params }) => {
      const thing = this.stored.get(params['thingId']!);
      if (thing === undefined) return { refused: { code: 'product-not-found', detail: 'There is no such thing.' } };
      return shownAs(thing);
    }),
    this.#query(
      '/v1/things',
      {
        searches: true,
        query: Closed({
          limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 100, default: 20 })),
          inStock: Type.Optional(Type.Boolean()),
          since: Type.Optional(Type.String({ format: 'date-time' })),
          name: Type.Optional(Type.String({ minLength: 1 })),
        }),
      },
      async ({ query }) => ({ bytes: JSON.stringify(query) }),
    ),
    this.#query('/v1/secrets', { audience: 'operator' }, () => ({ bytes: '{}' })),
    this.#query(
      '/v1/ops/things',
      { audience: 'operator', kept: () => (this.isKept ? { bytes: '{}' } : undefined) },
      () => ({
        bytes: '{}',
      }),
    ),
    // Shows less than the read side has applied, unless it must not.
    this.#query('/v1/shared', {}, ({ underToken }) =>
      underToken === true ? { bytes: '{}' } : { bytes: '{}', shows: { 'things.0': 1 } },
    ),
    this.#query('/v1/broken', {}, () => {
      throw new Error('the password is hunter2');
    }),
    this.#command(
      'PUT',
      '/v1/things/:thingId',
      { params: ThingParams, body: ThingBody, answers: { 200: ThingVersion, 201: ThingVersion } },
      async (request) => {
        const { params, body, ifMatch } = request as CommandRequest<{ thingId: string }, { name: string }>;
        const current = this.stored.get(params.thingId)?.version ?? 0;
        const stale = staleVersion(ifMatch, current);
        if (stale !== null) return { ...stale, isKept: false, replayed: false, traceId: request.origin.correlationId };
        if (body.name === 'forbidden') {
          const refused = { code: 'unknown-product', detail: 'Not that one.', skus: ['A'] };
          return this.#keep(request, { refused, isKept: true, replayed: false, traceId: request.origin.correlationId });
        }
        const version = current + 1;
        this.stored.set(params.thingId, { name: body.name, version });
        this.#head += 1;
        const kept = {
          status: current === 0 ? 201 : 200,
          body: { thingId: params.thingId, version },
          version,
          location: `/v1/things/${params.thingId}`,
        };
        return this.#keep(request, { kept, replayed: false, positions: { 'things.0': this.#head } });
      },
    ),
    this.#command(
      'POST',
      '/v1/things/:thingId/stock',
      { params: ThingParams, body: anything, ifMatchPart: 2 },
      async () => this.#done(),
    ),
    this.#command(
      'POST',
      '/v1/things/:thingId/close',
      { params: ThingParams, body: Closed({ reason: Type.Optional(Type.String()) }) },
      async () => this.#done(),
    ),
    this.#command('DELETE', '/v1/things/:thingId', { params: ThingParams, body: Closed({}) }, async () => this.#done()),
    this.#command('POST', '/v1/slow', { body: anything }, async () => {
      this.#waited.resolve();
      await this.#open.promise;
      return this.#done();
    }),
    this.#command('POST', '/v1/fails', { body: Closed({ how: Type.String() }) }, async ({ body }) => {
      const { how } = body as { how: string };
      if (how === 'log-unavailable')
        throw new EngineError('log-unavailable', 'postgres://user:secret@db did not answer');
      if (how === 'unregistered')
        return { refused: { code: 'no-such-code', detail: '' }, isKept: false, replayed: false, traceId: '' };
      throw new Error('the password is hunter2');
    }),
  ];

  #kept(id: string): Shown | undefined {
    const thing = this.isKept ? this.stored.get(id) : undefined;
    return thing && shownAs(thing);
  }

  #done(): ClientAnswer {
    return { kept: { status: 200, body: { done: true } }, replayed: false, positions: { 'things.0': this.#head } };
  }

  /** As a service does in its transaction. */
  #keep(request: CommandRequest, answer: ClientAnswer): ClientAnswer {
    if (request.idempotency !== undefined)
      this.#answers.set(`${request.idempotency.caller} ${request.idempotency.key}`, { ...answer, replayed: true });
    return answer;
  }

  #query(url: string, more: object, read: (request: QueryRequest) => unknown): Route {
    return {
      method: 'GET',
      url,
      summary: `Shows ${url}`,
      tag: 'things',
      audience: 'customer',
      answers: { 200: anything },
      ...more,
      read: (request: QueryRequest) => {
        this.reached.push(request);
        return read(request);
      },
      caughtUp: (positions: Positions, waitMs: number) => this.#caughtUp(positions, waitMs),
      positions: () => ({ 'things.0': this.#head }),
    } as Route;
  }

  #command(
    method: 'POST' | 'PUT' | 'DELETE',
    url: string,
    more: object,
    handle: (request: CommandRequest) => Promise<ClientAnswer>,
  ): Route {
    return {
      method,
      url,
      summary: `Changes ${url}`,
      tag: 'things',
      audience: 'customer',
      answers: { 200: anything },
      ...more,
      handle: async (request: CommandRequest) => {
        this.reached.push(request);
        const { idempotency } = request;
        return (idempotency && this.#answers.get(`${idempotency.caller} ${idempotency.key}`)) ?? handle(request);
      },
      caughtUp: (positions: Positions, waitMs: number) => this.#caughtUp(positions, waitMs),
    } as never;
  }

  async #caughtUp(positions: Positions, waitMs: number): Promise<boolean> {
    const applied = () => (positions['things.0'] ?? 0) <= this.#head;
    if (applied()) return true;
    const { promise, resolve } = Promise.withResolvers<void>();
    const wake = () => applied() && resolve();
    this.#waiting.add(wake);
    const timer = setTimeout(resolve, waitMs);
    await promise;
    clearTimeout(timer);
    this.#waiting.delete(wake);
    return applied();
  }
}

export type Body = string | Uint8Array<ArrayBuffer>;
export type Answer = { readonly status: number; readonly headers: Headers; readonly text: string; readonly json: any };

/** Starts a gateway that stops with the test. */
export async function gatewayFor(t: TestContext, overrides: Partial<GatewayOptions> = {}) {
  const things = new Things();
  const logged: string[] = [];
  const sink = new Writable({
    write(line, _encoding, done) {
      logged.push(String(line));
      done();
    },
  });
  const figures = createRequestFigures();
  const gateway = await startGateway({
    routes: things.routes,
    host: '127.0.0.1',
    port: 0,
    jwt: { issuer: jwt.issuer, audience: jwt.audience },
    customerRequestsPerMinute: 600,
    operatorRequestsPerMinute: 0,
    readiness: async () => ({ ready: true, reasons: [] }),
    metrics: async () => 'things_total 1\n',
    logger: pino(sink),
    queuedRequestsMax: 100,
    figures,
    searches: createSearches({ ports: systemPorts, atOnceMax: 2, waitingMax: 2, waitMs: 0, figures }),
    overload: createOverload({ ports: systemPorts, waitMs: 0, commandWaitMs: () => 0, behindMs: () => 0 }),
    liveStreams: createLiveStreams({
      streamsMax: 100,
      streamsPerCustomerMax: 10,
      heartbeatMs: 15_000,
      waitingBytesMax: 1_048_576,
      logger: pino(sink),
    }),
    ...overrides,
  });
  t.after(() => gateway.stop());

  async function call(
    method: string,
    path: string,
    headers: Record<string, string> = {},
    body?: Body,
  ): Promise<Answer> {
    const type: Record<string, string> = body === undefined ? {} : { 'content-type': 'application/json' };
    const response = await fetch(gateway.address + path, {
      method,
      headers: { ...type, ...headers },
      redirect: 'manual',
      ...(body === undefined ? {} : { body }),
    });
    const text = await response.text();
    const isJson = response.headers.get('content-type')?.includes('json') && text !== '';
    return { status: response.status, headers: response.headers, text, json: isJson ? JSON.parse(text) : undefined };
  }

  /** Writes bytes to a bare socket and reads until `until`, or until the other side closes. */
  async function exchange(bytes: string | Buffer, until?: (read: string) => boolean): Promise<string> {
    const { hostname, port } = new URL(gateway.address);
    const socket = connect(Number(port), hostname);
    await once(socket, 'connect');
    socket.write(bytes);
    let read = '';
    try {
      for await (const chunk of socket) {
        read += String(chunk);
        if (until?.(read)) break;
      }
    } finally {
      socket.destroy();
    }
    return read;
  }

  return { gateway, things, logged, call, exchange };
}
