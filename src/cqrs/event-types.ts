/**
 * The versions of a log's events. An event is kept for ever, so every version that was ever written
 * stays readable: it is checked against its schema and made the newest by one small pure function per
 * step, at the log's edge. Rules, reactions and projections know the newest version alone.
 */
import type { TSchema } from 'typebox';
import { Compile, type Validator } from 'typebox/compile';
import type { DomainEvent } from './decider.ts';

/** What a service says of its events. */
export type EventDeclarations = {
  /** By type, the schema of `data` in its newest version: the one that is written. */
  readonly newest: Readonly<Record<string, TSchema>>;
  /** By type, what was written before: version 1 first. Never taken out, never changed. */
  readonly older: Readonly<Record<string, readonly OlderVersion[]>>;
};

export type OlderVersion = {
  readonly schema: TSchema;
  /** Makes `data` of the next version. Pure: leaves what it is given as it was. */
  readonly upcast: (data: never) => object;
};

/** Why this program cannot take an event: whoever listens parks it. */
export type Unreadable = {
  readonly reason: 'unknown-type' | 'newer-version' | 'invalid';
  readonly detail: string;
};

/** The event in its newest version; or type and data as stored, and what is wrong with them. */
export type Decoded = DomainEvent & { readonly unreadable?: Unreadable };

export type EventTypes = {
  /** The name under which an event is stored. Throws when no reader could take it: that is a bug of the writer. */
  storedName(event: DomainEvent): string;
  /** The event of a stored name and data. Never throws; fields that are not known are left where they are. */
  decode(storedName: string, data: object): Decoded;
};

/**
 * The registry of one service's events; each schema is compiled when the first event of its type comes by.
 *
 * Promises:
 * - an event goes through the upcasters of every version between its own and the newest
 * - a reader takes fields that it does not know, at any depth, and leaves them in place
 * - data that is not what its version says is invalid, before and after each upcaster
 * - an upcaster that fails makes the event unreadable and nothing else
 * - a version to come is told from a type that nobody knows
 */
export function createEventTypes({ newest, older }: EventDeclarations): EventTypes {
  const types = new Map<string, EventType>();
  const versions = new Map<string, { readonly eventType: EventType; readonly version: number }>();
  for (const [type, schema] of Object.entries(newest)) {
    if (type.includes('.'))
      throw new Error(`the event type ${type} has a dot in its name: the version stands behind it`);
    const eventType = eventTypeOf(type, schema, older[type] ?? []);
    types.set(type, eventType);
    for (let version = 1; version <= eventType.version; version += 1) {
      versions.set(storedNameOf(type, version), { eventType, version });
    }
  }

  return {
    storedName({ type, data }) {
      const eventType = types.get(type);
      if (eventType === undefined) throw new Error(`${type} is not declared among the events of this service`);
      const wrong = eventType.complaintOfWriter(data);
      if (wrong !== null) throw new Error(`${type} is not what its schema says: ${wrong}`);
      return eventType.storedName;
    },

    decode(storedName, data) {
      const known = versions.get(storedName);
      if (known === undefined) return { type: storedName, data, unreadable: notKnown(storedName, types) };
      const { eventType, version } = known;
      const upcasted = eventType.upcast(data, version);
      if ('wrong' in upcasted) {
        return { type: storedName, data, unreadable: { reason: 'invalid', detail: upcasted.wrong } };
      }
      return { type: eventType.type, data: upcasted.data };
    },
  };
}

/**
 * `OrderPlaced` for version 1, `OrderPlaced.2` for version 2.
 *
 * Promises:
 * - version 1 is stored under the name of the type, a later one with its number behind it
 */
export const storedNameOf = (type: string, version: number): string => (version === 1 ? type : `${type}.${version}`);

type EventType = {
  readonly type: string;
  readonly version: number;
  readonly storedName: string;
  complaintOfWriter(data: object): string | null;
  upcast(data: object, version: number): { readonly data: object } | { readonly wrong: string };
};

type Complaint = (data: unknown) => string | null;

function eventTypeOf(type: string, schema: TSchema, older: readonly OlderVersion[]): EventType {
  const version = older.length + 1;
  const complaints = [...older.map((one) => one.schema), schema].map((one) => complaintBy(() => tolerant(one)));
  return {
    type,
    version,
    storedName: storedNameOf(type, version),
    complaintOfWriter: complaintBy(() => schema),

    upcast(stored, storedVersion) {
      let data = stored;
      for (let at = storedVersion; ; at += 1) {
        const wrong = complaints[at - 1]!(data);
        if (wrong !== null) return { wrong: at === storedVersion ? wrong : `once made version ${at}: ${wrong}` };
        if (at === version) return { data };
        try {
          data = older[at - 1]!.upcast(data as never);
        } catch (error) {
          return { wrong: `cannot be made version ${at + 1}: ${String(error)}` };
        }
      }
    },
  };
}

function complaintBy(schema: () => TSchema): Complaint {
  let validator: Validator | null = null;
  return (data) => {
    validator ??= Compile(schema());
    if (validator.Check(data)) return null;
    const { instancePath, keyword, message } = validator.Errors(data)[0]!;
    return `${instancePath || 'data'} ${keyword === 'boolean' ? 'is not a field of it' : message}`;
  };
}

/**
 * The same schema, open for fields it does not name: while processes are updated one after the other,
 * an older one reads events to which a newer one has added an optional field.
 */
const tolerant = (schema: TSchema): TSchema =>
  JSON.parse(JSON.stringify(schema), function (this: unknown, key, value: unknown) {
    return key === 'additionalProperties' && value === false ? undefined : value;
  }) as TSchema;

function notKnown(storedName: string, types: ReadonlyMap<string, EventType>): Unreadable {
  const [, type = '', version = ''] = /^(.+)\.([1-9]\d{0,8})$/.exec(storedName) ?? [];
  const eventType = types.get(type);
  if (eventType === undefined || Number(version) <= eventType.version) {
    return { reason: 'unknown-type', detail: `no event type ${storedName} is known here` };
  }
  return {
    reason: 'newer-version',
    detail: `${type} of version ${version}, and the newest version known here is ${eventType.version}`,
  };
}
