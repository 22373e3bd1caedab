/** The one door: every HTTP request comes in here, and every answer, whatever happened, leaves from here. */
import type { Socket } from 'node:net';
import { STATUS_CODES } from 'node:http';
import helmet from '@fastify/helmet';
import rateLimit from '@fastify/rate-limit';
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import type { Logger } from 'pino';
import { Closed } from '#contracts/values.ts';
import { problems, type ProblemCode } from '#contracts/problems.ts';
import type { Route } from '#contracts/routes.ts';
import { type AccessOptions, openAccess } from './access.ts';
import { type Admission, createAdmission } from './admission.ts';
import { answerProblem, pathOf, PROBLEM_TYPE, problemBody, requestIdOf } from './answers.ts';
import { commandHandler } from './commands.ts';
import { type Consistency, createConsistency } from './consistency.ts';
import { mountDocumentation } from './documentation.ts';
import { mountHealth, type Readiness } from './health.ts';
import { answerHotReads, type HotReads } from './hot-reads.ts';
import { createIdempotencyKeys } from './idempotency-keys.ts';
import { bodyBytesMax, takeJsonOnly } from './json-body.ts';
import { createLimits } from './limits.ts';
import type { LiveStreams } from './live-streams.ts';
import type { Overload } from './overload.ts';
import { mountProblemPages } from './problem-pages.ts';
import { queryHandler } from './queries.ts';
import type { RequestFigures } from './request-figures.ts';
import { failureHandler } from './refusals.ts';
import type { Searches } from './searches.ts';
import { shedRequests } from './shedding.ts';
import { compileSchema } from './schema-compiler.ts';
import { continueTrace } from './trace-context.ts';
import { systemPorts } from '#platform/ports.ts';

export type GatewayOptions = {
  readonly routes: readonly Route[];
  readonly host: string;
  /** 0: any that is free. */
  readonly port: number;
  readonly jwt: AccessOptions;
  /** 0: no limit. */
  readonly customerRequestsPerMinute: number;
  readonly operatorRequestsPerMinute: number;
  readiness(): Promise<Readiness>;
  /** Prometheus text. */
  metrics(): Promise<string>;
  readonly logger: Logger;
  /** Requests under way at once; more are turned away. */
  readonly queuedRequestsMax: number;
  /** Of the larger bodies of all requests under way. */
  readonly bodyBytesUnderWayMax?: number;
  readonly liveStreams: LiveStreams;
  readonly figures: RequestFigures;
  /** Says when there are more requests than can be served. */
  readonly overload: Overload;
  readonly searches: Searches;
  /** How long a request may take to arrive. */
  readonly requestTimeoutMs?: number;
  /** How long `stop` waits for requests under way. */
  readonly stopTimeoutMs?: number;
};

export type Gateway = {
  /** Such as `http://127.0.0.1:8080`. */
  readonly address: string;
  /** Takes no further connections, ends live streams, lets requests under way finish, then closes what is left. */
  stop(): Promise<void>;
};

const connectionsWaitingMax = 4_096;
/** Further ones are closed as soon as they are taken. */
const connectionsMax = 30_000;
const consistencyWaitersMax = 10_000;
const headerBytesMax = 16_384;
/** A socket on which nothing moves, an answer under way included. */
const idleSocketTimeoutMs = 60_000;
/** Longer than that of the load balancers in front, so that they close first. */
const keepAliveTimeoutMs = 75_000;
const closeIdleEveryMs = 50;

/** Serves `routes` and the house's own addresses. Rejects when it cannot listen. */
export async function startGateway(options: GatewayOptions): Promise<Gateway> {
  const { routes, logger, figures } = options;
  const app = createServer(options.requestTimeoutMs ?? 30_000, failureHandler(logger));
  app.server.maxConnections = connectionsMax;
  await app.register(rateLimit, { global: false });
  const limits = createLimits(app, {
    customer: options.customerRequestsPerMinute,
    operator: options.operatorRequestsPerMinute,
  });
  const access = openAccess(options.jwt);
  const requestsMax = options.queuedRequestsMax;
  const admission = createAdmission({ access, limits, figures, requestsMax });
  const bodyBytesUnderWayMax = options.bodyBytesUnderWayMax ?? 256 * 1_048_576;
  shedRequests(app.server, { overload: options.overload, figures, ports: systemPorts, bodyBytesUnderWayMax });
  // After it, so that they come before it: see docs/decisions/0027.
  const hotReads = answerHotReads(app.server, { access, limits, figures, requestsMax });
  answerUnknownAddresses(app);
  const consistency = createConsistency({ waitersMax: consistencyWaitersMax, figures });
  mountRoutes(app, routes, {
    admission,
    consistency,
    liveStreams: options.liveStreams,
    searches: options.searches,
    figures,
    hotReads,
  });
  mountHealth(app, { admission, readiness: options.readiness, metrics: options.metrics });
  await app.register(async (pages: FastifyInstance) => {
    await pages.register(helmet, pageSecurity);
    pages.addHook('onRequest', (request, reply, done) => {
      reply.header('x-request-id', request.id);
      done();
    });
    mountProblemPages(pages);
    await mountDocumentation(pages, routes);
  });
  const address = await app.listen({ host: options.host, port: options.port, backlog: connectionsWaitingMax });
  return {
    address,
    stop() {
      hotReads.stop();
      options.liveStreams.end();
      return stop(app, options.stopTimeoutMs ?? 10_000);
    },
  };
}

function createServer(requestTimeoutMs: number, answerFailure: ReturnType<typeof failureHandler>): FastifyInstance {
  const app = fastify({
    bodyLimit: bodyBytesMax,
    requestTimeout: requestTimeoutMs,
    connectionTimeout: idleSocketTimeoutMs,
    keepAliveTimeout: keepAliveTimeoutMs,
    // Requests that arrive while the server closes are served like any other.
    return503OnClosing: false,
    http: {
      headersTimeout: Math.min(requestTimeoutMs, 15_000),
      connectionsCheckingInterval: Math.min(requestTimeoutMs, 5_000),
      maxHeaderSize: headerBytesMax,
      // Checked later, where a problem can be answered.
      requireHostHeader: false,
    },
    // What is too long fails its schema, with an explanation; headerBytesMax bounds it.
    routerOptions: { maxParamLength: headerBytesMax },
    genReqId: requestIdOf,
    frameworkErrors: answerFailure,
    clientErrorHandler: answerClientError,
  });
  app.decorateRequest('identity', null as never);
  app.decorateRequest('trace', null);
  app.decorateRequest('limitHeaders', null);
  app.decorateRequest('timed', null);
  app.decorateRequest('bodyBytes', 0);
  app.setErrorHandler(answerFailure);
  app.setValidatorCompiler(compileSchema as never);
  takeJsonOnly(app);
  return app;
}

const noQuery = Closed({});

type Before = {
  readonly admission: Admission;
  readonly consistency: Consistency;
  readonly liveStreams: LiveStreams;
  readonly searches: Searches;
  readonly figures: RequestFigures;
  readonly hotReads: HotReads;
};

function mountRoutes(app: FastifyInstance, routes: readonly Route[], before: Before): void {
  const { admission, consistency, liveStreams, searches, figures, hotReads } = before;
  const keys = createIdempotencyKeys();
  for (const route of routes) {
    const { method, url, params } = route;
    const given = params === undefined ? {} : { params };
    const times = figures.timesOf(method, url);
    const admit = admission.admit(route, times);
    if ('open' in route) {
      const schema = { ...given, querystring: route.query };
      const handler = liveStreams.handler(route, consistency);
      // A HEAD of something that does not end would not either.
      app.route({ method, url, schema, onRequest: admit, handler, exposeHeadRoute: false });
    } else if (route.method === 'GET') {
      const schema = { ...given, querystring: route.query ?? noQuery };
      app.route({ method, url, schema, onRequest: admit, handler: queryHandler(route, consistency, searches) });
      hotReads.add(route, times);
    } else {
      const schema = { ...given, querystring: noQuery, body: route.body };
      const handler = commandHandler(route, consistency, keys);
      app.route({ method, url, schema, onRequest: [admit, expectNoBody], handler });
    }
  }
}

/** A request without a body has an empty one: what its schema makes of that is the route's affair. */
function expectNoBody(request: FastifyRequest, _reply: FastifyReply, done: () => void): void {
  request.body = {};
  done();
}

/** Unknown addresses are 404; known ones with another method 405. Before a body is read. */
function answerUnknownAddresses(app: FastifyInstance): void {
  const addresses = new Map<string, { readonly pattern: RegExp; readonly methods: Set<string> }>();
  app.addHook('onRoute', ({ url, method }) => {
    const source = url
      .split(/(:\w+|\*)/)
      .map((part) => (part === '*' ? '.*' : part.startsWith(':') ? '[^/]+' : RegExp.escape(part)));
    const known = addresses.get(url) ?? { pattern: new RegExp(`^${source.join('')}$`), methods: new Set() };
    for (const one of [method].flat()) known.methods.add(one);
    addresses.set(url, known);
  });

  const answerUnknown = (request: FastifyRequest, reply: FastifyReply): void => {
    const path = pathOf(request);
    const known = [...addresses.values()].filter(({ pattern }) => pattern.test(path));
    const allowed = [...new Set(known.flatMap(({ methods }) => [...methods]))].sort();
    if (allowed.length === 0 || allowed.includes(request.method)) {
      answerProblem(request, reply, 'not-found', `There is nothing at ${path}.`);
    } else {
      const detail = `${path} takes ${allowed.join(', ')}, not ${request.method}.`;
      answerProblem(request, reply, 'method-not-allowed', detail, { headers: ['Allow', allowed.join(', ')] });
    }
  };

  app.addHook('onRequest', (request, reply, done) => {
    if (request.is404) answerUnknown(request, reply);
    else done();
  });
  // For a file that is not there: its route was found.
  app.setNotFoundHandler(answerUnknown);
}

/** For the explanations and /docs, whose interface styles its parts inline. */
const pageSecurity = {
  contentSecurityPolicy: {
    useDefaults: false,
    directives: {
      defaultSrc: ["'self'"],
      styleSrc: ["'self'", "'unsafe-inline'"],
      imgSrc: ["'self'", 'data:'],
      objectSrc: ["'none'"],
      baseUri: ["'self'"],
      frameAncestors: ["'none'"],
    },
  },
};

type ClientError = Error & { readonly code?: string };

/** What the HTTP parser could not make a request of is answered on the bare socket, which then closes. */
function answerClientError(
  error: ClientError,
  socket: Socket & { readonly _httpMessage?: { readonly headersSent: boolean } | null },
): void {
  // oxlint-disable-next-line no-underscore-dangle -- Node's name for the answer under way; bytes of another must not follow its own.
  if (error.code === 'ECONNRESET' || !socket.writable || socket._httpMessage?.headersSent) {
    socket.destroy();
    return;
  }
  const code = problemByParserCode[error.code ?? ''] ?? 'malformed-request';
  const { status, explanation } = problems[code];
  const body = problemBody(code, explanation, '', continueTrace(undefined).traceId);
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
    `Content-Type: ${PROBLEM_TYPE}`,
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Cache-Control: no-store',
    'X-Content-Type-Options: nosniff',
    `X-Request-Id: ${systemPorts.newId()}`,
    `Date: ${new Date(systemPorts.now()).toUTCString()}`,
    'Connection: close',
  ];
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`);
  // What is still on its way is thrown away for a moment: closing at once would take the answer with it.
  socket.resume();
  const cancel = systemPorts.after(lingerMs, () => socket.destroy());
  socket.once('close', cancel);
}

const lingerMs = 1_000;

const problemByParserCode: { readonly [code: string]: ProblemCode } = {
  HPE_HEADER_OVERFLOW: 'headers-too-large',
  HPE_CHUNK_EXTENSIONS_OVERFLOW: 'body-too-large',
  ERR_HTTP_REQUEST_TIMEOUT: 'request-timeout',
};

async function stop(app: FastifyInstance, timeoutMs: number): Promise<void> {
  // A connection that was busy when closing began goes idle later, and would stay open for its client.
  const stopClosingIdle = systemPorts.every(closeIdleEveryMs, () => app.server.closeIdleConnections());
  const cancelClosingAll = systemPorts.after(timeoutMs, () => app.server.closeAllConnections());
  try {
    await app.close();
  } finally {
    stopClosingIdle();
    cancelClosingAll();
  }
}
