/** The limits of queues that docs/overload.md tells of are those of the code. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { test } from 'node:test';

const project = resolve(import.meta.dirname, '..');
const row = /^\| [^|]+ \| ([\d,]+) \| `(\w+)` \| `([^`]+)` \|$/gm;

test('every limit of a queue is in the code what it is in the documentation', () => {
  const rows = [...readFileSync(resolve(project, 'docs/overload.md'), 'utf8').matchAll(row)];
  assert.ok(rows.length > 20, `${rows.length} rows`);
  for (const [, limit = '', name = '', file = ''] of rows)
    assert.equal(
      limitIn(readFileSync(resolve(project, file), 'utf8'), name),
      Number(limit.replaceAll(',', '')),
      `${name} in ${file}`,
    );
});

/** What a constant, or an option without a value, is there: a product of numbers. */
function limitIn(code: string, name: string): number {
  const found = new RegExp(String.raw`\b${name} (?:=|\?\?) ([\d_]+(?: \* [\d_]+)*)`).exec(code)?.[1];
  assert.ok(found !== undefined, `there is no ${name}`);
  return found.split(' * ').reduce((product, factor) => product * Number(factor.replaceAll('_', '')), 1);
}
