/** The `twofold` command: reads what is asked for, starts the parts in order, and stops them in reverse. */
import { Command, CommanderError } from 'commander';
import { Listr, PRESET_TIMER, type ListrTask } from 'listr2';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { helpersGiveWay } from '#platform/background.ts';
import { startEmbeddedPostgres, type EmbeddedPostgres } from '#platform/embedded-postgres.ts';
import { House } from '#platform/house.ts';
import { createLogger, type Logger } from '#platform/logger.ts';
import { preflight } from '#platform/preflight.ts';
import {
  databaseOwners,
  databaseUrlName,
  loadSettings,
  projectFolder,
  sandboxLedgerPath,
  SettingsError,
  type DatabaseOwner,
  type Settings,
  type SettingsOverrides,
} from '#platform/settings.ts';
import { reportReady, startSupervisedProcess } from '#platform/supervised-process.ts';
import { banner, whoMayCall } from './banner.ts';
import { openDemoData, type DemoData } from './first-start.ts';
import type { RunningSystem } from './system.ts';
import { systemPorts } from '#platform/ports.ts';

/** Of the 5 s within which Ctrl-C has stopped everything. */
const systemStopTimeoutMs = 3_200;
const sandboxStopTimeoutMs = 600;

const serveable = [...databaseOwners, 'sandbox'] as const;
type Serveable = (typeof serveable)[number];

/** Asked for in a way that cannot work; the message is for the user, as it is. */
class WrongUse extends Error {
  override readonly name = 'WrongUse';
}

async function main(argv: string[]): Promise<void> {
  // V8 lets garbage grow to several times what lives, as if the machine were its own. A third of what it did at 30 was
  // collecting, on the processor that PostgreSQL needs.
  setFlagsFromString('--heap-growing-percent=100');
  const program = new Command('twofold')
    .description('An order-management back end built on CQRS.')
    .version((JSON.parse(readFileSync(join(projectFolder, 'package.json'), 'utf8')) as { version: string }).version)
    .showHelpAfterError('(--help shows what is possible)')
    .addHelpText(
      'after',
      `
Examples:
  twofold up                             everything, on this machine, at http://127.0.0.1:8080
  twofold up --port 0 --empty            at any free port, without demo data
  twofold serve ordering queries         two of the services, on databases that exist
  twofold token --role operator --sub me a token to call with, once a key is configured
  twofold import orders.csv.gz           real invoices as orders
  twofold rebuild orders                 a read model of a running system, anew from its events
  twofold audit                          does anything diverge in a running system?
  twofold backup backups/monday          everything there is, while it runs
  twofold restore backups/monday         and back, into an empty data folder

Settings are environment variables, or lines of a file .env in this folder; see docs/settings.md.`,
    );
  serverOptions(program.command('up'))
    .description('start everything on this machine, its PostgreSQL included')
    .option(
      '--data-dir <folder>',
      'where everything is kept (TWOFOLD_DATA_DIR; default: .twofold in the project folder)',
    )
    .option('--empty', 'no demo products, customers and stock on the first start')
    .addHelpText(
      'after',
      `
Examples:
  twofold up
  twofold up --port 9000 --data-dir ~/shop
  TWOFOLD_JWT_SECRET=$(openssl rand -base64 32) twofold up --host 0.0.0.0
  DATABASE_URL_ORDERING=postgresql://user:password@db/ordering twofold up

Ctrl-C stops everything; the next start finds all data.`,
    )
    .action(up);
  serverOptions(program.command('serve'))
    .description('start some of the services, on databases that exist')
    .argument('<service...>', `any of ${serveable.join(', ')}`)
    .option(
      '--data-dir <folder>',
      'where the sandbox keeps its ledger (TWOFOLD_DATA_DIR; default: .twofold in the project folder)',
    )
    .addHelpText(
      'after',
      `
Each service needs the URL of its own database, and of those whose events it reads:
  DATABASE_URL_CATALOG, DATABASE_URL_ORDERING, DATABASE_URL_INVENTORY, DATABASE_URL_PAYMENTS, DATABASE_URL_AUDIT,
  DATABASE_URL_QUERIES; audit needs all of them.

Examples:
  twofold serve catalog ordering inventory payments
  twofold serve queries --port 8081
  TWOFOLD_SANDBOX_PORT=9000 twofold serve sandbox`,
    )
    .action(serve);
  program
    .command('token')
    .description('print a token to call with, signed with TWOFOLD_JWT_SECRET')
    .requiredOption('--role <role>', 'operator (may do everything) or customer (its own orders only)')
    .requiredOption('--sub <id>', 'who calls; of a customer: the customer id')
    .option('--ttl <seconds>', 'how long the token is valid', '3600')
    .addHelpText(
      'after',
      `
Examples:
  twofold token --role operator --sub me
  curl -H "Authorization: Bearer $(twofold token --role customer --sub ada --ttl 60)" http://127.0.0.1:8080/v1/customers/ada`,
    )
    .action(token);
  // Only where it may be needed: the others start faster without it.
  if (!['up', 'serve', 'token'].includes(argv[2] ?? '')) {
    program.addCommand((await import('./import/command.ts')).importCommand());
    program.addCommand((await import('./operator/rebuild-command.ts')).rebuildCommand());
    for (const one of (await import('./operator/audit-command.ts')).auditCommands()) program.addCommand(one);
    const { backupCommands } = await import('./backup/command.ts');
    const { movedByOthers } = await import('#services/inventory/service.ts');
    const { auditRestored } = await import('./restored-audit.ts');
    const parts = { version: program.version()!, movedByOthers, audit: auditRestored };
    for (const command of backupCommands(parts)) program.addCommand(command);
  }
  for (const command of [program, ...program.commands]) command.exitOverride();
  await program.parseAsync(argv);
}

const serverOptions = (command: Command): Command =>
  command
    .option('--port <number>', 'where to listen; 0: any free port (TWOFOLD_PORT; default: 8080)')
    .option('--host <address>', 'where to listen (TWOFOLD_HOST; default: 127.0.0.1)');

/** Whatever went wrong, one clear message and a code that is not 0. */
function fail(error: unknown): void {
  process.exitCode = 1;
  if (error instanceof CommanderError) {
    // Commander has said it already.
    process.exitCode = error.exitCode;
  } else if (error instanceof SettingsError) {
    console.error(`These settings are not right:\n${error.problems.map((problem) => `  ${problem}`).join('\n')}`);
  } else {
    console.error(`\n${messageOf(error)}`);
  }
}

/** What a user can act on has a name of its own and needs no stack; a bug needs it. */
function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const isBug = [
    'TypeError',
    'RangeError',
    'ReferenceError',
    'AssertionError',
    'AssertionError [ERR_ASSERTION]',
  ].includes(error.name);
  return (isBug ? error.stack : error.message || (error as NodeJS.ErrnoException).code) ?? error.name;
}

async function up(overrides: SettingsOverrides): Promise<void> {
  const startedAt = systemPorts.elapsed();
  const settings = loadSettings(process.env, overrides);
  const logger = createLogger(settings.logLevel);
  const house = new House(logger, fail);
  helpersGiveWay();
  const systemModule = import('./system.ts');
  const warnings = [...settings.warnings];
  const ownDatabases = databaseOwners.filter((owner) => settings.databaseUrls[owner] === undefined);
  let postgres: EmbeddedPostgres | undefined;
  let providerUrl = settings.providerUrl;
  let system: RunningSystem | undefined;
  let demo: DemoData | undefined;
  const databaseUrl = (owner: DatabaseOwner): string =>
    settings.databaseUrls[owner] ?? (postgres as EmbeddedPostgres).url(owner);

  await house.run(async (signal) => {
    await progress(signal, [
      {
        title: 'Port, disk and memory',
        task: async () => void warnings.push(...(await preflight({ ...settings, databaseUrls: urlsByName(settings) }))),
      },
      {
        title: 'PostgreSQL',
        enabled: () => ownDatabases.length > 0,
        task: async () => {
          postgres = await startEmbeddedPostgres({
            dataDir: settings.dataDir,
            databases: ownDatabases,
            logger,
            signal,
            givesWay: true,
            onUnexpectedExit: (error) => house.collapse(error),
          });
          house.add('PostgreSQL', postgres);
        },
      },
      {
        title: 'Payment provider (sandbox)',
        enabled: () => providerUrl === undefined,
        task: async () => void (providerUrl = await startSandbox(settings, logger, house)),
      },
      {
        title: 'Catalog, ordering, inventory, payments, audit and queries',
        task: async () => {
          demo = await openDemoData(settings, databaseUrl('catalog'));
          const { startSystem } = await systemModule;
          system = await startSystem({
            services: databaseOwners,
            databaseUrl,
            providerUrl: providerUrl as string,
            settings,
            logger,
          });
          house.add('the services', system, systemStopTimeoutMs);
        },
      },
      {
        title: 'Demo products, customers and stock',
        enabled: () => demo?.isWanted !== false,
        task: () => (demo as DemoData).seed(system as RunningSystem),
      },
    ]);
    const seconds = ((systemPorts.elapsed() - startedAt) / 1_000).toFixed(1);
    console.log(
      banner({
        settings,
        postgres,
        address: (system as RunningSystem).address,
        seconds,
        warnings,
        demo: demo as DemoData,
      }),
    );
  });
}

async function serve(services: string[], overrides: SettingsOverrides): Promise<void> {
  const wrong = services.filter((service) => !serveable.includes(service as Serveable));
  if (wrong.length > 0)
    throw new WrongUse(`There is no service ${wrong.join(', ')}; there are ${serveable.join(', ')}.`);
  const settings = loadSettings(process.env, overrides);
  const logger = createLogger(settings.logLevel);
  const house = new House(logger, fail);
  helpersGiveWay();
  for (const warning of settings.warnings) logger.warn(warning);
  const owners = databaseOwners.filter((owner) => services.includes(owner));

  await house.run(async () => {
    let providerUrl = settings.providerUrl;
    if (services.includes('sandbox')) {
      const { startSandboxProvider } = await import('#services/payments/sandbox-provider.ts');
      const sandbox = await startSandboxProvider({
        port: settings.sandboxPort,
        host: '127.0.0.1',
        ledgerFile: ledgerFile(settings),
      });
      house.add('the sandbox', sandbox, sandboxStopTimeoutMs);
      providerUrl ??= sandbox.url;
      console.log(`The sandbox payment provider answers at ${sandbox.url}`);
      if (owners.length === 0) return reportReady(sandbox.url);
    }
    const { startSystem } = await import('./system.ts');
    const { databasesOf } = await import('./service-map.ts');
    const needed = databasesOf(owners);
    const missing = needed.filter((owner) => settings.databaseUrls[owner] === undefined);
    if (missing.length > 0) {
      throw new WrongUse(
        `To serve ${owners.join(', ')}, also set ${missing.map(databaseUrlName).join(', ')}; right would be the URL of a PostgreSQL ` +
          'database each, such as postgresql://user:password@127.0.0.1:5432/catalog. `twofold up` brings a PostgreSQL of its own.',
      );
    }
    const warnings = await preflight({ ...settings, databaseUrls: urlsByName(settings, needed) });
    for (const warning of warnings) logger.warn(warning);
    if (owners.includes('payments')) providerUrl ??= await startSandbox(settings, logger, house);
    const system = await startSystem({
      services: owners,
      databaseUrl: (owner) => settings.databaseUrls[owner] as string,
      // Only payments calls it.
      providerUrl: providerUrl ?? '',
      settings,
      logger,
    });
    house.add('the services', system, systemStopTimeoutMs);
    console.log(`Twofold serves ${owners.join(', ')} at ${system.address}`);
    console.log(`Callers: ${whoMayCall(settings)}`);
    reportReady(system.address);
  });
}

async function token({ role, sub, ttl }: { role: string; sub: string; ttl: string }): Promise<void> {
  const { jwt } = loadSettings(process.env);
  if (jwt.secret === undefined) {
    throw new WrongUse(
      'TWOFOLD_JWT_SECRET is not set; right would be the value that the server runs with. Without one it needs no token.',
    );
  }
  if (!['operator', 'customer'].includes(role))
    throw new WrongUse(`--role is "${role}"; right would be operator or customer.`);
  if (role === 'customer' && !/^[A-Za-z0-9_-]{1,64}$/.test(sub)) {
    throw new WrongUse(`--sub is "${sub}"; right would be a customer id: 1 to 64 letters, digits, _ and -.`);
  }
  if (!/^[1-9]\d{0,8}$/.test(ttl))
    throw new WrongUse(`--ttl is "${ttl}"; right would be a whole number of seconds, such as 3600.`);
  const { SignJWT } = await import('jose');
  const signed = await new SignJWT({ role })
    .setProtectedHeader({ alg: 'HS256' })
    .setSubject(sub)
    .setIssuer(jwt.issuer)
    .setAudience(jwt.audience)
    .setIssuedAt()
    .setExpirationTime(`${ttl}s`)
    .sign(new TextEncoder().encode(jwt.secret));
  console.log(signed);
}

const ledgerFile = (settings: Settings): string => join(settings.dataDir, sandboxLedgerPath);

/** A process of its own, as a provider is; killed, it comes back at the same address. */
async function startSandbox(settings: Settings, logger: Logger, house: House): Promise<string> {
  const sandbox = await startSupervisedProcess({
    name: 'The sandbox payment provider',
    script: join(import.meta.dirname, 'main.ts'),
    args: ['serve', 'sandbox'],
    env: (address) => ({
      TWOFOLD_SANDBOX_PORT: address === undefined ? String(settings.sandboxPort) : new URL(address).port,
      TWOFOLD_DATA_DIR: settings.dataDir,
    }),
    logger,
    onGivenUp: (error) => house.collapse(error),
  });
  house.add('the sandbox', sandbox, sandboxStopTimeoutMs);
  return sandbox.address;
}

function urlsByName(settings: Settings, owners: readonly DatabaseOwner[] = databaseOwners): Record<string, string> {
  return Object.fromEntries(
    owners.flatMap((owner) => {
      const url = settings.databaseUrls[owner];
      return url === undefined ? [] : [[databaseUrlName(owner), url]];
    }),
  );
}

/** Runs the steps one after the other and shows how far they have come: alive on a terminal, as lines elsewhere. */
async function progress(signal: AbortSignal, steps: ListrTask[]): Promise<void> {
  // A terminal that does not know its width (0 columns) would get one letter a line.
  const isAlive = process.stdout.isTTY && process.stdout.columns >= 40;
  const tasks = steps.map((step): ListrTask => ({
    ...step,
    async task(context, task) {
      signal.throwIfAborted();
      await step.task(context, task);
      if (!isAlive) console.log(`✔ ${String(step.title)}`);
    },
  }));
  await new Listr(tasks, {
    concurrent: false,
    registerSignalListeners: false,
    renderer: isAlive ? 'default' : 'silent',
    rendererOptions: { showErrorMessage: false, collapseErrors: false, timer: PRESET_TIMER },
  }).run();
}

if (existsSync('.env')) process.loadEnvFile('.env');
await main(process.argv).catch(fail);
