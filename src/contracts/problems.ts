/**
 * Every way in which a request can fail, once: the code that clients match on, its status, and what
 * `/problems/<code>` explains. Codes are stable; an entry is never renamed.
 */
type Problem = { readonly status: number; readonly title: string; readonly explanation: string };

const problem = (status: number, title: string, explanation: string): Problem => ({ status, title, explanation });

export const problems = {
  'invalid-request': problem(
    400,
    'The request is not as the contract says',
    'A field is missing, unknown, of the wrong type or out of range. `errors` names each with a JSON pointer. Mend the request; nothing was changed.',
  ),
  'malformed-json': problem(
    400,
    'The body is not JSON',
    'The body could not be parsed as JSON in UTF-8. Nothing was changed.',
  ),
  'malformed-request': problem(
    400,
    'The request is not HTTP as it should be',
    'The request line, a header or the percent-encoding of the address could not be read. Nothing was changed.',
  ),
  'malformed-consistency-token': problem(
    400,
    'The Consistency-Token cannot be read',
    'Send the token exactly as an answer gave it, or none.',
  ),
  'malformed-cursor': problem(
    400,
    'The cursor cannot be read',
    'Send `nextCursor` of the page before, with the same filters and sort, or none.',
  ),
  'malformed-etag': problem(
    400,
    'The entity tag cannot be read',
    'If-Match and If-None-Match take `*` or quoted tags as the ETag header gave them.',
  ),
  'malformed-event-id': problem(
    400,
    'The Last-Event-ID cannot be resumed from',
    'Send the id of an event of this very stream, or none to begin with what is now.',
  ),
  'malformed-idempotency-key': problem(
    400,
    'The Idempotency-Key cannot be used',
    'A key has 1 to 255 printable ASCII characters.',
  ),
  unauthenticated: problem(
    401,
    'Who is calling is not known',
    'Send `Authorization: Bearer <JWT>` with a token that is signed by a configured key, not expired, and of the right issuer and audience.',
  ),
  forbidden: problem(403, 'The caller may not do this', 'The role of the token does not allow this request.'),
  'not-found': problem(404, 'There is nothing at this address', 'Look at /docs for the routes there are.'),
  'order-not-found': problem(
    404,
    'There is no such order',
    'No order has this id, or it belongs to somebody else. A new order may take a moment to be readable: send the Consistency-Token of the answer that placed it.',
  ),
  'version-not-found': problem(
    404,
    'The order has no such version',
    'It has not come to the `version` that was asked for, or was not there yet at `asOf`; `currentVersion` is its newest. A new version may take a moment to be readable: send the Consistency-Token of the answer that made it.',
  ),
  'customer-not-found': problem(
    404,
    'There is no such customer',
    'No customer has this id, or the caller may not see it.',
  ),
  'dead-letter-not-found': problem(
    404,
    'There is no such parked message',
    'It was applied, was discarded, or never was: GET /v1/ops/dead-letters lists those that wait. A process answers for the databases it has open.',
  ),
  'consumer-not-found': problem(
    404,
    'There is no such consumer',
    'The details of GET /readyz list the consumers of a process; it also answers for those whose database it has open.',
  ),
  'projection-not-found': problem(
    404,
    'There is no such read model',
    'GET /v1/ops/projections lists those there are; `all` stands for all of them.',
  ),
  'divergence-not-found': problem(404, 'There is no such divergence', 'GET /v1/ops/divergences lists those there are.'),
  'job-not-found': problem(404, 'There is no such job', 'It was forgotten, or never was.'),
  'product-not-found': problem(404, 'There is no such product', 'No product has this SKU.'),
  'method-not-allowed': problem(
    405,
    'This address does not take this method',
    'The Allow header lists the methods it takes.',
  ),
  'request-timeout': problem(
    408,
    'The request did not arrive in time',
    'The whole request has to arrive within the time limit. Nothing was changed; send it again.',
  ),
  'insufficient-stock': problem(
    409,
    'There is not that much available',
    'The adjustment would leave less than zero available. Nothing was changed.',
  ),
  'order-not-cancellable': problem(
    409,
    'The order is final',
    'A completed, failed or cancelled order cannot be cancelled; `orderStatus` says which.',
  ),
  'order-exists': problem(
    409,
    'Another order has this id',
    'An order with this id and other content exists. Choose another id, or send the same content to get the same answer.',
  ),
  'rebuild-running': problem(
    409,
    'A rebuild is under way',
    'A read database has one rebuild at a time: GET /v1/ops/projections names its job. Ask again when it has ended.',
  ),
  'audit-running': problem(
    409,
    'A full audit is under way',
    'There is one at a time: GET /v1/ops/audits names its job. Ask again when it has ended.',
  ),
  'divergence-settled': problem(
    409,
    'The divergence is settled',
    'It was repaired, accepted, or is gone: `divergenceState` says which. One that is found again is open again.',
  ),
  'divergence-changed': problem(
    409,
    'The divergence is not what it was',
    'What is found now is something else than what is recorded, or nothing. Nothing was changed; read it again and decide anew.',
  ),
  'repair-failed': problem(
    409,
    'The repair has failed',
    'What was tried did not work, or did not hold; the divergence stays open, and lists what was tried and why it failed.',
  ),
  'idempotency-key-in-flight': problem(
    409,
    'The first request with this key is still under way',
    'Ask again after Retry-After seconds with the same key; the answer of the first will be given.',
  ),
  'version-mismatch': problem(
    412,
    'The resource has changed',
    'If-Match names a version that is not the current one; `currentVersion` is. Read it again and decide anew.',
  ),
  'body-too-large': problem(413, 'The body is too large', 'A body has at most 1 MiB (1,048,576 bytes).'),
  'unsupported-media-type': problem(415, 'The content type is not supported', 'Send `Content-Type: application/json`.'),
  'idempotency-key-reused': problem(
    422,
    'The key was used for another request',
    'An Idempotency-Key belongs to one request. Make a new key for a new request.',
  ),
  'unknown-check': problem(422, 'There is no such check', '`checks` lists those there are.'),
  'strategy-not-possible': problem(
    422,
    'This divergence cannot be settled in this way',
    '`strategies` lists the ways that are possible.',
  ),
  'unknown-customer': problem(
    422,
    'The customer is not known',
    'Register the customer with PUT /v1/customers/{customerId} first.',
  ),
  'unknown-product': problem(
    422,
    'A product is not known',
    '`skus` lists the products that the catalogue does not have.',
  ),
  'mixed-currencies': problem(
    422,
    'An order has one currency',
    'The lines would be priced in several currencies; `currencies` lists them. Split the order.',
  ),
  'total-too-large': problem(
    422,
    'The total is too large',
    'The total of an order has to be at most 9,007,199,254,740,991 minor units.',
  ),
  'rate-limited': problem(
    429,
    'Too many requests',
    'The limit of this caller is used up. Go on after Retry-After seconds.',
  ),
  'too-many-streams': problem(
    429,
    'Too many live streams',
    'This caller has as many live streams open as it may. Close one, or share one among those who look.',
  ),
  'headers-too-large': problem(
    431,
    'The headers are too large',
    'Request line and headers together have at most 16 KiB.',
  ),
  internal: problem(
    500,
    'Something failed that should not',
    'It has been logged under the `traceId`. A write with an Idempotency-Key can be repeated safely.',
  ),
  'read-model-behind': problem(
    503,
    'The read model is behind',
    'What the Consistency-Token names has not arrived here within the wait. Ask again after Retry-After seconds.',
  ),
  overloaded: problem(
    503,
    'The system has more work than it can take',
    'The request was turned away before any work was done. Ask again after Retry-After seconds.',
  ),
  'token-keys-unavailable': problem(
    503,
    'The token cannot be checked at the moment',
    'The keys that tokens are checked with could not be fetched. Nothing was changed; send it again.',
  ),
  'database-unavailable': problem(
    503,
    'The database does not answer',
    'It is starting, or out of reach. Ask again after Retry-After seconds.',
  ),
  'log-unavailable': problem(
    503,
    'The log cannot be written',
    'The database did not answer in time. Whether the command took effect may be unknown: repeat it with the same Idempotency-Key.',
  ),
} as const satisfies Record<string, Problem>;

export type ProblemCode = keyof typeof problems;
