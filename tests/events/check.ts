/**
 * `npm run check:events`: whether every event that was ever written can still be read, and every event
 * written from now on by those who have not been updated yet. `schemas.json` holds every version of
 * every event as it was when it was last recorded, the other files stored events of each; once recorded,
 * neither changes. `npm run check:events -- --record` takes up what is new.
 */
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { publishedEvents } from '#contracts/event-types.ts';
import { createEventTypes, type EventDeclarations, storedNameOf } from '#cqrs/event-types.ts';
import { breakingChanges, optionalFields, type Schema } from './compatibility.ts';

/** By type, the schema of each version, version 1 first. */
export type RecordedSchemas = Readonly<Record<string, readonly Schema[]>>;
/** As it lies in the log. */
export type Example = { readonly stored: string; readonly data: object };

export type ServiceEvents = {
  /** Where the events are declared and where their examples are. */
  readonly declaredIn: string;
  readonly examplesIn: string;
  readonly declared: EventDeclarations;
  readonly recorded: RecordedSchemas;
  readonly examples: readonly Example[];
  /** The digest of each example that has been recorded, in order. */
  readonly digests: readonly string[];
};

/** `isNew`: nothing is broken, it only has to be recorded. */
export type Finding = { readonly text: string; readonly isNew: boolean };

const record = 'npm run check:events -- --record';

/** All that is wrong with the events of one service; each finding names the file, the type and the fix. */
export function checkEvents(events: ServiceEvents): Finding[] {
  return [...checkSchemas(events), ...checkExamples(events)];
}

/** What `--record` writes. */
export const recordedOf = (declared: EventDeclarations): RecordedSchemas =>
  Object.fromEntries(
    Object.entries(declared.newest).map(([type, newest]) => [
      type,
      [...(declared.older[type] ?? []).map((older) => older.schema), newest].map(
        (schema) => JSON.parse(JSON.stringify(schema)) as Schema,
      ),
    ]),
  );

export const digestOf = (example: Example): string =>
  createHash('sha256').update(JSON.stringify(example)).digest('hex').slice(0, 32);

function checkSchemas({ declaredIn, declared, recorded }: ServiceEvents): Finding[] {
  const now = recordedOf(declared);
  const broken = (type: string, problem: string, fix: string): Finding => ({
    text: `${declaredIn}: ${type} ${problem}. Fix: ${fix}.`,
    isNew: false,
  });
  const brokenIn = (type: string, versions: readonly Schema[]): Finding[] => {
    const versionsNow = now[type];
    const keep = 'put it back: stored events of it are read for ever; what is no longer written stays declared';
    if (versionsNow === undefined) return [broken(type, 'is gone', keep)];
    return versions.flatMap((schema, n) => {
      const version = n + 1;
      const schemaNow = versionsNow[n];
      if (schemaNow === undefined) return [broken(type, `has no version ${version} any more`, keep)];
      const fix =
        version === versions.length
          ? `undo it, or make this version ${version + 1} as docs/event-versions.md says`
          : 'undo it: an older version never changes';
      return breakingChanges(schema, schemaNow).map(({ path, problem }) =>
        broken(type, `version ${version}: ${path} ${problem}`, fix),
      );
    });
  };
  return [...new Set([...Object.keys(recorded), ...Object.keys(now)])].flatMap((type) => {
    const findings = brokenIn(type, recorded[type] ?? []);
    if (findings.length > 0 || JSON.stringify(now[type]) === JSON.stringify(recorded[type])) return findings;
    return [{ text: `${declaredIn}: ${type} is not recorded as it is. Fix: ${record}.`, isNew: true }];
  });
}

function checkExamples({ examplesIn, declared, examples, digests }: ServiceEvents): Finding[] {
  const eventTypes = createEventTypes(declared);
  const broken = (type: string, problem: string, fix: string): Finding => ({
    text: `${examplesIn}: ${type} ${problem}. Fix: ${fix}.`,
    isNew: false,
  });
  const read = examples.flatMap((example) => {
    const before = JSON.stringify(example);
    const { unreadable } = eventTypes.decode(example.stored, example.data);
    if (unreadable !== undefined) {
      const problem = `of ${shorten(before)} cannot be read: ${unreadable.detail}`;
      return [broken(example.stored, problem, 'make it readable again, by its schema or its upcaster')];
    }
    return JSON.stringify(example) === before
      ? []
      : [broken(example.stored, 'is changed by its upcaster', 'copy what is changed: an upcaster is pure')];
  });
  const missing = Object.entries(recordedOf(declared)).flatMap(([type, versions]) =>
    versions.flatMap((schema, n) => {
      const stored = storedNameOf(type, n + 1);
      const own = examples.filter((example) => example.stored === stored).map((example) => example.data);
      if (own.length === 0)
        return [broken(stored, 'has no stored example', 'append one with all fields, one with none that is optional')];
      return optionalFields(schema).flatMap((field) => [
        ...(own.some((data) => has(data, field)) ? [] : [broken(stored, `has no example with ${field}`, 'append one')]),
        ...(own.every((data) => has(data, field))
          ? [broken(stored, `has no example without ${field}`, 'append one')]
          : []),
      ]);
    }),
  );
  const changed = digests.flatMap((digest, n) =>
    examples[n] !== undefined && digestOf(examples[n]) === digest
      ? []
      : [
          broken(
            examples[n]?.stored ?? 'an example',
            `(number ${n + 1}) is not what was recorded`,
            'put it back: examples are only appended',
          ),
        ],
  );
  const unrecorded = examples.slice(digests.length).map(({ stored }) => ({
    text: `${examplesIn}: an example of ${stored} is not recorded. Fix: ${record}.`,
    isNew: true,
  }));
  return [...read, ...missing, ...changed, ...unrecorded];
}

/** Whether `data` has the field that a path such as `data.lines[].note` names, in any of its items. */
function has(data: unknown, field: string): boolean {
  const [, ...steps] = field.split('.');
  const reached = steps.reduce<unknown[]>(
    (some, step) =>
      some
        .map((one) => (one as Record<string, unknown> | undefined)?.[step.replace('[]', '')])
        .flatMap((one) => (step.endsWith('[]') && Array.isArray(one) ? (one as unknown[]) : [one])),
    [data],
  );
  return reached.some((one) => one !== undefined);
}

const shorten = (text: string): string => (text.length <= 200 ? text : `${text.slice(0, 200)} …`);

const services = ['catalog', 'ordering', 'inventory', 'payments', 'audit'] as const;
type ServiceName = (typeof services)[number];

/** The events of this project as they are declared and recorded. */
export function projectEvents(): Readonly<Record<ServiceName, ServiceEvents>> {
  const schemas = readJson<Record<ServiceName, RecordedSchemas>>('schemas.json');
  const digests = readJson<Record<ServiceName, readonly string[]>>('examples.lock.json');
  const eventsOf = (service: ServiceName): ServiceEvents => ({
    declaredIn: `src/contracts/${service}.ts`,
    examplesIn: `tests/events/${service}.json`,
    declared: publishedEvents[service],
    recorded: schemas[service],
    examples: readJson<readonly Example[]>(`${service}.json`),
    digests: digests[service],
  });
  return {
    catalog: eventsOf('catalog'),
    ordering: eventsOf('ordering'),
    inventory: eventsOf('inventory'),
    payments: eventsOf('payments'),
    audit: eventsOf('audit'),
  };
}

const readJson = <T>(file: string): T => JSON.parse(readFileSync(new URL(file, import.meta.url), 'utf8')) as T;

/** One version or example per line, so that a change shows only what has changed. */
function writeRecord(events: Readonly<Record<ServiceName, ServiceEvents>>): void {
  const blocks = (of: (service: ServiceName) => string): string =>
    `{\n${services.map((service) => `  "${service}": ${of(service)}`).join(',\n')}\n}\n`;
  const schemas = blocks((service) => {
    const types = Object.entries(recordedOf(events[service].declared)).map(
      ([type, versions]) =>
        `    "${type}": [\n${versions.map((schema) => `      ${JSON.stringify(schema)}`).join(',\n')}\n    ]`,
    );
    return `{\n${types.join(',\n')}\n  }`;
  });
  const digests = blocks((service) => {
    const lines = events[service].examples.map((example) => `    "${digestOf(example)}"`);
    return `[\n${lines.join(',\n')}\n  ]`;
  });
  writeFileSync(new URL('schemas.json', import.meta.url), schemas);
  writeFileSync(new URL('examples.lock.json', import.meta.url), digests);
}

if (import.meta.main) {
  const events = projectEvents();
  const recording = process.argv.includes('--record');
  const findings = services
    .flatMap((service) => checkEvents(events[service]))
    .filter(({ isNew }) => !(isNew && recording));
  for (const { text } of findings) console.error(text);
  if (findings.length > 0) process.exitCode = 1;
  else if (recording) writeRecord(events);
  const types = services.flatMap((service) => Object.keys(events[service].declared.newest));
  if (findings.length === 0) console.log(`${types.length} event types: all that was ever written can be read`);
}
