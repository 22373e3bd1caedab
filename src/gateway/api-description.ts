/** The API as OpenAPI 3.1, made of the routes that are served and the schemas that validate. */
import type { TSchema } from 'typebox';
import { ProblemBody } from '#contracts/http.ts';
import { problems } from '#contracts/problems.ts';
import type { CommandRoute, QueryRoute, Route, StreamRoute } from '#contracts/routes.ts';

type Json = { readonly [name: string]: unknown };

/** The whole description, as plain JSON. */
export function describeApi(routes: readonly Route[]): Json {
  const paths: Record<string, Record<string, unknown>> = {};
  for (const route of routes) {
    const path = route.url.replaceAll(/:(\w+)/g, '{$1}');
    (paths[path] ??= {})[route.method.toLowerCase()] = operationOf(route);
  }
  const description = {
    openapi: '3.1.0',
    info: {
      title: 'Twofold',
      version: '1',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
      description:
        'Order management on CQRS: commands and queries apart, consistency visible. Errors are problems as in RFC 9457; GET /problems explains each.',
    },
    servers: [{ url: '/' }],
    tags: [...new Set([...routes.map(({ tag }) => tag), 'operations'])].map((name) => ({ name })),
    security: [{ bearer: [] }],
    paths: { ...paths, ...housePaths },
    components: {
      securitySchemes: {
        bearer: {
          type: 'http',
          scheme: 'bearer',
          bearerFormat: 'JWT',
          description:
            'Claims: `role` is "operator" or "customer", `sub` the id of the customer. A server without a configured key takes every caller for an operator.',
        },
      },
      schemas: { Problem: { ...ProblemBody, additionalProperties: true } },
      headers: answerHeaders,
      parameters: requestHeaders,
      responses: problemResponses(),
    },
  };
  // Schemas may carry what is not JSON: symbols, undefined.
  return JSON.parse(JSON.stringify(description)) as Json;
}

function operationOf(route: Route): Json {
  return {
    operationId: route.operationId ?? operationIdOf(route),
    summary: route.summary,
    tags: [route.tag],
    description:
      route.audience === 'operator' ? 'For operators only.' : 'For operators, and for customers in what is their own.',
    parameters: [
      ...parametersOf(route.params, 'path'),
      ...(route.method === 'GET'
        ? [...parametersOf(route.query, 'query'), ...refs('parameters', 'open' in route ? streamHeaders : queryHeaders)]
        : refs('parameters', commandHeaders)),
    ],
    ...(route.method === 'GET' ? {} : { requestBody: bodyOf(route) }),
    responses: responsesOf(route),
  };
}

/** `GET /v1/orders/:orderId/history` → `getOrdersByOrderIdHistory`. */
function operationIdOf({ method, url }: Route): string {
  const words = url.split('/').filter((word) => word !== '' && word !== 'v1');
  const named = words.map((word) =>
    word.startsWith(':') ? `By${capital(word.slice(1))}` : word.split('-').map(capital).join(''),
  );
  return method.toLowerCase() + named.join('');
}

const capital = (word: string): string => word.charAt(0).toUpperCase() + word.slice(1);

type ObjectSchema = { readonly properties?: Readonly<Record<string, TSchema>>; readonly required?: readonly string[] };

function parametersOf(schema: TSchema | undefined, place: 'path' | 'query'): Json[] {
  const { properties = {}, required = [] } = (schema ?? {}) as ObjectSchema;
  return Object.entries(properties).map(([name, property]) => ({
    name,
    in: place,
    required: place === 'path' || required.includes(name),
    schema: property,
  }));
}

const refs = (kind: string, names: readonly string[]): Json[] =>
  names.map((name) => ({ $ref: `#/components/${kind}/${name}` }));

function bodyOf({ body }: CommandRoute): Json {
  const { required = [] } = body as ObjectSchema;
  return { required: required.length > 0, content: { 'application/json': { schema: body, example: sampleOf(body) } } };
}

function responsesOf(route: Route): Json {
  const responses: Record<string, unknown> = {};
  if ('open' in route) responses[200] = streamOf(route);
  for (const status of problemStatusesOf(route))
    responses[status] = { $ref: `#/components/responses/Problem${status}` };
  if ('open' in route) return responses;
  const headers = headerRefs(route.method === 'GET' ? queryAnswerHeaders(route) : commandAnswerHeaders);
  for (const [status, schema] of Object.entries(route.answers)) {
    // What is refused is a problem, whatever the route says about its body.
    if (Number(status) >= 400) continue;
    responses[status] = {
      description: successes[status] ?? 'Done',
      headers,
      content: { 'application/json': { schema } },
    };
  }
  if (route.method === 'GET') responses['304'] = { description: 'What If-None-Match names is current', headers };
  return responses;
}

function streamOf({ answers }: StreamRoute): Json {
  return {
    description:
      'Server-sent events, until one side ends them. Lines that begin with a colon only show that the stream is alive. What fails after the beginning is an event `error` with a problem, and the last. Come back with the id of the last event in Last-Event-ID: nothing is lost and nothing doubled.',
    headers: headerRefs(['XRequestId', 'RateLimitPolicy', 'RateLimit']),
    content: {
      'text/event-stream': {
        schema: text,
        example: `id: 1\ndata: ${JSON.stringify(sampleOf(answers[200]!))}\n\n`,
      },
    },
  };
}

const successes: { readonly [status: string]: string } = { 200: 'Done', 201: 'Created', 202: 'Accepted; under way' };

function problemStatusesOf(route: Route): number[] {
  const always = [400, 401, 403, 429, 500, 503];
  const byMethod = route.method === 'GET' ? [] : [409, 412, 413, 415, 422];
  const byAddress = route.params === undefined ? [] : [404];
  const named = Object.keys(route.answers)
    .map(Number)
    .filter((status) => status >= 400);
  return [...new Set([...always, ...byMethod, ...byAddress, ...named])]
    .filter((status) => statuses.includes(status))
    .sort((a, b) => a - b);
}

const statuses = [...new Set(Object.values(problems).map(({ status }) => status))].sort((a, b) => a - b);

function problemResponses(): Json {
  const responses = statuses.map((status) => {
    const ofStatus = Object.entries(problems).filter(([, problem]) => problem.status === status);
    const description = ofStatus.map(([code, { title }]) => `\`${code}\`: ${title}.`).join(' ');
    const code = ofStatus[0]![0];
    const retry = [409, 429, 503].includes(status)
      ? { 'Retry-After': { $ref: '#/components/headers/RetryAfter' } }
      : {};
    const example = {
      type: `/problems/${code}`,
      title: ofStatus[0]![1].title,
      status,
      detail: ofStatus[0]![1].explanation,
      instance: '/v1/orders',
      code,
      traceId: '4bf92f3577b34da6a3ce929d0e0e4736',
    };
    const content = { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' }, example } };
    return [`Problem${status}`, { description, headers: { ...headerRefs(['XRequestId']), ...retry }, content }];
  });
  return Object.fromEntries(responses) as Json;
}

const text = { type: 'string' } as const;
const header = (name: string, description: string, schema: Json = text): Json => ({
  name,
  in: 'header',
  required: false,
  description,
  schema,
});

const requestHeaders = {
  IdempotencyKey: header(
    'Idempotency-Key',
    'Makes a repetition harmless: the same key with the same request gets the first answer again.',
    { ...text, minLength: 1, maxLength: 255 },
  ),
  IfMatch: header('If-Match', 'Entity tags; the command is refused when the resource has none of these versions.'),
  IfNoneMatch: header('If-None-Match', 'Entity tags the client has; answered with 304 when one is current.'),
  ConsistencyToken: header(
    'Consistency-Token',
    'Of an earlier answer: this one has to include what that one showed or did. If it cannot in time, the answer is 503 `read-model-behind`: never an older one. So it is for a list or a report that might show what waits as a dead letter, which is named.',
  ),
  LastEventId: header('Last-Event-ID', 'Of the last event that was received: the stream goes on after it.'),
  Prefer: header('Prefer', '`wait=<seconds>`: how long to wait for the Consistency-Token; 1 by default, at most 5.'),
  Traceparent: header('traceparent', 'W3C trace context; goes on in the events that follow.'),
};
const streamHeaders = ['LastEventId', 'ConsistencyToken', 'Prefer', 'Traceparent'];
const queryHeaders = ['IfNoneMatch', 'ConsistencyToken', 'Prefer', 'Traceparent'];
const commandHeaders = ['IdempotencyKey', 'IfMatch', 'ConsistencyToken', 'Prefer', 'Traceparent'];

const answerHeader = (description: string, schema: Json = text): Json => ({ description, schema });
const answerHeaders = {
  ETag: answerHeader('The version, quoted'),
  ConsistencyToken: answerHeader('Send it with a later request that has to include this'),
  Location: answerHeader('Where what was created is', { ...text, format: 'uri-reference' }),
  IdempotentReplayed: answerHeader('`true`: this is the first answer again'),
  XRequestId: answerHeader('Names this request in logs and in the causation of events'),
  RateLimitPolicy: answerHeader('What a limited caller may do'),
  RateLimit: answerHeader('What is left of it'),
  RetryAfter: answerHeader('Seconds', { type: 'integer', minimum: 0 }),
};
const headerNames: { readonly [component: string]: string } = {
  ConsistencyToken: 'Consistency-Token',
  IdempotentReplayed: 'Idempotent-Replayed',
  XRequestId: 'X-Request-Id',
  RateLimitPolicy: 'RateLimit-Policy',
};
const commandAnswerHeaders = [
  'ETag',
  'ConsistencyToken',
  'Location',
  'IdempotentReplayed',
  'XRequestId',
  'RateLimitPolicy',
  'RateLimit',
];
const queryAnswerHeaders = ({ params }: QueryRoute): string[] => [
  ...(params === undefined ? [] : ['ETag']),
  'ConsistencyToken',
  'XRequestId',
  'RateLimitPolicy',
  'RateLimit',
];
const headerRefs = (components: readonly string[]): Json =>
  Object.fromEntries(components.map((name) => [headerNames[name] ?? name, { $ref: `#/components/headers/${name}` }]));

const open = { tags: ['operations'], security: [] };
const jsonAnswer = (description: string, properties: Json): Json => ({
  description,
  content: { 'application/json': { schema: { type: 'object', properties } } },
});
const readiness = { ready: { type: 'boolean' }, reasons: { type: 'array', items: text } };
const housePaths = {
  '/livez': {
    get: {
      ...open,
      operationId: 'getLiveness',
      summary: 'Is the process alive',
      responses: { 200: jsonAnswer('It is', { status: text }) },
    },
  },
  '/readyz': {
    get: {
      ...open,
      operationId: 'getReadiness',
      summary: 'Is it ready for traffic, and if not, why',
      responses: { 200: jsonAnswer('It is', readiness), 503: jsonAnswer('It is not', readiness) },
    },
  },
  '/metrics': {
    get: {
      tags: ['operations'],
      operationId: 'getMetrics',
      summary: 'What is counted, as Prometheus text',
      description: 'For operators only.',
      responses: {
        200: { description: 'Prometheus text', content: { 'text/plain': { schema: text } } },
        401: { $ref: '#/components/responses/Problem401' },
        403: { $ref: '#/components/responses/Problem403' },
      },
    },
  },
};

type SampledSchema = ObjectSchema & {
  readonly type?: string;
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly format?: string;
  readonly items?: TSchema;
  readonly minimum?: number;
  readonly examples?: readonly unknown[];
};

/** Values that read well, by the name of the field. */
const samples: { readonly [name: string]: unknown } = {
  sku: 'MUG-BLUE',
  orderId: 'order-1001',
  customerId: 'customer-42',
  name: 'Blue mug',
  description: 'Holds 0.3 l',
  reason: 'Counted on 1 March',
  currency: 'EUR',
  amount: 1_999,
  quantity: 2,
  country: 'DE',
  email: 'ada@example.com',
};

/** A body that the schema takes: what is required, or, where nothing is, all there is. */
export function sampleOf(schema: TSchema, name = ''): unknown {
  const {
    type,
    enum: words,
    const: only,
    format,
    items,
    minimum,
    examples,
    properties,
    required = [],
  } = schema as SampledSchema;
  if (examples !== undefined) return examples[0];
  if (only !== undefined) return only;
  if (words !== undefined) return words[0];
  if (properties !== undefined) {
    const fields = required.length > 0 ? required : Object.keys(properties);
    return Object.fromEntries(fields.map((field) => [field, sampleOf(properties[field]!, field)]));
  }
  if (items !== undefined) return [sampleOf(items)];
  if (samples[name] !== undefined) return samples[name];
  if (format === 'date-time') return '2026-03-01T12:00:00Z';
  if (type === 'integer' || type === 'number') return Math.max(1, minimum ?? 1);
  if (type === 'boolean') return true;
  return 'text';
}
