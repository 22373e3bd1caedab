/** What the program says about itself while it runs: JSON lines on stderr, so that stdout stays the user's. */
import { pino, stdTimeFunctions, type Logger as PinoLogger } from 'pino';

export type Logger = PinoLogger;

/** `silent` says nothing at all. */
export const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
export type LogLevel = (typeof logLevels)[number];

/** Writes lines of `level` and above. Synchronously: the line that explains a crash is written before the crash. */
export function createLogger(level: LogLevel): Logger {
  return pino(
    { level, base: { pid: process.pid }, timestamp: stdTimeFunctions.isoTime, redact: ['req.headers.authorization'] },
    pino.destination({ dest: 2, sync: true }),
  );
}
