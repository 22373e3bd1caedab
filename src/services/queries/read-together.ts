/** Single rows that are asked for in one turn of the event loop, read by one statement: under load a statement costs more than its rows. */
import { type Ports, systemPorts } from '#platform/ports.ts';

/** More of them are read by statements beside each other. */
const rowsPerStatementMax = 100;

/**
 * One row by its key, of those that `read` gives, in whatever order; what `read` says of all of them comes with each.
 *
 * Promises:
 * - keys that are asked for in one turn are read together, and each gets its own row
 * - a key that has no row gets none
 * - when a statement fails, whoever has asked for one of its rows is told, and nobody else
 */
export function readTogether<Row, Known>(
  read: (keys: readonly string[]) => Promise<{ readonly rows: ReadonlyMap<string, Row>; readonly known: Known }>,
  ports: Pick<Ports, 'soon'> = systemPorts,
): (key: string) => Promise<{ readonly row: Row; readonly known: Known } | undefined> {
  type Reading = { readonly keys: Set<string>; readonly found: ReturnType<typeof read> };
  let gathering: Reading | null = null;

  function begin(): Reading {
    const keys = new Set<string>();
    const { promise: found, resolve } = Promise.withResolvers<Awaited<ReturnType<typeof read>>>();
    const reading = { keys, found };
    ports.soon(() => {
      if (gathering === reading) gathering = null;
      resolve(read([...keys]));
    });
    return reading;
  }

  return async (key) => {
    if (gathering === null || gathering.keys.size >= rowsPerStatementMax) gathering = begin();
    const reading = gathering;
    reading.keys.add(key);
    const { rows, known } = await reading.found;
    const row = rows.get(key);
    return row === undefined ? undefined : { row, known };
  };
}
