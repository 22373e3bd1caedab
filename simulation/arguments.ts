/** Arguments of the simulator's commands. */
import { parseArgs, type ParseArgsConfig } from 'node:util';

/** What was asked for; ends the process with `usage` and code 2 when that makes no sense. */
export function argumentsOf<Options extends NonNullable<ParseArgsConfig['options']>>(options: Options, usage: string) {
  try {
    return parseArgs({ options, strict: true }).values;
  } catch (error) {
    return refuse((error as Error).message, usage);
  }
}

/** A whole number from 1. */
export function whole(option: string, text: string, usage: string): number {
  const value = Number(text);
  return Number.isSafeInteger(value) && value >= 1
    ? value
    : refuse(`${option} is a whole number from 1, not ${text}`, usage);
}

function refuse(why: string, usage: string): never {
  process.stderr.write(`${why}\n\n${usage}`);
  process.exit(2);
}
