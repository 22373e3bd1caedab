/**
 * `npm run histories`: records what concurrent clients see of servers that are killed, and checks that it
 * can be put into one order per stream. See docs/histories.md.
 */
import { parseArgs } from 'node:util';
import { openEnding } from '../tests/running-program.ts';
import { checkHistory } from './history-check.ts';
import { type HistoryLine, readHistory, writeHistory } from './history.ts';
import { recordHistory } from './history-run.ts';

const { values: flags } = parseArgs({
  options: {
    seconds: { type: 'string', default: '30' },
    kills: { type: 'string', default: '6' },
    clients: { type: 'string', default: '32' },
    out: { type: 'string' },
    check: { type: 'string' },
    help: { type: 'boolean', short: 'h', default: false },
  },
});
if (flags.help) {
  console.log(`Usage: npm run histories [-- OPTIONS]

  --seconds S    how long clients ask (default 30)
  --kills N      how often a server is killed meanwhile; every third time all of them (default 6)
  --clients N    clients at once (default 32)
  --out FILE     keep the history there, one JSON object a line
  --check FILE   record nothing: check a history that was kept

Examples:
  npm run histories
  npm run histories -- --seconds 120 --kills 30 --out history.jsonl
  npm run histories -- --check history.jsonl`);
  process.exit(0);
}

const [seconds, kills, clients] = (['seconds', 'kills', 'clients'] as const).map((name) => {
  if (/^\d{1,5}$/.test(flags[name]) && (name === 'kills' || Number(flags[name]) > 0)) return Number(flags[name]);
  console.error(`--${name} is "${flags[name]}"; right would be a whole number.`);
  process.exit(2);
}) as [number, number, number];

const lines = flags.check === undefined ? await record() : read(flags.check);
if (flags.out !== undefined) writeHistory(flags.out, lines);
const since = performance.now();
const { streams, operations, found, steps } = checkHistory(lines);
const count = (type: HistoryLine['type']): number => lines.filter((line) => line.type === type).length;
console.log(
  `${operations} operations on ${streams} streams: ${count('ok')} ok, ${count('fail')} refused, ${count('info')} unknown; ` +
    `${count('kill')} kills; ${count('event')} events in the logs`,
);
for (const one of found) console.error(one);
const took = ((performance.now() - since) / 1_000).toFixed(1);
console.log(`${found.length === 0 ? 'linearisable' : 'NOT linearisable'}, checked in ${took} s, ${steps} steps`);
process.exit(found.length === 0 ? 0 : 1);

function read(file: string): HistoryLine[] {
  try {
    return readHistory(file);
  } catch (error) {
    console.error(`${file} cannot be read: ${(error as Error).message}`);
    process.exit(2);
  }
}

async function record(): Promise<HistoryLine[]> {
  const ending = openEnding();
  const onSignal = (): void => void ending.end().finally(() => process.exit(130));
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, onSignal);
  try {
    return await recordHistory(ending, {
      seconds,
      kills,
      clients,
      onProgress: (line) => console.log(line),
    });
  } finally {
    await ending.end();
  }
}
