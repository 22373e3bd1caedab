/** Every event that was ever written can be read; and the check that says so is shown to find each way to break it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import Type, { type TProperties, type TSchema } from 'typebox';
import { createEventTypes, type EventDeclarations } from '#cqrs/event-types.ts';
import { checkEvents, digestOf, type Example, projectEvents, recordedOf, type ServiceEvents } from './check.ts';
import { breakingChanges, type Schema } from './compatibility.ts';

for (const [service, events] of Object.entries(projectEvents())) {
  test(`every version of every event that ${service} has ever written can be read`, () => {
    const findings = checkEvents(events).map(({ text }) => text);
    assert.equal(findings.length, 0, `\n${findings.join('\n')}\n`);
  });
}

const closed = { additionalProperties: false };
const event = (fields: TProperties): TSchema => Type.Object(fields, closed);
const sku = Type.String();
const words = (...some: string[]): TSchema => Type.Union(some.map((word) => Type.Literal(word)));
/** The event with a line, in which the change lies. */
const lines = (line: TProperties): TSchema => event({ lines: Type.Array(event(line)) });

/** What has changed, the finding, and an event that proves it: written before or after, and not readable on the other side. */
type Break = {
  readonly change: string;
  readonly before: TSchema;
  readonly after: TSchema;
  readonly finding: string;
  readonly written: 'before' | 'after';
  readonly data: object;
};

const breaks: readonly Break[] = [
  {
    change: 'a field is removed',
    before: event({ sku, note: Type.String() }),
    after: event({ sku }),
    finding: 'data.note has been removed: what old events say there is lost',
    written: 'after',
    data: { sku: 'a' },
  },
  {
    change: 'a field is renamed',
    before: event({ sku, note: Type.Integer() }),
    after: event({ sku, remark: Type.Integer() }),
    finding: 'data.note has been renamed to remark: old events have the old name, old readers look for it',
    written: 'before',
    data: { sku: 'a', note: 1 },
  },
  {
    change: 'a required field is new',
    before: event({ sku }),
    after: event({ sku, note: Type.String() }),
    finding: 'data.note is new and required: old events lack it',
    written: 'before',
    data: { sku: 'a' },
  },
  {
    change: 'an optional field becomes required',
    before: event({ note: Type.Optional(Type.String()) }),
    after: event({ note: Type.String() }),
    finding: 'data.note has become required: old events may lack it',
    written: 'before',
    data: {},
  },
  {
    change: 'a required field becomes optional',
    before: event({ note: Type.String() }),
    after: event({ note: Type.Optional(Type.String()) }),
    finding: 'data.note has become optional: old readers require it',
    written: 'after',
    data: {},
  },
  {
    change: 'a field is of another type',
    before: lines({ sku }),
    after: lines({ sku: Type.Integer() }),
    finding: 'data.lines[].sku has type "integer" (was "string"): old events or old readers may not agree',
    written: 'before',
    data: { lines: [{ sku: 'a' }] },
  },
  {
    change: 'a type is narrowed',
    before: event({ weight: Type.Number() }),
    after: event({ weight: Type.Integer() }),
    finding: 'data.weight has type "integer" (was "number"): old events or old readers may not agree',
    written: 'before',
    data: { weight: 1.5 },
  },
  {
    change: 'a bound is narrowed',
    before: event({ quantity: Type.Integer() }),
    after: event({ quantity: Type.Integer({ minimum: 1 }) }),
    finding: 'data.quantity has minimum 1 (was absent): old events may lie outside',
    written: 'before',
    data: { quantity: 0 },
  },
  {
    change: 'a bound is widened',
    before: event({ quantity: Type.Integer({ maximum: 10 }) }),
    after: event({ quantity: Type.Integer({ maximum: 20 }) }),
    finding: 'data.quantity has maximum 20 (was 10): old readers refuse what is new',
    written: 'after',
    data: { quantity: 15 },
  },
  {
    change: 'a bound is dropped',
    before: event({ name: Type.String({ minLength: 1 }) }),
    after: event({ name: Type.String() }),
    finding: 'data.name has minLength no more (was 1): old readers refuse what is new',
    written: 'after',
    data: { name: '' },
  },
  {
    change: 'a pattern is another one',
    before: event({ sku: Type.String({ pattern: '^[a-z]$' }) }),
    after: event({ sku: Type.String({ pattern: '^[0-9]$' }) }),
    finding: 'data.sku has pattern "^[0-9]$" (was "^[a-z]$"): old events or old readers may not agree',
    written: 'before',
    data: { sku: 'a' },
  },
  {
    change: 'a word is removed from a closed union',
    before: event({ reason: words('cancelled', 'failed') }),
    after: event({ reason: words('cancelled') }),
    finding: 'data.reason has lost "failed": old events may say so',
    written: 'before',
    data: { reason: 'failed' },
  },
  {
    change: 'a word is added to a closed union',
    before: event({ reason: words('cancelled', 'failed') }),
    after: event({ reason: words('cancelled', 'failed', 'expired') }),
    finding: 'data.reason may be "expired" now: old readers refuse that',
    written: 'after',
    data: { reason: 'expired' },
  },
  {
    change: 'a list becomes one thing',
    before: event({ note: Type.Array(Type.String()) }),
    after: event({ note: Type.String() }),
    finding: 'data.note has type "string" (was "array"): old events or old readers may not agree',
    written: 'before',
    data: { note: ['a'] },
  },
];

const plain = (schema: TSchema): Schema => JSON.parse(JSON.stringify(schema)) as Schema;
const readerOf = (schema: TSchema): ReturnType<typeof createEventTypes> =>
  createEventTypes({ newest: { Told: schema }, older: {} });

for (const { change, before, after, finding, written, data } of breaks) {
  test(`${change}: that needs a new version`, () => {
    const [writer, reader] = written === 'before' ? [before, after] : [after, before];
    assert.equal(readerOf(writer).storedName({ type: 'Told', data }), 'Told', 'the example is as it would be written');
    assert.ok(readerOf(reader).decode('Told', data).unreadable, 'the example cannot be read on the other side');
    const found = breakingChanges(plain(before), plain(after)).map(({ path, problem }) => `${path} ${problem}`);
    assert.ok(found.includes(finding), found.join('\n'));
  });
}

test('an optional field that is added and words that explain need no new version: both sides read both', () => {
  const before = lines({ sku });
  const after = lines({ sku: Type.String({ description: 'of the maker' }), note: Type.Optional(Type.String()) });
  assert.deepEqual(breakingChanges(plain(before), plain(after)), []);
  const added = { lines: [{ sku: 'a', note: 'b' }] };
  const bare = { lines: [{ sku: 'a' }] };
  assert.deepEqual(readerOf(before).decode('Told', added), { type: 'Told', data: added });
  assert.deepEqual(readerOf(after).decode('Told', bare), { type: 'Told', data: bare });
});

const first = event({ sku });
const second = event({ sku, note: Type.Optional(Type.String()) });
const upcast = (data: { sku: string }): object => ({ ...data });
const recorded: readonly Example[] = [{ stored: 'Told', data: { sku: 'a' } }];

/** A service with one event, and all in order but for what is given. */
function serviceWith(changed: {
  declared?: EventDeclarations;
  examples?: readonly Example[];
  digests?: readonly string[];
}): ServiceEvents {
  const examples = changed.examples ?? recorded;
  return {
    declaredIn: 'told.ts',
    examplesIn: 'told.json',
    declared: changed.declared ?? { newest: { Told: first }, older: {} },
    recorded: recordedOf({ newest: { Told: first }, older: {} }),
    examples,
    digests: changed.digests ?? recorded.map(digestOf),
  };
}

const found = (events: ServiceEvents): string[] => checkEvents(events).map(({ text }) => text.split('. Fix')[0]!);
const toRecord = (events: ServiceEvents): boolean[] => checkEvents(events).map(({ isNew }) => isNew);

test('an event that is as it was recorded is in order', () => {
  assert.deepEqual(checkEvents(serviceWith({})), []);
});

test('a finding names the file, the type, the place and the fix', () => {
  const declared = { newest: { Told: event({}) }, older: {} };
  assert.equal(
    checkEvents(serviceWith({ declared }))[0]?.text,
    'told.ts: Told version 1: data.sku has been removed: what old events say there is lost. Fix: undo it, or make this version 2 as docs/event-versions.md says.',
  );
});

test('an event type or a version that was taken out is found', () => {
  assert.deepEqual(found(serviceWith({ declared: { newest: {}, older: {} } })), [
    'told.ts: Told is gone',
    'told.json: Told of {"stored":"Told","data":{"sku":"a"}} cannot be read: no event type Told is known here',
  ]);
  const events = {
    ...serviceWith({}),
    recorded: recordedOf({ newest: { Told: second }, older: { Told: [{ schema: first, upcast }] } }),
  };
  assert.deepEqual(found(events), ['told.ts: Told has no version 2 any more']);
});

test('a new version is in order with its upcaster and its examples, once it is recorded', () => {
  const declared = {
    newest: { Told: event({ note: Type.String() }) },
    older: { Told: [{ schema: first, upcast: ({ sku: note }: { sku: string }) => ({ note }) }] },
  };
  const events = serviceWith({ declared, examples: [...recorded, { stored: 'Told.2', data: { note: 'b' } }] });
  assert.deepEqual(found(events), [
    'told.ts: Told is not recorded as it is',
    'told.json: an example of Told.2 is not recorded',
  ]);
  assert.deepEqual(toRecord(events), [true, true]);
  assert.deepEqual(found({ ...events, recorded: recordedOf(declared), digests: events.examples.map(digestOf) }), []);
});

test('an older version that changes is found, whatever the newest one is', () => {
  const declared = { newest: { Told: first }, older: { Told: [{ schema: event({ sku: Type.Integer() }), upcast }] } };
  assert.match(found(serviceWith({ declared }))[0]!, /^told\.ts: Told version 1: data\.sku has type "integer"/);
});

test('a version without a stored example is found, and an optional field without one', () => {
  assert.deepEqual(found(serviceWith({ examples: [], digests: [] })), ['told.json: Told has no stored example']);
  const declared = { newest: { Told: second }, older: {} };
  assert.deepEqual(found(serviceWith({ declared })), [
    'told.ts: Told is not recorded as it is',
    'told.json: Told has no example with data.note',
  ]);
  const examples = [{ stored: 'Told', data: { sku: 'a', note: 'b' } }];
  assert.deepEqual(found(serviceWith({ declared, examples, digests: examples.map(digestOf) })), [
    'told.ts: Told is not recorded as it is',
    'told.json: Told has no example without data.note',
  ]);
});

test('a stored example that was changed or taken out is found', () => {
  const changed = [{ stored: 'Told', data: { sku: 'b' } }];
  assert.deepEqual(found(serviceWith({ examples: changed })), ['told.json: Told (number 1) is not what was recorded']);
  const more = [...recorded, ...changed];
  assert.deepEqual(found(serviceWith({ digests: more.map(digestOf) })), [
    'told.json: an example (number 2) is not what was recorded',
  ]);
});

test('an upcaster that makes something else than the next version, or changes what it is given, is found', () => {
  const upcastTo = (make: (data: { sku: string }) => object): string[] =>
    found(
      serviceWith({
        declared: { newest: { Told: first }, older: { Told: [{ schema: first, upcast: make }] } },
        examples: [...recorded, { stored: 'Told.2', data: { sku: 'a' } }],
      }),
    );
  assert.match(upcastTo(() => ({}))[1]!, /cannot be read: once made version 2: data must have required properties sku/);
  assert.equal(upcastTo((data) => Object.assign(data, { sku: 'b' }))[1], 'told.json: Told is changed by its upcaster');
});
