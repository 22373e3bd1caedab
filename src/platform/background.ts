/** Who goes first when several processes want the same processors, where the operating system can be told. */
import { execFile } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { constants, setPriority } from 'node:os';
import { commandLineOf } from './other-process.ts';

/** Gives the process the lowest priority there is. It may not be allowed: then it works like any other. */
export function stepBack(pid: number): void {
  makeNicer(pid, constants.priority.PRIORITY_LOW);
}

function makeNicer(pid: number, niceness: number): void {
  try {
    setPriority(pid, niceness);
  } catch {
    // Not ours to say; it is a courtesy.
  }
}

/** The same for the server of a connection over a local socket: `pid` as PostgreSQL has told it. */
export async function stepBackServer(pid: number): Promise<void> {
  // In a container next door its pid may be that of another process here.
  if ((await commandLineOf(pid)).startsWith('postgres: ')) stepBack(pid);
}

/** The same for a process that leads a session of its own: `nice` counts only within one. */
export function stepBackSession(pid: number): void {
  stepBack(pid);
  weighSession(pid, constants.priority.PRIORITY_LOW);
}

/** Of -20 to 19; 10 has a tenth of the weight of 0. */
const weightOfServers = 10;

/**
 * Has a process, and its children to come, begin what they are woken for when a processor is free or their turn has come, instead
 * of taking that of who has woken them. Under load an event loop that shared two processors with those whom its answers and
 * statements wake waited a third of its time for one (`docs/decisions/0024`).
 */
export function takeTurns(pid: number): void {
  execFile('chrt', ['--batch', '--pid', '0', String(pid)], () => {});
}

/** Of -20 to 19; among the threads of one process, 10 has a tenth of the weight of 0. */
const nicenessOfHelpers = 10;

/**
 * Has the threads of this process that collect garbage and compile give way to its event loop, where there are too few
 * processors for all of them. Linux weighs threads of a process against each other as it does processes.
 */
export function helpersGiveWay(): void {
  for (const thread of helpers()) {
    takeTurns(thread);
    makeNicer(thread, nicenessOfHelpers);
  }
}

/** V8's threads, by the names that Node gives them; none where the operating system does not tell. */
function helpers(): number[] {
  try {
    const nameOf = (thread: string): string => readFileSync(`/proc/self/task/${thread}/comm`, 'utf8');
    return readdirSync('/proc/self/task').flatMap((thread) =>
      nameOf(thread).includes('V8Worker') ? [Number(thread)] : [],
    );
  } catch {
    return [];
  }
}

/** The same for a server of its own session, whose leader `pid` is; and who asks it goes first where there are too few processors. */
export function giveWay(pid: number): void {
  takeTurns(pid);
  weighSession(pid, weightOfServers);
}

/** Linux weighs sessions against each other before processes: their niceness counts only within one. */
function weighSession(leader: number, weight: number): void {
  writeFile(`/proc/${leader}/autogroup`, String(weight)).catch(() => {});
}
