/** What every read store has to keep; run on each of them by the tests beside them. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import fc from 'fast-check';
import { isEngineError } from './errors.ts';
import type { ParkedMessage } from './parked-messages.ts';
import type { ReadStore, ReadTable, Rows } from './read-store.ts';

type Thing = {
  readonly id: string;
  readonly version: number;
  readonly name: string | null;
  readonly data: string | null;
  readonly count: number;
  readonly sum: string | null;
  readonly done: boolean;
  readonly at: string | null;
  readonly words: readonly string[] | null;
};
type Pair = { readonly a: string; readonly b: string; readonly n: number };
type Note = { readonly id: string; readonly data: string };
type Stock = { readonly sku: string; readonly name: string | null; readonly count: number };

export const things: ReadTable<Thing> = {
  name: 'things',
  key: ['id'],
  columns: {
    id: 'text',
    version: 'integer',
    name: 'text',
    data: 'json',
    count: 'bigint',
    sum: 'numeric',
    done: 'boolean',
    at: 'timestamptz',
    words: 'words',
  },
  defaults: { version: 0, count: 0, done: false },
  version: 'version',
};
export const pairs: ReadTable<Pair> = {
  name: 'pairs',
  key: ['a', 'b'],
  columns: { a: 'text', b: 'text', n: 'integer' },
};
export const notes: ReadTable<Note> = { name: 'notes', key: ['id'], columns: { id: 'text', data: 'json' }, once: true };
/** Filled by two sources, a column each. */
export const stocks: ReadTable<Stock> = {
  name: 'stocks',
  key: ['sku'],
  columns: { sku: 'text', name: 'text', count: 'bigint' },
  defaults: { count: 0 },
};

/** The tables above. */
export const contractTables = `
  create table things (id text collate "C" primary key, version integer default 0, name text, data text,
    count bigint default 0, sum numeric, done boolean default false, at timestamptz, words tsvector);
  create table pairs (a text collate "C", b text collate "C", n integer, primary key (a, b));
  create table notes (id text collate "C" primary key, data text);
  create table stocks (sku text collate "C" primary key, name text, count bigint default 0);`;

const thing = (id: string, version: number, more: Partial<Thing> = {}): Thing => ({
  id,
  version,
  name: null,
  data: null,
  count: 0,
  sum: null,
  done: false,
  at: null,
  words: null,
  ...more,
});

const parkedAt = (position: number, more: Partial<ParkedMessage> = {}): ParkedMessage => ({
  position,
  stream: `order-${position}`,
  eventId: `orders-0-${position}`,
  type: 'Placed',
  cause: 'no such order',
  detail: 'no such order 7',
  attempts: 3,
  parkedAt: '2026-01-01T00:00:00.000Z',
  state: 'parked',
  ...more,
});

const isFenced = (error: unknown): boolean => isEngineError(error, 'consumer-fenced');

/**
 * `open` gives an empty read database as several processes see it: each call of `another` is one more store
 * on it. Consumers `a`, `b` and `c` are there, at 0.
 */
export function readStoreContract(name: string, open: (t: TestContext) => Promise<{ another(): ReadStore }>): void {
  /** Writes through consumer `a`, wherever it stands, and reads back as a process would that begins. */
  async function opened(t: TestContext) {
    const { another } = await open(t);
    const store = another();
    const write = async <T>(work: (rows: Rows) => Promise<T>, by = 'a', through = store): Promise<T> => {
      const from = (await another().checkpoints([by])).get(by)!;
      return through.apply([{ consumer: by, from, to: from + 1 }], work);
    };
    const read = async <R extends Thing | Pair | Note | Stock>(
      table: ReadTable<R>,
      ...keys: string[][]
    ): Promise<R[]> => {
      const fresh = another();
      const position = (await fresh.checkpoints(['c'])).get('c')!;
      return fresh.apply([{ consumer: 'c', from: position, to: position + 1 }], async (rows) => [
        ...(await rows.load(table, keys)).values(),
      ]);
    };
    return { another, store, write, read };
  }

  test(`${name}: what is loaded is what was put, by the same store and by another`, async (t) => {
    const { store, write, read } = await opened(t);
    const full = thing('full', 3, {
      name: 'a "quoted", {braced} \\ ä 😀 NULL\nand on',
      data: JSON.stringify({ text: 'line\nbreak, \u0000, \ud800 and \\N' }),
      count: Number.MAX_SAFE_INTEGER,
      sum: '123456789012345678901234567890',
      done: true,
      at: '2011-01-01T00:00:00.070Z',
      words: ['=A', 'ä', '2.5cm'].sort(),
    });
    const edges = thing('edges', 1, { name: '', at: '0001-01-01T00:00:00.000Z', sum: '-1', data: '{}' });
    const bare = thing('bare', 1, { at: '9999-12-31T23:59:59.999Z' });
    await write(async (rows) => rows.put(things, [full, edges, bare]));
    const keys = [['full'], ['edges'], ['bare'], ['none']];
    const expected = [full, edges, bare];
    const byId = (all: Iterable<Thing>): Thing[] => [...all].sort((a, b) => (a.id < b.id ? -1 : 1));
    assert.deepEqual(byId(await read(things, ...keys)), byId(expected));
    assert.deepEqual(byId((await write((rows) => rows.load(things, keys))).values()), byId(expected));
    assert.ok([undefined, 3].includes(store.committed(things, ['full'])?.version));
  });

  test(`${name}: values come back as the database writes them`, async (t) => {
    const { write, read } = await opened(t);
    await write(async (rows) =>
      rows.put(things, [
        thing('x', 1, { at: '2011-01-01T01:00:00+01:00', sum: '007', words: ['b', 'a', 'b'], name: 'half \ud800' }),
      ]),
    );
    const expected = { at: '2011-01-01T00:00:00.000Z', sum: '7', words: ['a', 'b'], name: 'half \ufffd' };
    for (const row of [
      ...(await read(things, ['x'])),
      ...(await write((rows) => rows.load(things, [['x']]))).values(),
    ]) {
      assert.deepEqual(row, thing('x', 1, expected));
    }
  });

  test(`${name}: a text that no database holds cannot be put`, async (t) => {
    const { write, read } = await opened(t);
    await assert.rejects(write(async (rows) => rows.put(things, [thing('x', 1, { name: 'a\0b' })])));
    assert.deepEqual(await read(things, ['x']), []);
  });

  test(`${name}: a new row has the defaults where it is put without, and only some columns may be put`, async (t) => {
    const { write, read } = await opened(t);
    await write(async (rows) => {
      rows.put(things, [{ id: 'new', version: 1, name: 'n' }], ['version', 'name']);
      rows.put(things, [{ id: 'other', version: 1, done: true }]);
    });
    await write(async (rows) => rows.put(things, [{ id: 'new', version: 2, sum: '5' }], ['version', 'sum']));
    assert.deepEqual(await read(things, ['new']), [thing('new', 2, { name: 'n', sum: '5' })]);
    assert.deepEqual(await read(things, ['other']), [thing('other', 1, { done: true })]);
  });

  test(`${name}: a row of two keys is told from its neighbours`, async (t) => {
    const { write, read } = await opened(t);
    const all = [
      { a: 'x', b: 'y', n: 1 },
      { a: 'x', b: 'z', n: 2 },
      { a: 'y', b: 'x', n: 3 },
    ];
    await write(async (rows) => rows.put(pairs, all));
    assert.deepEqual(await read(pairs, ['x', 'z']), [all[1]]);
    await write(async (rows) => rows.remove(pairs, [['x', 'y']]));
    assert.deepEqual(await read(pairs, ['x', 'y']), []);
    assert.deepEqual(await read(pairs, ['y', 'x']), [all[2]]);
  });

  test(`${name}: what is put over a row that is not older changes nothing`, async (t) => {
    const { write, read } = await opened(t);
    await write(async (rows) => rows.put(things, [thing('x', 2, { name: 'two' })]));
    for (const version of [1, 2]) await write(async (rows) => rows.put(things, [thing('x', version, { name: 'old' })]));
    await write(async (rows) => rows.put(things, [{ id: 'x', count: 7 }], ['count']));
    assert.deepEqual(await read(things, ['x']), [thing('x', 2, { name: 'two', count: 7 })]);
  });

  test(`${name}: a row that is put once stays as it is`, async (t) => {
    const { write, read } = await opened(t);
    await write(async (rows) => rows.put(notes, [{ id: 'x', data: '1' }]));
    await write(async (rows) => rows.put(notes, [{ id: 'x', data: '2' }]));
    assert.deepEqual(await read(notes, ['x']), [{ id: 'x', data: '1' }]);
    await write(async (rows) => rows.remove(notes, [['x'], ['none']]));
    assert.deepEqual(await read(notes, ['x']), []);
  });

  test(`${name}: a transaction sees what it has put, over what was there, and the last word counts`, async (t) => {
    const { write, read } = await opened(t);
    await write(async (rows) => rows.put(things, [thing('there', 1, { name: 'there' }), thing('gone', 1)]));
    await write(async (rows) => {
      rows.put(things, [thing('new', 1)]);
      rows.put(things, [{ id: 'there', version: 2 }], ['version']);
      rows.remove(things, [['gone']]);
      rows.put(things, [{ id: 'there', count: 3 }], ['count']);
      const seen = await rows.load(things, [['new'], ['there'], ['gone']]);
      assert.deepEqual([...seen.values()], [thing('new', 1), thing('there', 2, { name: 'there', count: 3 })]);
      rows.remove(things, [['new']]);
      rows.put(things, [{ id: 'gone', version: 5 }], ['version']);
    });
    assert.deepEqual(await read(things, ['there']), [thing('there', 2, { name: 'there', count: 3 })]);
    assert.deepEqual(await read(things, ['new']), []);
  });

  test(`${name}: checkpoints move with the rows, from where they were, or nothing happens`, async (t) => {
    const { another, store, read } = await opened(t);
    assert.deepEqual([...(await store.checkpoints(['a', 'b'])).values()], [0, 0]);
    const put = (row: Thing) => async (rows: Rows) => rows.put(things, [row]);
    const both = [
      { consumer: 'a', from: 0, to: 7 },
      { consumer: 'b', from: 0, to: 7 },
    ];
    await store.apply(both, put(thing('x', 1)));
    await assert.rejects(store.apply([{ consumer: 'a', from: 0, to: 9 }], put(thing('x', 2))), isFenced);
    await assert.rejects(
      store.apply([{ consumer: 'a', from: 7, to: 9 }, both[1]!], put(thing('x', 3))),
      isFenced,
      'one of several is enough',
    );
    assert.deepEqual(await read(things, ['x']), [thing('x', 1)]);
    assert.deepEqual(Object.fromEntries(await another().checkpoints(['a', 'b', 'new'])), { a: 7, b: 7, new: 0 });
  });

  test(`${name}: a consumer that was never asked for cannot be moved`, async (t) => {
    const { store } = await opened(t);
    await assert.rejects(
      store.apply([{ consumer: 'nobody', from: 0, to: 1 }], async () => {}),
      isFenced,
    );
  });

  test(`${name}: work that throws changes nothing`, async (t) => {
    const { another, write, read } = await opened(t);
    await write(async (rows) => rows.put(things, [thing('x', 1)]));
    await assert.rejects(
      write(async (rows) => {
        rows.put(things, [thing('x', 2)]);
        throw new Error('a bug');
      }),
      /^Error: a bug$/,
    );
    assert.deepEqual(await read(things, ['x']), [thing('x', 1)]);
    assert.equal((await another().checkpoints(['a'])).get('a'), 1);
  });

  test(`${name}: of two workers at once one is fenced, and finds the rows of the other when it begins anew`, async (t) => {
    const { another } = await opened(t);
    const workers = [another(), another()];
    const counts = await Promise.all(
      workers.map(async (store) => {
        let applied = 0;
        let position: number | undefined;
        for (let tries = 0; applied < 20; tries += 1) {
          assert.ok(tries < 1_000);
          position ??= (await store.checkpoints(['a'])).get('a')!;
          try {
            await store.apply([{ consumer: 'a', from: position, to: position + 1 }], async (rows) => {
              const row = (await rows.load(things, [['x']])).get('x') ?? thing('x', 0);
              rows.put(things, [{ ...row, version: row.version + 1, count: row.count + 1 }]);
            });
            applied += 1;
            position += 1;
          } catch (error) {
            assert.ok(isFenced(error), String(error));
            position = undefined;
          }
        }
        return applied;
      }),
    );
    const position = (await workers[0]!.checkpoints(['a'])).get('a')!;
    const [row] = await workers[0]!.apply([{ consumer: 'a', from: position, to: position }], async (rows) => [
      ...(await rows.load(things, [['x']])).values(),
    ]);
    assert.deepEqual([counts, position, row?.version, row?.count], [[20, 20], 40, 40, 40]);
  });

  test(`${name}: a worker that has not seen what another takes back of its parked messages is fenced`, async (t) => {
    for (const isUnderWay of [false, true]) {
      const { another } = await opened(t);
      const [one, other] = [another(), another()];
      const count = async (rows: Rows): Promise<void> => {
        const row = (await rows.load(things, [['x']])).get('x') ?? thing('x', 0);
        rows.put(things, [{ ...row, version: row.version + 1, count: row.count + 1 }]);
      };
      const takeBack = () => other.apply([{ consumer: 'a', from: 2, to: 2, unparks: [1] }], count);
      await one.apply([{ consumer: 'a', from: 0, to: 2, parks: [parkedAt(1)] }], count);
      await other.checkpoints(['a']);
      if (!isUnderWay) await takeBack();
      const onward = [{ consumer: 'a', from: 2, to: 3 }];
      try {
        await one.apply(onward, async (rows) => {
          await count(rows);
          if (isUnderWay) await takeBack();
        });
      } catch (error) {
        assert.ok(isFenced(error), String(error));
        await one.checkpoints(['a']);
        await one.apply(onward, count);
      }
      await other.checkpoints(['a']);
      const rows = await other.apply([{ consumer: 'a', from: 3, to: 3 }], (given) => given.load(things, [['x']]));
      assert.equal(rows.get('x')?.count, 3, isUnderWay ? 'taken back under way' : 'taken back before');
    }
  });

  test(`${name}: two consumers of one store that put their own columns of the same rows lose nothing`, async (t) => {
    const { another } = await opened(t);
    await fc.assert(
      fc.asyncProperty(
        fc.uuid(),
        fc.array(fc.record({ names: fc.boolean(), key: fc.nat(2), forget: fc.nat(9) }), { maxLength: 20 }),
        async (run, steps) => {
          const store = another();
          const positions = await store.checkpoints(['a', 'b']);
          const fill = async (consumer: 'a' | 'b'): Promise<void> => {
            for (const { key, forget } of steps.filter(({ names }) => names === (consumer === 'a'))) {
              const sku = `${run}-${key}`;
              const from = positions.get(consumer)!;
              await store.apply([{ consumer, from, to: from + 1 }], async (rows) => {
                const row = (await rows.load(stocks, [[sku]])).get(sku);
                if (consumer === 'a') rows.put(stocks, [{ sku, name: `${row?.name ?? ''}+` }], ['name']);
                else rows.put(stocks, [{ sku, count: (row?.count ?? 0) + 1 }], ['count']);
              });
              (positions as Map<string, number>).set(consumer, from + 1);
              if (forget === 0) await store.checkpoints([consumer]);
            }
          };
          await Promise.all([fill('a'), fill('b')]);
          const keys = [0, 1, 2].map((key) => [`${run}-${key}`]);
          const times = (key: string, names: boolean): number =>
            steps.filter((step) => `${run}-${step.key}` === key && step.names === names).length;
          for (const [key] of keys as [string][]) {
            const rows = await another()
              .checkpoints(['c'])
              .then((at) =>
                store.apply([{ consumer: 'c', from: at.get('c')!, to: at.get('c')! }], (all) =>
                  all.load(stocks, [[key]]),
                ),
              );
            const expected = { name: '+'.repeat(times(key, true)) || null, count: times(key, false) };
            const row = rows.get(key);
            assert.deepEqual({ name: row?.name ?? null, count: row?.count ?? 0 }, expected);
            const committed = store.committed(stocks, [key]);
            if (committed !== undefined) assert.deepEqual(committed, row);
          }
        },
      ),
      { numRuns: 60 },
    );
  });

  test(`${name}: a row that others change under way is not remembered as it was`, async (t) => {
    const { another, store } = await opened(t);
    const move = (consumer: string, from: number) => [{ consumer, from, to: from + 1 }];
    const named = (label: string) => async (rows: Rows) => rows.put(stocks, [{ sku: 'x', name: label }], ['name']);
    const counted = async (rows: Rows, meanwhile: () => Promise<unknown>): Promise<void> => {
      const count = (await rows.load(stocks, [['x']])).get('x')?.count ?? 0;
      await meanwhile();
      rows.put(stocks, [{ sku: 'x', count: count + 1 }], ['count']);
    };
    await store.apply(move('a', 0), named('one'));
    await store.apply(move('b', 0), (rows) => counted(rows, () => store.apply(move('a', 1), named('two'))));
    assert.ok([undefined, 'two'].includes(store.committed(stocks, ['x'])?.name ?? undefined));
    // Another process takes over `a`, and this one has heard of it before `b` has come to its end.
    await store.checkpoints(['a', 'b']);
    await store.apply(move('b', 1), (rows) =>
      counted(rows, async () => {
        await another().apply(move('a', 2), named('three'));
        await store.checkpoints(['a']);
      }),
    );
    assert.ok([undefined, 'three'].includes(store.committed(stocks, ['x'])?.name ?? undefined));
    const seen = await store.apply(move('b', 2), (rows) => rows.load(stocks, [['x']]));
    assert.deepEqual(seen.get('x'), { sku: 'x', name: 'three', count: 2 });
  });

  test(`${name}: what is parked is written with the checkpoint, and taken back once`, async (t) => {
    const { another, store, read } = await opened(t);
    const put = (id: string) => async (rows: Rows) => rows.put(things, [thing(id, 1)]);
    const parks = [parkedAt(2), parkedAt(3, { state: 'retry' })];
    await store.apply([{ consumer: 'a', from: 0, to: 3, parks }], put('x'));
    assert.deepEqual(await another().parked.waiting('a'), parks);

    const anew = parkedAt(3, { attempts: 4, detail: 'still none' });
    await store.apply([{ consumer: 'a', from: 3, to: 3, parks: [anew, parkedAt(4)], unparks: [2, 3] }], put('y'));
    assert.deepEqual(await another().parked.waiting('a'), [anew, parkedAt(4)]);
    await assert.rejects(store.apply([{ consumer: 'a', from: 3, to: 5, unparks: [2] }], put('z')), isFenced);
    assert.deepEqual(await read(things, ['z']), []);
    await store.parked.discard(
      { consumer: 'a', position: 3 },
      { by: 'o', at: '2026-01-01T00:00:00.000Z', reason: 'r' },
    );
    await assert.rejects(store.apply([{ consumer: 'a', from: 3, to: 5, unparks: [3] }], put('z')), isFenced);
    await assert.rejects(store.apply([{ consumer: 'a', from: 3, to: 5, parks: [parkedAt(4)] }], put('z')));
    assert.deepEqual(await read(things, ['z']), []);
    assert.equal((await another().checkpoints(['a'])).get('a'), 3);
  });
}
