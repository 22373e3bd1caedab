import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { mutants } from './mutants.ts';

test('what a mutant replaces stands once in its file', () => {
  for (const { name, file, from } of mutants) {
    const source = readFileSync(new URL(`../${file}`, import.meta.url), 'utf8');
    assert.equal(source.split(from).length - 1, 1, `${name}: ${file} has "${from}" once`);
  }
});
