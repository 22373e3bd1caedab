/**
 * The settings of the program: environment variables, and the command line before them. One table
 * says of each what it is called, what is right, and what holds when nothing is said.
 */
import { isIP } from 'node:net';
import { join, resolve } from 'node:path';
import { failpoints, parseFailpoint } from './failpoint.ts';
import { logLevels, type LogLevel } from './logger.ts';

/** The parts that own a database, in the order in which they are started. */
export const databaseOwners = ['catalog', 'ordering', 'inventory', 'payments', 'audit', 'queries'] as const;
export type DatabaseOwner = (typeof databaseOwners)[number];

export type Settings = {
  /** 0: any free port. */
  readonly port: number;
  readonly host: string;
  /** Absolute. */
  readonly dataDir: string;
  /** No demo data on the first start. */
  readonly empty: boolean;
  /** Existing databases; a part without one uses the embedded PostgreSQL. */
  readonly databaseUrls: Readonly<Partial<Record<DatabaseOwner, string>>>;
  /** An existing payment provider; without one a sandbox provider is started. */
  readonly providerUrl?: string;
  /** 0: any free port. */
  readonly sandboxPort: number;
  readonly jwt: {
    readonly secret?: string;
    readonly jwksUrl?: string;
    readonly issuer: string;
    readonly audience: string;
  };
  /** 0: no limit. */
  readonly customerRequestsPerMinute: number;
  /** 0: no limit. */
  readonly operatorRequestsPerMinute: number;
  readonly idempotencyRetentionHours: number;
  readonly reservationTtlSeconds: number;
  readonly orderDeadlineSeconds: number;
  /** One attempt at the provider. */
  readonly paymentTimeoutMs: number;
  readonly paymentAttemptsMax: number;
  readonly cacheMb: number;
  /** How long requests may wait for each other before some are turned away; 0: they never are. */
  readonly waitMs: number;
  /** Open at once. */
  readonly liveStreamsMax: number;
  /** Open at once, of one customer; 0: no limit. */
  readonly liveStreamsPerCustomerMax: number;
  readonly liveHeartbeatSeconds: number;
  /** What may wait for one reader. */
  readonly liveWaitingKb: number;
  /** Of one core, for the rolling audit; 0: none. */
  readonly auditSharePercent: number;
  /** Within which it has looked at everything once. */
  readonly auditPeriodMinutes: number;
  /** By check: whether what diverges is repaired without asking, where the check's own policy is another. */
  readonly auditPolicies: Readonly<Record<string, 'automatic' | 'ask'>>;
  /** Where each new divergence is told. */
  readonly auditAlertUrl?: string;
  readonly logLevel: LogLevel;
  /** What is probably not meant, such as a variable that nothing reads; to be shown to the user. */
  readonly warnings: readonly string[];
};

/** What the command line said; each wins over its variable. */
export type SettingsOverrides = {
  readonly port?: string | undefined;
  readonly host?: string | undefined;
  readonly dataDir?: string | undefined;
  readonly empty?: boolean | undefined;
};

/** Where the sandbox provider of this machine keeps its ledger, in the data folder. */
export const sandboxLedgerPath = 'sandbox/ledger.sqlite';

/** Lists every setting that is wrong: its name, its value and what would be right. */
export class SettingsError extends Error {
  override readonly name = 'SettingsError';
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(problems.join('\n'));
    this.problems = problems;
  }
}

export const projectFolder = resolve(import.meta.dirname, '../..');

/** The settings that `env` and `overrides` make. Throws SettingsError. A variable that is empty counts as not set. */
export function loadSettings(env: NodeJS.ProcessEnv, overrides: SettingsOverrides = {}): Settings {
  const problems: string[] = [];
  const names: string[] = [...readElsewhere];

  function read<T, Otherwise>(
    name: string,
    kind: Kind<T>,
    otherwise: Otherwise,
    option?: { readonly flag: string; readonly value: string | undefined },
  ): T | Otherwise {
    names.push(name);
    const given = option?.value ?? (env[name] || undefined);
    if (given === undefined) return otherwise;
    const value = kind.parse(given);
    if (value !== undefined) return value;
    const called = option?.value === undefined ? name : option.flag;
    const shown = kind.show ? kind.show(given) : JSON.stringify(given);
    problems.push(`${called} is ${shown}; right would be ${kind.right}.`);
    return otherwise;
  }

  const databaseUrls: Partial<Record<DatabaseOwner, string>> = {};
  for (const owner of databaseOwners) {
    const url = read(databaseUrlName(owner), databaseUrl, undefined);
    if (url !== undefined) databaseUrls[owner] = url;
  }

  const settings: Omit<Settings, 'warnings'> = {
    port: read('TWOFOLD_PORT', port('8080'), 8_080, { flag: '--port', value: overrides.port }),
    host: read('TWOFOLD_HOST', host, '127.0.0.1', { flag: '--host', value: overrides.host }),
    dataDir: resolve(
      read('TWOFOLD_DATA_DIR', folder, join(projectFolder, '.twofold'), {
        flag: '--data-dir',
        value: overrides.dataDir,
      }),
    ),
    empty: overrides.empty ?? false,
    databaseUrls: Object.freeze(databaseUrls),
    ...optional('providerUrl', read('TWOFOLD_PROVIDER_URL', httpUrl, undefined)),
    sandboxPort: read('TWOFOLD_SANDBOX_PORT', port('8081'), 0),
    jwt: Object.freeze({
      ...optional('secret', read('TWOFOLD_JWT_SECRET', secret, undefined)),
      ...optional('jwksUrl', read('TWOFOLD_JWKS_URL', httpUrl, undefined)),
      issuer: read('TWOFOLD_JWT_ISSUER', name, 'twofold'),
      audience: read('TWOFOLD_JWT_AUDIENCE', name, 'twofold'),
    }),
    customerRequestsPerMinute: read(
      'TWOFOLD_RATE_LIMIT_CUSTOMER',
      whole(0, 1_000_000, '600 requests a minute, or 0 for no limit'),
      600,
    ),
    operatorRequestsPerMinute: read(
      'TWOFOLD_RATE_LIMIT_OPERATOR',
      whole(0, 1_000_000, '6000 requests a minute, or 0 for no limit'),
      0,
    ),
    idempotencyRetentionHours: read('TWOFOLD_IDEMPOTENCY_RETENTION_HOURS', whole(24, 87_600, '168 hours'), 168),
    reservationTtlSeconds: read('TWOFOLD_RESERVATION_TTL_SECONDS', whole(1, 2_592_000, '900 seconds'), 900),
    orderDeadlineSeconds: read('TWOFOLD_ORDER_DEADLINE_SECONDS', whole(1, 2_592_000, '1800 seconds'), 1_800),
    paymentTimeoutMs: read('TWOFOLD_PAYMENT_TIMEOUT_MS', whole(10, 300_000, '3000 milliseconds'), 3_000),
    paymentAttemptsMax: read('TWOFOLD_PAYMENT_ATTEMPTS_MAX', whole(1, 100, '3'), 3),
    cacheMb: read('TWOFOLD_CACHE_MB', whole(1, 65_536, '64 megabytes'), 64),
    waitMs: read('TWOFOLD_WAIT_MS', whole(0, 10_000, '20 milliseconds, or 0 to turn nobody away'), 20),
    liveStreamsMax: read('TWOFOLD_LIVE_STREAMS', whole(0, 1_000_000, '10000 streams'), 10_000),
    liveStreamsPerCustomerMax: read(
      'TWOFOLD_LIVE_STREAMS_CUSTOMER',
      whole(0, 1_000_000, '20 streams, or 0 for no limit'),
      20,
    ),
    // Below the 60 seconds after which a silent connection is closed, here and by most proxies.
    liveHeartbeatSeconds: read('TWOFOLD_LIVE_HEARTBEAT_SECONDS', whole(1, 50, '15 seconds'), 15),
    liveWaitingKb: read('TWOFOLD_LIVE_WAITING_KB', whole(16, 1_048_576, '1024 kilobytes'), 1_024),
    auditSharePercent: read('TWOFOLD_AUDIT_SHARE_PERCENT', whole(0, 100, '5 percent, or 0 for no rolling audit'), 5),
    auditPeriodMinutes: read('TWOFOLD_AUDIT_PERIOD_MINUTES', whole(1, 10_080, '60 minutes'), 60),
    auditPolicies: read('TWOFOLD_AUDIT_POLICY', auditPolicies, {}),
    ...optional('auditAlertUrl', read('TWOFOLD_AUDIT_ALERT_URL', httpUrl, undefined)),
    logLevel: read('TWOFOLD_LOG_LEVEL', logLevel, 'warn'),
  };

  read('TWOFOLD_FAILPOINT', failpointPlan, undefined);
  problems.push(...contradictions(settings));
  if (problems.length > 0) throw new SettingsError(problems);
  return Object.freeze({ ...settings, warnings: Object.freeze(unknownVariables(env, names)) });
}

/** The variable that names the database of `owner`. */
export const databaseUrlName = (owner: DatabaseOwner): string => `DATABASE_URL_${owner.toUpperCase()}`;

/** Whether only programs on this machine can reach a server that listens on `host`. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'));
}

/** A member that is there only when it has a value. */
const optional = <Name extends string, T>(name: Name, value: T | undefined) =>
  (value === undefined ? {} : { [name]: value }) as { readonly [K in Name]?: T };

/** `parse` answers undefined where the text is wrong, `right` says what would be right, `show` hides what is secret. */
type Kind<T> = { parse(text: string): T | undefined; readonly right: string; show?(text: string): string };

function whole(min: number, max: number, example: string): Kind<number> {
  return {
    parse: (text) => (/^\d{1,15}$/.test(text) && Number(text) >= min && Number(text) <= max ? Number(text) : undefined),
    right: `a whole number from ${min} to ${max}, such as ${example}`,
  };
}

const port = (example: string): Kind<number> => whole(0, 65_535, `${example}, or 0 for any free port`);

const host: Kind<string> = {
  parse: (text) => (isIP(text) > 0 || /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/i.test(text) ? text : undefined),
  right: 'an address or a host name of this machine without a port, such as 127.0.0.1 or 0.0.0.0',
};

const failpointPlan: Kind<object> = {
  parse: parseFailpoint,
  right: `a step and the time it is come to, such as log-committed:1; there are ${Object.keys(failpoints).join(', ')}`,
};

const folder: Kind<string> = {
  parse: (text) => (text.trim() === '' || text.includes('\0') ? undefined : text),
  right: 'a folder, such as ./data',
};

const databaseUrl: Kind<string> = {
  parse(text) {
    const url = URL.parse(text) ?? URL.parse(text.replace('@/', '@socket/'));
    const named = url !== null && url.pathname.length > 1;
    return named && /^postgres(ql)?:$/.test(url.protocol) ? text : undefined;
  },
  right: 'the URL of a PostgreSQL database, such as postgresql://user:password@127.0.0.1:5432/catalog',
  show: (text) => JSON.stringify(withoutPassword(text)),
};

const httpUrl: Kind<string> = {
  parse: (text) => (/^https?:$/.test(URL.parse(text)?.protocol ?? '') ? text.replace(/\/+$/, '') : undefined),
  right: 'an address that starts with http:// or https://, such as https://shop.example/keys.json',
  show: (text) => JSON.stringify(withoutPassword(text)),
};

/** Which checks there are, the audit knows. */
const auditPolicies: Kind<Readonly<Record<string, 'automatic' | 'ask'>>> = {
  parse(text) {
    const pairs = text.split(',').map((pair) => /^\s*([a-z][a-z0-9-]*):(automatic|ask)\s*$/.exec(pair));
    if (pairs.some((pair) => pair === null)) return undefined;
    return Object.fromEntries(pairs.map((pair) => [pair![1]!, pair![2] as 'automatic' | 'ask']));
  },
  right: 'checks with automatic or ask, such as cache-is-row:ask,order-rows:automatic',
};

// RFC 7518, 3.2: a key for HS256 has at least as many bits as the hash.
const secretCharactersMin = 32;
const secret: Kind<string> = {
  parse: (text) => (text.length >= secretCharactersMin ? text : undefined),
  right: `at least ${secretCharactersMin} random characters, such as the output of \`openssl rand -base64 32\``,
  show: (text) => `only ${text.length} characters long`,
};

const name: Kind<string> = {
  parse: (text) => (text.length <= 200 ? text : undefined),
  right: 'at most 200 characters',
};

const logLevel: Kind<LogLevel> = {
  parse: (text) => logLevels.find((level) => level === text),
  right: `one of ${logLevels.join(', ')}`,
};

const withoutPassword = (url: string): string => url.replace(/:(?!\/\/).*@/, ':…@').replace(/(password=)[^&]*/i, '$1…');

function contradictions(settings: Omit<Settings, 'warnings'>): string[] {
  const problems: string[] = [];
  const locked = settings.jwt.secret !== undefined || settings.jwt.jwksUrl !== undefined;
  if (!locked && !isLoopback(settings.host)) {
    problems.push(
      `TWOFOLD_HOST (--host) is "${settings.host}", which other machines can reach, and no key is configured, so that everyone ` +
        'there would be operator; right would be a TWOFOLD_JWT_SECRET or TWOFOLD_JWKS_URL beside it, or TWOFOLD_HOST=127.0.0.1.',
    );
  }
  const ownerByDatabase = new Map<string, DatabaseOwner>();
  for (const owner of databaseOwners) {
    const url = settings.databaseUrls[owner];
    if (url === undefined) continue;
    const location = URL.parse(url) ?? new URL(url.replace('@/', '@socket/'));
    const database = `${location.searchParams.get('host') ?? location.host}${location.pathname}`;
    const other = ownerByDatabase.get(database);
    if (other !== undefined) {
      problems.push(
        `${databaseUrlName(other)} and ${databaseUrlName(owner)} are the same database, "${withoutPassword(url)}"; ` +
          'right would be a database of its own for each.',
      );
    }
    ownerByDatabase.set(database, owner);
  }
  return problems;
}

/** By the import, and by the tests. */
const readElsewhere = ['TWOFOLD_TOKEN', 'TWOFOLD_TEST_POSTGRES'];

function unknownVariables(env: NodeJS.ProcessEnv, known: readonly string[]): string[] {
  return Object.keys(env)
    .filter((variable) => /^(TWOFOLD|DATABASE_URL)_/.test(variable) && !known.includes(variable))
    .sort()
    .map(
      (variable) => `${variable} is not a setting and has no effect; the nearest name is ${nearest(variable, known)}.`,
    );
}

function nearest(variable: string, names: readonly string[]): string {
  const byDistance = names.map((known) => ({ known, edits: editDistance(variable, known) }));
  return byDistance.reduce((best, next) => (next.edits < best.edits ? next : best)).known;
}

/** How many letters have to be added, removed or replaced to make `b` of `a`. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const replaced = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, replaced));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
