/** Who may import whom. */
import { type Finding, type House, type Import, importsOf, isSource, isTest, type SourceFile } from './sources.ts';

/** Each room and the rooms it may import from. `types` of a room: by `import type` only; `faces`: services' `service.ts`. */
const rooms: Readonly<Record<string, readonly string[]>> = {
  platform: [],
  cqrs: ['platform'],
  contracts: ['types of cqrs', 'types of platform'],
  services: ['platform', 'cqrs', 'contracts'],
  gateway: ['platform', 'cqrs', 'contracts', 'faces of services'],
  operations: ['platform', 'cqrs', 'contracts', 'faces of services'],
  audit: ['platform', 'cqrs', 'contracts', 'faces of services'],
  backup: ['platform', 'cqrs'],
  import: ['platform', 'contracts'],
  operator: ['platform', 'contracts'],
};

const rulesFile = /^src\/services\/[^/]+\/(order|customer|stock|payment|product)\.ts$/;

/** Rooms import only from the rooms below them. `src/*.ts` composes: it may import anything, and so may tests. */
export function roomsImportDownwards(house: House): Finding[] {
  return eachImport(house, (file, imported) => {
    const room = roomOf(file.path);
    const target = roomOf(imported.from);
    if (!imported.ours || room === null) return null;
    if (target === null) return ['imports what is not in src', 'move what it needs into src'];
    if (isTest(imported.from)) return ['imports a test', 'move what it needs into a file that is none'];
    if (room === '' || room === target) return null;
    const [name = ''] = room.split('/');
    const allowed = rooms[name];
    if (allowed === undefined)
      return [`stands in a room without a rule`, `add \`${name}\` to tests/tidy/import-rules.ts`];
    if (target === '')
      return [`imports ${imported.from}`, 'only tests import what composes the system: pass it as a parameter'];
    if (name === 'services' && target.startsWith('services/')) {
      return [
        `imports another service, ${target}`,
        'services share only src/contracts: publish an event there and react to it',
      ];
    }
    const face = /^src\/services\/[^/]+\/service\.ts$/.test(imported.from);
    const [targetName = ''] = target.split('/');
    if (allowed.includes(targetName)) return null;
    if (allowed.includes(`types of ${targetName}`)) {
      return imported.typeOnly
        ? null
        : [`imports values of ${targetName}`, 'write `import type`: only types are shared'];
    }
    if (allowed.includes(`faces of ${targetName}`)) {
      return face ? null : [`imports the inside of ${target}`, `import src/${target}/service.ts, its public face`];
    }
    const may = allowed.length === 0 ? 'nothing of ours' : `only ${allowed.join(', ')}`;
    return [`${name} imports ${targetName}`, `${name} imports ${may}: pass it as a parameter, or move the code`];
  });
}

/** Proofs that are clients like any other, and what of src they may import: the rest they have to ask for. */
const outsiders: Readonly<Record<string, readonly string[]>> = { load: ['contracts'] };

/** What shows a whole system from outside does not look inside. */
export function outsidersAskFromOutside(house: House): Finding[] {
  const findings: Finding[] = [];
  for (const file of house.files) {
    const [folder = ''] = file.path.split('/');
    const allowed = outsiders[folder];
    if (allowed === undefined) continue;
    for (const { from, ours, at } of importsOf(file)) {
      const room = roomOf(from)?.split('/')[0];
      if (!ours || room === undefined || allowed.includes(room)) continue;
      const fix = `of src, ${folder} imports only ${allowed.join(', ')}: ask for it over HTTP`;
      findings.push({ file, at, problem: `${folder} imports ${from}`, fix });
    }
  }
  return findings;
}

/** The rules of a service are pure: they import contracts and the decider, and ask no clock and no dice. */
export function rulesArePure(house: House): Finding[] {
  const findings = eachImport(house, (file, { from, ours }) => {
    if (!rulesFile.test(file.path)) return null;
    if (ours && (from.startsWith('src/contracts/') || from === 'src/cqrs/decider.ts')) return null;
    return [
      `rules import ${from}`,
      'rules import only #contracts and #cqrs/decider.ts: let the caller put the value into the command',
    ];
  });
  for (const file of house.files.filter((one) => rulesFile.test(one.path))) {
    for (const match of file.scan.code.matchAll(
      /\bDate\.now\(|\bnew Date\(\s*\)|\bMath\.random\(|\bcrypto\.|\bprocess\./g,
    )) {
      findings.push({
        file,
        at: match.index,
        problem: `rules use ${match[0]}`,
        fix: 'let the caller put the value into the command',
      });
    }
  }
  return findings;
}

/** `#room/file.ts` between rooms, `./file.ts` within one: a path tells at sight whether it leaves the room. */
export function pathsTellTheRoom(house: House): Finding[] {
  return eachImport(house, (file, { specifier, from, ours }) => {
    const [room, target] = [roomOf(file.path), roomOf(from)];
    if (!ours || target === null || room === '') return null;
    if (room === target && specifier.startsWith('#'))
      return [`imports its own room by ${specifier}`, 'write a relative path'];
    if (room !== target && specifier.startsWith('.')) {
      return [`leaves its room by ${specifier}`, `write '#${from.slice('src/'.length)}'`];
    }
    return null;
  });
}

/** `services/ordering`, `cqrs`; empty for `src/*.ts`; null outside src. */
function roomOf(path: string): string | null {
  const [src, room, inner, file] = path.split('/');
  if (src !== 'src') return null;
  if (inner === undefined) return '';
  return room === 'services' && file !== undefined ? `services/${inner}` : (room ?? '');
}

function eachImport(
  house: House,
  judge: (file: SourceFile, imported: Import) => readonly [problem: string, fix: string] | null,
): Finding[] {
  const findings: Finding[] = [];
  for (const file of house.files.filter((one) => isSource(one.path))) {
    for (const imported of importsOf(file)) {
      const verdict = judge(file, imported);
      if (verdict !== null) findings.push({ file, at: imported.at, problem: verdict[0], fix: verdict[1] });
    }
  }
  return findings;
}
