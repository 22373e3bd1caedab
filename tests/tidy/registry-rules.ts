/** What is listed in one place and used in others agrees, both ways. */
import { type Finding, type House, importsOf, isSource, type SourceFile } from './sources.ts';

const problemsPath = 'src/contracts/problems.ts';

/** Every code that a refusal or error names is registered, and every registered code can occur. */
export function codesAreRegistered(house: House): Finding[] {
  const registry = fileAt(house, problemsPath);
  if (registry === undefined) return [];
  const entries = [...registry.text.matchAll(/^ {2}'?([a-z][a-z-]*)'?: problem\(/gm)].map((match) => ({
    code: match[1] ?? '',
    at: match.index,
  }));
  const known = new Set(entries.map(({ code }) => code));
  const sources = house.files.filter((file) => isSource(file.path) && file !== registry);
  // Why an order failed is part of the order, not a problem of a request.
  for (const contract of sources.filter((file) => file.path.startsWith('src/contracts/'))) {
    for (const match of contract.text.matchAll(/\bcode: Type\.Union\(\[([^\]]*)\]/g)) {
      for (const [, code = ''] of (match[1] ?? '').matchAll(/'([a-z-]+)'/g)) known.add(code);
    }
  }
  const named = new Set(sources.flatMap((file) => file.scan.strings.map(({ text }) => text.slice(1, -1))));
  const unregistered = sources.flatMap((file) =>
    [...file.text.matchAll(/\bcode: '([a-z][a-z-]*)'/g)]
      .filter((match) => file.scan.code[match.index] !== ' ' && !known.has(match[1] ?? ''))
      .map((match) => ({
        file,
        at: match.index,
        problem: `uses the code ${match[1]}`,
        fix: `register it in ${problemsPath}`,
      })),
  );
  const unused = entries
    .filter(({ code }) => !named.has(code))
    .map(({ code, at }) => ({
      file: registry,
      at,
      problem: `registers ${code}, which nothing answers`,
      fix: 'delete the entry, or answer it',
    }));
  return [...unregistered, ...unused];
}

const failpointsPath = 'src/platform/failpoint.ts';

/** Every step at which a process can be made to die stands in the code; the compiler knows the other way round. */
export function failpointsAreReached(house: House): Finding[] {
  const registry = fileAt(house, failpointsPath);
  if (registry === undefined) return [];
  const reached = new Set(
    house.files
      .filter((file) => isSource(file.path))
      .flatMap((file) =>
        [...file.text.matchAll(/\bfailpoint(?:OnceSent)?\('([a-z-]+)'\)/g)]
          .filter((match) => file.scan.code[match.index] !== ' ')
          .map((match) => match[1]),
      ),
  );
  return [...registry.text.matchAll(/^ {2}'([a-z-]+)': /gm)]
    .filter((match) => !reached.has(match[1]))
    .map((match) => ({
      file: registry,
      at: match.index,
      problem: `lists ${match[1]}, where no code comes by`,
      fix: `call failpoint('${match[1]}') at that step, or delete the line`,
    }));
}

/** Packages that a script runs, or that another package loads, and no file imports. */
const tools: Readonly<Record<string, string>> = {
  node: 'node ',
  typescript: 'tsc',
  oxlint: 'oxlint',
  'oxlint-tsgolint': '--type-aware',
  oxfmt: 'oxfmt',
  '@types/node': 'node ',
};

export function dependenciesAreUsed(house: House): Finding[] {
  const file = fileAt(house, 'package.json');
  if (file === undefined) return [];
  const {
    scripts = {},
    dependencies = {},
    devDependencies = {},
  } = JSON.parse(file.text) as Record<string, Record<string, string> | undefined>;
  const run = Object.values(scripts).join('\n');
  const imports = house.files.flatMap((one) => importsOf(one).map((imported) => ({ file: one, ...imported })));
  const packages = imports.filter(({ ours, from }) => !ours && !from.startsWith('node:'));
  const mentioned = new Set(
    house.files
      .filter((one) => isSource(one.path))
      .flatMap((one) => one.scan.strings.map(({ text }) => text.slice(1, -1).split('/')[0])),
  );
  const findings: Finding[] = [];
  for (const name of [...Object.keys(dependencies), ...Object.keys(devDependencies)]) {
    const word = tools[name];
    const imported = packages.some(({ from }) => from === name || `@types/${from}` === name) || mentioned.has(name);
    if (imported || (word !== undefined && `${run} `.includes(word))) continue;
    findings.push({
      file,
      at: file.text.indexOf(`"${name}":`),
      problem: `depends on ${name}, which nobody imports`,
      fix: `npm uninstall ${name}`,
    });
  }
  for (const { file: importer, from, at } of packages) {
    const declared = isSource(importer.path) ? dependencies : { ...dependencies, ...devDependencies };
    if (Object.hasOwn(declared, from)) continue;
    findings.push({
      file: importer,
      at,
      problem: `imports ${from}, which package.json does not list`,
      fix: `npm install ${from}`,
    });
  }
  return findings;
}

/** The lockfile holds for every registry; the address of one of them would bind it to that one. */
export function lockfileNamesNoRegistry(house: House): Finding[] {
  const file = fileAt(house, 'package-lock.json');
  const at = file?.text.indexOf('"resolved": "http') ?? -1;
  if (file === undefined || at < 0) return [];
  return [
    {
      file,
      at,
      problem: 'has `resolved` addresses',
      fix: 'keep omit-lockfile-registry-resolved=true in .npmrc, and npm install again',
    },
  ];
}

/** What works only on one machine. */
export function pathsHoldEverywhere(house: House): Finding[] {
  return house.files.flatMap((file) =>
    [...file.text.matchAll(/(?<![\w.~/}$-])\/(?:work|root|home)\/[\w.-]+/g)].map(({ 0: found, index }) => ({
      file,
      at: index,
      problem: `names ${found}, a folder of one machine`,
      fix: 'start from the project or the temporary folder',
    })),
  );
}

const fileAt = (house: House, path: string): SourceFile | undefined => house.files.find((file) => file.path === path);
