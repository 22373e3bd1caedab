/** What was asked for on the command line, checked. */
import { existsSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import type { ProfileName } from './profiles.ts';
import { profiles } from './profiles.ts';
import { mixText } from './report-text.ts';

export type Wish = {
  readonly profile: ProfileName;
  readonly requestsPerSecond: number;
  readonly orderShare: number;
  readonly seconds: number;
  readonly warmUpSeconds: number;
  readonly connections: number;
  readonly generators: number;
  readonly thinkMs: number;
  readonly hotShare: number;
  readonly lines: number;
  readonly products: number;
  readonly seed: number;
  readonly findLimit: boolean;
  readonly audit: boolean;
  readonly smoke: boolean;
  readonly url?: string;
  readonly operatorToken?: string;
  readonly secret?: string;
  readonly issuer: string;
  readonly audience: string;
  readonly tokensFile?: string;
  readonly json?: string;
  readonly html?: string;
};

/** Wrong flags: the message says what would be right. */
export class WrongFlags extends Error {
  override readonly name = 'WrongFlags';
}

const options = {
  profile: { type: 'string', default: 'B' },
  'rate-factor': { type: 'string', default: '1' },
  seconds: { type: 'string', default: '60' },
  'warm-up': { type: 'string', default: '10' },
  connections: { type: 'string', default: '10000' },
  generators: { type: 'string', default: '1' },
  'think-ms': { type: 'string', default: '0' },
  'hot-share': { type: 'string', default: '0' },
  lines: { type: 'string', default: '2' },
  products: { type: 'string', default: '1000' },
  seed: { type: 'string' },
  'find-limit': { type: 'boolean', default: false },
  'no-audit': { type: 'boolean', default: false },
  smoke: { type: 'boolean', default: false },
  url: { type: 'string' },
  token: { type: 'string' },
  secret: { type: 'string' },
  issuer: { type: 'string', default: 'twofold' },
  audience: { type: 'string', default: 'twofold' },
  tokens: { type: 'string' },
  json: { type: 'string' },
  html: { type: 'string' },
  help: { type: 'boolean', short: 'h', default: false },
} as const;

/** Null: help was asked for. Throws WrongFlags. */
export function readFlags(args: readonly string[]): Wish | null {
  const flags = parsed(args);
  if (flags.help) return null;
  const { profile } = flags;
  if (!isProfile(profile))
    throw new WrongFlags(`--profile is "${profile}"; there are ${Object.keys(profiles).join(', ')}.`);
  const number = (name: keyof typeof flags, min: number, max: number, isWhole = false): number => {
    const text = String(flags[name]);
    const value = /^\d+(\.\d+)?$/.test(text) ? Number(text) : NaN;
    if (value >= min && value <= max && (!isWhole || Number.isInteger(value))) return value;
    throw new WrongFlags(
      `--${name} is "${text}"; right would be a ${isWhole ? 'whole ' : ''}number from ${min} to ${max}.`,
    );
  };
  const { requestsPerSecond, ordersPerSecond } = profiles[profile];
  const wish: Wish = {
    profile,
    requestsPerSecond: requestsPerSecond * number('rate-factor', 0.001, 100),
    orderShare: ordersPerSecond / requestsPerSecond,
    seconds: number('seconds', 1, 86_400),
    warmUpSeconds: number('warm-up', 0, 3_600),
    connections: number('connections', 2, 100_000, true),
    generators: number('generators', 1, 64, true),
    thinkMs: number('think-ms', 0, 3_600_000),
    hotShare: number('hot-share', 0, 1),
    lines: number('lines', 1, 1_000, true),
    products: number('products', 1, 100_000, true),
    seed: flags.seed === undefined ? Date.now() % 1_000_000_000 : number('seed', 0, 2 ** 31, true),
    findLimit: flags['find-limit'],
    audit: !flags['no-audit'],
    smoke: flags.smoke,
    issuer: flags.issuer,
    audience: flags.audience,
    ...(flags.url === undefined ? {} : { url: address(flags.url) }),
    ...(flags.token === undefined ? {} : { operatorToken: flags.token }),
    ...(flags.secret === undefined ? {} : { secret: flags.secret }),
    ...(flags.tokens === undefined ? {} : { tokensFile: flags.tokens }),
    ...(flags.json === undefined ? {} : { json: flags.json }),
    ...(flags.html === undefined ? {} : { html: flags.html }),
  };
  if (wish.connections < 2 * wish.generators)
    throw new WrongFlags(
      `--connections ${wish.connections} are too few for ${wish.generators} generators; each has two at least.`,
    );
  if (wish.url === undefined && (wish.operatorToken ?? wish.secret ?? wish.tokensFile) !== undefined)
    throw new WrongFlags('--token, --secret and --tokens are of a system that runs already: give its --url, too.');
  if (wish.tokensFile !== undefined && wish.operatorToken === undefined && wish.secret === undefined)
    throw new WrongFlags('--tokens are those of customers; --token has to be that of an operator beside them.');
  for (const file of [wish.json, wish.html])
    if (file !== undefined && !existsSync(dirname(resolve(file))))
      throw new WrongFlags(`there is no folder ${dirname(resolve(file))} for ${file}.`);
  const needed = (wish.requestsPerSecond * wish.thinkMs) / 1_000;
  if (needed > wish.connections * 0.9)
    throw new WrongFlags(
      `--think-ms ${wish.thinkMs} at ${Math.round(wish.requestsPerSecond)} requests/s takes more than ${Math.ceil(needed / 0.9)} connections; there are ${wish.connections}.`,
    );
  return wish;
}

function parsed(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options }).values;
  } catch (error) {
    throw new WrongFlags((error as Error).message, { cause: error });
  }
}

const isProfile = (name: string): name is ProfileName => Object.hasOwn(profiles, name);

function address(text: string): string {
  const url = URL.parse(text);
  if (url?.protocol === 'http:') return url.origin;
  throw new WrongFlags(`--url is "${text}"; right would be an address such as http://127.0.0.1:8080, without TLS.`);
}

export const help = (): string => `Usage: npm run load [-- OPTIONS]

Sends requests by schedule, whether or not they are answered, checks every answer, and has the system audit
itself at the end. Exits with 0 when every limit was kept, 1 when not, 2 when it could not be run.

${Object.entries(profiles)
  .map(
    ([name, { says, requestsPerSecond, ordersPerSecond }]) =>
      `  ${name}  ${says}: ${requestsPerSecond} requests/s, ${ordersPerSecond} of them orders`,
  )
  .join('\n')}

  --profile P       O, B, A or C (default B)
  --rate-factor F   so many times its rate (default 1)
  --find-limit      look for the highest rate that keeps every limit: doubled or halved, then bisected
  --seconds S       measured time, of each rate that is tried (default 60)
  --warm-up S       time before it that does not count; in its first half the rate grows (default 10)
  --connections N   keep-alive connections, each of a user (default 10000)
  --think-ms N      how long a user rests after an answer, at least (default 0)
  --generators N    processes that send (default 1)
  --lines N         lines of an order, on average (default 2)
  --hot-share F     share of orders, and of looks at products, that are for one product (default 0)
  --products N      products that are ordered (default 1000)
  --seed N          of all chance (default: another one each time)
  --url ADDRESS     a system that runs already (default: one of its own, in a temporary folder)
  --token JWT       of an operator there
  --secret KEY      its TWOFOLD_JWT_SECRET, to make tokens with for everyone; --issuer and --audience as there
  --tokens FILE     customers' tokens instead: lines of a customer's id, a blank and a token
  --no-audit        without the audit at the end
  --smoke           without judging the times
  --json FILE       everything that was measured
  --html FILE       a report with plots, in one file

Of a hundred reads:
${mixText()}

Examples:
  npm run load -- --profile B --rate-factor 0.1 --seconds 20
  npm run load -- --profile A --find-limit --seconds 20 --html report.html
  npm run load -- --profile O --url http://127.0.0.1:8080 --secret "$TWOFOLD_JWT_SECRET" --connections 500
  npm run load -- --profile O --rate-factor 6 --hot-share 1`;
