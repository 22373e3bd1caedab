/**
 * The house rules, each shown on a snippet that breaks it and one that keeps it, then enforced on the
 * project. A finding names the file, the line and the fix.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  exportsAreNamed,
  exportsAreUsed,
  filesStayReadable,
  namesSayWhatIsInside,
  noTestIsLeftOut,
  nothingIsPutOff,
  rulesNameEveryCase,
  sqlIsLowerCase,
  sqlTakesParameters,
  timeComesFromPorts,
} from './tidy/code-rules.ts';
import { outsidersAskFromOutside, pathsTellTheRoom, roomsImportDownwards, rulesArePure } from './tidy/import-rules.ts';
import { promisesAreTested } from './tidy/promise-rules.ts';
import {
  codesAreRegistered,
  dependenciesAreUsed,
  failpointsAreReached,
  lockfileNamesNoRegistry,
  pathsHoldEverywhere,
} from './tidy/registry-rules.ts';
import { type Finding, type House, houseOf, importsOf, readHouse, render } from './tidy/sources.ts';

const project = readHouse(`${import.meta.dirname}/..`);

type Texts = Readonly<Record<string, string>>;

/** `breaks` are snippets that are each found guilty, in the line given; `keeps` are innocent together. */
function rule(
  title: string,
  find: (house: House) => Finding[],
  breaks: readonly (readonly [at: string, texts: Texts])[],
  keeps: Texts,
): void {
  test(title, async (t) => {
    for (const [at, texts] of breaks) {
      await t.test(`${at} is found`, () => {
        assert.deepEqual(
          find(houseOf(texts))
            .map(render)
            .map((line) => line.split(' ')[0]),
          [at],
        );
      });
    }
    await t.test('what keeps it is left alone', () => {
      assert.deepEqual(find(houseOf(keeps)).map(render), []);
    });
    await t.test('the project keeps it', () => {
      const findings = find(project).map(render);
      assert.equal(findings.length, 0, `\n${findings.join('\n')}\n`);
    });
  });
}

rule(
  'rooms import only from the rooms below them',
  roomsImportDownwards,
  [
    ['src/platform/http.ts:1', { 'src/platform/http.ts': "import type { Slot } from '#cqrs/slots.ts';" }],
    ['src/cqrs/feed.ts:2', { 'src/cqrs/feed.ts': "// The feed.\nimport { a } from '#contracts/ordering.ts';" }],
    ['src/cqrs/feed.ts:1', { 'src/cqrs/feed.ts': "const { a } = await import('#gateway/routes.ts');" }],
    ['src/contracts/routes.ts:1', { 'src/contracts/routes.ts': "import { refuse } from '#cqrs/decider.ts';" }],
    [
      'src/services/ordering/order.ts:1',
      { 'src/services/ordering/order.ts': "import { a } from '#services/inventory/service.ts';" },
    ],
    [
      'src/services/ordering/http.ts:1',
      { 'src/services/ordering/http.ts': "export { a } from '../inventory/stock.ts';" },
    ],
    ['src/gateway/routes.ts:1', { 'src/gateway/routes.ts': "import { a } from '#services/ordering/order.ts';" }],
    ['src/import/orders.ts:1', { 'src/import/orders.ts': "import { a } from '#cqrs/feed.ts';" }],
    ['src/platform/http.ts:1', { 'src/platform/http.ts': "import { start } from '../system.ts';" }],
    ['src/main.ts:1', { 'src/main.ts': "import { testDatabase } from '../tests/database.ts';" }],
    ['src/main.ts:1', { 'src/main.ts': "import { a } from '#cqrs/feed.test.ts';" }],
    ['src/shed/rake.ts:1', { 'src/shed/rake.ts': "import { a } from '#cqrs/feed.ts';" }],
  ],
  {
    'src/main.ts': "import { a } from '#services/ordering/order.ts';\nimport './system.ts';",
    'src/cqrs/feed.ts':
      "import { a } from '#platform/postgres.ts';\nimport pg from 'pg';\n// import { b } from '#gateway/x.ts';",
    'src/contracts/routes.ts': "import type { A } from '#cqrs/decider.ts';\nimport { type B } from '#cqrs/decider.ts';",
    'src/gateway/server.ts': "import { a } from '#services/ordering/service.ts';",
    'src/services/queries/service.ts':
      "import { a } from './order-details.ts';\nimport { b } from '#cqrs/projection.ts';",
    'src/services/queries/cache.test.ts': "import { testDatabase } from '../../../tests/database.ts';",
    'tests/journeys/order.ts': "import { a } from '#services/ordering/order.ts';",
    'src/import/orders.ts': 'const hint = "import { a } from \'#platform/postgres.ts\'";',
  },
);

rule(
  'what shows a system from outside does not look inside',
  outsidersAskFromOutside,
  [
    ['load/load.ts:1', { 'load/load.ts': "import { a } from '#platform/ports.ts';" }],
    ['load/load.ts:2', { 'load/load.ts': "import a from 'node:net';\nimport { b } from '../src/system.ts';" }],
  ],
  {
    'load/load.ts':
      "import { a } from '#contracts/http.ts';\nimport { b } from '../tests/shop-client.ts';\nimport { c } from './flags.ts';",
    'chaos/failpoints.ts': "import { a } from '#platform/failpoint.ts';",
  },
);

rule(
  'rules are pure',
  rulesArePure,
  [
    [
      'src/services/ordering/order.ts:1',
      { 'src/services/ordering/order.ts': "import { randomUUID } from 'node:crypto';" },
    ],
    [
      'src/services/inventory/stock.ts:1',
      { 'src/services/inventory/stock.ts': "import { a } from '#cqrs/event-log.ts';" },
    ],
    ['src/services/inventory/stock.ts:1', { 'src/services/inventory/stock.ts': "import { a } from './service.ts';" }],
    ['src/services/payments/payment.ts:2', { 'src/services/payments/payment.ts': '\nconst now = Date.now();' }],
    ['src/services/payments/payment.ts:1', { 'src/services/payments/payment.ts': 'const now = new Date();' }],
  ],
  {
    'src/services/ordering/order.ts':
      "import { a } from '#cqrs/decider.ts';\nimport { b } from '#contracts/ordering.ts';\nconst at = new Date(command.at);",
    'src/services/ordering/http.ts': "import { randomUUID } from 'node:crypto';\nDate.now();",
  },
);

rule(
  'a path tells whether it leaves the room',
  pathsTellTheRoom,
  [
    ['src/cqrs/feed.ts:1', { 'src/cqrs/feed.ts': "import { a } from '../platform/postgres.ts';" }],
    ['src/cqrs/feed.ts:1', { 'src/cqrs/feed.ts': "import { a } from '#cqrs/slots.ts';" }],
  ],
  {
    'src/cqrs/feed.ts': "import { a } from './slots.ts';\nimport { b } from '#platform/postgres.ts';",
    'src/main.ts': "import { a } from './system.ts';\nimport { b } from './import/command.ts';",
  },
);

rule(
  'clock, timers and chance come from the ports',
  timeComesFromPorts,
  [
    ['src/cqrs/feed.ts:1', { 'src/cqrs/feed.ts': 'const timer = setTimeout(() => {}, 10);' }],
    ['src/cqrs/feed.ts:1', { 'src/cqrs/feed.ts': 'const at = new Date().toISOString();' }],
    ['src/platform/house.ts:1', { 'src/platform/house.ts': 'const now = Date.now;' }],
    ['src/main.ts:1', { 'src/main.ts': 'const begun = performance.now();' }],
    ['src/gateway/a.ts:1', { 'src/gateway/a.ts': "import { setTimeout as delay } from 'node:timers/promises';" }],
    ['src/services/a/http.ts:2', { 'src/services/a/http.ts': "import { b } from './b.ts';\nconst id = randomUUID();" }],
  ],
  {
    'src/platform/ports.ts': 'export const now = () => Date.now();',
    'src/cqrs/feed.ts': 'const at = new Date(ports.now()); // not Date.now()',
    'src/cqrs/feed.test.ts': 'setTimeout(done, 10);',
  },
);

rule(
  'names say what is inside',
  namesSayWhatIsInside,
  [
    ['src/cqrs/index.ts:1', { 'src/cqrs/index.ts': '' }],
    ['src/cqrs/string-utils.ts:1', { 'src/cqrs/string-utils.ts': '' }],
    ['tests/helpers/order.ts:1', { 'tests/helpers/order.ts': '' }],
  ],
  { 'src/cqrs/event-log.ts': '', 'console/index.html': '', 'docs/index.md': '' },
);

rule('files stay readable', filesStayReadable, [['src/cqrs/long.ts:1', { 'src/cqrs/long.ts': 'a();\n'.repeat(451) }]], {
  'src/cqrs/long.ts': 'a();\n'.repeat(450),
  'docs/long.md': 'a\n'.repeat(1_000),
});

rule(
  'no test is left out',
  noTestIsLeftOut,
  [
    ['src/a.test.ts:1', { 'src/a.test.ts': "test.only('it works', () => {});" }],
    ['tests/a.test.ts:2', { 'tests/a.test.ts': "test('it works', (t) => {\n  t.skip();\n});" }],
    ['tests/a.test.ts:1', { 'tests/a.test.ts': "test('it works', { todo: true }, () => {});" }],
  ],
  { 'src/a.test.ts': "// Not test.only.\ntest('test.only is found', { timeout: 1 }, () => {});" },
);

rule(
  'nothing is put off',
  nothingIsPutOff,
  [
    ['src/a.ts:2', { 'src/a.ts': 'a();\n// TODO: b' }],
    ['docs/a.md:1', { 'docs/a.md': 'FIXME' }],
  ],
  { 'src/a.ts': "const word = 'TODO';", 'a.csv': 'TODO' },
);

rule(
  'rules name every case',
  rulesNameEveryCase,
  [['src/services/ordering/order.ts:2', { 'src/services/ordering/order.ts': 'switch (a) {\n  default: return b;\n}' }]],
  {
    'src/services/ordering/order.ts': "switch (a) {\n  case 'b': return 'default: c';\n}",
    'src/main.ts': 'switch (a) { default: b(); }',
  },
);

rule(
  'exports have a name',
  exportsAreNamed,
  [
    ['src/a.ts:2', { 'src/a.ts': '\nexport default a;' }],
    ['src/a.ts:1', { 'src/a.ts': "export * from './b.ts';" }],
  ],
  { 'console/vite.config.ts': 'export default {};', 'src/a.ts': 'export const a = 1;' },
);

rule(
  'every export is imported by someone',
  exportsAreUsed,
  [
    ['src/a.ts:1', { 'src/a.ts': 'export const lonely = 1;\nlonely();' }],
    ['src/a.ts:1', { 'src/a.ts': 'export type Lonely = 1;', 'src/b.ts': "import { Other } from './a.ts';" }],
    ['src/a.ts:2', { 'src/a.ts': 'const lonely = 1;\nexport { lonely };' }],
    [
      'src/a.ts:1',
      { 'src/a.ts': 'export async function lonely() {}', 'src/b.ts': "import { lonely } from './other.ts';" },
    ],
  ],
  {
    'src/e.ts': 'type Door = 1;\nexport type Open = Door;\nexport type Key = 2;\nfunction open(key: Key): Open {}',
    'src/a.ts': 'export const one = 1;\nexport type Two = 2;\nexport class Three {}\nexport function* four() {}',
    'src/room/b.ts': "import { one as uno, type Two } from '../a.ts';\nimport type { Three } from '../a.ts';",
    'src/a.test.ts': "import { four } from './a.ts';",
    'src/c.ts': 'export const five = 5;',
    'bench/d.ts': "const { five } = await import('../src/c.ts');",
  },
);

rule(
  'SQL is written in lower case',
  sqlIsLowerCase,
  [
    ['src/cqrs/schema/1.sql:2', { 'src/cqrs/schema/1.sql': '-- CREATE\nCREATE or replace function a() returns int' }],
    ['src/cqrs/log.ts:1', { 'src/cqrs/log.ts': "sql.query('a', 'SELECT 1');" }],
  ],
  {
    'src/cqrs/schema/1.sql': "/* NOT */ create table a (b text check (b in ('NOT', 'NULL')));",
    'src/cqrs/log.ts': "throw new Error('CREATE it');",
  },
);

rule(
  'SQL takes parameters',
  sqlTakesParameters,
  [
    ['src/cqrs/log.ts:1', { 'src/cqrs/log.ts': 'sql.query(`select a from b where c = ${d}`);' }],
    ['src/cqrs/log.ts:1', { 'src/cqrs/log.ts': "sql.query(`\n  select a from b where c = '${d}'`);" }],
    ['src/cqrs/log.ts:1', { 'src/cqrs/log.ts': 'sql.query(`insert into a values (${b})`);' }],
    ['src/cqrs/log.ts:1', { 'src/cqrs/log.ts': "sql.query('delete from a where b = ' + c);" }],
  ],
  {
    'src/cqrs/log.ts':
      "sql.query(`select a from ${table} where c = $1 and ${filters.join(' and ')} limit $2`, [c, 9]);\nsql.query(`select a, ${b('c')} from d`);\nsql.query(`set lock_timeout = ${timeoutMs}`);",
  },
);

const registry = "export const problems = {\n  'order-exists': problem(409, 'a', 'b'),\n};";

rule(
  'every problem code is registered, and every registered code occurs',
  codesAreRegistered,
  [
    [
      'src/services/ordering/order.ts:1',
      {
        'src/contracts/problems.ts': registry,
        'src/services/ordering/order.ts':
          "refuse({ code: 'order-gone', detail: 'It went.' });\nrefuse({ code: 'order-exists' });",
      },
    ],
    ['src/contracts/problems.ts:2', { 'src/contracts/problems.ts': registry, 'src/a.ts': "// code: 'order-exists'" }],
  ],
  {
    'src/contracts/problems.ts': registry,
    'src/contracts/ordering.ts': "const Failure = Closed({ code: Type.Union([Type.Literal('timed-out')]) });",
    'src/services/ordering/order.ts':
      "refuse({ code: 'order-exists' });\nfail({ code: 'timed-out' });\nconst error = { code: '57P01' };",
    'src/services/ordering/order.test.ts': "const refused = { code: 'no-such-code' };",
  },
);

const steps = "export const failpoints = {\n  'log-sent': 'a batch is sent',\n} as const;";

rule(
  'every failpoint is reached by some code',
  failpointsAreReached,
  [
    ['src/platform/failpoint.ts:2', { 'src/platform/failpoint.ts': steps, 'src/a.ts': "// failpoint('log-sent');" }],
    ['src/platform/failpoint.ts:2', { 'src/platform/failpoint.ts': steps, 'src/a.test.ts': "failpoint('log-sent');" }],
  ],
  { 'src/platform/failpoint.ts': steps, 'src/a.ts': "failpoint('log-sent');" },
);

const promising = (promise: string, door = 'export function open() {}'): string =>
  `/**\n * Opens it.\n *\n * Promises:\n * - ${promise}\n */\n${door}`;

rule(
  'what the engine room promises, a test of that name holds',
  promisesAreTested,
  [
    ['src/cqrs/feed.ts:1', { 'src/cqrs/feed.ts': promising('it opens') }],
    [
      'src/cqrs/feed.ts:1',
      {
        'src/cqrs/feed.ts': promising('it opens'),
        'src/cqrs/feed.test.ts': "// test('it opens')\ntest('it shuts', a);",
      },
    ],
    [
      'src/cqrs/feed.ts:2',
      {
        'src/cqrs/feed.ts': '/** Opens it. */\nexport async function open() {}',
        'src/main.ts': "import { open } from '#cqrs/feed.ts';",
      },
    ],
    [
      'src/cqrs/feed.ts:8',
      {
        'src/cqrs/feed.ts': `${promising('it opens')}\nexport const shut = (a: string): void => {};`,
        'src/cqrs/feed.test.ts': "test('it opens', a);",
        'src/main.ts': "import { shut } from '#cqrs/feed.ts';",
      },
    ],
    [
      'src/cqrs/feed.ts:1',
      { 'src/cqrs/feed.ts': 'export class Feed {}', 'src/main.ts': "import { Feed } from '#cqrs/feed.ts';" },
    ],
  ],
  {
    'src/cqrs/feed.ts': `${promising("it's open\n *   at once\n * - it shuts")}\nexport const max = 3;\nexport function own() {}`,
    'src/cqrs/feed.contract.ts': "test(`${name}: it's open at once`, a);\n  await t.test(\n    'it shuts',\n    a);",
    'src/cqrs/feed.test.ts': "import { own } from './feed.ts';",
    'src/main.ts': "import { max, open } from '#cqrs/feed.ts';",
  },
);

const manifest = (dependencies: object, devDependencies: object = {}): string =>
  JSON.stringify({ scripts: { lint: 'oxlint' }, dependencies, devDependencies }, null, 2);

rule(
  'every dependency is imported, and every import is a dependency',
  dependenciesAreUsed,
  [
    ['package.json:6', { 'package.json': manifest({ pg: '8' }) }],
    [
      'package.json:9',
      { 'package.json': manifest({ pg: '8' }, { '@types/left': '1' }), 'src/a.ts': "import pg from 'pg';" },
    ],
    ['src/a.ts:1', { 'package.json': manifest({}), 'src/a.ts': "import pg from 'pg';" }],
    ['src/a.ts:1', { 'package.json': manifest({}, { pg: '8' }), 'src/a.ts': "import pg from 'pg';" }],
  ],
  {
    'package.json': manifest(
      { pg: '8', '@fastify/helmet': '13' },
      { oxlint: '1', '@types/pg': '8', 'fast-check': '4' },
    ),
    'src/a.ts': "import pg from 'pg';\nimport helmet from '@fastify/helmet';\nimport { b } from 'node:fs';",
    'src/a.test.ts': "import fc from 'fast-check';",
  },
);

rule(
  'the lockfile names no registry',
  lockfileNamesNoRegistry,
  [['package-lock.json:2', { 'package-lock.json': '{\n  "resolved": "https://registry.example/pg.tgz"\n}' }]],
  { 'package-lock.json': '{ "link": true, "resolved": "console" }' },
);

rule(
  'no path is one of a single machine',
  pathsHoldEverywhere,
  [
    ['docs/a.md:1', { 'docs/a.md': `see ${['', 'home', 'ada', 'notes'].join('/')}` }],
    ['src/a.ts:1', { 'src/a.ts': `open('${['', 'root', 'data'].join('/')}');` }],
  ],
  { 'docs/a.md': 'below `/root` it is not reachable; see https://example.com/home/page and docs/work/plan.md' },
);

test('comments, strings, templates and regular expressions do not mislead the rules', () => {
  const text =
    "const a = /['\"`]/; // import x from 'x'\nconst b = `${c ? `import ${d} from 'y'` : \"import 'z'\"} //`;\nimport e from 'e';";
  const [file] = houseOf({ 'src/a.ts': text }).files;
  assert.ok(file);
  assert.deepEqual(
    importsOf(file).map(({ from }) => from),
    ['e'],
  );
  assert.deepEqual(
    file.scan.comments.map((comment) => comment.text),
    ["// import x from 'x'"],
  );
});
