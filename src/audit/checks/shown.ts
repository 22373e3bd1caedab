/** What the read database shows at one moment, and of which version of the program. */
import type { Projection } from '#cqrs/projection.ts';
import type { Database, Sql } from '#platform/postgres.ts';
import type { Finding, Looked } from '../check.ts';
import { inSnapshot } from '../evidence.ts';

export type Shown = {
  readonly checkpoints: ReadonlyMap<string, number>;
  /** Positions that were passed without being applied, by source. */
  readonly passed: ReadonlyMap<string, ReadonlySet<number>>;
  readonly generation: number;
  /** By read model: of which version of its projection its rows are. */
  readonly versions: ReadonlyMap<string, number>;
};

/** What a look came to, and what the read database said then. */
export type Seen = { readonly shown: Shown; readonly findings: readonly Finding[] };

/** How far the read database has come, and whether somebody has replaced its rows since it was asked last. */
export async function readShown(sql: Sql): Promise<Shown> {
  const [checkpoints, parked, readModels] = await Promise.all([
    sql.query<{ consumer: string; position: number; generation: number }>(
      'audit shown',
      'select consumer, position, generation from checkpoints',
    ),
    sql.query<{ consumer: string; position: number }>(
      'audit passed over',
      'select consumer, position from parked_messages',
    ),
    sql.query<{ name: string; version: number }>('audit versions', 'select name, version from read_models'),
  ]);
  const bySource = Map.groupBy(parked, ({ consumer }) => consumer.slice('projections-of-'.length));
  return {
    checkpoints: new Map(checkpoints.map(({ consumer, position }) => [consumer, position])),
    passed: new Map([...bySource].map(([source, rows]) => [source, new Set(rows.map(({ position }) => position))])),
    generation: checkpoints.reduce((sum, { generation }) => sum + generation, 0),
    versions: new Map(readModels.map(({ name, version }) => [name, version])),
  };
}

/** Its rows are of another version of the program: what this one makes of the events does not say what they should be. */
export const isOther = ({ versions }: Shown, { name, version }: Projection): boolean => versions.get(name) !== version;

/**
 * What `look` finds in a snapshot of the rows of `projections`; which of them it has left out is told. Tables that were switched
 * between the beginning of a snapshot and their being read show what never was: found out afterwards, and only when it matters.
 */
export async function lookIn(
  queries: Database,
  projections: readonly Projection[],
  look: (sql: Sql) => Promise<Seen>,
): Promise<Looked> {
  const { shown, findings } = await inSnapshot(queries, look);
  const others = projections.filter((projection) => isOther(shown, projection));
  const wereReplaced = findings.length > 0 && (await readShown(queries)).generation !== shown.generation;
  return {
    findings: wereReplaced ? [] : findings,
    ...(others.length === 0 ? {} : { leftOut: others.map((one) => otherText(shown, one)).join('; ') }),
  };
}

function otherText({ versions }: Shown, { name, version }: Projection): string {
  const stored = versions.get(name);
  const found = stored === undefined ? 'is not there yet' : `is of version ${stored}`;
  return `${name} ${found}, this program makes version ${version}: it was left out`;
}

/** Looks at all `ids`, at `atOnceMax` at a time. */
export async function inTurns(
  ids: readonly string[],
  atOnceMax: number,
  look: (some: readonly string[]) => Promise<Looked>,
): Promise<Looked> {
  const looks: Looked[] = [];
  for (let from = 0; from < ids.length; from += atOnceMax) looks.push(await look(ids.slice(from, from + atOnceMax)));
  const leaving = looks.find(({ leftOut }) => leftOut !== undefined);
  return { ...leaving, findings: looks.flatMap(({ findings }) => findings) };
}
