/** The files of the project as the house rules see them: text, code without strings and comments, imports, exports. */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';

export type House = { readonly files: readonly SourceFile[] };

export type SourceFile = {
  /** From the root of the project, with `/`. */
  readonly path: string;
  readonly text: string;
  /** Of TypeScript and JavaScript; empty for every other file. */
  readonly scan: Scan;
};

export type Scan = {
  /** The text with comments and the insides of strings blanked; offsets stay. */
  readonly code: string;
  readonly comments: readonly Piece[];
  /** String and template literals with their quotes. */
  readonly strings: readonly Piece[];
};

export type Piece = { readonly text: string; readonly at: number };

export type Import = {
  /** A path from the root for files of ours, else the package, such as `pg` or `node:fs`. */
  readonly from: string;
  readonly ours: boolean;
  readonly specifier: string;
  readonly typeOnly: boolean;
  /** `*` for all of them. */
  readonly names: readonly string[];
  readonly at: number;
};

export type Export = { readonly name: string; readonly isType: boolean; readonly at: number };

/** What is wrong where, and how it is put right. */
export type Finding = {
  readonly file: SourceFile;
  readonly at: number;
  readonly problem: string;
  readonly fix: string;
};

export function render({ file, at, problem, fix }: Finding): string {
  const line = file.text.slice(0, at).split('\n').length;
  return `${file.path}:${line} ${problem}. Fix: ${fix}.`;
}

/** Every file that is under version control or will be; without git, all but what is installed or made. */
export function readHouse(root: string): House {
  const paths = (filesOfGit(root) ?? filesOfFolder(root)).filter((file) => existsSync(path.join(root, file)));
  return houseOf(Object.fromEntries(paths.map((file) => [file, readFileSync(path.join(root, file), 'utf8')])));
}

function filesOfGit(root: string): string[] | null {
  try {
    // Whoever owns the folder: a checkout is often another account's than the one that tests it.
    const args = ['-c', 'safe.directory=*', 'ls-files', '-z', '--cached', '--others', '--exclude-standard'];
    const list = execFileSync('git', args, { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    return [...new Set(list.split('\0'))].filter((file) => file !== '');
  } catch {
    return null;
  }
}

function filesOfFolder(root: string): string[] {
  const made = /(^|\/)(node_modules|dist|coverage|\.git|\.twofold)(\/|$)/;
  return readdirSync(root, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(root, path.join(entry.parentPath, entry.name)))
    .filter((file) => !made.test(file));
}

/** A house made of these texts, by path. */
export function houseOf(texts: Readonly<Record<string, string>>): House {
  const files = Object.entries(texts).map(([file, text]) => {
    const scan = /\.(ts|js|mjs)$/.test(file) ? scanSource(text) : { code: '', comments: [], strings: [] };
    return { path: file, text, scan };
  });
  return { files };
}

/** Tests, the suites they share, and what they start or are made of. */
export const isTest = (file: string): boolean => /(\.(test|contract|fixture|writer)|-for-tests)\.ts$/.test(file);

/** What runs in production: src without its tests. */
export const isSource = (file: string): boolean => /^src\/.*\.ts$/.test(file) && !isTest(file);

export function importsOf(file: SourceFile): Import[] {
  if (file.scan.code === '') return [];
  const found: Import[] = [];
  const statement =
    /\b(?:import|export)\b(?:(\s+type)?\b([^;'"`()]*?)\bfrom)?\s*(['"])([^'"\n]+)\3|\bimport\(\s*(['"])([^'"\n]+)\5/g;
  for (const match of file.text.matchAll(statement)) {
    // What stands in a string or a comment is no import.
    if (file.scan.code[match.index] === ' ') continue;
    const specifier = match[4] ?? match[6] ?? '';
    const names = match[2] === undefined ? ['*'] : namesIn(match[2]);
    const typeOnly = match[1] !== undefined || (names.length > 0 && names.every((name) => name.startsWith('type ')));
    const bare = names.map((name) => name.replace(/^type /, ''));
    found.push({ ...resolve(file.path, specifier), specifier, typeOnly, names: bare, at: match.index });
  }
  return found;
}

export function exportsOf(file: SourceFile): Export[] {
  const found: Export[] = [];
  const declaration = /^export\s+(?:async\s+)?(const|let|function\*?|class|type|interface)\s+([\w$]+)/gm;
  const list = /^export\s+(?:type\s+)?\{([^}]*)\}\s*;/gm;
  for (const { 1: kind = '', 2: name = '', index } of file.scan.code.matchAll(declaration)) {
    found.push({ name, isType: kind === 'type' || kind === 'interface', at: index });
  }
  for (const match of file.scan.code.matchAll(list)) {
    for (const part of (match[1] ?? '').split(',').filter((text) => text.trim() !== '')) {
      found.push({ name: part.trim().split(/\s+/).at(-1) ?? '', isType: false, at: match.index });
    }
  }
  return found;
}

/** `a, type B, C as D` of an import clause as `a`, `type B`, `C`. */
function namesIn(clause: string): string[] {
  if (clause.includes('*')) return ['*'];
  const [before = '', inside = ''] = clause.split(/[{}]/);
  const imported = inside.split(',').map((part) =>
    part
      .trim()
      .replace(/\s+as\s+\S+$/, '')
      .replace(/\s+/g, ' '),
  );
  return [...(before.replace(',', '').trim() === '' ? [] : ['default']), ...imported].filter((name) => name !== '');
}

function resolve(importer: string, specifier: string): { from: string; ours: boolean } {
  if (specifier.startsWith('#')) return { from: `src/${specifier.slice(1)}`, ours: true };
  if (specifier.startsWith('.')) return { from: path.posix.join(path.posix.dirname(importer), specifier), ours: true };
  const parts = specifier.split('/');
  return { from: parts.slice(0, specifier.startsWith('@') ? 2 : 1).join('/'), ours: false };
}

/** Knows comments, strings, nested templates and regular expressions: enough not to be misled by what they contain. */
function scanSource(text: string): Scan {
  const code = text.split('');
  const comments: Piece[] = [];
  const strings: Piece[] = [];

  const blank = (from: number, to: number): void => {
    for (let i = from; i < to; i += 1) if (code[i] !== '\n') code[i] = ' ';
  };
  const endOf = (closing: string, from: number): number => {
    const at = text.indexOf(closing, from);
    return at < 0 ? text.length : at + closing.length;
  };

  /** From `start` to the `}` that ends a template's expression, or to the end. */
  const scanCode = (start: number): number => {
    let depth = 0;
    let i = start;
    while (i < text.length) {
      const c = text[i];
      if (text.startsWith('//', i) || text.startsWith('/*', i) || (i === 0 && text.startsWith('#!'))) {
        const end = text[i + 1] === '*' ? endOf('*/', i + 2) : endOf('\n', i) - 1;
        comments.push({ text: text.slice(i, end), at: i });
        blank(i, end);
        i = Math.max(end, i + 1);
      } else if (c === "'" || c === '"') {
        const end = endOfQuoted(i, c);
        strings.push({ text: text.slice(i, end), at: i });
        blank(i + 1, end - 1);
        i = end;
      } else if (c === '`') {
        i = scanTemplate(i);
      } else if (c === '/' && regexMayStart(code.slice(Math.max(start, i - 40), i).join(''))) {
        const end = endOfRegex(i);
        blank(i + 1, end - 1);
        i = end;
      } else {
        if (c === '{') depth += 1;
        if (c === '}' && depth === 0 && start > 0) return i;
        if (c === '}') depth -= 1;
        i += 1;
      }
    }
    return i;
  };

  const scanTemplate = (start: number): number => {
    let i = start + 1;
    while (i < text.length && text[i] !== '`') {
      if (text.startsWith('${', i)) {
        i = scanCode(i + 2) + 1;
      } else {
        const width = text[i] === '\\' ? 2 : 1;
        blank(i, i + width);
        i += width;
      }
    }
    strings.push({ text: text.slice(start, i + 1), at: start });
    return i + 1;
  };

  const endOfQuoted = (start: number, quote: string): number => {
    let i = start + 1;
    while (i < text.length && text[i] !== quote && text[i] !== '\n') i += text[i] === '\\' ? 2 : 1;
    return i + 1;
  };

  const endOfRegex = (start: number): number => {
    let inClass = false;
    let i = start + 1;
    for (; i < text.length && text[i] !== '\n'; i += text[i] === '\\' ? 2 : 1) {
      if (text[i] === '[') inClass = true;
      if (text[i] === ']') inClass = false;
      if (text[i] === '/' && !inClass) return i + 1;
    }
    return start + 1;
  };

  scanCode(0);
  return { code: code.join(''), comments, strings };
}

/** After an operator, an opening bracket or a keyword a slash starts a regular expression; after a value it divides. */
const regexMayStart = (before: string): boolean =>
  /(^|[([{,;=:!&|?+\-*%<>~^}]|\b(return|typeof|case|of|in|await))\s*$/.test(before);
