/** What the engine room promises to the other rooms: each promise is the name of the test that holds it. */
import { exportsOf, type Finding, type House, importsOf, isSource, type SourceFile } from './sources.ts';

const room = 'src/cqrs/';

/** In the docstring of a function or class of the engine room that others import, below the line `Promises:`. */
export function promisesAreTested(house: House): Finding[] {
  const titles = new Set(house.files.flatMap(testTitles));
  const doors = doorsOf(house);
  return house.files
    .filter((file) => file.path.startsWith(room) && isSource(file.path))
    .flatMap((file) => [
      ...file.scan.comments
        .flatMap((comment) => promisesIn(comment.text).map((promise) => ({ promise, at: comment.at })))
        .filter(({ promise }) => !titles.has(promise))
        .map(({ promise, at }) => ({
          file,
          at,
          problem: `promises what no test is named after: ${promise}`,
          fix: 'give the promise the words of the test that holds it, or write that test',
        })),
      ...exportsOf(file)
        .filter(({ name, at }) => doors.has(`${file.path} ${name}`) && isCallable(file, at))
        .filter(({ at }) => promisesIn(docstringAt(file, at)).length === 0)
        .map(({ name, at }) => ({
          file,
          at,
          problem: `exports ${name} to other rooms without a promise`,
          fix: 'list in its docstring, below `Promises:`, the names of the tests that hold what it promises',
        })),
    ]);
}

/** `path name` of all that files outside the room import; its tests know more of it than its users. */
function doorsOf(house: House): ReadonlySet<string> {
  const users = house.files.filter(({ path }) => !path.startsWith(room) && !path.endsWith('.test.ts'));
  return new Set(users.flatMap(importsOf).flatMap(({ from, names }) => names.map((name) => `${from} ${name}`)));
}

/** Functions, arrow functions and classes; a constant promises nothing. */
const isCallable = (file: SourceFile, at: number): boolean =>
  /^export\s+(?:async\s+)?(?:function|class|const\s+[\w$]+\s*(?::[^=]*)?=\s*(?:async\s*)?(?:<[^(]*>)?\()/.test(
    file.scan.code.slice(at),
  );

function docstringAt(file: SourceFile, at: number): string {
  const comment = file.scan.comments.findLast((one) => one.at < at);
  return comment !== undefined && file.text.slice(comment.at + comment.text.length, at).trim() === ''
    ? comment.text
    : '';
}

function promisesIn(comment: string): string[] {
  const [, list] = /^\s*\*\s+Promises:\s*\n([^]*)/m.exec(comment) ?? [];
  if (list === undefined) return [];
  return list
    .replace(/\*\/\s*$/, '')
    .split(/^\s*\*\s+-\s+/m)
    .slice(1)
    .map((item) => item.replaceAll(/\s*\n\s*\*\s*/g, ' ').trim());
}

/** Without the `${name}: ` that the title of a test of a shared suite begins with. */
function testTitles(file: SourceFile): string[] {
  return [...file.scan.code.matchAll(/\btest\(\s*(?=['"`])/g)].flatMap(({ 0: call, index }) => {
    const title = file.scan.strings.find(({ at }) => at === index + call.length);
    if (title === undefined) return [];
    return title.text
      .slice(1, -1)
      .replace(/^\$\{\w+\}: /, '')
      .replaceAll(/\\(.)/g, '$1');
  });
}
