/** What code may not contain. */
import {
  exportsOf,
  type Finding,
  type House,
  importsOf,
  isSource,
  isTest,
  type Piece,
  type SourceFile,
} from './sources.ts';

const linesMax = 450;
// A test file is a list of sentences: nobody has to hold all of it in mind.
const testLinesMax = 900;
const isCode = (file: SourceFile): boolean => /\.(ts|js|mjs)$/.test(file.path);

/** The simulator can schedule only what asks the ports. */
export function timeComesFromPorts(house: House): Finding[] {
  const ambient =
    /\b(?:setTimeout|setInterval|setImmediate)\(|\bDate\.now\b|\bnew Date\(\s*\)|\bperformance\.(?:now|timeOrigin)\b|\bMath\.random\b|\brandom(?:UUID|UUIDv7|Bytes|Int)\b|\bgetRandomValues\b|\bAbortSignal\.timeout\b/g;
  return house.files
    .filter((file) => isSource(file.path) && file.path !== 'src/platform/ports.ts')
    .flatMap((file) => [
      ...matches(
        file,
        file.scan.code,
        ambient,
        'asks the machine for time or chance',
        'take `ports` as a parameter, or systemPorts of #platform/ports.ts where nothing is simulated',
      ),
      ...importsOf(file)
        .filter(({ from }) => /^(?:node:)?timers(?:\/promises)?$/.test(from))
        .map(({ at }) => ({
          file,
          at,
          problem: 'imports timers',
          fix: 'use `sleep` or `after` of #platform/ports.ts',
        })),
    ]);
}

/** A file is named after the one thing in it. */
export function namesSayWhatIsInside(house: House): Finding[] {
  const vague = /^(index|utils?|helpers?|common|misc|managers?|impl)$/;
  return house.files.filter(isCode).flatMap((file): Finding[] => {
    const words = file.path.replace(/\.\w+$/, '').split(/[/.-]/);
    const word = words.find((one) => vague.test(one));
    if (word === undefined) return [];
    return [
      {
        file,
        at: 0,
        problem: `is named \`${word}\``,
        fix: 'name it after the thing in it; import from the file itself',
      },
    ];
  });
}

export function filesStayReadable(house: House): Finding[] {
  return house.files
    .filter((file) => /^src\/.*\.(ts|sql)$/.test(file.path))
    .flatMap((file): Finding[] => {
      const lines = file.text.trimEnd().split('\n').length;
      const max = isTest(file.path) ? testLinesMax : linesMax;
      return lines <= max
        ? []
        : [{ file, at: 0, problem: `has ${lines} lines`, fix: `split it by idea, at most ${max} lines each` }];
    });
}

export function noTestIsLeftOut(house: House): Finding[] {
  const leftOut = /\b(?:test|it|suite|describe|t)\.(?:only|skip|todo)\b|\b(?:only|skip|todo):\s*(?:true\b|'|`)/g;
  return house.files
    .filter(isCode)
    .flatMap((file) =>
      matches(
        file,
        file.scan.code,
        leftOut,
        'leaves tests out',
        'run every test, or delete it with the reason in the commit',
      ),
    );
}

/** In comments of code, and anywhere in other text. */
export function nothingIsPutOff(house: House): Finding[] {
  const putOff = /\b(?:TODO|FIXME|XXX)\b/g;
  return house.files.flatMap((file) => {
    const fix = 'do it now, or write an issue';
    if (!isCode(file)) {
      return /\.(md|sql|ya?ml|sh)$/.test(file.path) ? matches(file, file.text, putOff, 'puts work off', fix) : [];
    }
    return file.scan.comments.flatMap((comment) =>
      matches(file, comment.text, putOff, 'puts work off', fix, comment.at),
    );
  });
}

/** The compiler names the case that is missing; a `default` arm silences it. */
export function rulesNameEveryCase(house: House): Finding[] {
  return house.files
    .filter((file) => /^src\/services\/[^/]+\/(order|customer|stock|payment|product)\.ts$/.test(file.path))
    .flatMap((file) =>
      matches(
        file,
        file.scan.code,
        /\bdefault\s*:/g,
        'has a `default` arm',
        'name every case, so that the compiler finds the missing one',
      ),
    );
}

export function exportsAreNamed(house: House): Finding[] {
  return house.files
    .filter((file) => isCode(file) && !/\.config\.\w+$/.test(file.path))
    .flatMap((file) => [
      ...matches(file, file.scan.code, /^export\s+default\b/gm, 'exports a default', 'export it by name'),
      ...matches(
        file,
        file.scan.code,
        /^export\s+\*/gm,
        'passes on what others export',
        'import it where it is defined',
      ),
    ]);
}

/** Tests count as users. A type may be exported for the signatures of its own file: it is part of their door. */
export function exportsAreUsed(house: House): Finding[] {
  const used = new Map<string, Set<string>>();
  for (const file of house.files.filter(isCode)) {
    for (const { from, names } of importsOf(file)) {
      const known = used.get(from) ?? new Set();
      for (const name of names) known.add(name);
      used.set(from, known);
    }
  }
  return house.files
    .filter((file) => isSource(file.path))
    .flatMap((file) => {
      const users = used.get(file.path) ?? new Set();
      return exportsOf(file)
        .filter(({ name }) => !users.has(name) && !users.has('*'))
        .filter(({ name, isType }) => !isType || file.scan.code.split(new RegExp(`\\b${name}\\b`)).length <= 2)
        .map(({ name, at }) => ({
          file,
          at,
          problem: `exports ${name}, which nobody imports`,
          fix: 'delete it, or the word `export`',
        }));
    });
}

export function sqlIsLowerCase(house: House): Finding[] {
  const keywords =
    /\b(?:SELECT|INSERT|INTO|UPDATE|DELETE|FROM|WHERE|JOIN|CREATE|ALTER|DROP|TABLE|INDEX|VALUES|RETURNING|REFERENCES|PRIMARY|KEY|NOT|NULL|CHECK|UNIQUE|CONSTRAINT|DEFAULT|BEGIN|END|COMMIT|FUNCTION|RETURNS|LANGUAGE|AS|AND|OR|ON|ORDER|GROUP|BY|LIMIT|UNION|CASE|WHEN|THEN|ELSE|TEXT|BIGINT|INTEGER|JSONB|BOOLEAN|TIMESTAMPTZ)\b/g;
  const fix = 'write SQL in lower case';
  return house.files.flatMap((file) => {
    if (file.path.endsWith('.sql')) {
      const blank = (text: string): string => text.replace(/[^\n]/g, ' ');
      const code = file.text.replace(/--[^\n]*|\/\*[^]*?\*\/|'(?:[^']|'')*'/g, blank);
      return matches(file, code, keywords, 'shouts', fix);
    }
    return file.scan.strings
      .filter(({ text }) =>
        /^.\s*(?:SELECT|INSERT INTO|UPDATE \w+ SET|DELETE FROM|(?:CREATE|ALTER|DROP) (?:TABLE|INDEX|DATABASE))\s/.test(
          text,
        ),
      )
      .map(({ at }) => ({ file, at, problem: 'shouts SQL', fix }));
  });
}

/** Values reach a statement as parameters. Templates may place names and fragments, never a value. */
export function sqlTakesParameters(house: House): Finding[] {
  const sql = /^.\s*(?:select|insert into|update|delete from|with)\s/;
  const value = /(?:['=<>]|\b(?:like|limit|offset)|\b(?:values|in)\s*\()\s*\$\{/;
  const fix = 'pass the value as a parameter ($1)';
  const joined = (file: SourceFile, { text, at }: Piece): boolean =>
    /^\s*\+/.test(file.scan.code.slice(at + text.length));
  return house.files
    .filter((file) => isSource(file.path))
    .flatMap((file) =>
      file.scan.strings
        .filter(
          (piece) =>
            sql.test(piece.text) && (joined(file, piece) || (piece.text.startsWith('`') && value.test(piece.text))),
        )
        .map(({ at }) => ({ file, at, problem: 'puts a value into SQL text', fix })),
    );
}

function matches(file: SourceFile, text: string, pattern: RegExp, problem: string, fix: string, offset = 0): Finding[] {
  return [...text.matchAll(pattern)].map(({ 0: found, index }) => ({
    file,
    at: offset + index,
    problem: `${problem}: ${found}`,
    fix,
  }));
}
