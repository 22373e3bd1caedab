/** Switches off the safeguard that TWOFOLD_MUTANT names, in this process only: its source is changed while it is loaded. */
import { registerHooks } from 'node:module';
import { mutants } from './mutants.ts';

const name = process.env['TWOFOLD_MUTANT'];
const mutant = mutants.find((one) => one.name === name);
if (mutant === undefined) throw new Error(`there is no mutant ${name}`);
const file = new URL(`../${mutant.file}`, import.meta.url).href;

registerHooks({
  load(url, context, nextLoad) {
    const loaded = nextLoad(url, context);
    if (url !== file) return loaded;
    const { source: given } = loaded;
    const source = typeof given === 'string' ? given : new TextDecoder().decode(given);
    const pieces = source.split(mutant.from);
    if (pieces.length !== 2) {
      throw new Error(`${mutant.name}: ${mutant.file} has its text ${pieces.length - 1} times, not once`);
    }
    return { ...loaded, source: pieces.join(mutant.to) };
  },
});
