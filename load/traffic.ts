/** What users send and what has to come back: the bytes of each request, and the check of each answer. */
import { Compile } from 'typebox/compile';
import type { TSchema } from 'typebox';
import {
  CustomerView,
  OrderCancelledAnswer,
  OrderList,
  OrderPlacedAnswer,
  OrderView,
  ProductList,
  ProductView,
} from '#contracts/http.ts';
import { type Answer, headerOf } from './answer-reader.ts';
import {
  declinedShare,
  followUps,
  fullCheckShare,
  ifNoneMatchShare,
  readMix,
  type ReadKind,
  type RequestKind,
} from './profiles.ts';

/** Someone at one connection. */
export type User = {
  readonly customerId: string;
  /** Lines of the head that go with every request. */
  readonly headers: string;
  /** Orders of its own, the latest last. */
  readonly orders: OwnOrder[];
  /** The latest version seen, by order: it never goes back. */
  readonly versions: Map<string, number>;
};

type OwnOrder = { readonly orderId: string; readonly takenAtMs: number };

/** What the answer to a command says of it. */
type Write = { readonly token: string; readonly version: number };

/** One request, which may be sent more than once. */
export type Sent = {
  readonly kind: RequestKind;
  readonly bytes: string;
  readonly isCommand: boolean;
  /** Of an order that is placed or cancelled. */
  readonly orderId?: string;
  /** What is wrong with an answer, or null; and remembers what it has shown. */
  check(answer: Answer): string | null;
};

export type TrafficOptions = {
  /** Begins the ids of orders. */
  readonly name: string;
  readonly skus: readonly string[];
  readonly hotShare: number;
  readonly lines: number;
  /** Every order has just as many. */
  readonly linesAlike?: boolean;
  random(): number;
  /** Milliseconds of a clock that only goes forward. */
  now(): number;
};

export type Traffic = {
  user(customerId: string, headers: readonly string[]): User;
  place(user: User): Sent;
  /** What is looked at instead where there is nothing yet of that kind is a product. */
  read(user: User, kind: ReadKind): Sent;
  /** What follows at once from the answer to a command. */
  after(user: User, command: Sent, answer: Answer): readonly Sent[];
};

/** What is kept of what was seen: by a user, and by all of a generator together. */
const ordersPerUserMax = 8;
const hotOrdersMax = 100;
const versionsPerUserMax = 32;
/** An order that was taken so long ago has to be there for everyone. */
const visibleWithinMs = 5_000;
const waitSeconds = 5;

export function createTraffic({
  name,
  skus,
  hotShare,
  lines,
  linesAlike = false,
  random,
  now,
}: TrafficOptions): Traffic {
  const hotOrders: OwnOrder[] = [];
  const productTags = new Map<string, string>();
  let placed = 0;
  let hotAt = 0;
  const oneOf = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)]!;

  function linesOfOrder(): string {
    // From 1 to twice as many less one: `lines` on average.
    const count = linesAlike ? lines : 1 + Math.floor(random() * (2 * lines - 1));
    let text = '';
    for (let n = 0; n < count; n += 1) {
      const sku = n === 0 && random() < hotShare ? skus[0]! : oneOf(skus);
      text += `${n === 0 ? '' : ','}{"sku":"${sku}","quantity":1}`;
    }
    return text;
  }

  function place(user: User): Sent {
    const orderId = `${name}-${(placed += 1)}`;
    const method = random() < declinedShare ? 'pm_declined' : 'pm_ok';
    const body = `{"orderId":"${orderId}","customerId":"${user.customerId}","lines":[${linesOfOrder()}],"payment":{"method":"${method}"}}`;
    return {
      kind: 'place',
      isCommand: true,
      orderId,
      bytes: post('/v1/orders', user, orderId, body),
      check(answer) {
        const wrong = checked(answer, 201, 'placed', `"orderId":"${orderId}"`);
        if (wrong !== null) return wrong;
        if (headerOf(answer.head, 'consistency-token') === undefined) return 'a write without a token';
        const order = { orderId, takenAtMs: now() };
        user.orders.push(order);
        if (user.orders.length > ordersPerUserMax) user.orders.shift();
        hotOrders[hotAt++ % hotOrdersMax] = order;
        return null;
      },
    };
  }

  /** Reads an order; with the token of a write it has to be there. */
  function readOrder(user: User, kind: RequestKind, { orderId, takenAtMs }: OwnOrder, write?: Write): Sent {
    const known = user.versions.get(orderId);
    const versionMin = Math.max(known ?? 1, write?.version ?? 1);
    const tag = known !== undefined && random() < ifNoneMatchShare ? `"${known}"` : undefined;
    const fields = [
      ...(write === undefined ? [] : [`Consistency-Token: ${write.token}`, `Prefer: wait=${waitSeconds}`]),
      ...(tag === undefined ? [] : [`If-None-Match: ${tag}`]),
    ];
    return {
      kind,
      isCommand: false,
      bytes: get(`/v1/orders/${orderId}`, user, fields),
      check(answer) {
        if (answer.status === 404 && write === undefined && known === undefined && now() - takenAtMs < visibleWithinMs)
          return checked(answer, 404, 'problem', '"code":"order-not-found"');
        const wrong =
          tag !== undefined && answer.status === 304
            ? unchanged(answer, tag)
            : checked(answer, 200, 'order', `"orderId":"${orderId}"`);
        if (wrong !== null) return write === undefined ? wrong : `own write: ${wrong}`;
        const version = Number(/^"(\d+)/.exec(headerOf(answer.head, 'etag') ?? '')?.[1]);
        if (!(version >= 1)) return 'an order without a version';
        if (version < versionMin) return `version ${version} after version ${versionMin}`;
        user.versions.set(orderId, version);
        if (user.versions.size > versionsPerUserMax) user.versions.delete(user.versions.keys().next().value!);
        return null;
      },
    };
  }

  function readProduct(user: User, kind: RequestKind): Sent {
    const sku = random() < hotShare ? skus[0]! : oneOf(skus);
    const known = productTags.get(sku);
    const tag = random() < ifNoneMatchShare ? known : undefined;
    return {
      kind,
      isCommand: false,
      bytes: get(`/v1/products/${sku}`, user, tag === undefined ? [] : [`If-None-Match: ${tag}`]),
      check(answer) {
        if (tag !== undefined && answer.status === 304) return unchanged(answer, tag);
        const wrong = checked(answer, 200, 'product', `"sku":"${sku}"`);
        const shown = headerOf(answer.head, 'etag');
        if (wrong === null && shown !== undefined) productTags.set(sku, shown);
        return wrong;
      },
    };
  }

  const readOf = (user: User, kind: RequestKind, path: string, shape: Shape, has: string): Sent => ({
    kind,
    isCommand: false,
    bytes: get(path, user, []),
    check: (answer) => checked(answer, 200, shape, has),
  });

  function read(user: User, kind: ReadKind): Sent {
    switch (kind) {
      case 'own order': {
        const order = user.orders.length === 0 ? undefined : oneOf(user.orders);
        return order === undefined ? readProduct(user, kind) : readOrder(user, kind, order);
      }
      case 'hot order':
        return hotOrders.length === 0 ? readProduct(user, kind) : readOrder(user, kind, oneOf(hotOrders));
      case 'product':
        return readProduct(user, kind);
      case 'customer':
        return readOf(user, kind, `/v1/customers/${user.customerId}`, 'customer', `"customerId":"${user.customerId}"`);
      case 'own orders':
        return readOf(user, kind, `/v1/customers/${user.customerId}/orders?limit=20`, 'orders', '"nextCursor":');
      case 'product list':
        return readOf(user, kind, '/v1/products?limit=20&inStock=true', 'products', '"nextCursor":');
      case 'product search':
        return readOf(user, kind, `/v1/products?limit=20&q=${oneOf(searchWords)}`, 'products', '"nextCursor":');
      case 'order list':
        return readOf(user, kind, '/v1/orders?limit=20', 'orders', '"nextCursor":');
      case 'order search':
        return readOf(user, kind, `/v1/orders?limit=20&q=${oneOf(skus)}`, 'orders', '"nextCursor":');
    }
  }

  function cancel(user: User, orderId: string): Sent {
    return {
      kind: 'cancel',
      isCommand: true,
      orderId,
      bytes: post(`/v1/orders/${orderId}/cancel`, user, `${orderId}-cancel`, '{}'),
      // Whoever comes too late is told so.
      check: (answer) =>
        answer.status === 409
          ? checked(answer, 409, 'problem', '"code":"order-not-cancellable"')
          : checked(answer, 200, 'cancelled', `"orderId":"${orderId}"`),
    };
  }

  /** What is wrong with an answer: its status, its type, its shape; a share of bodies in full. */
  function checked({ status, head, body }: Answer, expected: number, shape: Shape, has: string): string | null {
    const type = headerOf(head, 'content-type') ?? '';
    if (status !== expected) {
      const code = /"code":"([a-z-]+)"/.exec(body.toString('latin1', 0, 2_000))?.[1];
      return `${status} ${code ?? type}`;
    }
    if (!type.startsWith(shape === 'problem' ? 'application/problem+json' : 'application/json'))
      return `${status} of type ${type || 'unknown'}`;
    const text = body.toString('latin1');
    if (!text.startsWith('{') || !text.endsWith('}') || !text.includes(has)) return `${status} of another shape`;
    if (shape === 'problem' || random() >= fullCheckShare) return null;
    return matches(shape, body) ? null : `${status} against its schema`;
  }

  return {
    user: (customerId, headers) => ({
      customerId,
      headers: headers.map((line) => `${line}\r\n`).join(''),
      orders: [],
      versions: new Map(),
    }),
    place,
    read,
    after(user, { kind, orderId = '' }, answer) {
      const order = user.orders.find((one) => one.orderId === orderId);
      // What came too late to be cancelled has written nothing.
      if (order === undefined || answer.status >= 300) return [];
      const write: Write = {
        token: headerOf(answer.head, 'consistency-token') ?? '',
        version: Number(/^"(\d+)/.exec(headerOf(answer.head, 'etag') ?? '')?.[1] ?? 1),
      };
      if (kind === 'cancel') return [readOrder(user, 'own write', order, write)];
      return [
        ...(random() < followUps.ownReadShare ? [readOrder(user, 'own write', order, write)] : []),
        ...(random() < followUps.cancelShare ? [cancel(user, orderId)] : []),
      ];
    },
  };
}

/** Words of the names that the shop's products are given. */
export const searchWords = ['teapot', 'kettle', 'cup', 'saucer', 'tin', 'strainer', 'tray', 'spoon'] as const;

/** One of the reads, by their shares; `dice` from 0 to below 1. */
export function readKindAt(dice: number): ReadKind {
  let percent = dice * 100;
  for (const { name, percent: share } of readMix) {
    percent -= share;
    if (percent < 0) return name;
  }
  return readMix[0].name;
}

const unchanged = ({ head }: Answer, tag: string): string | null =>
  headerOf(head, 'etag') === tag ? null : '304 of another version';

const get = (path: string, user: User, fields: readonly string[]): string =>
  `GET ${path} HTTP/1.1\r\n${user.headers}${fields.map((field) => `${field}\r\n`).join('')}\r\n`;

/** Bodies are ASCII: as many bytes as characters. */
const post = (path: string, user: User, key: string, body: string): string =>
  `POST ${path} HTTP/1.1\r\n${user.headers}Content-Type: application/json\r\nContent-Length: ${body.length}\r\nIdempotency-Key: ${key}\r\n\r\n${body}`;

const schemas = {
  placed: OrderPlacedAnswer,
  cancelled: OrderCancelledAnswer,
  order: OrderView,
  orders: OrderList,
  product: ProductView,
  products: ProductList,
  customer: CustomerView,
} as const satisfies Record<string, TSchema>;
type Shape = keyof typeof schemas | 'problem';

const compiled = new Map<Shape, { Check(value: unknown): boolean }>();

function matches(shape: keyof typeof schemas, body: Buffer): boolean {
  let schema = compiled.get(shape);
  if (schema === undefined) compiled.set(shape, (schema = Compile(schemas[shape])));
  try {
    return schema.Check(JSON.parse(body.toString()));
  } catch {
    return false;
  }
}
